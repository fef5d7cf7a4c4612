-- KEYS  1 hash  client id -> ClientInfo, 2 hash  user id -> number of its clients (see presence.lua)
return {redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[2])}
