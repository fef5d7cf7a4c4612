-- Publishes to a channel with history: logs, gives the next offset, delivers. All or nothing.
--
-- KEYS  1 stream  the log; entry `<offset>-0` with the fields m (metadata) and d (data)
--       2 hash    epoch, offset, and version, version_epoch once used
--       3 string  "<offset> <epoch>" of the publication with this idempotency key; optional
-- ARGV  1 Redis channel of the publications (with braces: of sharded pub/sub), 2 data (JSON),
--       3 metadata (JSON object or "-"), 4 size of the log,
--       5 life of the log in ms, 6 life of the position in ms (longer), 7 epoch if the channel has none,
--       8 life of the idempotency key in ms, 9 version (0 = none), 10 epoch of the version
--
-- Gives {offset, epoch, fresh}: fresh 1 = published, 0 = the key was known, -1 = the version is not newer.
-- The source runs as a script (EVALSHA) and as the function `gw_publish` (FCALL).
local log, meta, done = KEYS[1], KEYS[2], KEYS[3]

if done then
  local known = redis.call('GET', done)
  if known then
    local offset, epoch = string.match(known, '^(%d+) (.*)$')
    return {tonumber(offset), epoch, 0}
  end
end
if string.find(ARGV[3], '\n', 1, true) then
  return redis.error_reply('ERR metadata must be on one line')
end

local state = redis.call('HMGET', meta, 'epoch', 'offset')
local epoch, offset = state[1], tonumber(state[2] or 0)

local version = tonumber(ARGV[9] or 0)
if version > 0 and epoch then
  local before = redis.call('HMGET', meta, 'version', 'version_epoch')
  if before[1] and before[2] == ARGV[10] and tonumber(before[1]) >= version then
    return {offset, epoch, -1}
  end
end

offset = offset + 1
local number = string.format('%d', offset)
if not epoch then
  redis.call('DEL', log)
end
-- First what may fail.
redis.call('XADD', log, 'MAXLEN', ARGV[4], number .. '-0', 'm', ARGV[3], 'd', ARGV[2])
if epoch then
  redis.call('HSET', meta, 'offset', number)
else
  epoch = ARGV[7]
  redis.call('HSET', meta, 'epoch', epoch, 'offset', number)
end
if version > 0 then
  redis.call('HSET', meta, 'version', string.format('%d', version), 'version_epoch', ARGV[10])
end
redis.call('PEXPIRE', log, ARGV[5])
redis.call('PEXPIRE', meta, ARGV[6])
if done then
  redis.call('SET', done, number .. ' ' .. epoch, 'PX', ARGV[8])
end
local tell = string.find(ARGV[1], '{', 1, true) and 'SPUBLISH' or 'PUBLISH'
redis.call(tell, ARGV[1], '@1 ' .. number .. ' ' .. epoch .. ' ' .. ARGV[3] .. '\n' .. ARGV[2])
return {offset, epoch, 1}
