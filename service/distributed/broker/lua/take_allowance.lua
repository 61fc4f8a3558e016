-- Counts one request of a caller in its token buckets, if each of them has a token: one budget over all front ends.
--
-- The same arithmetic as service.core.token_bucket, in the server's time. Tokens that a prediction costs are taken by
-- charge_allowance.lua, once they are known; the bucket keeps its allowance for it. A bucket that would be full is gone.
--
-- KEYS[1] allowance          hash: tokens, and allowances as they were last
-- ARGV[1] requests_capacity  0: no limit
-- ARGV[2] requests_per_s
-- ARGV[3] gflop_capacity     0: no limit
-- ARGV[4] gflop_per_s
-- Returns {1 if it was taken, tokens of requests, tokens of FLOPs}: texts, as numbers lose their fractions
-- include buckets.lua

local allowance = KEYS[1]
local requests = bucket(allowance, 'r', tonumber(ARGV[1]), tonumber(ARGV[2]))
local gflop = bucket(allowance, 'g', tonumber(ARGV[3]), tonumber(ARGV[4]))
local is_taken = (requests == false or requests >= 1) and (gflop == false or gflop >= 1)
if is_taken and requests then requests = requests - 1 end
keep(allowance, requests, gflop)
return {is_taken and 1 or 0, tostring(requests or 0), tostring(gflop or 0)}
