-- Notes that a result was fetched; once all of a job's are, it makes room for others when there is none.
--
-- KEYS[1] job            hash: the job's record
-- KEYS[2] fetched        sorted set: job -> when the last of its results was fetched, ms
-- ARGV[1] item           its number
-- ARGV[2] job_id
-- Returns 1, or 0 where that is known already or the job is not done
-- include entries.lua

local job, fetched, item, job_id = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
-- Changes nothing and needs no memory: what follows is then granted by a full server, which needs the room most.
redis.call('HDEL', job, '')
local values = redis.call('HMGET', job, 's', 'n')
local state, items = values[1], values[2]
if state ~= 'done' or redis.call('HSETNX', job, 'g' .. item, '1') == 0 then return 0 end
if redis.call('HINCRBY', job, 'got', 1) == tonumber(items) then redis.call('ZADD', fetched, now(), job_id) end
return 1
