-- Tokens that one list may hold: workers that wait at once, and more.
local MOST_TOKENS = 64

-- Wake an idle worker for each of `items`.
local function wake_workers(wake, items)
  local tokens = {}
  for i = 1, math.min(items, MOST_TOKENS) do tokens[i] = '1' end
  redis.call('LPUSH', wake, unpack(tokens))
  redis.call('LTRIM', wake, 0, MOST_TOKENS - 1)
end
