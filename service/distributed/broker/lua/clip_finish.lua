-- Ends a clip, by its maker: done or failed. Its result is kept from now on, the rest of it goes.
--
-- KEYS[1] job        hash: the clip's record
-- KEYS[2] leases     sorted set: clip and holder -> until when it is its maker's, ms
-- KEYS[3] results    hash: job -> bytes that it holds here, and their sum
-- KEYS[4] kept       sorted set: job -> until when its results are kept, ms
-- KEYS[5] hooks      sorted set: job -> when its webhook is due, ms
-- KEYS[6] events     stream: jobs that moved
-- KEYS[7...] pieces  of its result, then those that go
-- ARGV[1] job_id
-- ARGV[2] holder
-- ARGV[3] token         of its lease
-- ARGV[4] state         done or failed
-- ARGV[5] failure       msgpack: the error, or ''
-- ARGV[6] done          frames written
-- ARGV[7] notes         msgpack: what is left out or changed
-- ARGV[8] result_bytes
-- ARGV[9] held_bytes    of its result that are here
-- ARGV[10] count        of pieces of its result
-- ARGV[11] object       names the result where that is kept elsewhere
-- ARGV[12] keep_ms
-- Returns 1, 0 where it is not the caller's any more, -1 where a piece of its result is gone
-- include entries.lua
-- include counts.lua
-- include record_bytes.lua
-- include clip_end.lua

local job, leases, results, kept, hooks, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local job_id, holder, token, state, failure, done, notes = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local result_bytes, held_bytes, count, object, keep_ms = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], ARGV[12]
local values = redis.call('HMGET', job, 's', 'tok')
if values[1] ~= 'running' or values[2] ~= token then return 0 end
-- A write that a full server grants, so that it grants those that follow.
redis.call('PERSIST', job)
for i = 7, 6 + count do
  if redis.call('PEXPIRE', KEYS[i], keep_ms) == 0 then return -1 end
end
for i = 7 + count, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('ZREM', leases, job_id .. ' ' .. holder)
if state == 'failed' then redis.call('HSET', job, 'e', failure) end
redis.call('HSET', job, 'done', done, 'notes', notes, 'size', result_bytes, 'object', object)
end_clip(job, job_id, state, keep_ms, held_bytes, {results = results, kept = kept, hooks = hooks, events = events})
return 1
