-- The cjson library: JSON to tables and back, as the server's scripts have it.
--
-- Settings last from script to script, as they do there. A table is an array when its keys are positive integers and
-- not too sparse; the empty table is an object.

local kv = ...
local guard, fail, bad_argument, typename = kv.guard, kv.fail, kv.bad_argument, kv.typename
local error, next, pairs, select, tostring, tonumber, type, rawget =
  error, next, pairs, select, tostring, tonumber, type, rawget
local byte, char, find, format, gsub, sub, match =
  string.byte, string.char, string.find, string.format, string.gsub, string.sub, string.match
local floor, concat = math.floor, table.concat

local null = kv.null
local HUGE = 1 / 0
local MOST_INT = 2 ^ 31 - 1
local MOST_PRECISION = 14

-- Encoding ----------------------------------------------------------------------------------------------------

local ESCAPED = '[%c"\\/]'
local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n" }
escapes["\r"], escapes["\t"], escapes["\127"] = "\\r", "\\t", "\\u007f"
for code = 0, 31 do
  local c = char(code)
  escapes[c] = escapes[c] or format("\\u%04x", code)
end

local function quoted(text)
  if find(text, ESCAPED) then
    text = gsub(text, ESCAPED, escapes)
  end
  return '"' .. text .. '"'
end

local function encode_number(settings, x)
  if x ~= x or x == HUGE or x == -HUGE then
    local allowed = settings.encode_invalid_numbers
    if allowed == "null" then
      return "null"
    elseif not allowed then
      error("Cannot serialise number: must not be NaN or Inf", 0)
    end
    return x ~= x and "nan" or x > 0 and "inf" or "-inf"
  end
  return format(settings.number_format, x)
end

-- The length of a table that is to be an array; nil for an object.
local function array_length(settings, t)
  local count, largest = 0, 0
  for key in next, t do
    if type(key) ~= "number" or key <= 0 or key % 1 ~= 0 then
      return nil
    end
    count = count + 1
    if key > largest then
      largest = key <= MOST_INT and key or -2 ^ 31 -- as C's int has it
    end
  end
  local ratio = settings.sparse_ratio
  if ratio > 0 and largest > count * ratio and largest > settings.sparse_safe then
    if not settings.sparse_convert then
      error("Cannot serialise table: excessively sparse array", 0)
    end
    return nil
  end
  return largest > 0 and largest or nil
end

local encode_value

local function encode_table(settings, out, n, t, depth)
  if depth > settings.encode_max_depth then
    error("Cannot serialise, excessive nesting (" .. depth .. ")", 0)
  end
  local length = array_length(settings, t)
  n = n + 1
  if length then
    out[n] = "["
    for i = 1, length do
      if i > 1 then
        n = n + 1
        out[n] = ","
      end
      n = encode_value(settings, out, n, rawget(t, i), depth)
    end
    out[n + 1] = "]"
    return n + 1
  end
  out[n] = "{"
  local separator = ""
  for key, value in next, t do
    local kind = type(key)
    n = n + 1
    if kind == "string" then
      out[n] = separator .. quoted(key) .. ":"
    elseif kind == "number" then
      out[n] = separator .. '"' .. encode_number(settings, key) .. '":'
    else
      error("Cannot serialise " .. kind .. ": table key must be a number or string", 0)
    end
    separator = ","
    n = encode_value(settings, out, n, value, depth)
  end
  out[n + 1] = "}"
  return n + 1
end

function encode_value(settings, out, n, value, depth)
  local kind = type(value)
  if kind == "table" then
    return encode_table(settings, out, n, value, depth + 1)
  end
  n = n + 1
  if kind == "string" then
    out[n] = quoted(value)
  elseif kind == "number" then
    out[n] = encode_number(settings, value)
  elseif kind == "boolean" then
    out[n] = value and "true" or "false"
  elseif value == nil or value == null then
    out[n] = "null"
  else
    error("Cannot serialise " .. kind .. ": type not supported", 0)
  end
  return n
end

local function encode(settings, value)
  local out = {}
  encode_value(settings, out, 0, value, 0)
  return concat(out)
end

-- Decoding ----------------------------------------------------------------------------------------------------

-- What a character begins, by its byte; others begin a number, a word or nothing.
local SINGLE = {
  [0] = "T_END",
  [123] = "T_OBJ_BEGIN",
  [125] = "T_OBJ_END",
  [91] = "T_ARR_BEGIN",
  [93] = "T_ARR_END",
  [58] = "T_COLON",
  [44] = "T_COMMA",
}
local QUOTE, BACKSLASH, COLON, COMMA, OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY = 34, 92, 58, 44, 123, 125, 91, 93
local unescapes = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function utf8(code)
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 64), 0x80 + code % 64)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(
    0xF0 + floor(code / 2 ^ 18),
    0x80 + floor(code / 4096) % 64,
    0x80 + floor(code / 64) % 64,
    0x80 + code % 64
  )
end

-- The text of an escape at place at, and the place after it; nil and what is wrong.
local function unescape(text, at)
  local letter = sub(text, at + 1, at + 1)
  if letter ~= "u" then
    local plain = unescapes[letter]
    if plain then
      return plain, at + 2
    end
    return nil, "invalid escape code"
  end
  local digits = match(text, "^%x%x%x%x", at + 2)
  local code = digits and tonumber(digits, 16)
  if not code or code >= 0xDC00 and code <= 0xDFFF then
    return nil, "invalid unicode escape code"
  end
  if code < 0xD800 or code > 0xDFFF then
    return utf8(code), at + 6
  end
  local low = match(text, "^\\u(%x%x%x%x)", at + 6)
  low = low and tonumber(low, 16)
  if not low or low < 0xDC00 or low > 0xDFFF then
    return nil, "invalid unicode escape code"
  end
  return utf8(0x10000 + (code - 0xD800) * 1024 + low - 0xDC00), at + 12
end

-- The string that begins at the quote at place at, and the place after it; nil, what is wrong, and where.
local function take_string(text, at)
  local from = at + 1
  local stop = find(text, '["\\%z]', from)
  if stop and byte(text, stop) == QUOTE then
    return sub(text, from, stop - 1), stop + 1
  end
  local parts = {}
  while stop do
    local c = byte(text, stop)
    parts[#parts + 1] = sub(text, from, stop - 1)
    if c == QUOTE then
      return concat(parts), stop + 1
    elseif c ~= BACKSLASH then
      return nil, "unexpected end of string", stop
    end
    local piece, following = unescape(text, stop)
    if not piece then
      return nil, following, stop
    end
    parts[#parts + 1] = piece
    from = following
    stop = find(text, '["\\%z]', from)
  end
  return nil, "unexpected end of string", #text + 1
end

-- Where the number at place at ends, as strtod reads one; nil where there is none.
local function number_end(text, at)
  local _, start = find(text, "^[+-]?", at)
  start = start + 1
  local _, stop = find(text, "^0[xX]%x+%.?%x*", start)
  if not stop then
    _, stop = find(text, "^0[xX]%.%x+", start)
  end
  if stop then
    local _, exponent = find(text, "^[pP][+-]?%d+", stop + 1)
    return exponent or stop
  end
  _, stop = find(text, "^%d+%.?%d*", start)
  if not stop then
    _, stop = find(text, "^%.%d+", start)
  end
  if stop then
    local _, exponent = find(text, "^[eE][+-]?%d+", stop + 1)
    return exponent or stop
  end
  _, stop = find(text, "^[iI][nN][fF][iI][nN][iI][tT][yY]", start)
  if not stop then
    _, stop = find(text, "^[iI][nN][fF]", start)
  end
  if stop then
    return stop
  end
  _, stop = find(text, "^[nN][aA][nN]", start)
  if stop then
    local _, extra = find(text, "^%([%w_]*%)", stop + 1)
    return extra or stop
  end
  return nil
end

-- Numbers that JSON does not know: hexadecimal, with a leading zero or plus, infinite, not a number.
local function is_invalid_number(text, at)
  local _, sign = find(text, "^%-?", at)
  local start = sign + 1
  local c = byte(text, at)
  if c == 43 then
    return true
  end
  return find(text, "^0[%dxX]", start) or find(text, "^[iI][nN][fF]", start) or find(text, "^[nN][aA][nN]", start)
end

-- The token at place at: its name, its value, and the place after it. For an error: "T_ERROR", what, and where.
local function take_scalar(settings, text, at)
  local c = byte(text, at)
  if c == nil or SINGLE[c] then
    return SINGLE[c or 0], nil, at + 1
  elseif c == QUOTE then
    local value, following, place = take_string(text, at)
    if value then
      return "T_STRING", value, following
    end
    return "T_ERROR", following, place
  elseif c == 45 or c >= 48 and c <= 57 or c == 43 and settings.decode_invalid_numbers then
    if not settings.decode_invalid_numbers and is_invalid_number(text, at) then
      return "T_ERROR", "invalid number", at
    end
    local stop = number_end(text, at)
    if not stop then
      return "T_ERROR", "invalid number", at
    end
    return "T_NUMBER", tonumber(sub(text, at, stop)), stop + 1
  elseif find(text, "^true", at) then
    return "T_BOOLEAN", true, at + 4
  elseif find(text, "^false", at) then
    return "T_BOOLEAN", false, at + 5
  elseif find(text, "^null", at) then
    return "T_NULL", null, at + 4
  elseif settings.decode_invalid_numbers and is_invalid_number(text, at) then
    local stop = number_end(text, at)
    return "T_NUMBER", tonumber(sub(text, at, stop)), stop + 1
  end
  return "T_ERROR", "invalid token", at
end

local SPACE = "[^ \t\n\r]"

local function expected(what, settings, text, at)
  local token, found, place = take_scalar(settings, text, at)
  if token ~= "T_ERROR" then
    found, place = token, at
  end
  error("Expected " .. what .. " but found " .. found .. " at character " .. place, 0)
end

local take_value

local function take_object(settings, text, at, depth)
  local out = {}
  at = find(text, SPACE, at) or #text + 1
  if byte(text, at) == CLOSE_OBJECT then
    return out, at + 1
  end
  while true do
    if byte(text, at) ~= QUOTE then
      expected("object key string", settings, text, at)
    end
    local key, following = take_string(text, at)
    if not key then
      expected("object key string", settings, text, at)
    end
    at = find(text, SPACE, following) or #text + 1
    if byte(text, at) ~= COLON then
      expected("colon", settings, text, at)
    end
    out[key], at = take_value(settings, text, at + 1, depth)
    at = find(text, SPACE, at) or #text + 1
    local c = byte(text, at)
    if c == CLOSE_OBJECT then
      return out, at + 1
    elseif c ~= COMMA then
      expected("comma or object end", settings, text, at)
    end
    at = find(text, SPACE, at + 1) or #text + 1
  end
end

local function take_array(settings, text, at, depth)
  local out, n = {}, 0
  at = find(text, SPACE, at) or #text + 1
  if byte(text, at) == CLOSE_ARRAY then
    return out, at + 1
  end
  while true do
    n = n + 1
    out[n], at = take_value(settings, text, at, depth)
    at = find(text, SPACE, at) or #text + 1
    local c = byte(text, at)
    if c == CLOSE_ARRAY then
      return out, at + 1
    elseif c ~= COMMA then
      expected("comma or array end", settings, text, at)
    end
    at = at + 1
  end
end

function take_value(settings, text, at, depth)
  at = find(text, SPACE, at) or #text + 1
  local c = byte(text, at)
  if c == OPEN_OBJECT or c == OPEN_ARRAY then
    depth = depth + 1
    if depth > settings.decode_max_depth then
      error("Found too many nested data structures (" .. depth .. ") at character " .. at, 0)
    end
    if c == OPEN_OBJECT then
      return take_object(settings, text, at + 1, depth)
    end
    return take_array(settings, text, at + 1, depth)
  end
  local token, value, following = take_scalar(settings, text, at)
  if token == "T_ERROR" or c == nil or SINGLE[c] then
    expected("value", settings, text, at)
  end
  return value, following
end

local function decode(settings, text)
  local first, second = byte(text, 1, 2)
  if second and (first == 0 or second == 0) then
    error("JSON parser does not support UTF-16 or UTF-32", 0)
  end
  local value, at = take_value(settings, text, 1, 0)
  at = find(text, SPACE, at) or #text + 1
  if at <= #text and byte(text, at) ~= 0 then
    expected("the end", settings, text, at)
  end
  return value
end

-- Settings ----------------------------------------------------------------------------------------------------

local function integer_argument(value, least, most)
  local x = type(value) == "number" and value or type(value) == "string" and tonumber(value) or nil
  if not x then
    return nil, "number expected, got " .. type(value)
  end
  x = x >= 0 and floor(x) or -floor(-x)
  if not (x >= least and x <= most) then
    return nil, "expected integer between " .. format("%d", least) .. " and " .. format("%d", most)
  end
  return x
end

-- A switch: true, false, "on", "off", or the third way where there is one.
local function switch_argument(value, third)
  if type(value) == "boolean" then
    return value
  elseif value == "on" or value == "off" then
    return value == "on"
  elseif third and value == third then
    return third
  elseif type(value) == "string" or type(value) == "number" then
    return nil, "invalid option '" .. value .. "'"
  end
  return nil, "string expected, got " .. type(value)
end

local function integer_setting(cjson, settings, name, least, most, after)
  cjson[name] = function(...)
    local count = select("#", ...)
    if count > 1 then
      bad_argument(2, name, "found too many arguments")
    end
    if (...) ~= nil then
      local value, problem = integer_argument((...), least, most)
      if not value then
        bad_argument(1, name, problem)
      end
      settings[name] = value
      if after then
        after(value)
      end
    end
    return settings[name]
  end
end

local function switch_setting(cjson, settings, name, third)
  cjson[name] = function(...)
    local count = select("#", ...)
    if count > 1 then
      bad_argument(2, name, "found too many arguments")
    end
    if (...) ~= nil then
      local value, problem = switch_argument((...), third)
      if problem then
        bad_argument(1, name, problem)
      end
      settings[name] = value
    end
    return settings[name]
  end
end

local function sparse_setting(cjson, settings)
  local names = { "sparse_convert", "sparse_ratio", "sparse_safe" }
  function cjson.encode_sparse_array(...)
    if select("#", ...) > 3 then
      bad_argument(4, "encode_sparse_array", "found too many arguments")
    end
    for i = 1, 3 do
      local given = select(i, ...)
      if given ~= nil then
        local value, problem
        if i == 1 then
          value, problem = switch_argument(given)
        else
          value, problem = integer_argument(given, 0, MOST_INT)
        end
        if problem then
          bad_argument(i > 1 and find(problem, "^expected") and 1 or i, "encode_sparse_array", problem)
        end
        settings[names[i]] = value
      end
    end
    return settings.sparse_convert, settings.sparse_ratio, settings.sparse_safe
  end
end

local function new()
  local settings = {
    sparse_convert = false,
    sparse_ratio = 2,
    sparse_safe = 10,
    encode_max_depth = 1000,
    decode_max_depth = 1000,
    encode_number_precision = MOST_PRECISION,
    number_format = "%.14g",
    encode_invalid_numbers = false,
    decode_invalid_numbers = true,
    encode_keep_buffer = true,
  }
  local cjson = { _NAME = "cjson", _VERSION = "2.1.0", null = null, new = new }
  integer_setting(cjson, settings, "encode_max_depth", 1, MOST_INT)
  integer_setting(cjson, settings, "decode_max_depth", 1, MOST_INT)
  integer_setting(cjson, settings, "encode_number_precision", 1, MOST_PRECISION, function(value)
    settings.number_format = "%." .. value .. "g"
  end)
  switch_setting(cjson, settings, "encode_invalid_numbers", "null")
  switch_setting(cjson, settings, "decode_invalid_numbers")
  switch_setting(cjson, settings, "encode_keep_buffer")
  sparse_setting(cjson, settings)

  function cjson.encode(...)
    if select("#", ...) ~= 1 then
      bad_argument(1, "encode", "expected 1 argument")
    end
    local ok, text = guard(encode, settings, (...))
    if not ok then
      fail(text)
    end
    return text
  end

  function cjson.decode(...)
    if select("#", ...) ~= 1 then
      bad_argument(1, "decode", "expected 1 argument")
    end
    local text = ...
    if type(text) ~= "string" and type(text) ~= "number" then
      bad_argument(1, "decode", "string expected, got " .. type(text))
    end
    local ok, value = guard(decode, settings, tostring(text))
    if not ok then
      fail(value)
    end
    return value
  end

  return cjson
end

kv.G.cjson = kv.protect(new())
