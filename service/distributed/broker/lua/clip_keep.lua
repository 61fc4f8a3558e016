-- Keeps a piece of what a clip's maker made, if there is room for it: of its result, or a range of predicted frames.
--
-- KEYS[1] job      hash: the clip's record
-- KEYS[2] piece
-- KEYS[3] results  hash: job -> bytes that it holds here, and their sum
-- ARGV[1] job_id
-- ARGV[2] token     of its maker's lease
-- ARGV[3] data      '' where it is kept elsewhere
-- ARGV[4] ttl_ms    it is gone after that, should nobody end the clip
-- ARGV[5] most_result_bytes
-- ARGV[6] ranges    that are finished with this one; '' for a piece of the result
-- Returns 1, 0 where the clip is not the caller's any more, -1 where there is no room
-- include counts.lua

local job, piece, results, job_id, token, data = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3]
local ttl_ms, most_result_bytes, ranges = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local values = redis.call('HMGET', job, 's', 'tok')
if values[1] ~= 'running' or values[2] ~= token then return 0 end
if data ~= '' then
  local growth = #data - redis.call('STRLEN', piece)
  local totals = redis.call('HMGET', results, 'sum', job_id)
  if tonumber(totals[1] or 0) + growth > most_result_bytes then return -1 end
  redis.call('SET', piece, data, 'PX', ttl_ms)
  hold(results, job_id, tonumber(totals[2] or 0) + growth)
end
if ranges ~= '' then redis.call('HSET', job, 'ranges', ranges) end
return 1
