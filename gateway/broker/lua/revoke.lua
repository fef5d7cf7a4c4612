-- Remembers a revocation, forgets those that are over, tells every worker.
--
-- KEYS  1 hash  what is revoked -> message, 2 zset  what is revoked -> when it can be forgotten (s since 1970)
-- ARGV  1 Redis channel of control messages, 2 what is revoked, 3 message, 4 when it can be forgotten,
--       5 revocations at most. Gives 1, or 0 when there are too many.
local messages, ends = KEYS[1], KEYS[2]
local now = tonumber(redis.call('TIME')[1])

while true do
  local over = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 1000)
  if #over == 0 then
    break
  end
  redis.call('HDEL', messages, unpack(over))
  redis.call('ZREM', ends, unpack(over))
end
if redis.call('HEXISTS', messages, ARGV[2]) == 0 and redis.call('HLEN', messages) >= tonumber(ARGV[5]) then
  return 0
end
redis.call('HSET', messages, ARGV[2], ARGV[3])
redis.call('ZADD', ends, ARGV[4], ARGV[2])
local last = math.ceil(tonumber(redis.call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2])) + 1
redis.call('EXPIREAT', messages, last)
redis.call('EXPIREAT', ends, last)
redis.call('PUBLISH', ARGV[1], ARGV[3])
return 1
