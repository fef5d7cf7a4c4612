-- The log is not the one that was read before, although it says so: give it a new life, unless somebody has.
--
-- KEYS  1 hash  position of the channel (as in publish.lua)
-- ARGV  1 the epoch that both had, 2 a new one
local there = redis.call('HGET', KEYS[1], 'epoch')
if there == ARGV[1] then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
end
return 1
