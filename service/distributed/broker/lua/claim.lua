-- Claims a batch of one bucket: the stream whose next item is due first, filled from the bucket's other classes.
--
-- KEYS[1...] streams  the work streams that exist
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] worker      who claims
-- ARGV[3] most_items
-- ARGV[4] most_pixels of all that is claimed, padded; a single item may have more
-- Returns {ms now, {{stream, {{id, fields}...}}...}}
-- include entries.lua

local group, worker, most_items, most_pixels = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local heads = {}
for _, stream in ipairs(KEYS) do
  if redis.call('EXISTS', stream) == 1 then
    local last
    for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      row = fields(row)
      if row['name'] == group then last = row['last-delivered-id'] end
    end
    -- A server that lost its tail in a failover may have the stream and not the group. 0, not $: nothing is skipped.
    if not last then
      redis.call('XGROUP', 'CREATE', stream, group, '0')
      last = '0-0'
    end
    local rows = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)
    if #rows > 0 then heads[#heads + 1] = {tonumber(fields(rows[1][2])['d']) or 0, stream} end
  end
end
local time = now()
if #heads == 0 then return {time, {}} end
table.sort(heads, function(a, b)
  if a[1] == b[1] then return a[2] < b[2] end
  return a[1] < b[1]
end)

local bucket = string.match(heads[1][2], '[^:]+$')
local room, batches = most_items, {}
local rows, columns = string.match(bucket, '^(%d+)x(%d+)')
if most_pixels and rows then room = math.min(room, math.max(1, math.floor(most_pixels / (rows * columns)))) end
for _, head in ipairs(heads) do
  local stream = head[2]
  if room > 0 and string.match(stream, '[^:]+$') == bucket then
    local reply = redis.call('XREADGROUP', 'GROUP', group, worker, 'COUNT', room, 'STREAMS', stream, '>')
    if reply then
      local entries = reply[1][2]
      batches[#batches + 1] = {stream, entries}
      room = room - #entries
    end
  end
end
return {time, batches}
