-- Gives an item up for others to take at once.
--
-- KEYS[1] stream    the item's work stream
-- KEYS[2] wake      list: tokens for idle workers
-- KEYS[3] job       hash: the item's job or call
-- ARGV[1] group     the workers' consumer group
-- ARGV[2] entry     the item's id in the stream
-- ARGV[3] worker    who gives it up
-- ARGV[4] idle_ms   longer than any worker's leases last: to each of them it looks lapsed
-- ARGV[5] counts    0: this delivery is not held against the item (the worker leaves; the item did nothing)
-- ARGV[6] lost_item number of an item that ran while the device was lost, which is noted with its job; else ''
-- ARGV[7] proves    1: the loss is evidence against it, 0: it is only suspected from now on
-- Returns 1, or 0 where another worker or nobody has it
-- include entries.lua

local stream, wake, job, group, entry, worker = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3]
local idle_ms, counts, lost_item, proves = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local claim = pending(stream, group, entry)
if not claim or claim[2] ~= worker then return 0 end
local deliveries = claim[4]
if counts == '0' then deliveries = math.max(0, deliveries - 1) end
redis.call('XCLAIM', stream, group, worker, 0, entry, 'IDLE', idle_ms, 'RETRYCOUNT', deliveries, 'JUSTID')
if lost_item ~= '' and redis.call('EXISTS', job) == 1 then redis.call('HINCRBY', job, 'l' .. lost_item, proves) end
redis.call('LPUSH', wake, 'back')
redis.call('LTRIM', wake, 0, 63)
return 1
