-- The struct library: numbers and strings to bytes and back, by a format.
--
-- Integers are cut into two halves of 32 bits, in which doubles are exact.

local kv = ...
local native, fail, bad_argument, typename = kv.native, kv.fail, kv.bad_argument, kv.typename
local type, tonumber, tostring, select, unpack, setmetatable = type, tonumber, tostring, select, unpack, setmetatable
local byte, char, sub, rep, reverse, find = string.byte, string.char, string.sub, string.rep, string.reverse, string.find
local floor, ceil, concat = math.floor, math.ceil, table.concat

local HALF = 2 ^ 32
local MOST_INTEGER = 32 -- bytes
local MOST_NUMBER = 2 ^ 31 - 1 -- in a format
local NATIVE_ALIGNMENT = 8
local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1 }
local SIGNED = { b = true, h = true, l = true, i = true }
local INTEGERS = { b = true, B = true, h = true, H = true, l = true, L = true, T = true, i = true, I = true }

-- A format being read: text, place, endianness, alignment. An error is noted, and raised by whoever was called by
-- the script, so that it stands at the script's position.
local Format = {}
Format.__index = Format

local function reading(text, name)
  return setmetatable({ text = text, at = 1, little = true, align = 1, name = name }, Format)
end

function Format:number(default)
  local first, last = find(self.text, "^%d+", self.at)
  if not first then
    return default
  end
  self.at = last + 1
  local value = tonumber(sub(self.text, first, last))
  if value > MOST_NUMBER then
    self.problem = "integral size overflow"
    return default
  end
  return value
end

-- The next option and its size; nil at the end or after an error.
function Format:option()
  local option = sub(self.text, self.at, self.at)
  if option == "" then
    return nil
  end
  self.at = self.at + 1
  local size = SIZES[option] or 0
  if option == "c" then
    size = self:number(1)
  elseif option == "i" or option == "I" then
    size = self:number(4)
    if size > MOST_INTEGER then
      self.problem = "integral size " .. size .. " is larger than limit of " .. MOST_INTEGER
    end
  end
  if self.problem then
    return nil
  end
  return option, size
end

-- Padding that the option needs at offset.
function Format:padding(offset, option, size)
  if size == 0 or option == "c" then
    return 0
  end
  if size > self.align then
    size = self.align
  end
  return kv.conjunction(size - kv.conjunction(offset, size - 1), size - 1)
end

-- Options that only set something; false for one that is none.
function Format:control(option)
  if option == ">" then
    self.little = false
  elseif option == "<" then
    self.little = true
  elseif option == "!" then
    local align = self:number(NATIVE_ALIGNMENT)
    if self.problem then
      return false
    end
    if align == 0 or kv.conjunction(align, align - 1) ~= 0 then
      self.problem = "alignment " .. align .. " is not a power of 2"
      return false
    end
    self.align = align
  elseif option ~= " " then
    self.bad_option = option
    return false
  end
  return true
end

local function integer_bytes(x, size, little)
  if x ~= x or x < -2 ^ 63 then
    x = -2 ^ 63
  elseif x >= 2 ^ 64 then
    x = 0
  end
  x = x >= 0 and floor(x) or ceil(x)
  local low, high = x % HALF, floor(x / HALF) % HALF
  local out = {}
  for i = 1, size do
    local part = i <= 4 and low or i <= 8 and high or 0
    out[i] = char(part % 256)
    if i <= 4 then
      low = floor(low / 256)
    else
      high = floor(high / 256)
    end
  end
  local text = concat(out)
  return little and text or reverse(text)
end

local function integer_of(text, little, signed)
  if not little then
    text = reverse(text)
  end
  local low, high, size = 0, 0, #text
  for i = size > 8 and 8 or size, 5, -1 do
    high = high * 256 + byte(text, i)
  end
  for i = size > 4 and 4 or size, 1, -1 do
    low = low * 256 + byte(text, i)
  end
  if signed and size > 0 then
    -- C shifts a mask to the sign bit, modulo 64, and extends from there.
    local bits = (size * 8 - 1) % 64
    if bits < 32 then
      if high > 0 or low >= 2 ^ bits then
        return low % 2 ^ bits - 2 ^ bits
      end
    elseif high >= 2 ^ (bits - 32) then
      high = high % 2 ^ (bits - 32) - 2 ^ (bits - 32)
    end
  end
  return high * HALF + low
end

local function as_number(value)
  return type(value) == "number" and value or type(value) == "string" and tonumber(value) or nil
end

-- The bytes of one option's value; nil, the argument's index and what is wrong with it otherwise.
local function pack_value(format, option, size, value, index)
  if option == "c" or option == "s" then
    if type(value) ~= "string" and type(value) ~= "number" then
      return nil, index, "string expected, got " .. type(value)
    end
    value = tostring(value)
    if size == 0 then
      size = #value
    end
    if #value < size then
      return nil, index + 1, "string too short"
    end
    return sub(value, 1, size) .. (option == "s" and "\0" or "")
  end
  local number = as_number(value)
  if not number then
    return nil, index, "number expected, got " .. type(value)
  end
  if INTEGERS[option] then
    return integer_bytes(number, size, format.little)
  end
  local text
  if number == 0 and 1 / number < 0 then -- Python is given integral numbers as integers, which have no -0
    text = "\128" .. rep("\0", size - 1)
  else
    text = option == "f" and native.pack_float(number) or native.pack_double(number)
  end
  return format.little and reverse(text) or text
end

local struct = {}

function struct.pack(...)
  local text = ...
  if type(text) ~= "string" and type(text) ~= "number" then
    bad_argument(1, "pack", "string expected, got " .. typename(1, select("#", ...), text))
  end
  local format, out, total, index = reading(tostring(text)), {}, 0, 2
  for option, size in format.option, format do
    local padding = format:padding(total, option, size)
    if padding > 0 then
      out[#out + 1] = rep("\0", padding)
      total = total + padding
    end
    if option == "x" then
      out[#out + 1] = "\0"
      total = total + 1
    elseif INTEGERS[option] or option == "c" or option == "s" or option == "f" or option == "d" then
      local piece, bad, what = pack_value(format, option, size, (select(index, ...)), index)
      if not piece then
        bad_argument(bad, "pack", what)
      end
      index = index + 1
      out[#out + 1] = piece
      total = total + #piece
    elseif not format:control(option) then
      break
    end
  end
  if format.problem then
    fail(format.problem)
  elseif format.bad_option then
    bad_argument(1, "pack", "invalid format option '" .. format.bad_option .. "'")
  end
  return concat(out)
end

-- Reads one value at pos (0-based): value, bytes used; or nil, and the argument and what is wrong with it, or nil
-- and the whole text.
local function unpack_value(format, option, size, data, pos, last)
  if INTEGERS[option] then
    return integer_of(sub(data, pos + 1, pos + size), format.little, SIGNED[option]), size
  elseif option == "f" or option == "d" then
    local text = sub(data, pos + 1, pos + size)
    text = format.little and reverse(text) or text
    return option == "f" and native.unpack_float(text) or native.unpack_double(text), size
  elseif option == "c" then
    if size == 0 then
      if type(last) ~= "number" then
        return nil, nil, "format 'c0' needs a previous size"
      end
      size = last >= 2 ^ 64 and 0 or last >= 0 and floor(last) or ceil(last)
      if not (size >= 0) or pos + size > #data then
        return nil, 2, "data string too short"
      end
    end
    return sub(data, pos + 1, pos + size), size
  end
  local stop = find(data, "%z", pos + 1)
  if not stop then
    return nil, nil, "unfinished string in data"
  end
  return sub(data, pos + 1, stop - 1), stop - pos
end

function struct.unpack(...)
  local text, data, offset = ...
  local count = select("#", ...)
  if type(text) ~= "string" and type(text) ~= "number" then
    bad_argument(1, "unpack", "string expected, got " .. typename(1, count, text))
  elseif type(data) ~= "string" and type(data) ~= "number" then
    bad_argument(2, "unpack", "string expected, got " .. typename(2, count, data))
  end
  if offset == nil then
    offset = 1
  end
  offset = as_number(offset)
  if not offset then
    bad_argument(3, "unpack", "number expected, got " .. type((select(3, ...))))
  end
  local pos = floor(offset) - 1
  if pos == -1 then
    bad_argument(3, "unpack", "offset must be 1 or greater")
  end
  data = tostring(data)
  local format, values, n = reading(tostring(text)), {}, 0
  for option, size in format.option, format do
    if pos >= 0 then
      pos = pos + format:padding(pos, option, size)
    end
    if pos < 0 or pos + size > #data then
      bad_argument(2, "unpack", "data string too short")
    end
    if option == "x" then
      pos = pos + 1
    elseif INTEGERS[option] or option == "f" or option == "d" or option == "c" or option == "s" then
      local value, used, what = unpack_value(format, option, size, data, pos, values[n])
      if what and used then
        bad_argument(used, "unpack", what)
      elseif what then
        fail(what)
      end
      if option == "c" and size == 0 then
        n = n - 1
      end
      n = n + 1
      values[n] = value
      pos = pos + used
    elseif not format:control(option) then
      break
    end
  end
  if format.problem then
    fail(format.problem)
  elseif format.bad_option then
    bad_argument(1, "unpack", "invalid format option '" .. format.bad_option .. "'")
  end
  values[n + 1] = pos + 1
  return unpack(values, 1, n + 1)
end

function struct.size(...)
  local text = ...
  if type(text) ~= "string" and type(text) ~= "number" then
    bad_argument(1, "size", "string expected, got " .. typename(1, select("#", ...), text))
  end
  local format, pos = reading(tostring(text)), 0
  for option, size in format.option, format do
    pos = pos + format:padding(pos, option, size) + size
    if option == "s" then
      bad_argument(1, "size", "option 's' has no fixed size")
    elseif option == "c" and size == 0 then
      bad_argument(1, "size", "option 'c0' has no fixed size")
    elseif not find(option, "^%w") and not format:control(option) then
      break
    end
  end
  if format.problem then
    fail(format.problem)
  elseif format.bad_option then
    bad_argument(1, "size", "invalid format option '" .. format.bad_option .. "'")
  end
  return pos
end

kv.G.struct = kv.protect(struct)
