-- Reads one token stream at one moment.
--
-- KEYS  1 state, 2 parts, 3 whole text (as in stream.lua)
-- ARGV  1 number of the record behind which the text is wanted; 0 = all of it. A compacted text is always whole.
--
-- Gives {generation, status, owner, seq, bytes, length, terminal, number of the record before the first part, parts,
-- whole text or "", whether there are parts, life that the text has left in ms}; {} when there is no such stream. Neither
-- parts nor text where bytes > 0: the text has expired.
local state, parts, whole = KEYS[1], KEYS[2], KEYS[3]
local there = redis.call('HMGET', state, 'generation', 'status', 'owner', 'seq', 'bytes', 'length', 'terminal')
if not there[1] then
  return {}
end
local behind = math.max(1, tonumber(ARGV[1]))
local in_parts = redis.call('EXISTS', parts)
return {there[1], there[2], there[3], tonumber(there[4]), tonumber(there[5]), tonumber(there[6]), there[7] or '',
  behind, redis.call('LRANGE', parts, behind - 1, -1), redis.call('GET', whole) or '', in_parts,
  redis.call('PTTL', in_parts == 1 and parts or whole)}
