-- Lists claimed items that were not renewed for as long as the asker's own leases last, the oldest of each stream.
--
-- KEYS[1...] streams  work streams
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] lease_ms    of the asker
-- ARGV[3] most_items  of each stream
-- Returns {{stream, id, deliveries, worker, ms since it was claimed or renewed}...}

local group, lease_ms, most_items = ARGV[1], ARGV[2], ARGV[3]
local answer = {}
for _, stream in ipairs(KEYS) do
  local rows = redis.pcall('XPENDING', stream, group, 'IDLE', lease_ms, '-', '+', most_items)
  -- The stream may be gone with its last item.
  for _, row in ipairs(rows.err and {} or rows) do answer[#answer + 1] = {stream, row[1], row[4], row[2], row[3]} end
end
return answer
