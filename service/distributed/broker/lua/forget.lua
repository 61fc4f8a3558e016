-- Removes a job that has ended, or is gone, and its results. Frames of a dead letter stay, with the letter.
--
-- KEYS[1] job      hash: the job's record
-- KEYS[2] results  hash: job -> bytes of its results, and their sum
-- KEYS[3] kept     sorted set: job -> until when its results are kept, ms
-- KEYS[4] fetched  sorted set: job -> when the last of its results was fetched, ms
-- KEYS[5...] outs  its published answers
-- ARGV[1] job_id
-- Returns 1, or 0 where it has not ended
-- include counts.lua

local job, results, kept, fetched, job_id = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local state = redis.call('HGET', job, 's')
if state == 'queued' or state == 'running' then return 0 end
redis.call('UNLINK', job)
for i = 5, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('ZREM', kept, job_id)
redis.call('ZREM', fetched, job_id)
hold(results, job_id, 0)
return 1
