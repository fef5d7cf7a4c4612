-- Keeps the rules for publications: replaced as a whole, with a version that grows with every change.
--
-- KEYS  1 hash: rules, version
-- ARGV  1 the rules as JSON. Gives the version.
if redis.call('HGET', KEYS[1], 'rules') == ARGV[1] then
  return tonumber(redis.call('HGET', KEYS[1], 'version'))
end
redis.call('HSET', KEYS[1], 'rules', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'version', 1)
