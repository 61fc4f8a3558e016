-- Counts what a job holds in truth, where it was ended by an older release that does not count, or is gone.
--
-- KEYS[1] job      hash: the job's record
-- KEYS[2] results  hash: job -> bytes of its results, and their sum
-- KEYS[3] kept     sorted set: job -> until when its results are kept, ms
-- KEYS[4...] outs  its published answers
-- ARGV[1] job_id
-- Returns 1, or 0 where its count is right already
-- include entries.lua
-- include counts.lua
-- include record_bytes.lua

local job, results, kept, job_id = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local state, size = redis.call('HGET', job, 's'), 0
if state == 'queued' or state == 'running' or (state and redis.call('ZSCORE', kept, job_id)) then return 0 end
if state then
  size = RECORD_BYTES
  for i = 4, #KEYS do size = size + redis.call('STRLEN', KEYS[i]) end
  redis.call('ZADD', kept, now() + math.max(0, redis.call('PTTL', job)), job_id)
end
hold(results, job_id, size)
return 1
