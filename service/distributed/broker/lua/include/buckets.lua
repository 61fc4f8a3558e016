-- Milliseconds for which a bucket is kept after it would be full: nothing is lost by a clock that differs a little.
local SLACK_MS = 1000

local function seconds()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- Returns the tokens that the bucket `name` (r or g) of a hash holds now, false where there is no such limit. Full at
-- first; never above its capacity; below zero in debt.
local function bucket(allowance, name, capacity, per_s)
  if capacity <= 0 then
    redis.call('HDEL', allowance, name, name .. 'c', name .. 's')
    return false
  end
  local values = redis.call('HMGET', allowance, name, 'at')
  redis.call('HSET', allowance, name .. 'c', tostring(capacity), name .. 's', string.format('%.17g', per_s))
  local tokens, at = tonumber(values[1]), tonumber(values[2])
  if not tokens or not at then return capacity end
  return math.min(capacity, tokens + math.max(0, seconds() - at) * per_s)
end

-- Keeps tokens (false: no such bucket) until both buckets would be full.
local function keep(allowance, requests, gflop)
  local wait = 0
  redis.call('HSET', allowance, 'at', string.format('%.6f', seconds()))
  for name, tokens in pairs({r = requests, g = gflop}) do
    if tokens then
      redis.call('HSET', allowance, name, string.format('%.17g', tokens))
      local limits = redis.call('HMGET', allowance, name .. 'c', name .. 's')
      wait = math.max(wait, (tonumber(limits[1]) - tokens) / tonumber(limits[2]))
    end
  end
  redis.call('PEXPIRE', allowance, math.min(1e12, math.ceil(wait * 1000)) + SLACK_MS)
end
