-- Publishes several to one channel with history: as many runs of publish.lua, but state, trimming and lives once for all.
--
-- KEYS  1 stream, 2 hash (as in publish.lua), 3... string  one for each publication with an idempotency key, in order
-- ARGV  1 Redis channel of the publications, 2 size of the log, 3 life of the log in ms, 4 life of the position in ms
--       (longer), 5 epoch if the channel has none, 6 life of the idempotency keys in ms; then for each publication
--       data, metadata (JSON object or "-", on one line), "1" if it has an idempotency key, else "0"
--
-- Gives offset, epoch, fresh (1 = published, 0 = its key was known) for each, in one list.
local log, meta, call = KEYS[1], KEYS[2], redis.call
local state = call('HMGET', meta, 'epoch', 'offset')
local epoch, offset = state[1], tonumber(state[2] or 0)
local answers, told, done, made = {}, {}, {}, {}
local last_key = 2

if not epoch then
  epoch = ARGV[5]
  call('DEL', log)
end
-- First what may fail: when Redis takes the first, it takes all.
for i = 7, #ARGV, 3 do
  local key, known = nil, false
  if ARGV[i + 2] == '1' then
    last_key = last_key + 1
    key = KEYS[last_key]
    known = made[key] or call('GET', key)
  end
  local answer = #answers
  if known then
    local known_offset, known_epoch = string.match(known, '^(%d+) (.*)$')
    answers[answer + 1], answers[answer + 2], answers[answer + 3] = tonumber(known_offset), known_epoch, 0
  else
    offset = offset + 1
    local number = string.format('%d', offset)
    call('XADD', log, number .. '-0', 'm', ARGV[i + 1], 'd', ARGV[i])
    told[#told + 1] = '@1 ' .. number .. ' ' .. epoch .. ' ' .. ARGV[i + 1] .. '\n' .. ARGV[i]
    answers[answer + 1], answers[answer + 2], answers[answer + 3] = offset, epoch, 1
    if key then
      made[key] = number .. ' ' .. epoch
      done[#done + 1] = key
    end
  end
end

if #told > 0 then
  call('XTRIM', log, 'MAXLEN', ARGV[2])
  call('HSET', meta, 'epoch', epoch, 'offset', string.format('%d', offset))
  call('PEXPIRE', log, ARGV[3])
  call('PEXPIRE', meta, ARGV[4])
  for _, key in ipairs(done) do
    call('SET', key, made[key], 'PX', ARGV[6])
  end
  local verb = string.find(ARGV[1], '{', 1, true) and 'SPUBLISH' or 'PUBLISH'
  for _, message in ipairs(told) do
    call(verb, ARGV[1], message)
  end
end
return answers
