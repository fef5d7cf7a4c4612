-- Publishes to a channel without history, unless its idempotency key is known. Both at one moment.
-- SPUBLISH where names have braces: in a cluster.
--
-- KEYS  1 string  what is known of the idempotency key; as publish.lua writes it, with no position
-- ARGV  1 Redis channel of the publications, 2 payload, 3 life of the key in ms
--
-- Gives 1 = published, 0 = the key was known.
if not redis.call('SET', KEYS[1], '0 -', 'NX', 'PX', ARGV[3]) then
  return 0
end
redis.call(string.find(ARGV[1], '{', 1, true) and 'SPUBLISH' or 'PUBLISH', ARGV[1], ARGV[2])
return 1
