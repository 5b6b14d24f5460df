-- Limits and pauses of lanes.

-- Among how many of its first jobs a lane that is no longer ordered looks for retries that are not due.
local UNORDERED_AT_ONCE = 1000

-- A job that an ordered lane retries is ready although it is not due, as the lane pauses instead.
local function unorder(lane)
  for _, member in ipairs(first_ready(lane.id, UNORDERED_AT_ONCE, FIRST_TRY)) do
    local id = id_of(member)
    local job = unpack_job(redis.call('HGET', K.jobs, id))
    if job.at > now then
      redis.call('ZREM', K.ready, member)
      lane.ready = lane.ready - 1
      add('ready', -1)
      schedule(lane, job, id, job.at)
    end
  end
end

-- What a lane owes to its old rate, it owes to the new one, as jobs and at most a burst.
local function set_limits(lane, limit, ordered, interval, burst)
  local owed = lane.next - now * 1000
  if owed <= 0 or lane.interval == 0 or interval == 0 then lane.next = 0
  else lane.next = now * 1000 + math.floor(interval * math.min(owed / lane.interval, burst))
  end
  local was_ordered = lane.ordered
  lane.limit, lane.ordered, lane.interval, lane.burst = limit, ordered, interval, burst
  if was_ordered and not ordered then
    if not lane.probing then lane.paused = 0 end
    unorder(lane)
  end
end

-- lane, owner, limit (0 for none), ordered, interval in microseconds (0 for none), burst
local function configure(keys, args)
  begin(keys, args)
  local lane = read_lane(args[3])
  own(lane, args[4])
  set_limits(lane, tonumber(args[5]), args[6] == '1', tonumber(args[7]), tonumber(args[8]))
  place(lane)
  commit(true)
end

-- lane, duration
local function pause(keys, args)
  begin(keys, args)
  local lane = read_lane(args[3])
  own(lane, '')
  lane.paused, lane.probing = now + tonumber(args[4]), true
  place(lane)
  commit(false)
end

-- lane
local function resume(keys, args)
  begin(keys, args)
  local lane = read_lane(args[3])
  own(lane, '')
  lane.paused, lane.probing = 0, false
  place(lane)
  commit(true)
end

local function change_holds(keys, args, first, held)
  begin(keys, args)
  local reason = tonumber(args[3])
  for n = first, #args do
    local lane = read_lane(args[n])
    own(lane, first > 4 and args[4] or '')
    if has(lane.holds, reason) ~= held then lane.holds = (lane.holds + (held and reason or ALL_HOLDS - reason)) % ALL_HOLDS end
    place(lane)
  end
  commit(true)
end

-- reason, owner, lanes
local function hold(keys, args) change_holds(keys, args, 5, true) end

-- reason, lanes
local function release(keys, args) change_holds(keys, args, 4, false) end

-- Makes lanes as described, whatever they were. For each: lane, owner, limit, ordered, interval, burst, how long it is paused,
-- whether it probes, whether it is held.
local function put(keys, args)
  begin(keys, args)
  for n = 3, #args, 9 do
    local lane = read_lane(args[n])
    own(lane, args[n + 1])
    set_limits(lane, tonumber(args[n + 2]), args[n + 3] == '1', tonumber(args[n + 4]), tonumber(args[n + 5]))
    local pause_for = tonumber(args[n + 6])
    lane.paused = pause_for > 0 and now + pause_for or 0
    lane.probing, lane.holds = args[n + 7] == '1', tonumber(args[n + 8])
    place(lane)
  end
  commit(true)
end

-- lane, maximum. Returns jobs that no worker has claimed: id, owner, packed job, whether it is due.
local function waiting(keys, args)
  begin(keys, args)
  local lane, most = read_lane(args[3]), tonumber(args[4])
  local ids, found = {}, {}
  for n, member in ipairs(first_ready(lane.id, most)) do ids[n] = id_of(member) end
  local ready = #ids
  if ready < most then
    local members = redis.call('ZRANGEBYLEX', K.later, '[' .. lane.id, '(' .. lane.id .. string.rep('\255', 17), 'LIMIT', 0, most - ready)
    for _, member in ipairs(members) do ids[#ids + 1] = string.sub(member, 17) end
  end
  for n, packed in ipairs(values_of(K.jobs, ids)) do
    found[#found + 1] = ids[n]
    found[#found + 1] = lane.owner or ''
    found[#found + 1] = packed
    found[#found + 1] = n <= ready and 1 or 0
  end
  return found
end

-- lane, jobs. Removes those that no worker has claimed. Returns how many it removed.
local function remove(keys, args)
  begin(keys, args)
  local lane, ids, gone = read_lane(args[3]), {}, {}
  for n = 4, #args do ids[#ids + 1] = args[n] end
  for n, packed in ipairs(values_of(K.jobs, ids)) do
    if packed then
      local job, id = unpack_job(packed), ids[n]
      if redis.call('ZREM', K.ready, ready_member(job, id)) == 1 then
        lane.ready = lane.ready - 1
        add('ready', -1)
        gone[#gone + 1] = id
      elseif redis.call('ZREM', K.due, id) == 1 then
        redis.call('ZREM', K.later, job.lane .. id)
        add('scheduled', -1)
        gone[#gone + 1] = id
      end
    end
  end
  in_parts('HDEL', K.jobs, gone)
  own(lane, '')
  place(lane)
  commit(false)
  return #gone
end
