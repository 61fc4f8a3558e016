-- Counts the claimed items of work streams and finds the oldest items: of calls, and of background work.
--
-- KEYS[1...] streams  work streams; some may be gone
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] live_count  so many of the streams, the first ones, are of calls
-- Returns {claimed items, ms when the oldest call came, ms when the oldest background item came}; 0 where there is none

local group, live_count, claimed, oldest = ARGV[1], tonumber(ARGV[2]), 0, {0, 0}
for i, stream in ipairs(KEYS) do
  local pending = redis.pcall('XPENDING', stream, group)
  if not pending.err then claimed = claimed + pending[1] end
  local rows, class = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1), i <= live_count and 1 or 2
  if #rows > 0 then
    local time = tonumber(string.match(rows[1][1], '%d+'))
    if oldest[class] == 0 or time < oldest[class] then oldest[class] = time end
  end
end
return {claimed, oldest[1], oldest[2]}
