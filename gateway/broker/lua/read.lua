-- Reads a page of a channel's log together with its position. A channel without a position gets one.
--
-- KEYS  1 stream, 2 hash (as in publish.lua)
-- ARGV  1 "after" or "before", 2 offset (exclusive), 3 publications at most, 4 epoch if the channel has none,
--       5 life of the position in ms
--
-- Gives {offset, epoch, entries}; "before" gives the newest first, its offset 0 = from the newest on.
local log, meta = KEYS[1], KEYS[2]
local state = redis.call('HMGET', meta, 'epoch', 'offset')
local epoch, offset = state[1], tonumber(state[2] or 0)
if not epoch then
  epoch = ARGV[4]
  redis.call('DEL', log)
  redis.call('HSET', meta, 'epoch', epoch, 'offset', '0')
end
redis.call('PEXPIRE', meta, ARGV[5])
local entries = {}
if tonumber(ARGV[3]) > 0 then
  if ARGV[1] == 'after' then
    entries = redis.call('XRANGE', log, '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
  elseif ARGV[2] == '0' then
    entries = redis.call('XREVRANGE', log, '+', '-', 'COUNT', ARGV[3])
  else
    entries = redis.call('XREVRANGE', log, '(' .. ARGV[2] .. '-0', '-', 'COUNT', ARGV[3])
  end
end
return {offset, epoch, entries}
