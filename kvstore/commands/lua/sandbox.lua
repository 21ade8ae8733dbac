-- The world a script sees: its globals, none of which it can change, and errors that it can catch.
--
-- Invariants
-- - No table of ours reaches a script but through an empty stand-in (see protect), so that what one script does
--   cannot be seen by the next. The real tables and the debug library stay upvalues here.
-- - Nothing that catches errors is given to scripts as it is: pcall, xpcall, resume, wrap and load let a kill pass.
-- - No Python object reaches a script: functions of Python are called by functions of this file, which only hand
--   out strings, numbers, booleans and tables.
-- - Every chunk of ours is named "=kv", so that error positions can step over it.
--
-- Takes a table of Python's functions; gives the table that the other chunks extend.

local native = ...
local kv = {}

local python, debug, os_clock = python, debug, os.clock
local getinfo, sethook = debug.getinfo, debug.sethook
local assert, error, next, select, tostring, tonumber, type = assert, error, next, select, tostring, tonumber, type
local c_pcall, c_xpcall, c_loadstring, c_setfenv = pcall, xpcall, loadstring, setfenv
local c_getmetatable, c_setmetatable, c_rawget, c_rawset = getmetatable, setmetatable, rawget, rawset
local c_collectgarbage, c_insert = collectgarbage, table.insert
local c_create, c_resume = coroutine.create, coroutine.resume
local byte, find, gsub, dump, rep, concat = string.byte, string.find, string.gsub, string.dump, string.rep, table.concat

local CHUNK = "=kv"
local HOOK_INSTRUCTIONS = 100000 -- between two looks at the time; a few milliseconds
local LONGEST_STRING = 512 * 1024 * 1024 -- bytes that string.rep may make, as the largest value of a key
local LARGE_STRING = 1024 * 1024 -- bytes from which on string.rep looks at the memory first

for name, f in next, native do
  if type(f) == "userdata" then
    native[name] = python.as_function(f)
  end
end
kv.native = native

-- Errors ------------------------------------------------------------------------------------------------------

-- "user_script:3: " for the function at that level (1: who calls); "" where it is none of the script's.
local function where(level)
  level = level + 1
  local info = getinfo(level, "Sl")
  while info and info.what == "tail" do
    level = level + 1
    info = getinfo(level, "Sl")
  end
  if info and info.currentline > 0 and info.source ~= CHUNK then
    return info.short_src .. ":" .. info.currentline .. ": "
  end
  return ""
end

-- Raises msg at the position of whoever called the function that calls this (never by a tail call).
function kv.fail(msg)
  error(where(3) .. msg, 0)
end

-- The same for an argument. The function goes by the name that it was called by; name is for when that is unknown.
function kv.bad_argument(index, name, msg)
  local info, caller = getinfo(2, "n"), getinfo(3, "S")
  if info.name then
    name = info.name
  elseif caller and caller.what == "C" then
    name = "?"
  end
  if info.namewhat == "method" then
    index = index - 1 -- self is not counted
    if index == 0 then
      error(where(3) .. "calling '" .. name .. "' on bad self (" .. msg .. ")", 0)
    end
  end
  error(where(3) .. "bad argument #" .. index .. " to '" .. name .. "' (" .. msg .. ")", 0)
end
local fail, bad_argument = kv.fail, kv.bad_argument

-- What luaL_typename says of argument i of count.
local function typename(i, count, value)
  return i > count and "no value" or type(value)
end
kv.typename = typename

-- Kills -------------------------------------------------------------------------------------------------------

local KILL = {} -- the error that no script can catch
local killed = false
local most_kilobytes = native.most_kilobytes

local raised_source, raised_line -- where the last uncaught error, or the kill, was raised

-- Notes the place of the frame at that level (1: who calls), or of the first above it that is a script's.
local function note_place(level)
  level = level + 1
  local info, lost = getinfo(level, "Sl"), false
  while info and (info.source == CHUNK or info.what == "tail") do
    lost = lost or info.what == "tail"
    level = level + 1
    info = getinfo(level, "Sl")
  end
  if not info or lost and info.what == "C" then
    raised_source, raised_line = native.source, 1
  else
    raised_source, raised_line = info.source, info.currentline
  end
end

-- As note_place; stepping over C too, as a kill is none of its doing.
local function note_kill()
  local level = 3
  local info = getinfo(level, "Sl")
  while info and (info.source == CHUNK or info.currentline < 0) do
    level = level + 1
    info = getinfo(level, "Sl")
  end
  raised_source, raised_line = info and info.source or native.source, info and info.currentline or 1
end

local function kill()
  if not killed then
    killed = true
    note_kill()
  end
  error(KILL, 0)
end
kv.kill = kill

function kv.reset()
  killed = false
end

function kv.is_killed()
  return killed
end

local function tick()
  if killed or native.tick() then
    kill()
  end
  if c_collectgarbage("count") > most_kilobytes then
    c_collectgarbage("collect")
    if c_collectgarbage("count") > most_kilobytes then
      error("not enough memory", 0)
    end
  end
end
sethook(tick, "", HOOK_INSTRUCTIONS)

function kv.kilobytes()
  return c_collectgarbage("count")
end

local function settle(...)
  if killed then
    error(KILL, 0)
  end
  return ...
end

local function guarded(ok, ...)
  if killed then
    error(KILL, 0)
  end
  if not ok then
    local problem = ...
    if type(problem) == "string" then
      return false, (gsub(problem, "^kv:%d+: ", ""))
    end
  end
  return ok, ...
end

-- pcall for our own use; an error's position, where Lua itself gave it one of ours, goes.
function kv.guard(f, ...)
  return guarded(c_pcall(f, ...))
end
local guard = kv.guard

-- Stand-ins ---------------------------------------------------------------------------------------------------

local real = {} -- stand-in to the table that it stands for
local HIDDEN = {} -- what getmetatable finds on a stand-in, and makes nil of
local READONLY = "Attempt to modify a readonly table"

local function deny()
  error(READONLY, 2)
end

-- An empty table that reads as t and cannot be changed. shown: what getmetatable gives a script.
local function protect(t, shown)
  local stand_in = {}
  c_setmetatable(stand_in, { __index = t, __newindex = deny, __metatable = shown or HIDDEN })
  real[stand_in] = t
  return stand_in
end
kv.protect = protect

local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

local G = c_setmetatable({}, { __index = missing })
local env = protect(G, protect({ __index = missing }))
kv.G, kv.env, kv.missing = G, env, missing

-- Has scripts see those globals instead of G, or G again.
function kv.show(globals)
  debug.getmetatable(env).__index = globals
  real[env] = globals
end

-- Base library ------------------------------------------------------------------------------------------------

G._G = env
G._VERSION = _VERSION
for _, name in next, { "assert", "error", "gcinfo", "ipairs", "rawequal", "select", "tonumber", "tostring", "type", "unpack" } do
  G[name] = _G[name]
end

function G.next(...)
  local t, key = ...
  if type(t) ~= "table" then
    bad_argument(1, "next", "table expected, got " .. typename(1, select("#", ...), t))
  end
  return next(real[t] or t, key)
end

function G.pairs(...)
  local t = ...
  if type(t) ~= "table" then
    bad_argument(1, "pairs", "table expected, got " .. typename(1, select("#", ...), t))
  end
  local behind = real[t]
  if behind then
    return function(_, key)
      return next(behind, key)
    end, t, nil
  end
  return next, t, nil
end

function G.rawget(...)
  local t, key = ...
  if type(t) ~= "table" then
    bad_argument(1, "rawget", "table expected, got " .. typename(1, select("#", ...), t))
  end
  if select("#", ...) < 2 then
    bad_argument(2, "rawget", "value expected")
  end
  return c_rawget(real[t] or t, key)
end

function G.rawset(...)
  local t, key, value = ...
  if type(t) ~= "table" then
    bad_argument(1, "rawset", "table expected, got " .. typename(1, select("#", ...), t))
  end
  if select("#", ...) < 3 then
    bad_argument(select("#", ...) + 1, "rawset", "value expected")
  end
  if real[t] then
    error(READONLY, 0)
  end
  return c_rawset(t, key, value)
end

function G.getmetatable(...)
  if select("#", ...) == 0 then
    bad_argument(1, "getmetatable", "value expected")
  end
  local meta = c_getmetatable((...))
  if meta == HIDDEN then
    return nil
  end
  return meta
end

function G.setmetatable(...)
  local t, meta = ...
  local count = select("#", ...)
  if type(t) ~= "table" then
    bad_argument(1, "setmetatable", "table expected, got " .. typename(1, count, t))
  end
  if count < 2 or meta ~= nil and type(meta) ~= "table" then
    bad_argument(2, "setmetatable", "nil or table expected")
  end
  if real[t] then
    error(READONLY, 0)
  end
  local old = c_getmetatable(t)
  if old ~= nil and (type(old) ~= "table" or c_rawget(old, "__metatable") ~= nil) then
    fail("cannot change a protected metatable")
  end
  if meta and real[meta] then
    meta = real[meta]
  end
  return c_setmetatable(t, meta)
end

-- Tuning the collector is not a script's to do, as it would last; asking and collecting is.
local COLLECTOR = { stop = 0, restart = 0, setpause = 200, setstepmul = 200 }

function G.collectgarbage(option, value)
  if option == nil then
    option = "collect"
  end
  local fixed = COLLECTOR[option]
  if fixed then
    return fixed
  end
  if option ~= "collect" and option ~= "count" and option ~= "step" then
    bad_argument(1, "collectgarbage", "invalid option '" .. tostring(option) .. "'")
  end
  return c_collectgarbage(option, tonumber(value) or 0)
end

-- Catching errors ---------------------------------------------------------------------------------------------

-- A table with a text in err, as redis.call raises, is caught as that text.
local function caught(ok, ...)
  if killed then
    error(KILL, 0)
  end
  if not ok then
    local value = ...
    if type(value) == "table" then
      local text = value.err
      if type(text) == "string" or type(text) == "number" then
        return false, text
      end
    end
  end
  return ok, ...
end

function G.pcall(...)
  if select("#", ...) == 0 then
    return false, "attempt to call a boolean value"
  end
  return caught(c_pcall(...))
end

function G.xpcall(...)
  local f, handler = ...
  if select("#", ...) < 2 then
    bad_argument(2, "xpcall", "value expected")
  end
  return settle(c_xpcall(f, function(value)
    if killed then
      return value
    end
    return handler(value)
  end))
end

-- Coroutines --------------------------------------------------------------------------------------------------

local co = {}
for name, f in next, coroutine do
  co[name] = f
end

-- A new coroutine has no hook of its own: without one it could run for ever.
local function create(f)
  local thread = c_create(f)
  sethook(thread, tick, "", HOOK_INSTRUCTIONS)
  return thread
end

function co.create(f)
  if type(f) ~= "function" then
    bad_argument(1, "create", "Lua function expected")
  end
  return create(f)
end

function co.resume(thread, ...)
  if type(thread) ~= "thread" then
    bad_argument(1, "resume", "coroutine expected")
  end
  return settle(c_resume(thread, ...))
end

local function wrapped(ok, ...)
  if killed then
    error(KILL, 0)
  end
  if ok then
    return ...
  end
  local value = ...
  if type(value) == "string" then
    fail(value)
  end
  error(value, 0)
end

function co.wrap(f)
  if type(f) ~= "function" then
    bad_argument(1, "wrap", "Lua function expected")
  end
  local thread = create(f)
  return function(...)
    return wrapped(c_resume(thread, ...))
  end
end

-- Loading code ------------------------------------------------------------------------------------------------

-- A function of the text, in the script's world; or nil and the message. Bytecode is no text.
function kv.compile(text, name)
  name = name or text
  if byte(text, 1) == 27 then
    local _, msg = c_loadstring("\1", name)
    return nil, (gsub(msg, "char%(1%)", "char(27)"))
  end
  local f, msg = c_loadstring(text, name)
  if not f then
    return nil, msg
  end
  if find(text, "return", 1, true) then
    local framed = native.keep_frames(dump(f))
    if framed then
      f = assert(c_loadstring(framed))
    end
  end
  return c_setfenv(f, env)
end
local compile = kv.compile

local function optional_name(name)
  return type(name) == "number" and tostring(name) or name
end

function G.loadstring(...)
  local text, name = ...
  if type(text) ~= "string" and type(text) ~= "number" then
    bad_argument(1, "loadstring", "string expected, got " .. typename(1, select("#", ...), text))
  end
  name = optional_name(name)
  if name ~= nil and type(name) ~= "string" then
    bad_argument(2, "loadstring", "string expected, got " .. type(name))
  end
  return compile(tostring(text), name)
end

local function read_all(reader)
  local pieces = {}
  while true do
    local piece = reader()
    if piece == nil or piece == "" then
      return concat(pieces)
    end
    if type(piece) ~= "string" and type(piece) ~= "number" then
      error("reader function must return a string", 0)
    end
    pieces[#pieces + 1] = piece
  end
end

function G.load(...)
  local reader, name = ...
  if type(reader) ~= "function" then
    bad_argument(1, "load", "function expected, got " .. typename(1, select("#", ...), reader))
  end
  name = optional_name(name)
  if name ~= nil and type(name) ~= "string" then
    bad_argument(2, "load", "string expected, got " .. type(name))
  end
  local ok, text = guard(read_all, reader)
  if not ok then
    return nil, text
  end
  return compile(text, name or "=(load)")
end

-- null: what JSON's null is decoded to. The server has a light userdata, of which this has the looks.
kv.null = newproxy(true)
local null_meta = c_getmetatable(kv.null)
function null_meta.__tostring()
  return "userdata: (nil)"
end
null_meta.__metatable = HIDDEN

-- Libraries ---------------------------------------------------------------------------------------------------

local function copy(t)
  local fresh = {}
  for name, f in next, t do
    fresh[name] = f
  end
  return fresh
end

local strings = copy(string)
kv.math = copy(math)

-- One string of gigabytes is the shortest way to take all of the machine's memory.
function strings.rep(...)
  local s, n = ...
  local count = select("#", ...)
  if type(s) ~= "string" and type(s) ~= "number" then
    bad_argument(1, "rep", "string expected, got " .. typename(1, count, s))
  end
  n = type(n) ~= "table" and count > 1 and tonumber(n)
  if not n then
    bad_argument(2, "rep", "number expected, got " .. typename(2, count, (select(2, ...))))
  end
  local size = #tostring(s) * n
  if size > LONGEST_STRING then
    fail("resulting string too large")
  elseif size > LARGE_STRING and c_collectgarbage("count") + size / 1024 > most_kilobytes then
    c_collectgarbage("collect")
    if c_collectgarbage("count") + size / 1024 > most_kilobytes then
      error("not enough memory", 0)
    end
  end
  return size > 0 and rep(s, n) or "" -- C would count to n even where there is nothing to repeat
end

local tables = copy(table)

-- The only function of the library that would write past the metatable of a stand-in.
function tables.insert(...)
  local t, position = ...
  local count = select("#", ...)
  if type(t) ~= "table" then
    bad_argument(1, "insert", "table expected, got " .. typename(1, count, t))
  elseif count ~= 2 and count ~= 3 then
    fail("wrong number of arguments to 'insert'")
  elseif count == 3 and not tonumber(position) then
    bad_argument(2, "insert", "number expected, got " .. type(position))
  elseif real[t] then
    error(READONLY, 0)
  end
  return c_insert(...)
end

G.string = protect(strings)
G.table = protect(tables)
G.math = protect(kv.math)
G.coroutine = protect(co)
G.os = protect({ clock = os_clock })

local string_meta = c_getmetatable("")
string_meta.__index = G.string
string_meta.__metatable = protect({ __index = G.string })

-- Running -----------------------------------------------------------------------------------------------------

-- Notes where an uncaught error was raised; a kv function that raised it counts as one with its caller.
local function handler(value)
  if killed then
    return value
  end
  local info = getinfo(2, "S")
  note_place(info and info.what == "C" and 3 or 2)
  if type(value) == "table" then
    return value
  end
  return { err = "ERR " .. tostring(value) }
end
G.__redis__err__handler = handler

-- pcall for run.lua, which looks after kills itself.
kv.plain_pcall = c_pcall

-- Runs a function: true and its value, or false and the error's table.
function kv.protected(f)
  return c_xpcall(f, handler)
end

-- The chunk and the line in which protected's error or the kill was raised.
function kv.raised_at()
  return raised_source, raised_line
end

return kv
