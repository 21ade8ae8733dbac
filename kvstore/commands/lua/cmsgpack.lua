-- The cmsgpack library: MessagePack of 2013 (str8, no bin, no ext), as the server's scripts have it.
--
-- Integral doubles are packed as integers, others as float32 where that is exact; a table is an array when its keys
-- are 1..n. Deeper than 16 tables a nil is packed.

local kv = ...
local native, fail, bad_argument, typename = kv.native, kv.fail, kv.bad_argument, kv.typename
local guard, error, next, select, tostring, tonumber, type, unpack =
  kv.guard, error, next, select, tostring, tonumber, type, unpack
local byte, char, sub = string.byte, string.char, string.sub
local floor, ceil, concat = math.floor, math.ceil, table.concat
local pack_number = native.pack_number

local MOST_NESTED = 16
local HALF = 2 ^ 32

-- Packing -----------------------------------------------------------------------------------------------------

local function bytes2(x)
  return char(floor(x / 256), x % 256)
end

local function bytes4(x)
  return char(floor(x / 2 ^ 24), floor(x / 65536) % 256, floor(x / 256) % 256, x % 256)
end

local function bytes8(x)
  return bytes4(floor(x / HALF) % HALF) .. bytes4(x % HALF)
end

local function number(x)
  if x % 1 ~= 0 or x >= 2 ^ 63 or x < -2 ^ 63 then -- NaN and infinities are among these
    return pack_number(x)
  elseif x >= 0 then
    if x < 128 then
      return char(x)
    elseif x < 256 then
      return "\204" .. char(x)
    elseif x < 65536 then
      return "\205" .. bytes2(x)
    elseif x < HALF then
      return "\206" .. bytes4(x)
    end
    return "\207" .. bytes8(x)
  elseif x >= -32 then
    return char(256 + x)
  elseif x >= -128 then
    return "\208" .. char(256 + x)
  elseif x >= -32768 then
    return "\209" .. bytes2(65536 + x)
  elseif x >= -2 ^ 31 then
    return "\210" .. bytes4(HALF + x)
  end
  return "\211" .. bytes8(x)
end

local function string_head(size)
  if size < 32 then
    return char(160 + size)
  elseif size < 256 then
    return "\217" .. char(size)
  elseif size < 65536 then
    return "\218" .. bytes2(size)
  end
  return "\219" .. bytes4(size)
end

-- Head of an array or map: fix is the code of an empty one, wide that of a 16-bit count.
local function head(size, fix, wide)
  if size < 16 then
    return char(fix + size)
  elseif size < 65536 then
    return char(wide) .. bytes2(size)
  end
  return char(wide + 1) .. bytes4(size)
end

-- The number of elements when the keys are 1..n; nil otherwise.
local function array_size(t)
  local count, largest = 0, 0
  for key in next, t do
    if type(key) ~= "number" or key <= 0 or key % 1 ~= 0 then
      return nil
    end
    count = count + 1
    if key > largest then
      largest = key
    end
  end
  return largest == count and count or nil
end

local function put(out, n, value, depth)
  local kind = type(value)
  if kind == "table" and depth == MOST_NESTED then
    kind = "nil"
  end
  if kind == "string" then
    out[n + 1] = string_head(#value)
    out[n + 2] = value
    return n + 2
  elseif kind == "number" then
    out[n + 1] = number(value)
    return n + 1
  elseif kind == "boolean" then
    out[n + 1] = value and "\195" or "\194"
    return n + 1
  elseif kind ~= "table" then
    out[n + 1] = "\192"
    return n + 1
  end
  n = n + 1
  local size = array_size(value)
  if size then
    out[n] = head(size, 144, 220)
    for i = 1, size do
      n = put(out, n, value[i], depth + 1)
    end
    return n
  end
  local place, count = n, 0
  for key, item in next, value do
    n = put(out, n, key, depth + 1)
    n = put(out, n, item, depth + 1)
    count = count + 1
  end
  out[place] = head(count, 128, 222)
  return n
end

local cmsgpack = {
  _NAME = "cmsgpack",
  _VERSION = "lua-cmsgpack 0.4.0",
  _COPYRIGHT = "Copyright (C) 2012, Redis Ltd.",
  _DESCRIPTION = "MessagePack C implementation for Lua",
}

function cmsgpack.pack(...)
  local count = select("#", ...)
  if count == 0 then
    bad_argument(0, "pack", "MessagePack pack needs input.")
  end
  local out, n = {}, 0
  for i = 1, count do
    n = put(out, n, (select(i, ...)), 0)
  end
  return concat(out)
end

-- Unpacking ---------------------------------------------------------------------------------------------------

local MISSING, BAD = "Missing bytes in input.", "Bad data format in input."

local function unsigned(data, at, size)
  local a, b, c, d = byte(data, at, at + size - 1)
  if size == 1 then
    return a or error(MISSING, 0)
  elseif size == 2 then
    return a * 256 + (b or error(MISSING, 0))
  end
  return ((a * 256 + b) * 256 + c) * 256 + (d or error(MISSING, 0))
end

local function need(data, at, size)
  if at + size - 1 > #data then
    error(MISSING, 0)
  end
end

local take

local function take_string(data, at, size)
  need(data, at, size)
  return sub(data, at, at + size - 1), at + size
end

local function take_array(data, at, size)
  local out = {}
  for i = 1, size do
    out[i], at = take(data, at)
  end
  return out, at
end

local function take_map(data, at, size)
  local out = {}
  for _ = 1, size do
    local key, value
    key, at = take(data, at)
    value, at = take(data, at)
    if key == nil or key ~= key then
      -- The server's own words for it have no position, so that this is no error of the input.
      error({ key == nil and "table index is nil" or "table index is NaN" }, 0)
    end
    out[key] = value
  end
  return out, at
end

-- Codes from 0xc0 to 0xdf, by what is left after 0xc0.
local wide = {
  [0] = function(_, at)
    return nil, at
  end,
  [2] = function(_, at)
    return false, at
  end,
  [3] = function(_, at)
    return true, at
  end,
  [10] = function(data, at)
    need(data, at, 4)
    return native.unpack_float(sub(data, at, at + 3)), at + 4
  end,
  [11] = function(data, at)
    need(data, at, 8)
    return native.unpack_double(sub(data, at, at + 7)), at + 8
  end,
}
for size = 0, 3 do
  local width = 2 ^ size -- bytes of the number
  wide[12 + size] = function(data, at) -- unsigned, but 64 bits of them are read as signed
    need(data, at, width)
    if width < 8 then
      return unsigned(data, at, width), at + width
    end
    local high = unsigned(data, at, 4)
    return (high >= 2 ^ 31 and high - HALF or high) * HALF + unsigned(data, at + 4, 4), at + 8
  end
  wide[16 + size] = function(data, at)
    need(data, at, width)
    if width < 8 then
      local x = unsigned(data, at, width)
      local top = 2 ^ (8 * width)
      return x >= top / 2 and x - top or x, at + width
    end
    local high = unsigned(data, at, 4)
    return (high >= 2 ^ 31 and high - HALF or high) * HALF + unsigned(data, at + 4, 4), at + 8
  end
end
for size = 0, 2 do
  local width = 2 ^ size
  wide[25 + size] = function(data, at)
    need(data, at, width)
    return take_string(data, at + width, unsigned(data, at, width))
  end
end
for size = 1, 2 do
  local width = 2 ^ size
  wide[27 + size] = function(data, at)
    need(data, at, width)
    return take_array(data, at + width, unsigned(data, at, width))
  end
  wide[29 + size] = function(data, at)
    need(data, at, width)
    return take_map(data, at + width, unsigned(data, at, width))
  end
end

-- The value at place at, and where the next one is.
function take(data, at)
  local code = byte(data, at)
  if not code then
    error(MISSING, 0)
  elseif code < 128 then
    return code, at + 1
  elseif code >= 224 then
    return code - 256, at + 1
  elseif code < 144 then
    return take_map(data, at + 1, code - 128)
  elseif code < 160 then
    return take_array(data, at + 1, code - 144)
  elseif code < 192 then
    return take_string(data, at + 1, code - 160)
  end
  local reader = wide[code - 192]
  if not reader then
    error(BAD, 0)
  end
  return reader(data, at + 1)
end

-- Up to limit values from offset on (0-based): the values, their number, and the offset of the next or -1.
local function take_all(data, limit, offset)
  local values, n, at = {}, 0, offset + 1
  while at <= #data and n < limit do
    n = n + 1
    values[n], at = take(data, at)
  end
  return values, n, at <= #data and at - 1 or -1
end

local function as_integer(value)
  local x = type(value) == "number" and value or type(value) == "string" and tonumber(value) or nil
  return x and (x >= 0 and floor(x) or ceil(x))
end

-- What is wrong with the place to start at; nil where nothing is.
local function misplaced(data, limit, offset)
  if offset < 0 or limit < 0 then
    return "Invalid request to unpack with offset of " .. offset .. " and limit of " .. #data .. "."
  elseif offset > #data then
    return "Start offset " .. offset .. " greater than input length " .. #data .. "."
  end
end

-- Raises what take_all raised; called by a function that the script called, as the position is counted from there.
local function complaint(problem)
  if type(problem) == "table" then
    error(problem[1], 0)
  end
  return problem
end

function cmsgpack.unpack(...)
  local data = ...
  if type(data) ~= "string" and type(data) ~= "number" then
    bad_argument(1, "unpack", "string expected, got " .. typename(1, select("#", ...), data))
  end
  local ok, values, n = guard(take_all, tostring(data), 1 / 0, 0)
  if not ok then
    fail(complaint(values))
  end
  return unpack(values, 1, n)
end

function cmsgpack.unpack_one(...)
  local data, offset = ...
  if type(data) ~= "string" and type(data) ~= "number" then
    bad_argument(1, "unpack_one", "string expected, got " .. typename(1, select("#", ...), data))
  end
  offset = as_integer(offset == nil and 0 or offset)
  if not offset then
    bad_argument(2, "unpack_one", "number expected, got " .. type((select(2, ...))))
  end
  data = tostring(data)
  local problem = misplaced(data, 1, offset)
  if problem then
    fail(problem)
  end
  local ok, values, n, following = guard(take_all, data, 1, offset)
  if not ok then
    fail(complaint(values))
  end
  return following, unpack(values, 1, n)
end

function cmsgpack.unpack_limit(...)
  local data, limit, offset = ...
  local count = select("#", ...)
  if type(data) ~= "string" and type(data) ~= "number" then
    bad_argument(1, "unpack_limit", "string expected, got " .. typename(1, count, data))
  end
  local most = as_integer(limit)
  if not most then
    bad_argument(2, "unpack_limit", "number expected, got " .. typename(2, count, limit))
  end
  offset = as_integer(offset == nil and 0 or offset)
  if not offset then
    bad_argument(3, "unpack_limit", "number expected, got " .. type((select(3, ...))))
  end
  data = tostring(data)
  local problem = misplaced(data, most, offset)
  if problem then
    fail(problem)
  end
  local all = most == 0 and offset == 0 -- asks for everything, and gets no offset
  local ok, values, n, following = guard(take_all, data, all and 1 / 0 or most, offset)
  if not ok then
    fail(complaint(values))
  end
  if all then
    return unpack(values, 1, n)
  end
  return following, unpack(values, 1, n)
end

kv.G.cmsgpack = kv.protect(cmsgpack)
