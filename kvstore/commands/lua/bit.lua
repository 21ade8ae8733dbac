-- The bit library: 32-bit operations on doubles.
--
-- and is a table of 6-bit pairs looked up six times (64 KB, made on first need); or and xor follow from it by
-- arithmetic. A call of Python for each operation takes longer.

local kv = ...
local bad_argument, typename = kv.bad_argument, kv.typename
local tonumber, type, select, floor, abs = tonumber, type, select, math.floor, math.abs
local frexp, format = math.frexp, string.format

local WORD = 2 ^ 32
local MAGIC = 1.5 * 2 ^ 52 -- added to a double, leaves its rounded value in the low bits of the mantissa

-- A double to 0..2^32-1, rounded to even and wrapped as the addition of MAGIC does it.
local function unsigned(x)
  if abs(x) <= 2 ^ 51 then
    return (x + MAGIC - MAGIC) % WORD
  elseif x ~= x or abs(x) == 1 / 0 then
    return 0
  end
  local mantissa = frexp(abs(x + MAGIC))
  return mantissa * 2 ^ 53 % WORD
end

local function signed(x)
  return x >= 2 ^ 31 and x - WORD or x
end

local pairs_of_six

local function fill()
  pairs_of_six = {}
  for a = 0, 63 do
    for b = 0, 63 do
      local result, bit, x, y = 0, 1, a, b
      while x > 0 and y > 0 do
        if x % 2 == 1 and y % 2 == 1 then
          result = result + bit
        end
        x, y, bit = floor(x / 2), floor(y / 2), bit * 2
      end
      pairs_of_six[a * 64 + b] = result
    end
  end
end

-- The conjunction of two numbers of 0..2^32-1.
local function conjunction(a, b)
  if not pairs_of_six then
    fill()
  end
  local result, place = 0, 1
  while a > 0 and b > 0 do
    local x, y = a % 64, b % 64
    result = result + pairs_of_six[x * 64 + y] * place
    a, b, place = (a - x) / 64, (b - y) / 64, place * 64
  end
  return result
end
kv.conjunction = conjunction

-- The argument as a number; nil where it is none.
local function number(value)
  if type(value) == "number" then
    return value
  end
  return type(value) == "string" and tonumber(value) or nil
end

local bit = {}

local function unary(name, operate)
  bit[name] = function(...)
    local x = number((...))
    if not x then
      bad_argument(1, name, "number expected, got " .. typename(1, select("#", ...), (...)))
    end
    return signed(operate(unsigned(x)))
  end
end

local function variadic(name, operate)
  bit[name] = function(...)
    local count = select("#", ...)
    local x = number((...))
    if not x then
      bad_argument(1, name, "number expected, got " .. typename(1, count, (...)))
    end
    local result = unsigned(x)
    for i = 2, count do
      local y = number((select(i, ...)))
      if not y then
        bad_argument(i, name, "number expected, got " .. type((select(i, ...))))
      end
      result = operate(result, unsigned(y))
    end
    return signed(result)
  end
end

local function shift(name, operate)
  bit[name] = function(...)
    local count = select("#", ...)
    local first, second = ...
    local x, y = number(first), number(second)
    if not x then
      bad_argument(1, name, "number expected, got " .. typename(1, count, first))
    elseif not y then
      bad_argument(2, name, "number expected, got " .. typename(2, count, second))
    end
    return signed(operate(unsigned(x), unsigned(y) % 32))
  end
end

unary("tobit", function(x)
  return x
end)
unary("bnot", function(x)
  return WORD - 1 - x
end)
unary("bswap", function(x)
  local a = x % 256
  local b = floor(x / 256) % 256
  local c = floor(x / 65536) % 256
  return ((a * 256 + b) * 256 + c) * 256 + floor(x / 2 ^ 24)
end)

variadic("band", conjunction)
variadic("bor", function(x, y)
  return x + y - conjunction(x, y)
end)
variadic("bxor", function(x, y)
  return x + y - 2 * conjunction(x, y)
end)

local function rotate(x, n)
  local top = 2 ^ (32 - n)
  return x % top * 2 ^ n + floor(x / top)
end

shift("lshift", function(x, n)
  return x % 2 ^ (32 - n) * 2 ^ n
end)
shift("rshift", function(x, n)
  return floor(x / 2 ^ n)
end)
shift("arshift", function(x, n)
  return floor(signed(x) / 2 ^ n) % WORD
end)
shift("rol", rotate)
shift("ror", function(x, n)
  return rotate(x, (32 - n) % 32)
end)

function bit.tohex(...)
  local count = select("#", ...)
  local first, second = ...
  local x = number(first)
  if not x then
    bad_argument(1, "tohex", "number expected, got " .. typename(1, count, first))
  end
  local digits = 8
  if count > 1 then
    digits = number(second)
    if not digits then
      bad_argument(2, "tohex", "number expected, got " .. type(second))
    end
    digits = signed(unsigned(digits))
  end
  local text = format(digits < 0 and "%08X" or "%08x", unsigned(x))
  digits = abs(digits)
  return digits >= 8 and text or text:sub(9 - digits)
end

kv.G.bit = kv.protect(bit)
