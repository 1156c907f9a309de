"""What happens to the log inside the server, atomically.

Positions are handed around as two numbers, milliseconds and sequence, because Lua's numbers are
doubles. The next id is above the log's last one, above what the caller knows of, and not before the
server's time: positions never go back, even when its clock does, or when a replica that lagged has
become the primary.

A log that does not exist, or whose name holds something else, is begun with a marker: a row that
voids everything captured before it. Without one, entries that outlived their log (another shard
held them) would be current although what invalidated them is gone.
"""

from routecache_middleware.coordinators.redis.link import Script

__all__ = ["APPEND", "APPEND_AT", "RECOVER"]

_SHARED = """
local SEQUENCES = 1048576

local function last(log)
  local rows = redis.pcall('XREVRANGE', log, '+', '-', 'COUNT', 1)
  if rows.err and not string.find(rows.err, 'WRONGTYPE') then error(rows.err) end
  if rows.err or #rows == 0 then
    redis.call('DEL', log)
    return 0, 0, false
  end
  local ms, seq = string.match(rows[1][1], '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq), true
end

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function following(ms, seq, floor_ms, floor_seq, count)
  if floor_ms > ms or (floor_ms == ms and floor_seq > seq) then
    ms, seq = floor_ms, floor_seq
  end
  local now = now_ms()
  if now > ms then return now, 0 end
  if seq + 1 + count > SEQUENCES then return ms + 1, 0 end
  return ms, seq + 1
end

local function id_of(ms, seq)
  return string.format('%.0f-%.0f', ms, seq)
end

local function add(log, id, row, voids_all)
  if voids_all == '1' then
    return redis.call('XADD', log, id, 'r', row, 'm', '1')
  end
  return redis.call('XADD', log, id, 'r', row)
end

local function keep(log, keep_ms, life_ms)
  local cutoff = now_ms() - keep_ms
  if cutoff > 0 then
    -- The newest of the old rows stays: who has read nothing since stands on it.
    local old = redis.call('XREVRANGE', log, id_of(cutoff, 0), '-', 'COUNT', 1)
    if #old > 0 then redis.call('XTRIM', log, 'MINID', old[1][1]) end
  end
  redis.call('PEXPIRE', log, life_ms)
end
"""

APPEND = Script(
    _SHARED
    + """
-- KEYS: log. ARGV: keep_ms, life_ms, marker, floor_ms, floor_seq, then (row, voids_all) per row.
local log = KEYS[1]
local ms, seq, exists = last(log)
local floor_ms, floor_seq = tonumber(ARGV[4]), tonumber(ARGV[5])
local rows = (#ARGV - 5) / 2
ms, seq = following(ms, seq, floor_ms, floor_seq, rows + 1)
if not exists then
  add(log, id_of(ms, seq), ARGV[3], '1')
  seq = seq + 1
end
local id
for row = 0, rows - 1 do
  id = add(log, id_of(ms, seq + row), ARGV[6 + 2 * row], ARGV[7 + 2 * row])
end
keep(log, tonumber(ARGV[1]), ARGV[2])
return id
"""
)
"""Appends rows at consecutive positions; returns the id of the last one."""

APPEND_AT = Script(
    _SHARED
    + """
-- KEYS: log. ARGV: keep_ms, life_ms, first_ms, first_seq, then (id, row, voids_all) per row.
local log = KEYS[1]
local ms, seq, exists = last(log)
local first_ms, first_seq = tonumber(ARGV[3]), tonumber(ARGV[4])
if exists and (ms > first_ms or (ms == first_ms and seq >= first_seq)) then return false end
local id
for at = 5, #ARGV, 3 do
  id = add(log, ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
keep(log, tonumber(ARGV[1]), ARGV[2])
return id
"""
)
"""Appends rows at positions of the caller's, if the log ends before them; returns the last id."""

RECOVER = Script(
    _SHARED
    + """
-- KEYS: log. ARGV: keep_ms, life_ms, marker, known_ms, known_seq.
local log = KEYS[1]
local ms, seq, exists = last(log)
local known_ms, known_seq = tonumber(ARGV[4]), tonumber(ARGV[5])
if known_ms == 0 and known_seq == 0 then
  if exists then return 0 end
else
  local known = id_of(known_ms, known_seq)
  if #redis.call('XRANGE', log, known, known) > 0 then return 0 end
  -- A log that begins later was trimmed up to there, or begins with a marker.
  if exists and #redis.call('XRANGE', log, '-', known, 'COUNT', 1) == 0 then return 1 end
  for _, row in ipairs(redis.call('XRANGE', log, '(' .. known, '+')) do
    if row[2][3] == 'm' then return 1 end
  end
end
ms, seq = following(ms, seq, known_ms, known_seq, 1)
add(log, id_of(ms, seq), ARGV[3], '1')
keep(log, tonumber(ARGV[1]), ARGV[2])
return 2
"""
)
"""Makes sure that a log that lacks a known row voids everything captured before it was lost.

Returns 0: the row is there after all; 1: nothing needs to be done, because a marker comes later or
the row got too old; 2: a marker was appended.
"""
