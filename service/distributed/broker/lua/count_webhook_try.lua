-- Counts a try of a job's webhook, if the job is still there. A write alone would make a hash of one field for a job
-- that expired while its receiver was slow, and that hash would stay for ever.
--
-- KEYS[1] job  hash: the job's record
-- Returns the tries so far, or 0 where the job is gone

local job = KEYS[1]
if redis.call('HEXISTS', job, 's') == 0 then return 0 end
-- Changes nothing and needs no memory: what follows is then granted by a full server.
redis.call('HDEL', job, '')
return redis.call('HINCRBY', job, 'tries', 1)
