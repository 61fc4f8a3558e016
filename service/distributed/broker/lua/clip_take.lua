-- Leases a clip that waits, or whose maker went away, to the caller; one that was begun too often fails instead.
--
-- KEYS[1] job      hash: the clip's record
-- KEYS[2] line     sorted set: clip and holder -> when it was accepted, ms
-- KEYS[3] leases   sorted set: clip and holder -> until when it is its maker's, ms
-- KEYS[4] served   sorted set: holder -> when one of its clips was last begun, ms
-- KEYS[5] results  hash: job -> bytes that it holds here, and their sum
-- KEYS[6] kept     sorted set: job -> until when its results are kept, ms
-- KEYS[7] hooks    sorted set: job -> when its webhook is due, ms
-- KEYS[8] events   stream: jobs that moved
-- ARGV[1] job_id
-- ARGV[2] holder
-- ARGV[3] token      names this lease
-- ARGV[4] lease_ms
-- ARGV[5] most_runs  times that it is begun
-- ARGV[6] failure    msgpack: what is told of one that was begun that often
-- ARGV[7] keep_ms    it is then kept so long
-- Returns {1, the record's fields and values} leased
--         {0} not to be had
--         {-1} given up
-- include entries.lua
-- include counts.lua
-- include record_bytes.lua
-- include clip_end.lua

local job, line, leases, served, results, kept, hooks, events =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local job_id, holder, token, lease_ms, most_runs = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local failure, keep_ms, member, time = ARGV[6], ARGV[7], ARGV[1] .. ' ' .. ARGV[2], now()
local state = redis.call('HGET', job, 's')
if not record(job) or (state ~= 'queued' and state ~= 'running') then
  redis.call('ZREM', line, member)
  redis.call('ZREM', leases, member)
  return {0}
end
local lease = redis.call('ZSCORE', leases, member)
if lease and tonumber(lease) > time then return {0} end
if not lease and redis.call('ZREM', line, member) == 0 then return {0} end
-- A write that a full server grants, so that it grants those that follow.
redis.call('PERSIST', job)
if redis.call('HINCRBY', job, 'runs', 1) > most_runs then
  redis.call('ZREM', leases, member)
  redis.call('HSET', job, 'e', failure)
  end_clip(job, job_id, 'failed', keep_ms, 0, {results = results, kept = kept, hooks = hooks, events = events})
  return {-1}
end
redis.call('HSET', job, 's', 'running', 'tok', token)
redis.call('ZADD', leases, time + lease_ms, member)
redis.call('ZADD', served, time, holder)
redis.call('ZREMRANGEBYRANK', served, 0, -1001)
redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'j', job_id)
return {1, redis.call('HGETALL', job)}
