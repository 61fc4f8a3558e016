-- Functions of scripts that claim items.

-- What a worker reads of an entry (worker/items.py); each value takes its client two steps.
local READ = {j = true, k = true, p = true, f = true, x = true, o = true}

-- Return of the fields of an entry those that a worker reads.
local function read_fields(list)
  local part = {}
  for i = 1, #list, 2 do
    if READ[list[i]] then part[#part + 1], part[#part + 2] = list[i], list[i + 1] end
  end
  return part
end

-- Return the slot of clients of a work stream, '' where it has none.
local function slot_of(stream)
  return string.match(stream, '}:s:%d+:(%d+):') or ''
end
