-- What Redis gives a function library: `redis`. The chunk gets Python's call and returns functions and runner.
--
-- Between here and Python: `true, ...` is a list, `nil, text` an error, `nil, text, true` a status.

local pycall = ...
local functions = {}

local function taken(mark, ...)
  if mark == true then return {...} end
  if mark == nil then
    local text, status = ...
    if status then return {ok = text} end
    return {err = text}
  end
  return mark
end

redis = {}

function redis.pcall(...) return taken(pycall(...)) end

function redis.call(...)
  local reply = taken(pycall(...))
  if type(reply) == 'table' and reply.err then error(reply) end
  return reply
end

function redis.error_reply(text) return {err = text} end

function redis.status_reply(text) return {ok = text} end

function redis.register_function(name, callback)
  if type(name) == 'table' then
    local flags = {}
    for _, flag in ipairs(name.flags or {}) do flags[flag] = true end
    functions[name.function_name] = {name.callback, flags['no-writes'] or false}
  else
    functions[name] = {callback, false}
  end
end

local function given(reply)
  if type(reply) ~= 'table' then return reply end
  if reply.err then return nil, reply.err end
  if reply.ok then return nil, reply.ok, true end
  local n = 0
  while reply[n + 1] ~= nil do n = n + 1 end
  return true, unpack(reply, 1, n)
end

local function answered(well, reply)
  if well then return given(reply) end
  if type(reply) == 'table' and reply.err then return nil, reply.err end
  return nil, 'ERR ' .. tostring(reply)
end

local function one_key(callback, key, ...) return answered(pcall(callback, {key}, {...})) end

local function two_keys(callback, first, second, ...) return answered(pcall(callback, {first, second}, {...})) end

local function run(callback, keys_count, ...)
  if keys_count == 2 then return two_keys(callback, ...) end
  if keys_count == 1 then return one_key(callback, ...) end
  local all, keys, args = {...}, {}, {}
  for i = 1, keys_count do keys[i] = all[i] end
  for i = keys_count + 1, #all do args[i - keys_count] = all[i] end
  return answered(pcall(callback, keys, args))
end

return functions, run
