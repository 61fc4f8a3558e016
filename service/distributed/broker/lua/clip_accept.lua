-- Checks every limit and puts a clip into the line; its body was uploaded before and stays from now on.
--
-- A clip's record is a job's (so webhooks, results' room and their time are counted alike, by releases that know no
-- clips, too); 'clip' stands where a call names its front end, so that nothing takes it for a job of frames.
--
-- KEYS[1] job        hash: the record to be made
-- KEYS[2] line       sorted set: clip and holder -> when it was accepted, ms
-- KEYS[3] clips      hash: clip -> who is counted for it
-- KEYS[4] results    hash: job -> bytes that it holds here, and their sum
-- KEYS[5] kept       sorted set: job -> until when its results are kept, ms
-- KEYS[6] events     stream: jobs that moved
-- KEYS[7] own        sorted set: the client's jobs and clips -> when each was accepted, ms
-- KEYS[8...] pieces  of its body, where that is here
-- ARGV[1] job_id
-- ARGV[2] client     '' where nobody is known
-- ARGV[3] holder     who is counted: a key or an address
-- ARGV[4] fingerprint
-- ARGV[5] order      msgpack: what is asked for
-- ARGV[6] webhook    an address, or ''
-- ARGV[7] frames     0 where nothing tells
-- ARGV[8] file_name  of the result
-- ARGV[9] media_type
-- ARGV[10] body_bytes   of its body
-- ARGV[11] held_bytes   of its body that are here
-- ARGV[12] most_result_bytes
-- ARGV[13] most_holder_bytes  of one holder's clips
-- ARGV[14] most_waiting       clips in the line
-- ARGV[15] most_waiting_of_one
-- ARGV[16] most_clips         kept, of all
-- ARGV[17] is_question        1: nothing is uploaded yet, and nothing is accepted
-- Returns {1} accepted, or it would be
--         {0, client, fingerprint} there already
--         {-1} the line is full
--         {-2} its holder has as many in it as one may
--         {-3} its holder has as many bytes as one may
--         {-4} as many clips are kept as may be
--         {-5} the upload is gone
--         {-6, bytes} so much room is missing
-- include entries.lua
-- include counts.lua
-- include record_bytes.lua

-- A client's list is forgotten so long after its last clip; the clips themselves are long gone.
local OWN_MS = 2592000000
-- A body stays so long at most: longer than any clip waits, and not for ever should its record be lost.
local BODY_MS = 604800000

local job, line, clips, results, kept, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local own = KEYS[7]
local job_id, client, holder, fingerprint, order, webhook = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local frames, file_name, media_type, body_bytes, held_bytes = ARGV[7], ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11])
local most_result_bytes, most_holder_bytes = tonumber(ARGV[12]), tonumber(ARGV[13])
local most_waiting, most_waiting_of_one, most_clips = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local is_question = ARGV[17] == '1'

local known = record(job)
if known then return {0, known['c'], known['fp']} end

local time = now()
sweep(results, kept, time)
local waiting, waiting_of_one = redis.call('ZRANGE', line, 0, -1), 0
for _, member in ipairs(waiting) do
  if string.sub(member, string.find(member, ' ', 1, true) + 1) == holder then waiting_of_one = waiting_of_one + 1 end
end
if waiting_of_one >= most_waiting_of_one then return {-2} end
if #waiting >= most_waiting then return {-1} end
local count, bytes_of_one = 0, 0
for id, who in pairs(fields(redis.call('HGETALL', clips))) do
  local size = redis.call('HGET', results, id)
  if not size then
    redis.call('HDEL', clips, id)
  else
    count = count + 1
    if who == holder then bytes_of_one = bytes_of_one + tonumber(size) end
  end
end
if bytes_of_one + held_bytes > most_holder_bytes then return {-3} end
if count >= most_clips then return {-4} end
local missing = tonumber(redis.call('HGET', results, 'sum') or 0) + held_bytes + RECORD_BYTES - most_result_bytes
if missing > 0 then return {-6, missing} end
if is_question then return {1} end

for i = 8, #KEYS do
  if redis.call('PEXPIRE', KEYS[i], BODY_MS) == 0 then return {-5} end
end
redis.call('UNLINK', job)
redis.call('HSET', job, 's', 'queued', 'n', frames, 'done', 0, 'c', client, 'fp', fingerprint, 'f', 'clip', 'at', time,
  'hook', webhook, 'h', holder, 'order', order, 'name', file_name, 'type', media_type, 'body', body_bytes, 'ranges', 0,
  'runs', 0, 'tok', '')
redis.call('HSET', clips, job_id, holder)
redis.call('ZADD', own, time, job_id)
redis.call('PEXPIRE', own, OWN_MS)
redis.call('ZADD', line, time, job_id .. ' ' .. holder)
hold(results, job_id, held_bytes + RECORD_BYTES)
redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'j', job_id)
return {1}
