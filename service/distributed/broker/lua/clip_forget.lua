-- Removes a clip, whatever its state, and all that it holds here; whoever makes it finds that out.
--
-- KEYS[1] job        hash: the clip's record
-- KEYS[2] line       sorted set: clip and holder -> when it was accepted, ms
-- KEYS[3] leases     sorted set: clip and holder -> until when it is its maker's, ms
-- KEYS[4] clips      hash: clip -> who is counted for it
-- KEYS[5] results    hash: job -> bytes that it holds here, and their sum
-- KEYS[6] kept       sorted set: job -> until when its results are kept, ms
-- KEYS[7] fetched    sorted set: job -> when the last of its results was fetched, ms
-- KEYS[8] hooks      sorted set: job -> when its webhook is due, ms
-- KEYS[9] events     stream: jobs that moved
-- KEYS[10...] pieces of it
-- ARGV[1] job_id
-- ARGV[2] holder
-- Returns the state it had, or nil
-- include counts.lua

local job, line, leases, clips, results = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local kept, fetched, hooks, events = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local job_id, member, state = ARGV[1], ARGV[1] .. ' ' .. ARGV[2], redis.call('HGET', KEYS[1], 's')
redis.call('UNLINK', job)
for i = 10, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('ZREM', line, member)
redis.call('ZREM', leases, member)
redis.call('HDEL', clips, job_id)
redis.call('ZREM', kept, job_id)
redis.call('ZREM', fetched, job_id)
redis.call('ZREM', hooks, job_id)
hold(results, job_id, 0)
redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'j', job_id)
return state
