-- Events of one worker's clients, into the stream: atomic, in order, each once. Redis' own clock for leases.
--
-- KEYS  1 stream
--       2 hash  clients of the worker: client id -> user id; the member "" = number of its last event in the stream
--       3 zset  worker -> time in ms at which its lease ends, 1 = it is being reaped; the member "" = nobody is reaped
--               until minus that time
-- ARGV  1 operation, 2 worker, 3 lease in ms, 4 entries that the stream keeps, about, 5 node,
--         append: events, each 7 arguments: number, event, client, user, time (ms), channel or "", detail or ""
--                 Gives 1, or 0 when the worker has no lease any more: nothing was written.
--         begin:  nothing else. Gives the worker, whose name was never used before, its lease.
--         renew:  nothing else. Gives {1, or 0 when it has no lease any more, workers whose leases have run out}.
--         end:    time (ms). Tells off what is left of a worker that ends, and forgets it. Gives what `reap` gives.
--         reap:   time (ms), clients at most. The same for a dead worker (KEYS 2 is its hash, ARGV 2 its name), some at
--                 a time. Gives {how many, 1 when it was the last}.
local stream, clients, workers = KEYS[1], KEYS[2], KEYS[3]
local operation, worker, lease, kept, node = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local ABANDONED = 7 * 24 * 3600 * 1000 -- ms until Redis forgets what no worker came for
local REAPED = 100 -- workers in one answer
local BEING_REAPED = 1

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function add(number, event, client, user, at, channel, detail)
  local fields = {'id', worker .. '-' .. number, 'event', event, 'client', client, 'user', user, 'time', at}
  fields[#fields + 1] = 'node'
  fields[#fields + 1] = node
  if channel ~= '' then
    fields[#fields + 1] = 'channel'
    fields[#fields + 1] = channel
  end
  if detail ~= '' then
    fields[#fields + 1] = 'reason'
    fields[#fields + 1] = detail
  end
  redis.call('XADD', stream, 'MAXLEN', '~', kept, '*', unpack(fields))
end

local function has_lease()
  local ends = redis.call('ZSCORE', workers, worker)
  return ends and tonumber(ends) > BEING_REAPED
end

local function renew()
  redis.call('ZADD', workers, now + lease, worker)
  redis.call('PEXPIRE', workers, ABANDONED)
  redis.call('HSETNX', clients, '', 0)
  redis.call('PEXPIRE', clients, ABANDONED)
end

-- Clients of a worker that can say nothing more.
local function tell_off(at, limit, reason)
  local told, cursor = 0, '0'
  repeat
    local page = redis.call('HSCAN', clients, cursor, 'COUNT', limit)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      local client = page[2][i]
      if client ~= '' and told < limit and redis.call('HDEL', clients, client) == 1 then
        add('gone-' .. client, 'disconnected', client, page[2][i + 1], at, '', reason)
        told = told + 1
      end
    end
  until cursor == '0' or told >= limit
  local left = redis.call('HLEN', clients) - redis.call('HEXISTS', clients, '')
  if left > 0 then
    return {told, 0}
  end
  redis.call('DEL', clients)
  redis.call('ZREM', workers, worker)
  return {told, 1}
end

if operation == 'append' then
  if not has_lease() then
    return 0
  end
  local last = tonumber(redis.call('HGET', clients, '') or 0)
  for i = 6, #ARGV, 7 do
    local number, event, client, user = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    -- A number that is there already was sent again because the answer to its first sending was lost.
    if number > last then
      last = number
      if event == 'connected' then
        redis.call('HSET', clients, client, user)
      elseif event == 'disconnected' then
        redis.call('HDEL', clients, client)
      end
      add(ARGV[i], event, client, user, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    end
  end
  redis.call('HSET', clients, '', last)
  return 1
end

if operation == 'begin' then
  return renew()
end

if operation == 'renew' then
  if not has_lease() then
    return {0, {}}
  end
  -- Nobody has renewed for half a lease: Redis was away, and the first worker that is back must not end the others.
  local newest = redis.call('ZREVRANGE', workers, 0, 0, 'WITHSCORES')
  if #newest > 0 and tonumber(newest[2]) > 0 and tonumber(newest[2]) < now + lease / 2 then
    redis.call('ZADD', workers, -(now + math.floor(lease / 2)), '')
  end
  renew()
  local held = tonumber(redis.call('ZSCORE', workers, '') or 0)
  if -held > now then
    return {1, {}}
  end
  redis.call('ZREM', workers, '')
  return {1, redis.call('ZRANGEBYSCORE', workers, 0, now, 'LIMIT', 0, REAPED)}
end

if operation == 'end' then
  return tell_off(ARGV[6], 1000, 'lost')
end

-- reap
local ends = redis.call('ZSCORE', workers, worker)
if not ends or tonumber(ends) > now then
  return {0, 1}
end
-- Should it still live, it must not go on in between: it begins anew under another name.
redis.call('ZADD', workers, BEING_REAPED, worker)
return tell_off(ARGV[6], tonumber(ARGV[7]), 'lost')
