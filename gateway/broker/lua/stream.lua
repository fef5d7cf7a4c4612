-- Every change to one token stream: opens, appends, ends, renews, cancels, compacts it. All or nothing.
--
-- KEYS  1 hash    state: generation, status, owner, seq (of the newest record), bytes, length (characters), lease_ms,
--                 alive_until (ms), text_ms, remember_ms, max_bytes, terminal (JSON), producer (that has adopted it),
--                 past (generations before this one, newest first)
--       2 list    the text in parts, one for each delta: the first part is record 2
--       3 string  the whole text, compacted, instead of the list
--       4 stream  log of the channel, 5 hash position of the channel (as in publish.lua): its epoch is the generation,
--                 its offset the number of the record
--       6 zset    key -> when somebody has to look after it (ms), for all streams. As a Redis channel: generations that
--                 were ended by somebody else than their producer
-- ARGV  1 operation, 2 key of the stream, 3 Redis channel of its publications, 4 generation; then
--         open     5 owner, 6 lease in ms, 7 life of the text in ms, 8 time in ms for which is remembered that there was
--                  a stream, 9 bytes of text at most, 10 mode: "new" (not while another generation lives), "once" (nor
--                  when one has finished whose text is there), "replace" (ends that which lives), "restore" (only when
--                  Redis has lost the stream), "adopt" (one that is registered and has no producer yet; the lives are
--                  the producer's, the owner stays), 11 with "adopt": id of the producer, so that it may ask again, and
--                  another may not
--         append   5 number of the first text's record, 6… texts
--         end      5 status, 6 JSON object of what else the terminal record says, 7 number of the newest record
--         renew
--         cancel   5 user who wants it, or "" for a backend; generation "" = whichever there is
--         lose     ends a stream whose lease is over
--         compact  5 the whole text, encoded
--
-- Gives {outcome, status, seq, more}. Outcomes: ok (more, by operation: owner that was adopted, terminal, workers that
-- listen) · gone (there is no such stream) · superseded (more = generation that there is; one that was replaced never comes
-- back) · active (the same) · ended (more = terminal) · gap (records behind seq are missing) · full (more = bytes that are
-- left) · denied. The source runs as a script (EVALSHA) and as the function `gw_stream` (FCALL).
local state, parts, whole, log, meta, due = unpack(KEYS)
local operation, key, channel, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local sharded = string.find(channel, '{', 1, true)
local tell = sharded and 'SPUBLISH' or 'PUBLISH'
local CHUNK_BYTES = 65536
local EXTRA_BYTES = 65536
local TOTAL_BYTES = 8388608
local RECORDS = 100000
local LOGGED = 512
local COMPACTED_AFTER_MS = 5000
local PAST = 8

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function refuse(why)
  error('ERR ' .. why, 0)
end

local function whole_number(value, least, most, name)
  local number = tonumber(value)
  if not number or number ~= math.floor(number) or number < least or number > most then
    refuse(name .. ' must be a whole number from ' .. least .. ' to ' .. string.format('%d', most))
  end
  return number
end

local function text_of(number)
  return string.format('%d', number)
end

local names = {'generation', 'status', 'owner', 'seq', 'bytes', 'length', 'lease_ms', 'alive_until', 'text_ms',
  'remember_ms', 'max_bytes', 'terminal', 'producer', 'past'}
local there = {}
for index, value in ipairs(redis.call('HMGET', state, unpack(names))) do
  there[names[index]] = value
end
for _, name in ipairs({'seq', 'bytes', 'length', 'lease_ms', 'alive_until', 'text_ms', 'remember_ms', 'max_bytes'}) do
  there[name] = tonumber(there[name] or 0)
end

local function answer(outcome, more)
  return {outcome, there.status or '', there.seq, more or ''}
end

-- UTF-8 without overlong forms and surrogates (RFC 3629): the clients' parsers must not be the first to look.
local function is_utf8(text)
  if not string.find(text, '[\128-\255]') then
    return true
  end
  text = string.gsub(text, '[\194-\223][\128-\191]', ' ')
  text = string.gsub(text, '\224[\160-\191][\128-\191]', ' ')
  text = string.gsub(text, '\237[\128-\159][\128-\191]', ' ')
  text = string.gsub(text, '[\225-\236\238\239][\128-\191][\128-\191]', ' ')
  text = string.gsub(text, '\240[\144-\191][\128-\191][\128-\191]', ' ')
  text = string.gsub(text, '[\241-\243][\128-\191][\128-\191][\128-\191]', ' ')
  text = string.gsub(text, '\244[\128-\143][\128-\191][\128-\191]', ' ')
  return not string.find(text, '[\128-\255]')
end

local function characters(text)
  local _, following = string.gsub(text, '[\128-\191]', '')
  return #text - following
end

-- The channel stands where the stream does, unless somebody else has published there, or Redis has lost one of them.
local function check_position()
  local position = redis.call('HMGET', meta, 'epoch', 'offset')
  if position[1] ~= generation or tonumber(position[2]) ~= there.seq then
    redis.call('DEL', log, meta)
  end
end

local function publish(record)
  local number = text_of(there.seq)
  redis.call('XADD', log, 'MAXLEN', LOGGED, number .. '-0', 'm', '-', 'd', record)
  redis.call('HSET', meta, 'epoch', generation, 'offset', number)
  return redis.call(tell, channel, '@1 ' .. number .. ' ' .. generation .. ' -\n' .. record)
end

local function live_on()
  there.alive_until = now + there.lease_ms
  redis.call('HSET', state, 'alive_until', text_of(there.alive_until))
  redis.call('ZADD', due, text_of(there.alive_until), key)
  for _, each in ipairs({parts, log}) do
    redis.call('PEXPIRE', each, text_of(there.text_ms + there.lease_ms))
  end
  for _, each in ipairs({state, meta}) do
    redis.call('PEXPIRE', each, text_of(there.remember_ms))
  end
end

local function finish(status, extra, by_producer)
  check_position()
  there.seq = there.seq + 1
  there.status = status
  local more = string.match(extra, '^%s*{%s*(.-)%s*}%s*$')
  there.terminal = '{"type":"' .. status .. '","generation":"' .. generation .. '","seq":' .. text_of(there.seq)
    .. ',"length":' .. text_of(there.length) .. (more ~= '' and ',' .. more or '') .. '}'
  publish(there.terminal)
  redis.call('HSET', state, 'status', status, 'seq', text_of(there.seq), 'terminal', there.terminal)
  redis.call('ZADD', due, text_of(now + COMPACTED_AFTER_MS), key)
  for _, each in ipairs({parts, log}) do
    redis.call('PEXPIRE', each, text_of(there.text_ms))
  end
  for _, each in ipairs({state, meta}) do
    redis.call('PEXPIRE', each, text_of(there.remember_ms))
  end
  if not by_producer then
    redis.call(tell, due, generation)
  end
end

local function check_extra(extra)
  extra = string.gsub(extra, '[\r\n]', ' ')
  if #extra > EXTRA_BYTES or not is_utf8(extra) then
    refuse('the fields of a terminal record must be UTF-8, ' .. EXTRA_BYTES .. ' bytes at most')
  end
  local good, fields = pcall(cjson.decode, extra)
  if not good or type(fields) ~= 'table' or not string.match(extra, '^%s*{') then
    refuse('the fields of a terminal record must be a JSON object')
  end
  for _, name in ipairs({'type', 'generation', 'seq', 'length'}) do
    if fields[name] ~= nil then
      refuse('the field ' .. name .. ' of a terminal record is not yours')
    end
  end
  return extra
end

local function in_past(wanted)
  return string.find(' ' .. (there.past or '') .. ' ', ' ' .. wanted .. ' ', 1, true) ~= nil
end

local function newest_past(generations)
  local kept = {}
  for each in string.gmatch(generations, '%S+') do
    if #kept < PAST then
      kept[#kept + 1] = each
    end
  end
  return table.concat(kept, ' ')
end

-- One producer takes over what was registered for it. Two of them would number their records alike, and mix.
local function adopt(lease_ms, text_ms, remember_ms, max_bytes)
  local producer = ARGV[11] or ''
  if not string.match(producer, '^[%w_-]+$') or #producer > 64 then
    refuse('the id of a producer is 1 to 64 letters, digits, _ and -')
  end
  if there.seq > 1 or (there.producer and there.producer ~= producer) then
    return answer('active', generation)
  end
  there.lease_ms, there.text_ms, there.remember_ms = lease_ms, text_ms, remember_ms
  redis.call('HSET', state, 'producer', producer, 'lease_ms', text_of(lease_ms), 'text_ms', text_of(text_ms),
    'remember_ms', text_of(remember_ms), 'max_bytes', text_of(max_bytes))
  live_on()
  return answer('ok', there.owner)
end

local function open()
  if not string.match(generation, '^[%w_-]+$') or #generation > 64 or generation == '-' then
    refuse('a generation is 1 to 64 letters, digits, _ and -')
  end
  local lease_ms = whole_number(ARGV[6], 100, 3600000, 'the lease')
  local text_ms = whole_number(ARGV[7], 1000, 31536000000, 'the life of the text')
  local remember_ms = whole_number(ARGV[8], text_ms + lease_ms, 63072000000, 'the time to remember')
  local max_bytes = whole_number(ARGV[9], 1, TOTAL_BYTES, 'the size')
  local mode = ARGV[10]
  if #ARGV[5] > 1024 or not is_utf8(ARGV[5]) then
    refuse('an owner is UTF-8, 1024 bytes at most')
  end
  if there.generation == generation then
    if there.status ~= 'active' then
      return answer('ended', there.terminal)
    end
    return mode == 'adopt' and adopt(lease_ms, text_ms, remember_ms, max_bytes) or answer('ok')
  elseif mode == 'adopt' and not there.generation then
    return answer('gone')
  elseif mode == 'adopt' or in_past(generation) then
    return answer('superseded', there.generation)
  end
  local past = ''
  if there.generation then
    local alive = there.status == 'active' and there.alive_until > now
    if mode == 'restore' then
      return answer('superseded', there.generation)
    elseif alive and mode ~= 'replace' then
      return answer('active', there.generation)
    elseif mode == 'once' and there.status == 'finished'
      and (there.bytes == 0 or redis.call('EXISTS', parts) == 1 or redis.call('STRLEN', whole) > 0) then
      return answer('ended', there.terminal)
    elseif there.status == 'active' then
      local wanted = generation
      generation = there.generation
      finish('failed', alive and '{"code":"superseded","message":"a new answer was begun"}'
        or '{"code":"producer_lost","message":"the producer is gone"}', false)
      generation = wanted
    end
    past = newest_past(there.generation .. ' ' .. (there.past or ''))
  end
  redis.call('DEL', state, parts, whole, log, meta)
  there = {generation = generation, status = 'active', seq = 1, bytes = 0, length = 0, lease_ms = lease_ms,
    text_ms = text_ms, remember_ms = remember_ms, max_bytes = max_bytes}
  redis.call('HSET', state, 'generation', generation, 'status', 'active', 'owner', ARGV[5], 'seq', '1', 'bytes', '0',
    'length', '0', 'lease_ms', text_of(lease_ms), 'text_ms', text_of(text_ms), 'remember_ms', text_of(remember_ms),
    'max_bytes', text_of(max_bytes), 'opened_ms', text_of(now), 'past', past)
  publish('{"type":"opened","generation":"' .. generation .. '","seq":1}')
  live_on()
  return answer('ok')
end

local function append()
  local first = whole_number(ARGV[5], 2, 9007199254740992, 'the number of a record')
  if first > there.seq + 1 then
    return answer('gap')
  end
  local start = 6 + there.seq + 1 - first -- what is in front of it is known already
  local bytes = 0
  for index = start, #ARGV do
    local text = ARGV[index]
    if text == '' or #text > CHUNK_BYTES or not is_utf8(text) then
      refuse('a text must be UTF-8 of 1 to ' .. CHUNK_BYTES .. ' bytes')
    end
    bytes = bytes + #text
  end
  if there.bytes + bytes > there.max_bytes or there.seq + #ARGV - start + 1 > RECORDS then
    return answer('full', there.seq >= RECORDS - 1 and 0 or there.max_bytes - there.bytes)
  end
  local watchers = 0
  if start <= #ARGV then
    check_position()
    for index = start, #ARGV do
      local text = ARGV[index]
      there.seq = there.seq + 1
      there.length = there.length + characters(text)
      redis.call('RPUSH', parts, text)
      watchers = publish('{"type":"delta","seq":' .. text_of(there.seq) .. ',"text":' .. cjson.encode(text) .. '}')
    end
    there.bytes = there.bytes + bytes
    redis.call('HSET', state, 'seq', text_of(there.seq), 'bytes', text_of(there.bytes), 'length', text_of(there.length))
  else
    watchers = redis.call('PUBSUB', sharded and 'SHARDNUMSUB' or 'NUMSUB', channel)[2]
  end
  live_on()
  return answer('ok', watchers)
end

if operation == 'open' then
  return open()
end
if not there.generation then
  return answer('gone')
end
if generation == '' and operation == 'cancel' then
  generation = there.generation
end
if there.generation ~= generation then
  return answer('superseded', there.generation)
end
if operation == 'cancel' and ARGV[5] ~= '' and ARGV[5] ~= there.owner then
  return answer('denied')
end
if operation == 'compact' then
  if there.status == 'active' then
    return answer('active', generation)
  end
  if redis.call('EXISTS', parts) == 1 then
    redis.call('SET', whole, ARGV[5], 'PX', text_of(math.max(1, redis.call('PTTL', parts))))
    redis.call('DEL', parts)
    redis.call('XTRIM', log, 'MAXLEN', 64)
  end
  redis.call('ZREM', due, key)
  return answer('ok')
end
if there.status ~= 'active' then
  return answer('ended', there.terminal)
end

if operation == 'append' then
  return append()
elseif operation == 'renew' then
  live_on()
  return answer('ok', redis.call('PUBSUB', sharded and 'SHARDNUMSUB' or 'NUMSUB', channel)[2])
elseif operation == 'end' then
  local status = ARGV[5]
  if status ~= 'finished' and status ~= 'failed' and status ~= 'cancelled' and status ~= 'truncated' then
    refuse('a stream ends finished, failed, cancelled or truncated')
  end
  local extra = check_extra(ARGV[6])
  if whole_number(ARGV[7], 1, 9007199254740992, 'the number of a record') ~= there.seq then
    return answer('gap')
  end
  finish(status, extra, true)
  return answer('ok', there.terminal)
elseif operation == 'cancel' then
  finish('cancelled', '{}', false)
  return answer('ok', there.terminal)
elseif operation == 'lose' then
  if there.alive_until > now then
    redis.call('ZADD', due, text_of(there.alive_until), key)
    return answer('active', generation)
  end
  finish('failed', '{"code":"producer_lost","message":"the producer is gone"}', false)
  return answer('ok', there.terminal)
end
return redis.error_reply('ERR unknown operation')
