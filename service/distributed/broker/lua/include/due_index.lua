-- Functions that keep the index of what may be claimed: work stream -> when its next unclaimed item is due, ms. They
-- need entries.lua. A release before the index neither reads nor keeps it, so a member may be too early, or of a stream
-- that is gone: who claims puts that right. What such a release adds, sweep.lua finds.

-- Return a stream's last claimed id and its unclaimed items; nil where it is gone. A server that lost its tail in a
-- failover may have the stream and not the group, which is then made again. From 0, not $: nothing is skipped.
local function unclaimed(stream, group)
  if redis.call('EXISTS', stream) == 0 then return nil end
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    row = fields(row)
    if row['name'] == group then return row['last-delivered-id'], redis.call('XLEN', stream) - row['pending'] end
  end
  redis.call('XGROUP', 'CREATE', stream, group, '0')
  return '0-0', redis.call('XLEN', stream)
end

-- Note, and return, when the first item behind the id `last` is due; where there is none, take the stream out of the
-- index and return nil.
local function index_after(due, stream, last)
  local rows = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)
  if #rows == 0 then
    redis.call('ZREM', due, stream)
    return nil
  end
  local time = tonumber(fields(rows[1][2])['d']) or 0
  redis.call('ZADD', due, time, stream)
  return time
end

-- Set a stream's place in the index right, whatever was done to its items. Return it, or nil.
local function index(due, stream, group)
  local last = unclaimed(stream, group)
  if last then return index_after(due, stream, last) end
  redis.call('ZREM', due, stream)
  return nil
end
