-- Functions that keep the counts beside the `load` of commit c8bbcd6 and before. Releases that know none of these
-- counts may work on the same queue: what such a release ended stays counted until the queue is empty, and never
-- counts for more than the queue holds.

-- Add to a field of a hash; 0 makes no field.
local function add(key, field, by)
  if by ~= 0 then redis.call('HINCRBY', key, field, by) end
end

-- Correct and return the items and bytes of jobs: no more than `items` and `bytes`, those of calls and jobs together.
local function clamp(load, items, bytes, clients)
  local counts = redis.call('HMGET', load, 'jobs', 'jobbytes')
  local jobs, size = tonumber(counts[1] or 0), tonumber(counts[2] or 0)
  local true_jobs, true_size = math.max(0, math.min(jobs, items)), math.max(0, math.min(size, bytes))
  if items <= 0 then true_jobs = 0 end
  if true_jobs == 0 then
    true_size = 0
    redis.call('UNLINK', clients)
  end
  if true_jobs ~= jobs or true_size ~= size then
    redis.call('HSET', load, 'jobs', true_jobs, 'jobbytes', true_size)
  end
  return true_jobs, true_size
end

-- Set the bytes of one job's results, or of the room they may need, in place of what was set before.
local function hold(results, job_id, size)
  add(results, 'sum', size - tonumber(redis.call('HGET', results, job_id) or 0))
  if size > 0 then redis.call('HSET', results, job_id, size) else redis.call('HDEL', results, job_id) end
  if redis.call('HLEN', results) == 1 then redis.call('UNLINK', results) end
end

-- Stop counting results whose time was over at `time`, milliseconds; 100 jobs at most.
local function sweep(results, kept, time)
  for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', kept, '-inf', time, 'LIMIT', 0, 100)) do
    hold(results, job_id, 0)
    redis.call('ZREM', kept, job_id)
  end
end
