-- Claims the one call that waits, for a worker whose device has nothing to do, and begins it.
--
-- It is sent behind the read that waits for a wake token, so it runs as soon as that has one, and before it is known of
-- what. So it goes to keys that are not handed to it: those of the stream that is due, and of its item. All are of one
-- slot, and no Cluster is asked so. Whatever else waits, or however busy the worker, is left to look.lua and claim.lua.
--
-- KEYS[1] due      sorted set: work stream -> when its next unclaimed item is due, ms
-- KEYS[2] idle     sorted set: worker that runs nothing -> until when that counts, ms
-- KEYS[3] workers  sorted set: worker -> until when it counts as alive, ms
-- KEYS[4] turns    hash: slot of clients -> where its device time stands, us; "now": where the last one stood
-- KEYS[5] load     hash: counts of all that is queued and running
-- KEYS[6] frames   hash: what the command that follows reads; a copy of the call's
-- ARGV[1] group    the workers' consumer group
-- ARGV[2] worker   who claims
-- ARGV[3] streams  what the names of work streams begin with
-- ARGV[4] jobs     what the names of records begin with
-- ARGV[5] payloads   what the names of uploads begin with
-- ARGV[6] fronts     what the names of front ends' signs of life begin with
-- ARGV[7] most_bytes of its frames: larger ones are asked for once they are the worker's
-- ARGV[8] least_us   that an item counts for
-- ARGV[9] keep_ms    of the copy, should nobody read and remove it
-- Returns {ms now, stream, id, fields, us of work of all calls for each worker alive, verdict as of begin.lua}; nil where
--         it claimed nothing
-- include entries.lua
-- include due_index.lua
-- include claims.lua
-- include verdict.lua

local due, idle, workers, turns, load, frames = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group, worker, streams, jobs, payloads, fronts = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local most_bytes, least_us, keep_ms = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]

local time = now()
-- Needs no memory: what follows is then granted by a full server.
redis.call('UNLINK', frames)
local rest_end = tonumber(redis.call('ZSCORE', idle, worker) or 0)
if rest_end <= time or redis.call('ZCARD', due) ~= 1 then return nil end
local stream = redis.call('ZRANGE', due, 0, 0)[1]
if string.sub(stream, 1, #streams + 2) ~= streams .. '0:' then return nil end
local last, items = unclaimed(stream, group)
if not last or items ~= 1 then return nil end
local next_entry = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
local e = next_entry and fields(next_entry[2]) or {}
local is_call = e['j'] and e['p'] and e['f'] and e['f'] ~= '' and e['k'] == '0'
if not is_call or (tonumber(e['b']) or 0) > most_bytes then return nil end

redis.call('XREADGROUP', 'GROUP', group, worker, 'COUNT', 1, 'STREAMS', stream, '>')
index_after(due, stream, next_entry[1])
redis.call('ZREM', idle, worker)
-- A turn of its client's, as in claim.lua.
local slot = slot_of(stream)
local last_place = tonumber(redis.call('HGET', turns, 'now') or 0)
local place = math.max(last_place, tonumber(redis.call('HGET', turns, slot) or 0))
redis.call('HSET', turns, slot, place + math.max(least_us, tonumber(e['w']) or 0), 'now', place)
local what = verdict(jobs .. e['j'], fronts .. e['f'], '0', '1', e['p'])
if what[1] == 'run' and redis.call('COPY', payloads .. e['p'], frames) == 1 then
  redis.call('PEXPIRE', frames, keep_ms)
end
local alive = math.max(1, redis.call('ZCOUNT', workers, time, '+inf'))
local backlog_us = math.floor(math.max(0, tonumber(redis.call('HGET', load, 'live') or 0)) / alive)
return {time, stream, next_entry[1], read_fields(next_entry[2]), backlog_us, what}
