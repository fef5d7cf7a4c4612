-- KEYS  1 hash. ARGV  1 cursor, 2 entries, about
-- A script, so that the answer comes as Redis gives it, whatever the client library makes of HSCAN.
return redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
