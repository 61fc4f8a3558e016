-- Return what a worker is to do with an item, as begin.lua says; `front` exists while whoever asked lives.
local function verdict(job, front, item, waits, token)
  local values = redis.call('HMGET', job, 's', 'm', 'd' .. item, 'p', 'l' .. item)
  local state, task, answered, job_token, losses = values[1], values[2], values[3], values[4], values[5]
  -- Of a record that was lost; the job was accepted anew under the same id.
  if job_token and job_token ~= token then return {'gone'} end
  if not state or (state ~= 'queued' and state ~= 'running') then return {'gone'} end
  if answered then return {'done'} end
  if waits == '1' and redis.call('EXISTS', front) == 0 then return {'orphan'} end
  if not task then return {'lost'} end
  if waits ~= '1' and state == 'queued' then redis.pcall('HSET', job, 's', 'running') end
  return {'run', task, tonumber(losses or -1)}
end
