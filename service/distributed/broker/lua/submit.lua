-- Checks every limit and accepts all items of a job or call, or none.
--
-- Calls and jobs are counted apart: `jobs` and `jobbytes` of the load are those of jobs, the rest is calls'. Older
-- releases count neither, so both are set right wherever they must be wrong (see `clamp`).
--
-- KEYS[1] job         hash: the record to be made
-- KEYS[2] payload     hash: the frames, uploaded before in the same transaction
-- KEYS[3] load        hash: counts of all that is queued and running
-- KEYS[4] stream      the work stream of its class and bucket
-- KEYS[5] buckets     set: the work streams that exist
-- KEYS[6] wake        list: tokens for idle workers
-- KEYS[7] clients     hash: holder -> items of its jobs
-- KEYS[8] results     hash: job -> bytes of its results, and their sum
-- KEYS[9] kept        sorted set: job -> until when its results are kept, ms
-- KEYS[10] due        sorted set: work stream -> when its next unclaimed item is due, ms
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] most_items  of calls, and as many of jobs
-- ARGV[3] most_bytes  of frames, of calls and jobs together
-- ARGV[4] items       predictions asked for
-- ARGV[5] size        bytes of all frames
-- ARGV[6] item_work_us      predicted work of one item, microseconds
-- ARGV[7] deadline_ms       from now; 0 for none
-- ARGV[8] order_ms          from now: the time by which streams are ordered
-- ARGV[9] job_id
-- ARGV[10] token            the upload's, which names the payload
-- ARGV[11] front            the front end that waits; '' for a job
-- ARGV[12] keep_ms          kept so long once it has ended
-- ARGV[13] fingerprint      of the request's parts
-- ARGV[14] client           whose it is; '' where nobody is known
-- ARGV[15] task             msgpack: what to do
-- ARGV[16] webhook          an address, or ''
-- ARGV[17] workers          alive, at least 1
-- ARGV[18] waiting_ms       a call's record is kept so long while it waits; 0: until it has ended
-- ARGV[19] most_job_bytes   of frames of jobs
-- ARGV[20] room_bytes       that its results may take
-- ARGV[21] most_result_bytes
-- ARGV[22] most_client_items  of one holder's jobs; 0 for no limit
-- ARGV[23] saving_us        of its work that a shorter route would save, microseconds of one item
-- ARGV[24] is_trial         1: it is taken though its deadline cannot be met, by prediction
-- ARGV[25] own_reply        1: what becomes of it is told in a stream of its own; '' in that of its front end
-- ARGV[26] holder           whose share it counts in: the client, or the address of who has no key; '' nobody's
-- Returns {1, time ms} accepted
--         {0, client, fingerprint} there already
--         {-1, work us} full in items, {-2, work us} full in bytes
--         {-3, work us} its deadline cannot be met
--         {-4} the upload is gone
--         {-5} its holder has as much as it may
--         {-6, bytes} so much room for results is missing
-- include entries.lua
-- include wake.lua
-- include counts.lua

local job, payload, load, stream, buckets, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local clients, results, kept, due = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local group, most_items, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local items, size, item_work_us = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local deadline_ms, order_ms, job_id, token, front = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]
local keep_ms, fingerprint, client, task, webhook = ARGV[12], ARGV[13], ARGV[14], ARGV[15], ARGV[16]
local workers, waiting_ms, most_job_bytes = tonumber(ARGV[17]), ARGV[18], tonumber(ARGV[19])
local room_bytes, most_result_bytes, most_client_items = ARGV[20], tonumber(ARGV[21]), tonumber(ARGV[22])
local saving_us, is_trial, own_reply, holder = tonumber(ARGV[23]), ARGV[24] == '1', ARGV[25], ARGV[26]

local known = record(job)
if known then return {0, known['c'], known['fp']} end

local totals = redis.call('HMGET', load, 'items', 'bytes', 'work', 'live', 'saving')
local queued_items, queued_bytes = tonumber(totals[1] or 0), tonumber(totals[2] or 0)
local queued_work_us = tonumber(totals[3] or 0)
-- Calls pass jobs, so only the work of calls stands between a call and its deadline.
local call_work_us = tonumber(totals[4] or 0)
-- The least that they can be done with: adaptive ones take a shorter route rather than be late. What a release that
-- counts no savings ended stays counted until no calls are left.
local least_us = call_work_us - math.max(0, math.min(call_work_us, tonumber(totals[5] or 0)))
local time, is_call = now(), front ~= ''
local job_items, job_bytes = clamp(load, queued_items, queued_bytes, clients)

local like_items = is_call and queued_items - job_items or job_items
if like_items + items > most_items then return {-1, queued_work_us} end
if queued_bytes + size > most_bytes or (not is_call and job_bytes + size > most_job_bytes) then
  return {-2, queued_work_us}
end
if not is_call then
  local held_items = math.min(job_items, tonumber(redis.call('HGET', clients, holder) or 0))
  if most_client_items > 0 and holder ~= '' and held_items + items > most_client_items then return {-5} end
  sweep(results, kept, time)
  local missing = tonumber(redis.call('HGET', results, 'sum') or 0) + tonumber(room_bytes) - most_result_bytes
  if missing > 0 then return {-6, missing} end
end
-- By prediction only behind others: where nothing waits, a wrong price would refuse for ever and never be measured.
local own_us = (item_work_us - saving_us) * items
if deadline_ms > 0 and not is_trial and call_work_us > 0 and (least_us + own_us) / workers > deadline_ms * 1000 then
  return {-3, call_work_us}
end
if redis.call('EXISTS', payload) == 0 then return {-4} end

local deadline = 0
if deadline_ms > 0 then deadline = time + deadline_ms end
local first
if redis.call('EXISTS', stream) == 0 then redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM') end
redis.call('SADD', buckets, stream)
for item = 0, items - 1 do
  local share = math.floor(size / items)
  if item == 0 then share = size - share * (items - 1) end
  local id = redis.call('XADD', stream, '*', 'j', job_id, 'k', item, 'p', token, 'f', front, 'd', time + order_ms,
    'x', deadline, 'b', share, 'w', item_work_us, 't', keep_ms, 'q', is_call and '' or '1', 'c', holder, 'v', is_call and saving_us or 0,
    'o', own_reply)
  first = first or id
end
-- What is left of a record that lost fields; whatever of its items still runs is refused by settle.lua.
redis.call('UNLINK', job)
redis.call('HSET', job, 's', 'queued', 'n', items, 'done', 0, 'c', client, 'fp', fingerprint, 'm', task, 'p', token,
  'f', front, 'hook', webhook, 'at', time, 'st', stream, 'id', first, 'room', room_bytes, 'h', holder)
if tonumber(waiting_ms) > 0 then
  redis.call('PEXPIRE', job, waiting_ms)
  redis.call('PEXPIRE', payload, waiting_ms)
else
  redis.call('PERSIST', payload)
end
redis.call('HINCRBY', load, 'items', items)
redis.call('HINCRBY', load, 'bytes', size)
redis.call('HINCRBY', load, 'work', item_work_us * items)
if is_call then
  redis.call('HINCRBY', load, 'live', item_work_us * items)
  add(load, 'saving', saving_us * items)
else
  redis.call('HINCRBY', load, 'jobs', items)
  redis.call('HINCRBY', load, 'jobbytes', size)
  redis.call('HINCRBY', clients, holder, items)
  hold(results, job_id, tonumber(room_bytes))
end
-- Where it is there already, an item that came before is the next one.
redis.call('ZADD', due, 'NX', time + order_ms, stream)
-- What a worker that has nothing else to do needs to begin (`broker/wake_token.py`). Large frames it asks for once they
-- are its own.
local token_of_call
if is_call and items == 1 and size <= 1048576 then
  token_of_call = table.concat({'call', stream, job_id, token, front}, ' ')
end
wake_workers(wake, items, token_of_call)
return {1, time}
