-- Notes that bytes of a clip's result reached their reader; once all did, from the first on, it makes room for others.
--
-- KEYS[1] job      hash: the clip's record
-- KEYS[2] fetched  sorted set: job -> when the last of its results was fetched, ms
-- ARGV[1] job_id
-- ARGV[2] start
-- ARGV[3] stop
-- Returns 1, or 0 where the clip is not done
-- include entries.lua

local job, fetched, job_id, start, stop = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local values = redis.call('HMGET', job, 's', 'got', 'size')
local got = tonumber(values[2] or 0)
if values[1] ~= 'done' then return 0 end
if start <= got and stop > got then
  redis.call('HSET', job, 'got', stop)
  if stop >= tonumber(values[3]) then redis.call('ZADD', fetched, now(), job_id) end
end
return 1
