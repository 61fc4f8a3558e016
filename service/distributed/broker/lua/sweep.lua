-- Puts work streams into the index that a release before it filled, or that it left out.
--
-- KEYS[1] due         sorted set: work stream -> when its next unclaimed item is due, ms
-- KEYS[2...] streams  that are not in it
-- ARGV[1] group       the workers' consumer group
-- Returns how many of them have unclaimed items
-- include entries.lua
-- include due_index.lua

local due, group, count = KEYS[1], ARGV[1], 0
for i = 2, #KEYS do
  if index(due, KEYS[i], group) then count = count + 1 end
end
return count
