-- Takes or renews a lease that one owner has at a time, or gives it back.
--
-- KEYS  1 string  the owner
-- ARGV  1 owner, 2 life of the lease in ms (0 = give it back)
--
-- Gives 1 = the owner has it, 0 = somebody else has, or it was given back.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
