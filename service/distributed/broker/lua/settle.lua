-- Ends an item, once, whoever tries: the lease must be the caller's, and the entry must be this job's item (a stream
-- that was emptied and made again within a millisecond repeats its ids).
--
-- The other items of a job that fails leave the queue with it. A job that ended has `items` results: its caller gives
-- each the time that they are kept, or removes them. `bury` needs no lease of the caller's: a lapsed one and too many
-- deliveries, seen here again in the same step.
--
-- KEYS[1] stream    the item's work stream
-- KEYS[2] job       hash: the item's job or call
-- KEYS[3] payload   hash: the job's frames
-- KEYS[4] load      hash: counts of all that is queued and running
-- KEYS[5] attempt   the caller's answer, not yet published
-- KEYS[6] out       the published answer
-- KEYS[7] reply     stream: answered calls of the front end that waits, or this call alone
-- KEYS[8] events    stream: jobs that moved
-- KEYS[9] buckets   set: the work streams that exist
-- KEYS[10] hooks    sorted set: job -> when its webhook is due, ms
-- KEYS[11] dead     stream: dead letters
-- KEYS[12] clients  hash: holder -> items of its jobs
-- KEYS[13] results  hash: job -> bytes of its results, and their sum
-- KEYS[14] kept     sorted set: job -> until when its results are kept, ms
-- KEYS[15] due      sorted set: work stream -> when its next unclaimed item is due, ms
-- KEYS[16] idle     sorted set: worker that runs nothing -> until when that counts, ms
-- ARGV[1] group     the workers' consumer group
-- ARGV[2] entry     the item's id in the stream
-- ARGV[3] worker    who ends it
-- ARGV[4] job_id
-- ARGV[5] item      its number
-- ARGV[6] how       ok: publish the attempt. fail: end with an error. drop: nobody waits.
--                   bury: fail, and keep a dead letter
-- ARGV[7] failure   msgpack: the error, or ''
-- ARGV[8] lease_ms
-- ARGV[9] most_deliveries
-- ARGV[10] dead_ms  frames of a dead letter are kept so long
-- ARGV[11] rest_ms  the worker then counts as idle so long; 0: it has more to do
-- Returns {1, state, items, ms kept} done
--         {0} not the caller's to end
--         {-1} the attempt is gone
-- include entries.lua
-- include counts.lua
-- include due_index.lua
-- include removal.lua
-- include record_bytes.lua

local stream, job, payload, load, attempt, out, reply = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local events, buckets, hooks, dead, clients = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local results, kept, due, idle = KEYS[13], KEYS[14], KEYS[15], KEYS[16]
local group, entry, worker, job_id, item, how = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local failure, lease_ms, most_deliveries, dead_ms = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local rest_ms = tonumber(ARGV[11])

local rows = redis.call('XRANGE', stream, entry, entry)
if #rows == 0 then
  redis.pcall('XACK', stream, group, entry)
  -- Withdrawn, or failed with another item, while it ran: it left the queue then.
  local state = redis.call('HGET', job, 's')
  if (how == 'ok' or how == 'drop') and (state == 'cancelled' or state == 'failed') then
    redis.call('UNLINK', attempt)
    return {1, state, 0, 0}
  end
  return {0}
end
local e = fields(rows[1][2])
-- What another release left out.
for name, value in pairs({k = '0', b = '0', w = '0', t = '86400000', f = '', p = '', q = '', c = ''}) do
  e[name] = e[name] or value
end
if e['j'] ~= job_id or e['k'] ~= item then return {0} end
local claim = pending(stream, group, entry)
if not claim then return {0} end
local owner, idle_ms, deliveries = claim[2], claim[3], claim[4]
local may_bury = how == 'bury' and idle_ms >= lease_ms and deliveries >= most_deliveries
if owner ~= worker and not may_bury then return {0} end
if how == 'ok' and redis.call('EXISTS', attempt) == 0 then return {-1} end

-- The front end looks the call up then, whatever became of it.
local function tell_front()
  redis.call('XADD', reply, '*', 'j', job_id)
  redis.call('PEXPIRE', reply, e['o'] == '1' and e['t'] or 600000)
end

-- Last of all: should anything before it ever fail, the item is still there and its lease runs out.
local function leave()
  remove(stream, group, entry, e, load, buckets, clients, due)
  if rest_ms > 0 then redis.call('ZADD', idle, now() + rest_ms, worker) end
end

local whole_record = record(job)
local rec = whole_record
-- Accepted anew under the same id after its record was lost: this is an item of the old one.
if rec and rec['p'] and rec['p'] ~= e['p'] then rec = nil end
local state, items, webhook, client, answered, first, answer_bytes = false
if rec then
  state, items, webhook, client = rec['s'], rec['n'], rec['hook'], rec['c']
  local more = redis.call('HMGET', job, 'd' .. item, 'id', 'bytes')
  answered, first, answer_bytes = more[1], more[2], more[3]
end
local is_open = state == 'queued' or state == 'running'
if not state then
  redis.call('UNLINK', payload)
  if not whole_record then
    hold(results, job_id, 0)
    -- A record that has lost fields cannot end, and has no time of its own.
    if redis.call('TTL', job) == -1 then redis.call('PEXPIRE', job, e['t']) end
  end
end
if how == 'drop' and is_open and not answered then
  redis.call('UNLINK', job, payload)
  hold(results, job_id, 0)
  -- Should its front end live after all, only slow to say so, it must not wait for an answer.
  if e['f'] ~= '' then tell_front() end
  leave()
  return {1, 'dropped', 0, 0}
end
-- Withdrawn by an older release, which left its items here and the room for its results taken; or by who looked before
-- its submission came, and knew neither its stream nor its frames.
if state == 'cancelled' then
  redis.call('UNLINK', payload)
  hold(results, job_id, 0)
end
if not is_open or answered or how == 'drop' then
  redis.call('UNLINK', attempt)
  leave()
  return {1, state or 'gone', 0, 0}
end

local time, new_state = now(), 'running'
-- The write that a full server grants, so that it grants those that follow.
redis.call('PEXPIRE', attempt, 60000)
if how == 'ok' then
  redis.call('RENAME', attempt, out)
  -- The first of many answers must not expire before the last is there and its own time begins.
  redis.call('PEXPIRE', out, (items == '1' and 1 or 2) * tonumber(e['t']))
  redis.call('HSET', job, 'd' .. item, '1')
  if e['f'] == '' then answer_bytes = redis.call('HINCRBY', job, 'bytes', redis.call('STRLEN', out)) end
  if redis.call('HINCRBY', job, 'done', 1) == tonumber(items) then new_state = 'done' end
else
  new_state = 'failed'
  redis.call('HSET', job, 'e', failure)
end
if how == 'bury' then
  redis.call('XADD', dead, 'MAXLEN', '~', 1000, '*', 'j', job_id, 'k', item, 'p', e['p'], 'f', e['f'], 'st', stream,
    'b', e['b'], 'w', e['w'], 't', e['t'], 'runs', deliveries, 'worker', owner, 'c', client, 'e', failure, 'at', time)
end
redis.call('HSET', job, 's', new_state)
if new_state ~= 'running' then
  redis.call('HSET', job, 'end', time)
  redis.call('PEXPIRE', job, e['t'])
  if how == 'bury' and e['f'] == '' then
    -- Frames, and the state that a replay needs, stay for whoever inspects the dead letter.
    redis.call('PEXPIRE', payload, dead_ms)
    redis.call('PEXPIRE', job, math.max(tonumber(dead_ms), tonumber(e['t'])))
  else
    redis.call('UNLINK', payload)
  end
  if webhook and webhook ~= '' then redis.call('ZADD', hooks, time, job_id) end
  if e['f'] == '' then
    sweep(results, kept, time)
    hold(results, job_id, RECORD_BYTES + (new_state == 'done' and tonumber(answer_bytes) or 0))
    redis.call('ZADD', kept, time + tonumber(redis.call('PTTL', job)), job_id)
  end
end
if e['f'] ~= '' then
  tell_front()
else
  redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'j', job_id)
end
leave()
if new_state == 'failed' and tonumber(items) > 1 then
  remove_all(stream, group, first, items, job_id, load, buckets, clients, due)
end
return {1, new_state, tonumber(items), tonumber(e['t'])}
