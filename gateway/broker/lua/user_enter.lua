-- One more connection of a user, if there is room.
--
-- KEYS  1 zset  "<worker> <client id>" -> when it came (ms)
-- ARGV  1 the new member, 2 connections at most, 3 life of the key in ms,
--       4 "close_oldest" makes room, anything else does not, 5 Redis channel of control messages, 6 user,
--       7 … workers that are dead: their connections are forgotten first.
-- Gives {1, number of connections that are closed for it}, or {0, members …} when there is no room.
local places, limit = KEYS[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if #ARGV > 6 then
  local dead = {}
  for i = 7, #ARGV do
    dead[ARGV[i]] = true
  end
  for _, member in ipairs(redis.call('ZRANGE', places, 0, -1)) do
    if dead[string.match(member, '^%S+')] then
      redis.call('ZREM', places, member)
    end
  end
end

redis.call('ZREM', places, ARGV[1])
local over = redis.call('ZCARD', places) + 1 - limit
if over > 0 then
  local oldest = redis.call('ZRANGE', places, 0, over - 1)
  if ARGV[4] ~= 'close_oldest' then
    return { 0, unpack(redis.call('ZRANGE', places, 0, limit)) }
  end
  for _, member in ipairs(oldest) do
    redis.call('ZREM', places, member)
    local client = string.match(member, '%S+$')
    redis.call('PUBLISH', ARGV[5], cjson.encode({
      op = 'disconnect', user = ARGV[6], client = client, code = 3504, reason = 'connection limit',
    }))
  end
end
redis.call('ZADD', places, now, ARGV[1])
redis.call('PEXPIRE', places, ARGV[3])
return { 1, math.max(over, 0) }
