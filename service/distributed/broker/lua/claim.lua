-- Claims items of one bucket, as many as are the worker's share, by turns between clients.
--
-- The share of a worker whose device has nothing to do is what waits, parted among those like it, up to a load of its
-- device. To have more ready, any worker takes of what those leave (a load for each) its part as one worker of all.
--
-- Turns: the class of the item due first comes first, then the other one. Within it, `service.engine.scheduling.fair_shares`
-- in Lua (a test compares them): the slot of clients whose place is the lowest, which a claim moves on by the item's
-- predicted work, and among places alike the item due first.
--
-- KEYS[1] due         sorted set: work stream -> when its next unclaimed item is due, ms
-- KEYS[2] idle        sorted set: worker that runs nothing -> until when that counts, ms
-- KEYS[3] workers     sorted set: worker -> until when it counts as alive, ms
-- KEYS[4] turns       hash: slot of clients -> where its device time stands, us; "now": where the last one stood;
--                     "patient": when background work that has waited may go first again, ms
-- KEYS[5] load        hash: counts of all that is queued and running
-- KEYS[6...] streams  of one bucket that have unclaimed items, the one due first being the first
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] worker      who claims
-- ARGV[3] most_items
-- ARGV[4] most_pixels of all that is claimed, padded; a single item may have more
-- ARGV[5] together    items that its device runs at once
-- ARGV[6] held        items on its device: those that run or are ready
-- ARGV[7] least_us    that an item counts for
-- ARGV[8] quantum_us  places that differ by less are alike
-- ARGV[9] is_patient  1: its background work goes first for having waited, one load of the device at most
-- ARGV[10] patient_share  of all devices' time that such work may take
-- Returns {ms now, {{stream, {{id, fields}...}}...}, items that wait still, at least; us of work of all calls queued and
--         running, for each worker alive}; of the fields those that a worker reads
-- include entries.lua
-- include due_index.lua
-- include claims.lua

local due, idle, workers, turns, load = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, worker, most_items, most_pixels = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local together, held = tonumber(ARGV[5]), tonumber(ARGV[6])
local least_us, quantum_us = tonumber(ARGV[7]), tonumber(ARGV[8])
local is_patient, patient_share = ARGV[9] == '1', tonumber(ARGV[10])

local time = now()
-- Needs no memory: what follows is then granted by a full server.
redis.call('ZREMRANGEBYSCORE', idle, '-inf', time)
local lines, waiting, lead_class = {}, 0, nil
for i = 6, #KEYS do
  local last, items = unclaimed(KEYS[i], group)
  if last and items > 0 then
    local class, slot = string.match(KEYS[i], '}:s:(%d+):'), slot_of(KEYS[i])
    lead_class = lead_class or class
    lines[#lines + 1] = {stream = KEYS[i], is_lead = class == lead_class, slot = slot, items = items, last = last}
    waiting = waiting + items
  else
    redis.call('ZREM', due, KEYS[i])
  end
end
local alive = math.max(1, redis.call('ZCOUNT', workers, time, '+inf'))
local backlog_us = math.floor(math.max(0, tonumber(redis.call('HGET', load, 'live') or 0)) / alive)
if #lines == 0 then return {time, {}, redis.call('ZCARD', due), backlog_us} end

-- One at least waits in each stream of other buckets.
waiting = waiting + redis.call('ZCARD', due) - #lines
local others = redis.call('ZCARD', idle) - (redis.call('ZSCORE', idle, worker) and 1 or 0)
local share = held > 0 and 0 or math.min(together, math.ceil(waiting / (others + 1)))
share = share + math.max(0, math.floor((waiting - share - others * together) / alive))
-- What has waited is not left to others.
if is_patient then share = math.max(1, math.min(share, together)) end
local room, batches = math.min(most_items, share), {}
local rows, columns = string.match(lines[1].stream, '(%d+)x(%d+)[^:]*$')
if most_pixels and rows then room = math.min(room, math.max(1, math.floor(most_pixels / (rows * columns)))) end
if room <= 0 then return {time, {}, waiting, backlog_us} end

local background_us = 0
local places, last_place = {}, tonumber(redis.call('HGET', turns, 'now') or 0)
for _, line in ipairs(lines) do
  places[line.slot] = math.max(last_place, tonumber(redis.call('HGET', turns, line.slot) or 0))
  line.due = tonumber(redis.call('ZSCORE', due, line.stream) or 0)
end
local function is_before(a, b)
  if a.is_lead ~= b.is_lead then return a.is_lead end
  local turn_a, turn_b = math.floor(places[a.slot] / quantum_us), math.floor(places[b.slot] / quantum_us)
  if turn_a ~= turn_b then return turn_a < turn_b end
  return a.due < b.due
end
while room > 0 do
  local line, rivals, lowest = nil, false, math.huge
  for _, other in ipairs(lines) do
    if other.due then
      rivals = line ~= nil
      lowest = math.min(lowest, places[other.slot])
      if not line or is_before(other, line) then line = other end
    end
  end
  if not line then break end
  local most = rivals and 1 or room
  local reply = redis.call('XREADGROUP', 'GROUP', group, worker, 'COUNT', most, 'STREAMS', line.stream, '>')
  local entries = reply and reply[1][2] or {}
  if #entries > 0 then
    local batch = {}
    for i, entry in ipairs(entries) do batch[i] = {entry[1], read_fields(entry[2])} end
    batches[#batches + 1] = {line.stream, batch}
    line.last, last_place = entries[#entries][1], math.max(last_place, lowest)
  end
  for _, entry in ipairs(entries) do
    local work_us = math.max(least_us, tonumber(fields(entry[2])['w']) or 0)
    places[line.slot] = places[line.slot] + work_us
    if line.is_lead and lead_class ~= '0' then background_us = background_us + work_us end
  end
  room, waiting = room - #entries, waiting - #entries
  line.due = index_after(due, line.stream, line.last)
  redis.call('HSET', turns, line.slot, places[line.slot], 'now', last_place)
end
if background_us > 0 then
  redis.call('HSET', turns, 'patient', math.floor(time + background_us / 1000 / patient_share / alive))
end
redis.call('ZREM', idle, worker)
return {time, batches, waiting, backlog_us}
