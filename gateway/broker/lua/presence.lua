-- Every change to the presence of one channel. Atomic, with Redis' own clock.
--
-- KEYS  1 hash  client id -> ClientInfo as JSON
--       2 zset  client id -> time in ms at which its lease ends; negative = reaped, remembered until minus that time
--       3 hash  user id -> number of its clients
-- ARGV  1 operation, 2 lease in ms, 3 Redis channel for `@join` and `@leave`, or "" to tell nobody; then
--         enter, restore: pairs of client id and info. `restore` tells of a join only where a leave was told before.
--         leave:          pairs of client id and info, which is told when Redis has lost the entry; "" = tell nothing.
--         renew:          client ids. Also ends what nobody has renewed. Gives the ids that are not here any more.
--
-- All keys live for one lease from the last change: a channel that nobody renews is gone as a whole, without a word.
local clients, ends, users = KEYS[1], KEYS[2], KEYS[3]
local operation, lease, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local REAPED_AT_ONCE = 1000
local REMEMBERED = 20 -- leases

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function tell(event, info)
  if channel ~= '' then
    redis.call(string.find(channel, '{', 1, true) and 'SPUBLISH' or 'PUBLISH', channel, '@' .. event .. ' ' .. info)
  end
end

-- The part in front of `client` is enough, and it is never nested too deeply for cjson.
local function user_of(client, info)
  local rest = string.find(info, ',"client":"' .. client .. '"', 1, true)
  return cjson.decode(rest and string.sub(info, 1, rest - 1) .. '}' or info).user
end

local function remove(client)
  local info = redis.call('HGET', clients, client)
  if info then
    redis.call('HDEL', clients, client)
    local user = user_of(client, info)
    if redis.call('HINCRBY', users, user, -1) <= 0 then
      redis.call('HDEL', users, user)
    end
  end
  return info
end

local function was_reaped(client)
  local score = redis.call('ZSCORE', ends, client)
  return score and tonumber(score) < 0
end

local function enter()
  for i = 4, #ARGV, 2 do
    local client, info = ARGV[i], ARGV[i + 1]
    if redis.call('HSET', clients, client, info) == 1 then
      redis.call('HINCRBY', users, user_of(client, info), 1)
      if operation == 'enter' or was_reaped(client) then
        tell('join', info)
      end
    end
    redis.call('ZADD', ends, now + lease, client)
  end
end

local function leave()
  for i = 4, #ARGV, 2 do
    local client = ARGV[i]
    local told = was_reaped(client)
    redis.call('ZREM', ends, client)
    local info = remove(client) or ARGV[i + 1]
    if info ~= '' and not told then
      tell('leave', info)
    end
  end
end

local function renew()
  local missing = {}
  for i = 4, #ARGV do
    local client = ARGV[i]
    if redis.call('HEXISTS', clients, client) == 1 then
      redis.call('ZADD', ends, now + lease, client)
    else
      missing[#missing + 1] = client
    end
  end
  return missing
end

local function reap()
  for _, client in ipairs(redis.call('ZRANGEBYSCORE', ends, 0, now, 'LIMIT', 0, REAPED_AT_ONCE)) do
    local info = remove(client)
    if info then
      redis.call('ZADD', ends, -(now + REMEMBERED * lease), client)
      tell('leave', info)
    else
      redis.call('ZREM', ends, client)
    end
  end
end

-- Redis evicts keys one by one when its memory is full. What is left of the three is worth nothing: workers restore it.
local there = redis.call('EXISTS', clients)
if there ~= redis.call('EXISTS', users) or there > redis.call('EXISTS', ends) then
  redis.call('DEL', clients, ends, users)
end

-- Nobody has renewed anything for half a lease: Redis was away, and the first worker that is back must not end the
-- clients of the others. The member "" holds the reaping up for another half.
local last = tonumber(redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2] or 0)
if last > 0 and last < now + lease / 2 then
  redis.call('ZADD', ends, -(now + math.floor(lease / 2)), '')
end

if operation == 'leave' then
  return leave()
end
local missing = false
if operation == 'renew' then
  missing = renew()
  redis.call('ZREMRANGEBYSCORE', ends, '(' .. -now, '(0')
  if not redis.call('ZSCORE', ends, '') then
    reap()
  end
else
  enter()
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIREAT', key, now + lease)
end
return missing
