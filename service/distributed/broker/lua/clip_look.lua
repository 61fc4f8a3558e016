-- Finds the clip whose turn it is: one whose maker went away, else of those who have fewest clips being made the one who
-- was served longest ago, and of its clips the oldest.
--
-- KEYS[1] line    sorted set: clip and holder -> when it was accepted, ms
-- KEYS[2] leases  sorted set: clip and holder -> until when it is its maker's, ms
-- KEYS[3] served  sorted set: holder -> when one of its clips was last begun, ms
-- ARGV[1] busy    holders whose clips the caller makes already, each between two newlines
-- ARGV[2] most_ms  from now, to which leases are cut: further off they are where the server's clock was set back. A maker
--                  that lives renews its own long before
-- Returns {clip, holder}, or nil
-- include entries.lua

local line, leases, served, busy, most_ms = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local time = now()

local function split(member)
  local space = string.find(member, ' ', 1, true)
  return string.sub(member, 1, space - 1), string.sub(member, space + 1)
end

local function is_busy(holder) return string.find(busy, '\n' .. holder .. '\n', 1, true) ~= nil end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases, '(' .. time + most_ms, '+inf')) do
  redis.call('ZREM', leases, member) -- first what needs no memory, so that a full server grants the rest
  redis.call('ZADD', leases, time + most_ms, member)
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', time, 'LIMIT', 0, 100)) do
  local clip, holder = split(member)
  if not is_busy(holder) then return {clip, holder} end
end

local running = {}
for _, member in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
  local _, holder = split(member)
  running[holder] = (running[holder] or 0) + 1
end
local best, best_running, best_served
local seen = {}
for _, member in ipairs(redis.call('ZRANGE', line, 0, -1)) do
  local clip, holder = split(member)
  if not seen[holder] and not is_busy(holder) then
    seen[holder] = true
    local count, time = running[holder] or 0, tonumber(redis.call('ZSCORE', served, holder) or 0)
    if not best or count < best_running or (count == best_running and time < best_served) then
      best, best_running, best_served = {clip, holder}, count, time
    end
  end
end
return best
