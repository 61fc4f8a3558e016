-- Lists claimed items that were not renewed for as long as the asker's own leases last, the oldest of each stream.
--
-- Where the server's clock was set back, what was claimed before is of a time to come, and would not lapse until then:
-- Redis says that nothing has passed since. So the oldest of which it says so are renewed for their workers: for one of
-- this very millisecond that changes nothing, and the others lapse a lease from now.
--
-- KEYS[1...] streams  work streams
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] lease_ms    of the asker
-- ARGV[3] most_items  of each stream
-- Returns {{stream, id, deliveries, worker, ms since it was claimed or renewed}...}

local group, lease_ms, most_items = ARGV[1], ARGV[2], ARGV[3]
local answer = {}
for _, stream in ipairs(KEYS) do
  local oldest = redis.pcall('XPENDING', stream, group, '-', '+', most_items)
  for _, row in ipairs(oldest.err and {} or oldest) do
    if row[3] == 0 then redis.call('XCLAIM', stream, group, row[2], 0, row[1], 'JUSTID') end
  end
  local rows = redis.pcall('XPENDING', stream, group, 'IDLE', lease_ms, '-', '+', most_items)
  -- The stream may be gone with its last item.
  for _, row in ipairs(rows.err and {} or rows) do answer[#answer + 1] = {stream, row[1], row[4], row[2], row[3]} end
end
return answer
