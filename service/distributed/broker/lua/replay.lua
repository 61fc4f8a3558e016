-- Queues a dead job again, all of it.
--
-- KEYS[1] job       hash: the job's record
-- KEYS[2] payload   hash: its frames
-- KEYS[3] load      hash: counts of all that is queued and running
-- KEYS[4] stream    the work stream that it was in
-- KEYS[5] buckets   set: the work streams that exist
-- KEYS[6] wake      list: tokens for idle workers
-- KEYS[7] dead      stream: dead letters
-- KEYS[8] hooks     sorted set: job -> when its webhook is due, ms
-- KEYS[9] clients   hash: holder -> items of its jobs
-- KEYS[10] results  hash: job -> bytes of its results, and their sum
-- KEYS[11] kept     sorted set: job -> until when its results are kept, ms
-- KEYS[12] due      sorted set: work stream -> when its next unclaimed item is due, ms
-- ARGV[1] group     the workers' consumer group
-- ARGV[2] letter    the dead letter's id
-- ARGV[3] job_id
-- ARGV[4] order_ms  from now: the time by which streams are ordered
-- Returns the items queued, or
--         -1 the frames are gone
--         -2 it did not fail
--         -3 nobody waits for it
--         -4 part of its record is lost
-- include entries.lua
-- include wake.lua
-- include counts.lua

local job, payload, load, stream, buckets, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local dead, hooks, clients, results, kept, due = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local group, letter, job_id, order_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local rows = redis.call('XRANGE', dead, letter, letter)
if #rows == 0 then return -2 end
local e = fields(rows[1][2])
if e['f'] ~= '' then return -3 end
if redis.call('EXISTS', payload) == 0 then return -1 end
local values = redis.call('HMGET', job, 's', 'n', 'c', 'room', 'h')
local state, items, room_bytes = values[1], tonumber(values[2]), tonumber(values[4] or 0)
-- A release before named no holder: the client was counted.
local holder = values[5] or values[3]
if state ~= 'failed' then return -2 end
if not record(job) or redis.call('HEXISTS', job, 'm') == 0 then return -4 end

local time, first = now(), nil
if redis.call('EXISTS', stream) == 0 then redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM') end
redis.call('SADD', buckets, stream)
for item = 0, items - 1 do
  redis.call('HDEL', job, 'd' .. item, 'l' .. item, 'g' .. item)
  local id = redis.call('XADD', stream, '*', 'j', job_id, 'k', item, 'p', e['p'], 'f', '', 'd', time + order_ms,
    'x', 0, 'b', e['b'], 'w', e['w'], 't', e['t'], 'q', '1', 'c', holder)
  first = first or id
end
redis.call('HSET', job, 's', 'queued', 'done', 0, 'st', stream, 'id', first)
redis.call('HDEL', job, 'e', 'end', 'bytes', 'got')
redis.call('PERSIST', job)
redis.call('PERSIST', payload)
redis.call('ZREM', hooks, job_id)
redis.call('HINCRBY', load, 'items', items)
redis.call('HINCRBY', load, 'bytes', items * tonumber(e['b']))
redis.call('HINCRBY', load, 'work', items * tonumber(e['w']))
redis.call('HINCRBY', load, 'jobs', items)
redis.call('HINCRBY', load, 'jobbytes', items * tonumber(e['b']))
redis.call('HINCRBY', clients, holder, items)
redis.call('ZREM', kept, job_id)
hold(results, job_id, room_bytes)
redis.call('XDEL', dead, letter)
redis.call('ZADD', due, 'NX', time + order_ms, stream)
wake_workers(wake, items)
return items
