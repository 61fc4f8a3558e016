-- Counts what is to be done before an entry's turn.
--
-- KEYS[1] stream      the entry's work stream
-- KEYS[2] load        hash: counts of all that is queued and running
-- ARGV[1] group       the workers' consumer group
-- ARGV[2] entry       its id in the stream
-- ARGV[3] most_items  to count
-- Returns {items of the stream that are ahead of it and not claimed, work of the whole queue in us}
-- include entries.lua

local stream, load, group, entry, most_items = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local work_us = tonumber(redis.call('HGET', load, 'work') or 0)
if redis.call('EXISTS', stream) == 0 then return {0, work_us} end
local last = '0-0'
for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  row = fields(row)
  if row['name'] == group then last = row['last-delivered-id'] end
end
return {#redis.call('XRANGE', stream, '(' .. last, '(' .. entry, 'COUNT', most_items), work_us}
