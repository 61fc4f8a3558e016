-- The end of a clip's record; needs entries.lua, counts.lua and record_bytes.lua.

-- Note that a clip ended: kept for `keep_ms`, `held_bytes` of its result counted, its webhook due, front ends told.
local function end_clip(job, job_id, state, keep_ms, held_bytes, keys)
  local time = now()
  redis.call('PEXPIRE', job, keep_ms)
  redis.call('HSET', job, 's', state, 'end', time, 'tok', '')
  sweep(keys.results, keys.kept, time)
  hold(keys.results, job_id, RECORD_BYTES + held_bytes)
  redis.call('ZADD', keys.kept, time + tonumber(keep_ms), job_id)
  local webhook = redis.call('HGET', job, 'hook')
  if webhook and webhook ~= '' then redis.call('ZADD', keys.hooks, time, job_id) end
  redis.call('XADD', keys.events, 'MAXLEN', '~', 1000, '*', 'j', job_id)
end
