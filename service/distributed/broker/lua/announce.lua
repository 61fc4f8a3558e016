-- Says that a worker lives, and what it is.
--
-- KEYS[1] workers  sorted set: worker -> until when it counts as alive, ms
-- KEYS[2] info     the worker's announcement
-- KEYS[3] model    the last worker's announcement
-- ARGV[1] worker
-- ARGV[2] about    msgpack: its announcement
-- ARGV[3] life_ms  it counts as alive so long
-- Returns 1
-- include entries.lua

local workers, info, model, worker, about, life_ms = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = now()
-- Those that died long ago; needs no memory, so that a full server grants what follows.
redis.call('ZREMRANGEBYSCORE', workers, '-inf', time - 9 * life_ms)
redis.call('ZADD', workers, time + life_ms, worker)
redis.call('SET', info, about, 'PX', life_ms)
redis.call('SET', model, about)
return 1
