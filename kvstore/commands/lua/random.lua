-- math.random and math.randomseed: the 48-bit linear congruential generator of POSIX (drand48), in two limbs of 24
-- bits so that every product is exact in a double. As the server's, it starts from POSIX's own initial state and goes
-- on from script to script, so that a fresh store makes the same choices every time.

local kv = ...
local math, fail, bad_argument, typename = kv.math, kv.fail, kv.bad_argument, kv.typename
local floor, ceil, tonumber, type, select = math.floor, math.ceil, tonumber, type, select

local LIMB = 2 ^ 24
local FACTOR_HIGH, FACTOR_LOW, ADDEND = 0x5DE, 0xECE66D, 0xB
local MOST = 2 ^ 31 - 1

local high, low = 0x1234AB, 0xCD330E

-- A double as C makes an int of it.
local function to_int(x)
  if x ~= x or x >= 2 ^ 63 or x < -2 ^ 63 then
    return 0
  end
  x = (x >= 0 and floor(x) or ceil(x)) % 2 ^ 32
  return x >= 2 ^ 31 and x - 2 ^ 32 or x
end

-- In [0, 1).
local function draw()
  local product = FACTOR_LOW * low + ADDEND
  high = (FACTOR_LOW * high + FACTOR_HIGH * low + floor(product / LIMB)) % LIMB
  low = product % LIMB
  return (high * 128 + floor(low / 2 ^ 17)) % MOST / MOST
end

function math.random(...)
  local count = select("#", ...)
  local r = draw()
  if count == 0 then
    return r
  end
  local first, last = ...
  local number = tonumber(first)
  if not number or type(first) == "table" then
    bad_argument(1, "random", "number expected, got " .. type(first))
  end
  local from = to_int(number)
  if count == 1 then
    if from < 1 then
      bad_argument(1, "random", "interval is empty")
    end
    return floor(r * from) + 1
  elseif count > 2 then
    fail("wrong number of arguments")
  end
  number = tonumber(last)
  if not number then
    bad_argument(2, "random", "number expected, got " .. type(last))
  end
  local to = to_int(number)
  if from > to then
    bad_argument(2, "random", "interval is empty")
  end
  return floor(r * (to - from + 1)) + from
end

function math.randomseed(...)
  local number = tonumber((...))
  if not number then
    bad_argument(1, "randomseed", "number expected, got " .. typename(1, select("#", ...), (...)))
  end
  local seed = to_int(number)
  low = seed % 256 * 2 ^ 16 + 0x330E
  high = floor(seed / 256) % LIMB
end
