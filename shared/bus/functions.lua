#!lua name=julie

-- Every write that matters is one of these functions: check everything, then write. A function is atomic to
-- others and crash-atomic in the append-only file, but it is not rolled back after an error, so nothing may
-- fail once the first write is done.
--
-- Stream ids are <ms>-<seq>: ms never falls, seq rises by one. The head of a stream (a hash in the same slot)
-- keeps epoch and seq. An append that was repeated because its reply was lost finds seq already there and
-- adds only what is new. Only the writer whose epoch the head names may append: one with an older epoch is FENCED,
-- one with a newer epoch learns that Redis has lost its opening. An epoch is the opener's clock in microseconds, so that
-- no two are the same, also when Redis has been emptied or set back in between.
--
-- Each redis.call and each number printed costs more than the entry itself, so the usual append (same epoch, next
-- seq) makes three calls and prints no number that it was given as text.

local VERSION = '10'

local function head_of(key)
  local h = redis.call('HMGET', key, 'epoch', 'seq')
  return tonumber(h[1] or '0') or 0, tonumber(h[2] or '0') or 0
end

local function refused(epoch, head_epoch, first_seq, head_seq)
  if epoch < head_epoch then
    return 'FENCED epoch ' .. string.format('%d', epoch) .. ' is older than ' .. string.format('%d', head_epoch)
  end
  if first_seq > head_seq + 1 then
    return 'ROLLEDBACK stream stands at ' .. string.format('%d', head_seq) .. ', the writer at ' .. string.format('%d', first_seq - 1)
  end
  return nil
end

-- Up to here (the year 5138) concatenation prints exactly.
local MS_MAX = 99999999999999

-- An entry that somebody put into the stream by hand may have an id that ours would not follow. It must not stop
-- the one writer: ours then go behind it.
local function ms_behind(stream, seq, ms, why)
  if not string.find(why, 'equal or smaller', 1, true) then error({err = why}) end
  local info, top = redis.call('XINFO', 'STREAM', stream), nil
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then top = info[i + 1] end
  end
  local dash = string.find(top, '-', 1, true)
  local top_ms, top_seq = tonumber(string.sub(top, 1, dash - 1)), tonumber(string.sub(top, dash + 1))
  if top_ms >= MS_MAX then
    error({err = 'ERR stream ' .. stream .. ' ends with the foreign id ' .. top .. ', which no entry can follow; remove it (XDEL), then set the last id of ours (XSETID)'})
  end
  if top_seq >= seq then top_ms = top_ms + 1 end
  return math.max(ms, top_ms)
end

-- Appends args[from .. from + 2n - 1] (kind, value, kind, value ...), n > 0. Checked by the caller.
local function add(stream, first_seq, ms, args, from, n)
  local prefix, call = ms .. '-', redis.call
  local first = redis.pcall('XADD', stream, prefix .. first_seq, args[from], args[from + 1])
  if type(first) == 'table' and first.err then
    prefix = string.format('%d', ms_behind(stream, tonumber(first_seq), tonumber(ms), first.err)) .. '-'
    call('XADD', stream, prefix .. first_seq, args[from], args[from + 1])
  end
  for i = 1, n - 1 do
    call('XADD', stream, prefix .. (first_seq + i), args[from + 2 * i], args[from + 2 * i + 1])
  end
end

-- Appends what the stream does not have yet and moves the head; returns the newest seq. Checked by the caller.
local function add_new(stream, head, epoch, head_seq, first_seq, ms, args, from, n)
  local last, skip = first_seq + n - 1, math.max(0, head_seq + 1 - first_seq)
  if last <= head_seq then return head_seq end
  add(stream, first_seq + skip, ms, args, from + 2 * skip, n - skip)
  redis.call('HSET', head, 'epoch', string.format('%d', epoch), 'seq', string.format('%d', last))
  return last
end

-- A clock that was set back gives no greater epoch than the newest. Two openers may then find the same newest one, where
-- Redis has come back with less in between: the end of their clocks keeps them apart.
local function next_epoch(epoch, clock_us)
  local us = tonumber(clock_us or '0')
  if us > epoch then return us end
  return epoch + 1 + us % 1000000
end

-- julie_open(head; clock_us) -> {epoch, seq}: take the right to write; every earlier writer is fenced from now on.
redis.register_function('julie_open', function(keys, args)
  local epoch, seq = head_of(keys[1])
  epoch = next_epoch(epoch, args[1])
  redis.call('HSET', keys[1], 'epoch', string.format('%d', epoch), 'seq', string.format('%d', seq))
  return {epoch, seq}
end)

-- How often the cap is looked at, in entries.
local CAP_EVERY = 256

-- julie_append(stream, head; epoch, first_seq, ms, entries_max, kind, value, ...) -> {seq, trimmed}
-- entries_max 0: no cap. Without entries it only asks whether this writer may go on.
redis.register_function('julie_append', function(keys, args)
  local n, first_seq = (#args - 4) / 2, tonumber(args[2])
  local h = redis.call('HMGET', keys[2], 'epoch', 'seq')
  local seq
  if h[1] == args[1] and tonumber(h[2]) == first_seq - 1 then
    if n == 1 then
      add(keys[1], args[2], args[3], args, 5, 1)
      redis.call('HSET', keys[2], 'seq', args[2])
      seq = first_seq
    elseif n == 0 then
      seq = first_seq - 1
    else
      add(keys[1], first_seq, args[3], args, 5, n)
      seq = first_seq + n - 1
      redis.call('HSET', keys[2], 'seq', string.format('%d', seq))
    end
  else
    local epoch = tonumber(args[1])
    local head_epoch, head_seq = tonumber(h[1] or '0') or 0, tonumber(h[2] or '0') or 0
    local why = refused(epoch, head_epoch, first_seq, head_seq)
    if not why and epoch > head_epoch and head_epoch > 0 then
      why = string.format('ROLLEDBACK stream was opened with epoch %d, the writer has %d', head_epoch, epoch)
    end
    if why then return redis.error_reply(why) end
    seq = add_new(keys[1], keys[2], epoch, head_seq, first_seq, args[3], args, 5, n)
  end
  local trimmed = 0
  if args[4] ~= '0' and seq % CAP_EVERY < n then
    trimmed = redis.call('XTRIM', keys[1], 'MAXLEN', '~', args[4])
  end
  return {seq, trimmed}
end)

-- julie_step(lease, state, stream, head, stream, head ...; epoch, snapshot, then for each stream: first_seq, ms, n,
--            kind, value, ...) -> 'OK'
-- All effects of what a worker consumed, together or not at all. The lease's epoch is the epoch of its streams.
redis.register_function('julie_step', function(keys, args)
  local epoch = tonumber(args[1])
  local lease_epoch = tonumber(redis.call('HGET', keys[1], 'epoch') or '0') or 0
  if epoch ~= lease_epoch then
    return redis.error_reply('FENCED epoch ' .. args[1] .. ', the lease is at ' .. string.format('%d', lease_epoch))
  end
  local plan = {}
  local at = 3
  for k = 3, #keys, 2 do
    local first_seq, n = tonumber(args[at]), tonumber(args[at + 2])
    local head_epoch, head_seq = head_of(keys[k + 1])
    local why = refused(epoch, head_epoch, first_seq, head_seq)
    if why then return redis.error_reply(why) end
    plan[#plan + 1] = {keys[k], keys[k + 1], head_seq, first_seq, args[at + 1], at + 3, n}
    at = at + 3 + 2 * n
  end
  for _, p in ipairs(plan) do
    if p[7] > 0 then add_new(p[1], p[2], epoch, p[3], p[4], p[5], args, p[6], p[7]) end
  end
  redis.call('SET', keys[2], args[2])
  return redis.status_reply('OK')
end)

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- julie_lease(lease; holder, ttl_ms, clock_us) -> {epoch, 1} when acquired, {epoch, 0, holder} when another one holds it.
-- A lease is for liveness only: it follows the server's wall clock. Safety is in the epoch.
redis.register_function('julie_lease', function(keys, args)
  local l = redis.call('HMGET', keys[1], 'epoch', 'holder', 'until_ms')
  local epoch, holder, until_ms = tonumber(l[1] or '0') or 0, l[2] or '', tonumber(l[3] or '0') or 0
  local now = now_ms()
  local ttl = tonumber(args[2])
  -- A lease that reaches further than any ttl allows was written before the clock fell back: not valid.
  if holder ~= '' and holder ~= args[1] and now < until_ms and until_ms <= now + 10 * ttl then
    return {epoch, 0, holder}
  end
  epoch = next_epoch(epoch, args[3])
  redis.call('HSET', keys[1], 'epoch', string.format('%d', epoch), 'holder', args[1], 'until_ms', string.format('%d', now + ttl))
  return {epoch, 1, args[1]}
end)

-- julie_renew(lease; holder, epoch, ttl_ms) -> 1 kept, 0 lost
redis.register_function('julie_renew', function(keys, args)
  local l = redis.call('HMGET', keys[1], 'epoch', 'holder')
  if l[1] ~= args[2] or l[2] ~= args[1] then return 0 end
  redis.call('HSET', keys[1], 'until_ms', string.format('%d', now_ms() + tonumber(args[3])))
  return 1
end)

-- julie_release(lease; holder, epoch) -> 1 released, 0 was not ours
redis.register_function('julie_release', function(keys, args)
  local l = redis.call('HMGET', keys[1], 'epoch', 'holder')
  if l[1] ~= args[2] or l[2] ~= args[1] then return 0 end
  redis.call('HSET', keys[1], 'holder', '', 'until_ms', '0')
  return 1
end)

-- No pause is longer (the broker's `Retry-After` is cut at 300 s).
local PAUSE_MS_MAX = 600000

local function hold(key, now, pause_ms)
  redis.call('SET', key, string.format('%d %d', now, now + pause_ms), 'PX', string.format('%d', pause_ms))
  return pause_ms
end

-- How long ordinary requests wait, 0 for no pause. The key says from when to when. A clock that stands before both
-- fell back meanwhile: how much of the pause is over nobody knows, so it lasts from now on, and never longer than
-- it was asked for.
local function paused_ms(key, now)
  local from, till = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  if not from then return 0 end
  from, till = tonumber(from), tonumber(till)
  if now >= till then return 0 end
  if now < from then return hold(key, now, math.min(till - from, PAUSE_MS_MAX)) end
  return till - now
end

-- julie_budget(window, pause; requests_max, window_ms, reserve, urgent, member, last) -> 0 granted, else milliseconds
-- to wait; -1 when `last`, which was granted to the caller before, is not in the window: Redis has lost it.
-- One sliding window for the whole credential; the last `reserve` places are for cancel and flatten.
redis.register_function('julie_budget', function(keys, args)
  local most, window, reserve, urgent = tonumber(args[1]), tonumber(args[2]), tonumber(args[3]), args[4] == '1'
  local now = now_ms()
  local paused = paused_ms(keys[2], now)
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', now - window)
  -- What is later than now was counted before the clock fell back. Nobody knows how old it is but those who were
  -- granted it: the next question of each finds its `last` missing, and it tells its own again.
  redis.call('ZREMRANGEBYSCORE', keys[1], '(' .. string.format('%d', now), '+inf')
  if args[6] and args[6] ~= '' and not redis.call('ZSCORE', keys[1], args[6]) then return -1 end
  if paused > 0 and not urgent then return paused end
  local used, room = redis.call('ZCARD', keys[1]), most
  if not urgent then room = most - reserve end
  if used >= room then
    if used == 0 then return window end
    local oldest = redis.call('ZRANGE', keys[1], 0, 0, 'WITHSCORES')
    return math.max(1, math.ceil(tonumber(oldest[2]) + window - now))
  end
  redis.call('ZADD', keys[1], now, args[5])
  redis.call('PEXPIRE', keys[1], 2 * window)
  return 0
end)

-- julie_budget_recall(window; window_ms, member, age_ms, ...): count again what was granted to the caller before.
redis.register_function('julie_budget_recall', function(keys, args)
  local now = now_ms()
  for i = 2, #args, 2 do redis.call('ZADD', keys[1], now - tonumber(args[i + 1]), args[i]) end
  redis.call('PEXPIRE', keys[1], 2 * tonumber(args[1]))
  return 1
end)

-- julie_budget_pause(pause; pause_ms): nothing but urgent requests before then (the gateway answered 429). The
-- longest counts: another request's shorter pause does not end it.
redis.register_function('julie_budget_pause', function(keys, args)
  local now, pause_ms = now_ms(), math.min(tonumber(args[1]), PAUSE_MS_MAX)
  if pause_ms > paused_ms(keys[1], now) then hold(keys[1], now, pause_ms) end
  return 1
end)

redis.register_function{function_name = 'julie_version', callback = function() return VERSION end, flags = {'no-writes'}}
