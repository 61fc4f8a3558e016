-- Functions that read the clock, entries of a stream, and records of jobs.

-- Turn {name, value, name, value, ...} into a table.
local function fields(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

-- Return the server's time in milliseconds.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return {id, worker, idle ms, deliveries} of a claimed entry. Return nil where nobody holds it: the stream went with
-- its last item, or its group in a failover.
local function pending(stream, group, id)
  local rows = redis.pcall('XPENDING', stream, group, id, id, 1)
  if rows.err or #rows == 0 then return nil end
  return rows[1]
end

-- Return a job's record as a table; nil if there is none, or only part of one. The first seven fields are in every
-- record (scripts.RECORD names the same).
local function record(key)
  local names = {'s', 'n', 'done', 'c', 'fp', 'f', 'at', 'p', 'hook'}
  local values, map = redis.call('HMGET', key, unpack(names)), {}
  for i, name in ipairs(names) do
    if not values[i] and i <= 7 then return nil end
    map[name] = values[i]
  end
  return map
end
