-- Counts the claimed items of work streams and finds the oldest item.
--
-- KEYS[1...] streams  work streams; some may be gone
-- ARGV[1] group       the workers' consumer group
-- Returns {claimed items, ms when the oldest item came, or 0 where there is none}

local group, claimed, oldest = ARGV[1], 0, 0
for _, stream in ipairs(KEYS) do
  local pending = redis.pcall('XPENDING', stream, group)
  if not pending.err then claimed = claimed + pending[1] end
  local rows = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)
  if #rows > 0 then
    local time = tonumber(string.match(rows[1][1], '%d+'))
    if oldest == 0 or time < oldest then oldest = time end
  end
end
return {claimed, oldest}
