-- The table "redis": commands, replies, logging, and the functions that only answer as the server does.
--
-- A call of a command is one call of Python, which gives back a value, or a value and its kind (below). It has to be
-- a Lua function: lupa builds the arguments of a Python function one by one, in quadratic time, so that many
-- arguments go as a table.

local kv = ...
local native, fail, kill, G = kv.native, kv.fail, kv.kill, kv.G
local select, type, tostring, tonumber, error = select, type, tostring, tonumber, error
local py_call, py_call_table = native.call, native.call_table
local floor, concat = math.floor, table.concat
local texts = native.texts

-- Second value of py_call.
local STATUS, FAILED = 1, 2
local MOST_DIRECT = 32 -- arguments that are passed as they are

local redis = {
  REDIS_VERSION = native.version,
  REDIS_VERSION_NUM = native.version_number,
  LOG_DEBUG = 0,
  LOG_VERBOSE = 1,
  LOG_NOTICE = 2,
  LOG_WARNING = 3,
  REPL_NONE = 0,
  REPL_AOF = 1,
  REPL_SLAVE = 2,
  REPL_REPLICA = 2,
  REPL_ALL = 3,
}

local function failure(text)
  return { err = text, ignore_error_stats_update = true }
end

local function refusal(text)
  return { err = "ERR " .. text }
end

local function invoke(...)
  local count = select("#", ...)
  if count <= MOST_DIRECT then
    if count == 0 then
      return "ERR " .. texts.no_arguments, FAILED
    end
    return py_call(...)
  end
  return py_call_table({ ... }, count)
end

function redis.call(...)
  local value, kind = invoke(...)
  if kind == nil then
    return value
  elseif kind == STATUS then
    return { ok = value }
  elseif kind == FAILED then
    error(failure(value), 0)
  end
  kill()
end

function redis.pcall(...)
  local value, kind = invoke(...)
  if kind == nil then
    return value
  elseif kind == STATUS then
    return { ok = value }
  elseif kind == FAILED then
    return failure(value)
  end
  kill()
end

function redis.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return refusal("wrong number or type of arguments")
  end
  if text:byte(1) == 45 then
    text = text:sub(2)
  end
  if not text:find(" ", 1, true) then
    text = "ERR " .. text
  end
  return { err = text }
end

function redis.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return refusal("wrong number or type of arguments")
  end
  return { ok = text }
end

function redis.sha1hex(...)
  if select("#", ...) ~= 1 then
    error(refusal("wrong number of arguments"), 0)
  end
  local text = ...
  if type(text) == "number" then
    text = tostring(text)
  end
  return native.sha1(type(text) == "string" and text or "")
end

function redis.log(level, ...)
  if select("#", ...) < 1 then
    error(refusal(texts.log_arguments), 0)
  end
  level = tonumber(level)
  if not level then
    error(refusal("First argument must be a number (log level)."), 0)
  end
  level = floor(level)
  if level < redis.LOG_DEBUG or level > redis.LOG_WARNING then
    error(refusal(texts.log_level), 0)
  end
  local words = {}
  for i = 1, select("#", ...) do
    local word = select(i, ...)
    if type(word) == "string" or type(word) == "number" then
      words[#words + 1] = word
    end
  end
  native.log(level, concat(words, " "))
end

function redis.setresp(...)
  if select("#", ...) ~= 1 then
    error(refusal(texts.setresp_arguments), 0)
  end
  local protocol = tonumber((...))
  if protocol ~= 2 and protocol ~= 3 then
    error(refusal("RESP version must be 2 or 3."), 0)
  end
  kv.set_protocol(protocol)
  native.set_protocol(protocol)
end

function redis.set_repl(...)
  if select("#", ...) ~= 1 then
    error(refusal(texts.set_repl_arguments), 0)
  end
  local flags = tonumber((...)) or 0
  if flags < redis.REPL_NONE or flags > redis.REPL_ALL then
    error(refusal("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."), 0)
  end
end

function redis.replicate_commands()
  return true
end

function redis.breakpoint()
  return false
end

function redis.debug() end

function redis.acl_check_cmd(...)
  local count = select("#", ...)
  if count == 0 then
    error(refusal(texts.no_arguments), 0)
  end
  local allowed, kind = native.allows({ ... }, count)
  if kind == FAILED then
    error(refusal(allowed), 0)
  elseif kind ~= nil then
    kill()
  end
  return allowed
end

kv.redis = redis
G.redis = kv.protect(redis)
-- Scripts written for Valkey know the table by this name.
G.server = G.redis
