-- Gives a clip back to be made by another one, after a while.
--
-- KEYS[1] job     hash: the clip's record
-- KEYS[2] leases  sorted set: clip and holder -> until when it is its maker's, ms
-- KEYS[3] events  stream: jobs that moved
-- ARGV[1] job_id
-- ARGV[2] holder
-- ARGV[3] token       of its lease
-- ARGV[4] delay_ms    nobody takes it for so long
-- ARGV[5] is_counted  1: it counts as begun
-- Returns 1, or 0 where it is not the caller's any more
-- include entries.lua

local job, leases, events = KEYS[1], KEYS[2], KEYS[3]
local job_id, holder, token, delay_ms, is_counted = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local values = redis.call('HMGET', job, 's', 'tok')
if values[1] ~= 'running' or values[2] ~= token then return 0 end
-- A write that a full server grants, so that it grants those that follow.
redis.call('PERSIST', job)
redis.call('HSET', job, 'tok', '')
if is_counted ~= '1' then redis.call('HINCRBY', job, 'runs', -1) end
redis.call('ZADD', leases, now() + delay_ms, job_id .. ' ' .. holder)
redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'j', job_id)
return 1
