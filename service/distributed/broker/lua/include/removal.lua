-- Functions that take entries out of a stream and out of all counts. They need entries.lua, counts.lua and
-- due_index.lua.

-- Remove one entry, whose fields are `entry`; the last one takes its stream along.
local function remove(stream, group, id, entry, load, buckets, clients, due)
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  -- 0-x, not -x: Redis writes Lua's minus zero as "-0", which it then refuses to read as an integer.
  redis.call('HINCRBY', load, 'items', -1)
  redis.call('HINCRBY', load, 'bytes', 0 - tonumber(entry['b']))
  redis.call('HINCRBY', load, 'work', 0 - tonumber(entry['w']))
  if entry['f'] ~= '' then
    local live = redis.call('HINCRBY', load, 'live', 0 - tonumber(entry['w']))
    if live > 0 then add(load, 'saving', 0 - tonumber(entry['v'] or 0)) else redis.call('HDEL', load, 'saving') end
  end
  if entry['q'] == '1' then
    redis.call('HINCRBY', load, 'jobs', -1)
    redis.call('HINCRBY', load, 'jobbytes', 0 - tonumber(entry['b']))
    if redis.call('HINCRBY', clients, entry['c'], -1) <= 0 then redis.call('HDEL', clients, entry['c']) end
  end
  local counts = redis.call('HMGET', load, 'items', 'bytes')
  clamp(load, tonumber(counts[1] or 0), tonumber(counts[2] or 0), clients)
  if redis.call('XLEN', stream) == 0 then
    redis.call('DEL', stream)
    redis.call('SREM', buckets, stream)
    redis.call('ZREM', due, stream)
    -- Nothing is queued: counts of a server that lost some of them, and not these items, end here.
    if redis.call('SCARD', buckets) == 0 then redis.call('HSET', load, 'items', 0, 'bytes', 0, 'work', 0, 'live', 0) end
  end
end

-- Remove all entries of a job, claimed or not: its `items` lie side by side in the stream, from id `first` on.
local function remove_all(stream, group, first, items, job_id, load, buckets, clients, due)
  if not first or not items or redis.call('EXISTS', stream) == 0 then return end
  for _, row in ipairs(redis.call('XRANGE', stream, first, '+', 'COUNT', items)) do
    local entry = fields(row[2])
    -- What another release left out.
    for name, value in pairs({b = '0', w = '0', f = '', c = ''}) do entry[name] = entry[name] or value end
    if entry['j'] == job_id then remove(stream, group, row[1], entry, load, buckets, clients, due) end
  end
  index(due, stream, group)
end
