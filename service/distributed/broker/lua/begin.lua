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
-- include verdict.lua

local job, front, item, waits, token = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
return verdict(job, front, item, waits, token)
