-- Says whether a claimed item is to be run.
--
-- KEYS[1] job     hash: the item's job or call
-- KEYS[2] front   exists while the front end lives that waits for it
-- ARGV[1] item    its number
-- ARGV[2] waits   1 for a call, 0 for a job
-- ARGV[3] token   of the upload that the item belongs to
-- Returns {verdict, task, losses}; losses: devices lost in runs of it that prove something, -1 where none was lost
-- while it ran; the verdict is
--         run
--         gone    withdrawn, failed elsewhere, expired, or of a record that was lost
--         done    its answer is there
--         orphan  whoever asked has died
--         lost    what to do with it is gone

local job, front, item, waits, token = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
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
