-- The bytes that a job's state counts for beside its results: a queue keeps very many states.
-- submission.RECORD_BYTES is the same.
local RECORD_BYTES = 1024
