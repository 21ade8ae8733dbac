-- Libraries of functions: what their code sees while it is loaded, and how its functions are called.
--
-- While a library is loaded its code sees a table "redis" (or "server") that registers functions, and nothing else.
-- A function sees what a script sees, but for KEYS and ARGV, which it is given as arguments.

local kv = ...
local native, G, redis, missing = kv.native, kv.G, kv.redis, kv.missing
local error, next, rawget, select, setmetatable, tostring, type = error, next, rawget, select, setmetatable, tostring, type
local protected, is_killed, texts = kv.protected, kv.is_killed, native.texts

-- Only scripts have these.
redis.breakpoint, redis.debug, redis.replicate_commands, G.__redis__err__handler = nil, nil, nil, nil

local registered -- while a library is loaded: what it has registered, by number
local named -- the same by name, whose case does not count

local function refuse(text)
  error({ err = "ERR " .. text }, 0)
end

-- A text, of a number too; nil for anything else.
local function text_of(value)
  local kind = type(value)
  return (kind == "string" or kind == "number") and tostring(value) or nil
end

-- The flags of a list, each once, between commas.
local function flags_of(list)
  local joined, i = ",", 1
  while true do
    local flag = rawget(list, i)
    if flag == nil then
      return joined
    end
    flag = text_of(flag)
    if not flag or not native.is_flag(flag) then
      refuse("unknown flag given")
    elseif not joined:find("," .. flag .. ",", 1, true) then
      joined = joined .. flag .. ","
    end
    i = i + 1
  end
end

local takes = {
  function_name = function(found, value)
    found.name = text_of(value) or refuse(texts.register_name_type)
  end,
  description = function(found, value)
    found.description = text_of(value) or refuse(texts.register_description_type)
  end,
  callback = function(found, value)
    if type(value) ~= "function" then
      refuse(texts.register_callback_type)
    end
    found.callback = value
  end,
  flags = function(found, value)
    if type(value) ~= "table" then
      refuse(texts.register_flags_type)
    end
    found.flags = flags_of(value)
  end,
}

local function from_table(given)
  if type(given) ~= "table" then
    refuse(texts.register_single)
  end
  local found = { flags = "," }
  for key, value in next, given do
    local take = takes[key]
    if not take then
      refuse(texts.register_unknown)
    end
    take(found, value)
  end
  if not found.name then
    refuse(texts.register_no_name)
  elseif not found.callback then
    refuse(texts.register_no_callback)
  end
  return found
end

local function from_arguments(name, callback)
  name = text_of(name)
  if not name then
    refuse(texts.register_first)
  elseif type(callback) ~= "function" then
    refuse(texts.register_second)
  end
  return { name = name, callback = callback, flags = "," }
end

local library = {}

function library.register_function(...)
  local count = select("#", ...)
  if count < 1 or count > 2 then
    refuse(texts.register_count)
  elseif not registered then
    refuse(texts.register_late)
  end
  local found = count == 1 and from_table(...) or from_arguments(...)
  if not found.name:find("^[%w_]+$") then
    refuse(texts.register_bad_name)
  elseif named[found.name:lower()] then
    refuse("Function already exists in the library")
  end
  registered[#registered + 1] = found
  named[found.name:lower()] = true
end

for _, name in next, { "log", "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION", "REDIS_VERSION_NUM" } do
  library[name] = redis[name]
end

local api = kv.protect(setmetatable(library, { __index = missing }))
local world = setmetatable({ redis = api, server = api }, { __index = missing })

-- Runs the code of a library: how many functions it has registered, or nil, whether it was killed, and the error.
function kv.load(f)
  registered, named = {}, {}
  kv.show(world)
  local ok, problem = protected(f)
  kv.show(G)
  local found = registered
  registered, named = nil, nil
  if is_killed() then
    kv.reset()
    return nil, true, nil
  elseif not ok then
    return nil, false, text_of(rawget(problem, "err")) or "ERR unknown error"
  end
  kv.found = found
  return #found
end

-- What the library that was loaded last has registered: name, callback, description, flags.
function kv.taken(i)
  local each = kv.found[i]
  return each.name, each.callback, each.description, each.flags
end

-- A plain call, whose frame stays: it tells where the function was called from.
function kv.start(f, keys, argv)
  return protected(function()
    local value = f(keys, argv)
    return value
  end)
end
