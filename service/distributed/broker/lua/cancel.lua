-- Withdraws what has not ended yet: its items leave the queue at once, whether or not workers are there.
--
-- KEYS[1] job       hash: the job or call
-- KEYS[2] payload   hash: its frames
-- KEYS[3] events    stream: jobs that moved
-- KEYS[4] cancels   stream: withdrawn jobs, which every worker reads
-- KEYS[5] stream    its work stream
-- KEYS[6] load      hash: counts of all that is queued and running
-- KEYS[7] buckets   set: the work streams that exist
-- KEYS[8] clients   hash: holder -> items of its jobs
-- KEYS[9] results   hash: job -> bytes of its results, and their sum
-- KEYS[10] kept     sorted set: job -> until when its results are kept, ms
-- KEYS[11] due      sorted set: work stream -> when its next unclaimed item is due, ms
-- ARGV[1] job_id
-- ARGV[2] keep_ms   its state is kept so long
-- ARGV[3] tell      1: front ends are told, too
-- ARGV[4] group     the workers' consumer group
-- Returns the state it then has, or nil where it is not known
-- include entries.lua
-- include counts.lua
-- include due_index.lua
-- include removal.lua
-- include record_bytes.lua

local job, payload, events, cancels, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local load, buckets, clients, results, kept, due = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local job_id, keep_ms, tell, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state = redis.call('HGET', job, 's')
if state ~= 'queued' and state ~= 'running' then return state end
-- Needs no memory: what follows is then granted by a full server.
redis.call('UNLINK', payload)
local values, time = redis.call('HMGET', job, 'st', 'id', 'n', 'f'), now()
local job_stream, first, items, front = values[1], values[2], values[3], values[4]
redis.call('HSET', job, 's', 'cancelled', 'end', time)
redis.call('PEXPIRE', job, keep_ms)
if job_stream == stream then remove_all(stream, group, first, items, job_id, load, buckets, clients, due) end
if front == '' then
  hold(results, job_id, RECORD_BYTES)
  redis.call('ZADD', kept, time + tonumber(keep_ms), job_id)
end
redis.call('XADD', cancels, 'MAXLEN', '~', 1000, '*', 'j', job_id)
if tell == '1' then redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'j', job_id) end
return 'cancelled'
