-- Stores a value even when memory is full: an attempt, which makes room by the settle.lua that follows, or a front
-- end's heartbeat.
--
-- KEYS[1] place
-- ARGV[1] value
-- ARGV[2] ttl_ms  milliseconds until it expires
-- Returns 1

local place, value, ttl_ms = KEYS[1], ARGV[1], ARGV[2]
redis.call('UNLINK', place)
redis.call('SET', place, value, 'PX', ttl_ms)
return 1
