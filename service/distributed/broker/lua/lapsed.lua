-- Lists claimed items whose leases have run out, the oldest of each stream.
--
-- KEYS[1...] streams  work streams
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] lease_ms    without a renewal for so long a lease has run out
-- ARGV[3] most_items  of each stream
-- Returns {{stream, id, deliveries}...}

local group, lease_ms, most_items = ARGV[1], ARGV[2], ARGV[3]
local answer = {}
for _, stream in ipairs(KEYS) do
  local rows = redis.pcall('XPENDING', stream, group, 'IDLE', lease_ms, '-', '+', most_items)
  -- The stream may be gone with its last item.
  for _, row in ipairs(rows.err and {} or rows) do answer[#answer + 1] = {stream, row[1], row[4]} end
end
return answer
