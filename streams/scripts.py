"""The server-side scripts: each is one atomic step inside one partition's slot.

They use only commands that Redis 7.0 and Valkey 8 both have. Arguments are flat lists, since that
is what EVALSHA takes; `Script.run` in `streams.connection` loads a script where it is missing.
"""

from typing import Final

APPEND: Final = """
-- KEYS: stream, once-key for each event. ARGV: seconds to remember ids, then per event
-- the number of its fields-and-values and these. Returns the entry ids.
local out, arg = {}, 2
for i = 1, #KEYS, 2 do
  local n = tonumber(ARGV[arg])
  local at = redis.call('GET', KEYS[i + 1])
  if not at then
    at = redis.call('XADD', KEYS[i], '*', unpack(ARGV, arg + 1, arg + n))
    redis.call('SET', KEYS[i + 1], at, 'EX', ARGV[1])
  end
  out[#out + 1] = at
  arg = arg + 1 + n
end
return out
"""

_ENDS_AT: Final = """
-- Whether the last entry that a stream ever got is the one at this id.
local function ends_at(stream, id)
  if redis.call('EXISTS', stream) == 0 then return id == '0-0' end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] == id end
  end
end
"""

BEHIND: Final = "BEHIND"
"""How the error begins by which a script refuses what was decided on an outdated fold."""

SETTLE: Final = (
    _ENDS_AT
    + """
-- KEYS: source stream, lease and folded stream (any keys of the slot when ARGV[3] is empty),
-- target streams. ARGV: group, consumer, lease token or '', position up to which the owner has
-- folded the folded stream or '', number of entries; per entry: id, number of follow-ups; per
-- follow-up: index of its stream among the targets, number of fields, fields.
-- An entry is settled only if this consumer still owns it: follow-ups and ack, or nothing.
-- Returns 1 or 0 for each entry, then for each target the id of its last follow-up or ''.
local group, consumer, token, n = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local owned, answer = {}, {}
local held = token == '' or redis.call('GET', KEYS[2]) == token
if held and ARGV[4] ~= '' and not ends_at(KEYS[3], ARGV[4]) then
  return redis.error_reply('BEHIND ' .. KEYS[3] .. ' does not end at ' .. ARGV[4])
end
if held then
  local first, final, arg = nil, nil, 6
  for i = 1, n do
    local id = ARGV[arg]
    first = first or id
    final = id
    local follow = tonumber(ARGV[arg + 1])
    arg = arg + 2
    for j = 1, follow do arg = arg + 2 + tonumber(ARGV[arg + 1]) end
  end
  local mine = redis.call('XPENDING', KEYS[1], group, first, final, 100000, consumer)
  for _, row in ipairs(mine) do owned[row[1]] = true end
end
for target = 1, #KEYS - 3 do answer[n + target] = '' end
local acked, arg = {}, 6
for i = 1, n do
  local id, follow = ARGV[arg], tonumber(ARGV[arg + 1])
  local mine = owned[id]
  arg = arg + 2
  for j = 1, follow do
    local target, count = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
    if mine then
      answer[n + target] = redis.call(
        'XADD', KEYS[target + 3], '*', unpack(ARGV, arg + 2, arg + 1 + count))
    end
    arg = arg + 2 + count
  end
  if mine then acked[#acked + 1] = id end
  answer[i] = mine and 1 or 0
end
if #acked > 0 then redis.call('XACK', KEYS[1], group, unpack(acked)) end
return answer
"""
)

HOLD: Final = """
-- KEYS: stream. ARGV: group, consumer, '1' to count one more delivery or '0', ids ascending.
-- Resets the idle time of those entries that this consumer still owns; returns their ids.
local mine, held = {}, {}
local rows = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[4], ARGV[#ARGV], 100000, ARGV[2])
for _, row in ipairs(rows) do mine[row[1]] = true end
for i = 4, #ARGV do if mine[ARGV[i]] then held[#held + 1] = ARGV[i] end end
for first = 1, #held, 1000 do
  local command = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], '0'}
  for i = first, math.min(first + 999, #held) do command[#command + 1] = held[i] end
  if ARGV[3] == '0' then command[#command + 1] = 'JUSTID' end
  redis.call(unpack(command))
end
return held
"""

TAKE_IN: Final = """
-- KEYS: files known, dedupe key (or the files-known key again when ARGV[3] is empty), stream of
-- each event. ARGV: path, signature, file id or '', seconds to remember, then per event the
-- number of its fields and these. Returns {'known'}, {'duplicate', file id} or {'appended'}.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return {'known'} end
if ARGV[3] ~= '' then
  local original = redis.call('GET', KEYS[2])
  if original and original ~= ARGV[3] then return {'duplicate', original} end
  redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
end
local arg = 5
for i = 3, #KEYS do
  local n = tonumber(ARGV[arg])
  redis.call('XADD', KEYS[i], '*', unpack(ARGV, arg + 1, arg + n))
  arg = arg + 1 + n
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return {'appended'}
"""

LEASED_APPEND: Final = (
    _ENDS_AT
    + """
-- KEYS: lease, folded stream, stream of each event. ARGV: token, position up to which the owner
-- has folded the folded stream or '', then per event the number of its fields and these.
-- Returns the entry ids, or nil when the lease is somebody else's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return nil end
if ARGV[2] ~= '' and not ends_at(KEYS[2], ARGV[2]) then
  return redis.error_reply('BEHIND ' .. KEYS[2] .. ' does not end at ' .. ARGV[2])
end
local out, arg = {}, 3
for i = 3, #KEYS do
  local n = tonumber(ARGV[arg])
  out[#out + 1] = redis.call('XADD', KEYS[i], '*', unpack(ARGV, arg + 1, arg + n))
  arg = arg + 1 + n
end
return out
"""
)

RENEW: Final = """
-- KEYS: lease. ARGV: token, milliseconds (0 releases). Returns 1 if the lease is still ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) == 0 then redis.call('DEL', KEYS[1]) else
  redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""

HANDLED_UNTIL: Final = """
-- KEYS: stream. ARGV: group. Returns the milliseconds of the server's clock up to which the group
-- has handled everything: now, or when its oldest unhandled entry was recorded.
local now = redis.call('TIME')
local until_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local function unhandled(id)
  until_ms = math.min(until_ms, tonumber(string.match(id, '^%d+')))
end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
if pending[1] > 0 then unhandled(pending[2]) end
for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  if group['name'] == ARGV[1] then
    local after = '(' .. group['last-delivered-id']
    local new = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', '1')
    if new[1] then unhandled(new[1][1]) end
  end
end
return string.format('%.0f', until_ms)
"""
