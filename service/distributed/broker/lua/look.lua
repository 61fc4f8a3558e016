-- Finds the bucket whose turn it is, and all its streams that have unclaimed items. Where there are none, who asks and
-- runs nothing is noted as idle.
--
-- It is the bucket of the live item that is due first; where background work has waited for `patience_ms`, and the
-- devices' share of it is not used up, that of the background item that came first.
--
-- KEYS[1] due      sorted set: work stream -> when its next unclaimed item is due, ms
-- KEYS[2] buckets  set: the work streams that exist
-- KEYS[3] idle     sorted set: worker that runs nothing -> until when that counts, ms
-- KEYS[4] turns    hash: slot of clients -> where its device time stands, us; "patient": when background work that has
--                  waited may go first again, ms
-- ARGV[1] prefix   of the names of work streams
-- ARGV[2] slots    that clients are spread over
-- ARGV[3] worker   who asks
-- ARGV[4] held     items on its device
-- ARGV[5] idle_ms  it counts as idle so long
-- ARGV[6] live_only  1: leave background work (of streams that stand very late in the index, calls are not seen)
-- ARGV[7] behind_ms    background work stands so far behind its arrival in the index
-- ARGV[8] patience_ms  after which it goes first
-- Returns {streams, the one whose turn it is being the first; streams that exist, claimed ones too; 1 where it goes first
--         for having waited}
-- include entries.lua

local due, buckets, idle, turns = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local prefix, slots, worker, held, idle_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local live_only, behind_ms, patience_ms = ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])

local streams = redis.call('SCARD', buckets)
local time, lead, is_patient = now(), nil, 0
if not live_only and tonumber(redis.call('HGET', turns, 'patient') or 0) <= time then
  -- Of an older release's background work, whose place is among live work's, nothing is known.
  local least, most = time + behind_ms / 2, time + behind_ms - patience_ms
  lead = redis.call('ZRANGEBYSCORE', due, least, most, 'LIMIT', 0, 1)[1]
  if lead then is_patient = 1 end
end
for _, stream in ipairs(redis.call('ZRANGE', due, 0, live_only and 255 or 0)) do
  lead = lead or ((not live_only or string.sub(stream, 1, #prefix + 2) == prefix .. '0:') and stream)
end
if not lead then
  -- First what needs no memory, so that a full server grants the rest.
  redis.call('ZREM', idle, worker)
  if streams == 0 then redis.call('UNLINK', turns) end
  if held == 0 then redis.call('ZADD', idle, time + idle_ms, worker) end
  return {{}, streams, 0}
end
local bucket, names = string.match(lead, '[^:]+$'), {}
for class = 0, live_only and 0 or 1 do
  names[#names + 1] = prefix .. class .. ':' .. bucket
  for slot = 0, slots - 1 do names[#names + 1] = prefix .. class .. ':' .. slot .. ':' .. bucket end
end
local answer = {lead}
for i, score in ipairs(redis.call('ZMSCORE', due, unpack(names))) do
  if score and names[i] ~= lead then answer[#answer + 1] = names[i] end
end
return {answer, streams, is_patient}
