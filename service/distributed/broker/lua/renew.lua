-- Renews a lease if it is still the caller's.
--
-- KEYS[1] stream  the item's work stream
-- ARGV[1] group   the workers' consumer group
-- ARGV[2] entry   the item's id in the stream
-- ARGV[3] worker  who renews
-- Returns 1, or 0 where another worker or nobody has it
-- include entries.lua

local stream, group, entry, worker = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local claim = pending(stream, group, entry)
if not claim or claim[2] ~= worker then return 0 end
redis.call('XCLAIM', stream, group, worker, 0, entry, 'JUSTID')
return 1
