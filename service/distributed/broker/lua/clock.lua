-- Reads the clock of the server that holds the queue: what scripts decide by. In a Cluster another node's may differ.
--
-- KEYS[1] load  hash: counts of all that is queued and running; it only says where the queue is
-- Returns milliseconds
-- include entries.lua

local load = KEYS[1]
return now(load)
