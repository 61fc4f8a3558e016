-- Takes what a prediction cost from its caller's budget; nothing where there is none. It may go below zero.
--
-- KEYS[1] allowance  hash of take_allowance.lua
-- ARGV[1] gflop
-- Returns 1, or 0 where there is no budget
-- include buckets.lua

local allowance = KEYS[1]
local limits = redis.call('HMGET', allowance, 'gc', 'gs', 'rc', 'rs')
if not limits[1] then return 0 end
local gflop = bucket(allowance, 'g', tonumber(limits[1]), tonumber(limits[2]))
local requests = bucket(allowance, 'r', tonumber(limits[3] or 0), tonumber(limits[4] or 0))
keep(allowance, requests, gflop - tonumber(ARGV[1]))
return 1
