-- A queue of jobs in lanes: the state of one partition, whose keys share a hash tag. Every function declares all of them, in
-- this order:
--
-- | jobs   | HASH | job id -> packed job                                                                         |
-- | lanes  | HASH | lane id -> packed lane; a lane that is idle and has default settings has none               |
-- | ready  | ZSET | by lex: lane, priority, place, job id; the jobs that are due                                |
-- | leases | ZSET | lease token, job id; the score is when the lease expires                                    |
-- | ring   | ZSET | by lex: owner, NUL, turn, lane; the lanes from which a claim may take jobs                  |
-- | owners | ZSET | owners of lanes in the ring; the score is their turn                                        |
-- | shut   | ZSET | lanes with ready jobs that are paused, held or over their rate; the score is when they open |
-- | full   | SET  | lanes with ready jobs and as many running ones as they allow                                |
-- | due    | ZSET | jobs that are not due yet; the score is when they are                                       |
-- | later  | ZSET | by lex: lane, job id; the same jobs by their lanes                                          |
-- | counts | HASH | the last place and turn, how many jobs are ready and scheduled, the default concurrency     |
--
-- Times are milliseconds since 1970 by the clock of Redis, plus a shift with which tests move it. Rates count microseconds.

-- Later than any time.
local FOREVER = 1e15
-- How many lanes a call looks at for each purpose.
local LOOKED_AT = 1000
-- How many arguments one command gets.
local AT_ONCE = 2000

local FIRST_TRY, RETRY = 0, 1

local K, now, channel
-- The lanes that this call has read, the owners whose lanes have left the ring, and whether a lane has come into it.
local lanes, left_by, rung
-- How many jobs of a lane without a limit of its own run at once: what the last claim said.
local default_limit

local function begin(keys, args)
  K = {
    jobs = keys[1], lanes = keys[2], ready = keys[3], leases = keys[4], ring = keys[5], owners = keys[6],
    shut = keys[7], full = keys[8], due = keys[9], later = keys[10], counts = keys[11],
  }
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(args[1])
  channel = args[2]
  lanes, left_by, rung, default_limit = {}, {}, false, nil
end

-- Calls a command with a list of arguments, some at a time.
local function in_parts(command, key, list)
  for from = 1, #list, AT_ONCE do
    redis.call(command, key, unpack(list, from, math.min(#list, from + AT_ONCE - 1)))
  end
end

-- The values of fields of a hash, in their order.
local function values_of(key, fields)
  local values = {}
  for from = 1, #fields, AT_ONCE do
    local part = redis.call('HMGET', key, unpack(fields, from, math.min(#fields, from + AT_ONCE - 1)))
    for n = 1, #part do values[from + n - 1] = part[n] end
  end
  return values
end

local function count(name) return tonumber(redis.call('HGET', K.counts, name) or 0) end

local function add(name, number)
  if number ~= 0 then return redis.call('HINCRBY', K.counts, name, number) end
end

-- Jobs -----------------------------------------------------------------------------------------------------------------

-- The owner is left out if it is the lane's.
local function pack_job(job)
  return struct.pack('>c16c16ddI4I4BI2', job.lane, job.subject, job.place, job.at, job.claims, job.rescues, job.priority, #job.owner)
    .. job.owner .. job.trace
end

local function unpack_job(packed)
  local job, length, next = {}
  job.lane, job.subject, job.place, job.at, job.claims, job.rescues, job.priority, length, next =
    struct.unpack('>c16c16ddI4I4BI2', packed)
  job.owner = string.sub(packed, next, next + length - 1)
  job.trace = string.sub(packed, next + length)
  return job
end

local function ready_member(job, id)
  return job.lane .. string.char(job.priority) .. struct.pack('>d', job.place) .. id
end

-- The ready jobs of a lane, first tries before retries, or those of one priority.
local function first_ready(lane, most, priority)
  local from, to = priority or FIRST_TRY, (priority or RETRY) + 1
  return redis.call('ZRANGEBYLEX', K.ready, '[' .. lane .. string.char(from), '(' .. lane .. string.char(to), 'LIMIT', 0, most)
end

local function id_of(member) return string.sub(member, 26) end

-- Lanes ----------------------------------------------------------------------------------------------------------------

local LANE = '>BI4dI4dI4dc1ddI4'
local ORDERED, PROBING, HOLDS = 1, 2, 4
-- Reasons to hold a lane, in any combination.
local ALL_HOLDS = 8

local function has(flags, flag) return math.floor(flags / flag) % 2 == 1 end

local function parse_lane(id, packed)
  local lane = { id = id, packed = packed }
  if packed then
    local flags, owner
    flags, lane.limit, lane.interval, lane.burst, lane.next, lane.running, lane.paused, lane.where, lane.turn, lane.full_at, lane.ready, owner =
      struct.unpack(LANE, packed)
    lane.ordered, lane.probing, lane.holds = has(flags, ORDERED), has(flags, PROBING), math.floor(flags / HOLDS)
    lane.owner = string.sub(packed, owner)
  else
    lane.limit, lane.interval, lane.burst, lane.next, lane.running, lane.paused, lane.turn, lane.full_at, lane.ready =
      0, 0, 0, 0, 0, 0, 0, 0, 0
    lane.ordered, lane.probing, lane.holds, lane.where = false, false, 0, ' '
  end
  lanes[id] = lane
  return lane
end

local function read_lanes(ids)
  local missing = {}
  for _, id in ipairs(ids) do
    if lanes[id] == nil then
      missing[#missing + 1] = id
      lanes[id] = false
    end
  end
  for n, packed in ipairs(values_of(K.lanes, missing)) do parse_lane(missing[n], packed) end
end

local function read_lane(id) return lanes[id] or parse_lane(id, redis.call('HGET', K.lanes, id)) end

local function is_idle(lane)
  return lane.running == 0 and lane.ready == 0 and lane.limit == 0 and lane.interval == 0 and lane.paused == 0
    and not lane.ordered and not lane.probing and lane.holds == 0
end

local function allowed(lane)
  if lane.ordered or lane.probing then return 1 end
  if lane.limit > 0 then return lane.limit end
  default_limit = default_limit or math.max(count('concurrency'), 1)
  return default_limit
end

-- How many jobs the lane's rate allows now.
local function allowed_by_rate(lane)
  if lane.interval == 0 then return FOREVER end
  local micros = now * 1000
  return math.floor((micros + lane.burst * lane.interval - math.max(lane.next, micros)) / lane.interval)
end

-- When the lane opens, or opened.
local function opens_at(lane)
  if lane.holds > 0 then return FOREVER end
  if lane.interval == 0 then return lane.paused end
  return math.max(lane.paused, math.ceil((lane.next - (lane.burst - 1) * lane.interval) / 1000))
end

local function ring_member(lane) return lane.owner .. '\0' .. struct.pack('>d', lane.turn) .. lane.id end

local function next_turn() return redis.call('HINCRBY', K.counts, 'turn', 1) end

-- Takes a lane out of wherever it is.
local function take_out(lane)
  if lane.where == 'r' then
    redis.call('ZREM', K.ring, ring_member(lane))
    left_by[lane.owner] = true
  elseif lane.where == 's' then redis.call('ZREM', K.shut, lane.id)
  elseif lane.where == 'f' then redis.call('SREM', K.full, lane.id)
  end
  lane.where = ' '
end

-- Puts a lane where its state says: into the ring behind all others, if a claim may take its jobs.
local function place(lane)
  local to = ' '
  local opens = opens_at(lane)
  if lane.ready > 0 then
    if opens > now then to = 's'
    elseif lane.running >= allowed(lane) then to = 'f'
    else to = 'r'
    end
  end
  if to ~= lane.where then take_out(lane) elseif to ~= 's' then return end
  lane.where = to
  if to == 's' then redis.call('ZADD', K.shut, opens, lane.id)
  elseif to == 'f' then redis.call('SADD', K.full, lane.id)
  elseif to == 'r' then
    lane.turn = next_turn()
    redis.call('ZADD', K.ring, 0, ring_member(lane))
    redis.call('ZADD', K.owners, 'NX', lane.turn, lane.owner)
    rung = true
  end
end

-- Writes what the call has changed, and wakes workers if a lane has come into the ring and `wakes`.
local function commit(wakes)
  for owner in pairs(left_by) do
    if #redis.call('ZRANGEBYLEX', K.ring, '[' .. owner .. '\0', '(' .. owner .. '\1', 'LIMIT', 0, 1) == 0 then
      redis.call('ZREM', K.owners, owner)
    end
  end
  local set, gone = {}, {}
  for id, lane in pairs(lanes) do
    if not lane then -- Named, but not read.
    elseif is_idle(lane) then
      if lane.packed then gone[#gone + 1] = id end
    else
      local flags = (lane.ordered and ORDERED or 0) + (lane.probing and PROBING or 0) + lane.holds * HOLDS
      local packed = struct.pack(LANE, flags, lane.limit, lane.interval, lane.burst, lane.next, lane.running, lane.paused,
        lane.where, lane.turn, lane.full_at, lane.ready) .. lane.owner
      if packed ~= lane.packed then
        set[#set + 1] = id
        set[#set + 1] = packed
      end
    end
  end
  in_parts('HSET', K.lanes, set)
  in_parts('HDEL', K.lanes, gone)
  if rung and wakes then redis.call('PUBLISH', channel, '') end
end

-- Makes a job ready that has its place in the lane.
local function make_ready(lane, job, id)
  redis.call('HSET', K.jobs, id, pack_job(job))
  redis.call('ZADD', K.ready, 0, ready_member(job, id))
  lane.ready = lane.ready + 1
  add('ready', 1)
end

-- The lane may be idle until then, and forgotten, so the job names its owner.
local function schedule(lane, job, id, at)
  job.at = at
  if job.owner == '' then job.owner = lane.owner end
  redis.call('HSET', K.jobs, id, pack_job(job))
  redis.call('ZADD', K.due, at, id)
  redis.call('ZADD', K.later, 0, job.lane .. id)
  add('scheduled', 1)
end

-- Names a lane's owner, unless it has one.
local function own(lane, owner) if (lane.owner or '') == '' then lane.owner = owner end end
