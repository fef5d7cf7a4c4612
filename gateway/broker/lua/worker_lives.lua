-- A worker says that it lives. One that has come to the place of another says that that one does not.
--
-- KEYS  1 zset  "<place>/<token>" -> end of its lease (ms)
-- ARGV  1 place, 2 token, 3 lease in ms. Gives all that live.
local workers, place = KEYS[1], ARGV[1] .. '/'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZREMRANGEBYSCORE', workers, '-inf', now)
for _, worker in ipairs(redis.call('ZRANGE', workers, 0, -1)) do
  if string.sub(worker, 1, #place) == place then
    redis.call('ZREM', workers, worker)
  end
end
redis.call('ZADD', workers, now + ARGV[3], place .. ARGV[2])
redis.call('PEXPIRE', workers, ARGV[3])
return redis.call('ZRANGE', workers, 0, -1)
