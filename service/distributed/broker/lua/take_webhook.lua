-- Takes the next webhook that is due and puts it off, so that its sender may die. One that is further off than any is put
-- off is due as well: it was so by a clock that has been set back since.
--
-- KEYS[1] hooks     sorted set: job -> when its webhook is due, ms
-- ARGV[1] lease_ms  until it is due again, if nobody says otherwise
-- ARGV[2] longest_ms  that any is put off
-- Returns a job's id, or nil where none is due
-- include entries.lua

local hooks, lease_ms, longest_ms = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = now()
local due = redis.call('ZRANGEBYSCORE', hooks, '-inf', time, 'LIMIT', 0, 1)
if #due == 0 then due = redis.call('ZRANGEBYSCORE', hooks, time + longest_ms, '+inf', 'LIMIT', 0, 1) end
if #due == 0 then return nil end
-- Needs no memory: what follows is then granted by a full server.
redis.call('ZREM', hooks, due[1])
redis.call('ZADD', hooks, time + lease_ms, due[1])
return due[1]
