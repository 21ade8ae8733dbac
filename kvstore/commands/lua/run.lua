-- Runs a script and flattens what it returns into values that are cheap to hand to Python.
--
-- A string or number is returned as it is; anything else as a code and what belongs to it:
--
--     -1, source, line          killed there
--     0, source, line, text, n  an error was raised there; n: 1 for a command's own, which is counted already
--     1, value, value, ...      a reply, flattened
--     2, count                  the same, too long for one return: fetch(first, last) gives the values
--     3, text                   a status
--     4, text, n                an error; n as above
--
-- A flattened reply is a run of strings, numbers and false (null); nil introduces everything else, see the tags.

local kv = ...
local G = kv.G
local next, type, tostring, rawget, rawset, unpack, select =
  next, type, tostring, rawget, rawset, unpack, select
local protected, plain_pcall, raised_at = kv.protected, kv.plain_pcall, kv.raised_at
local is_killed, reset = kv.is_killed, kv.reset

-- Tags, after nil.
local ARRAY, STATUS, ERROR, DOUBLE, MAP, SET, BIG_NUMBER, VERBATIM, TRUE, FALSE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local MOST_RETURNED = 4000 -- values in one return; Lua's own limit is 8000 stack slots
-- Tables within tables; what encodes the reply walks it by recursion.
local MOST_NESTED = 300

local protocol = 2

function kv.set_protocol(version)
  protocol = version
end

local put

local function put_scalar(out, n, tag, value)
  out[n + 2] = tag
  out[n + 3] = value
  return n + 3
end

local function put_pairs(out, n, t, depth)
  local start, count = n, 0
  n = n + 3
  for key, value in next, t do
    n = put(out, n, key, depth)
    n = put(out, n, value, depth)
    count = count + 1
  end
  put_scalar(out, start, MAP, count)
  return n
end

local function put_keys(out, n, t, depth)
  local start, count = n, 0
  n = n + 3
  for key in next, t do
    n = put(out, n, key, depth)
    count = count + 1
  end
  put_scalar(out, start, SET, count)
  return n
end

local function put_array(out, n, t, depth)
  local start, count = n, 0
  n = n + 3
  while true do
    local value = rawget(t, count + 1)
    if value == nil then
      break
    end
    count = count + 1
    local kind = type(value)
    if kind == "string" or kind == "number" then
      n = n + 1
      out[n] = value
    else
      n = put(out, n, value, depth)
    end
  end
  put_scalar(out, start, ARRAY, count)
  return n
end

local function put_table(out, n, t, depth)
  if depth > MOST_NESTED then
    return put_scalar(out, n, ERROR, "ERR reached lua stack limit")
  end
  if next(t) == nil then
    return put_scalar(out, n, ARRAY, 0)
  end
  local value = rawget(t, "err")
  if type(value) == "string" then
    return put_scalar(out, n, ERROR, value)
  end
  value = rawget(t, "ok")
  if type(value) == "string" then
    return put_scalar(out, n, STATUS, value)
  end
  value = rawget(t, "double")
  if type(value) == "number" then
    if value == 0 and 1 / value < 0 then
      value = "-0" -- Python is given integral numbers as integers, which have no -0
    end
    return put_scalar(out, n, DOUBLE, value)
  end
  value = rawget(t, "big_number")
  if type(value) == "string" then
    return put_scalar(out, n, BIG_NUMBER, value)
  end
  value = rawget(t, "verbatim_string")
  if type(value) == "table" then
    local text, format = rawget(value, "string"), rawget(value, "format")
    if type(text) == "string" and type(format) == "string" then
      put_scalar(out, n, VERBATIM, text)
      out[n + 4] = format
      return n + 4
    end
  end
  value = rawget(t, "map")
  if type(value) == "table" then
    return put_pairs(out, n, value, depth + 1)
  end
  value = rawget(t, "set")
  if type(value) == "table" then
    return put_keys(out, n, value, depth + 1)
  end
  return put_array(out, n, t, depth + 1)
end

function put(out, n, value, depth)
  local kind = type(value)
  if kind == "string" or kind == "number" then
    out[n + 1] = value
    return n + 1
  elseif kind == "table" then
    return put_table(out, n, value, depth)
  elseif kind == "boolean" then
    if protocol == 3 then
      out[n + 2] = value and TRUE or FALSE
      return n + 2
    end
    out[n + 1] = value and 1
    return n + 1
  end
  out[n + 1] = false
  return n + 1
end

local long, long_size

local function reply(value)
  local kind = type(value)
  if kind == "string" or kind == "number" or kind == "nil" then
    return value
  elseif kind == "table" then
    local text = rawget(value, "err")
    if type(text) == "string" then
      return 4, text, rawget(value, "ignore_error_stats_update") and 1 or 0
    end
    text = rawget(value, "ok")
    if type(text) == "string" then
      return 3, text
    end
  elseif kind ~= "boolean" then
    return nil
  end
  local out = {}
  local n = put(out, 0, value, 1)
  if n <= MOST_RETURNED then
    return 1, unpack(out, 1, n)
  end
  long, long_size = out, n
  return 2, n
end

local function fetch(first, last)
  local values = long
  if last >= long_size then
    long = nil
  end
  return unpack(values, first, last)
end

local function finish(ok, ...)
  if is_killed() then
    reset()
    return -1, raised_at()
  end
  if not ok then
    return 4, "ERR " .. tostring((...)), 0
  end
  return ...
end

-- A script finds its keys and arguments in globals; whatever else is run takes them in its own way.
local function start(f, keys, argv)
  rawset(G, "KEYS", keys)
  rawset(G, "ARGV", argv)
  return protected(f)
end
start = kv.start or start

local function run_with(f, keys, argv)
  protocol = 2
  local ok, value = start(f, keys, argv)
  if ok or is_killed() then
    return finish(plain_pcall(reply, value))
  end
  local text = rawget(value, "err")
  if type(text) ~= "string" and type(text) ~= "number" then
    text = "ERR unknown error"
  end
  local source, line = raised_at()
  return 0, source, line, tostring(text), rawget(value, "ignore_error_stats_update") and 1 or 0
end

-- Runs f with the first count of the words as KEYS and the rest as ARGV.
local function run(f, count, ...)
  local total = select("#", ...)
  if count == 0 then
    return run_with(f, {}, { ... })
  elseif count == total then
    return run_with(f, { ... }, {})
  end
  local keys, argv = { ... }, {}
  for i = count + 1, total do
    argv[i - count] = keys[i]
    keys[i] = nil
  end
  return run_with(f, keys, argv)
end

kv.run, kv.run_with, kv.fetch = run, run_with, fetch

-- lupa looks "debug" up in Lua's own globals at every call, and the less it finds the faster. Scripts never see them.
local globals = _G
for name in next, globals do
  globals[name] = nil
end
