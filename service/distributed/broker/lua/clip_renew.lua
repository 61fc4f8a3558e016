-- Renews the lease of a clip's maker, and notes how far it is.
--
-- KEYS[1] job     hash: the clip's record
-- KEYS[2] leases  sorted set: clip and holder -> until when it is its maker's, ms
-- KEYS[3] events  stream: jobs that moved
-- ARGV[1] job_id
-- ARGV[2] holder
-- ARGV[3] token     of its lease
-- ARGV[4] lease_ms
-- ARGV[5] done      frames written
-- ARGV[6] notes     msgpack: what is left out or changed
-- Returns 1, or 0 where it is not the caller's any more
-- include entries.lua

local job, leases, events = KEYS[1], KEYS[2], KEYS[3]
local job_id, holder, token, lease_ms, done, notes = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local values = redis.call('HMGET', job, 's', 'tok', 'done', 'notes')
if values[1] ~= 'running' or values[2] ~= token then return 0 end
-- A write that a full server grants, so that it grants those that follow.
redis.call('PERSIST', job)
redis.call('ZADD', leases, now() + lease_ms, job_id .. ' ' .. holder)
if values[3] ~= done or values[4] ~= notes then
  redis.call('HSET', job, 'done', done, 'notes', notes)
  redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'j', job_id)
end
return 1
