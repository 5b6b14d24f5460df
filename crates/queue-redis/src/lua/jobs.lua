-- Jobs come in, are claimed, and end.

-- Enqueues jobs, apart from those that are there, and perhaps from those of ordered lanes. For each: id, lane, owner, subject,
-- delay, trace. Returns how many were enqueued, and the jobs of ordered lanes that were left out.
local function take_in(keys, args, leaves_ordered)
  begin(keys, args)
  local ids, at = {}, {}
  for n = 3, #args, 6 do
    if not at[args[n]] then
      at[args[n]] = n
      ids[#ids + 1] = args[n]
    end
  end
  local new, of = {}, {}
  for n, known in ipairs(values_of(K.jobs, ids)) do
    if not known then
      new[#new + 1] = ids[n]
      of[#of + 1] = args[at[ids[n]] + 1]
    end
  end
  if #new == 0 then return 0, {} end
  read_lanes(of)
  local left_out = {}
  if leaves_ordered then
    local others = {}
    for n, id in ipairs(new) do
      local list = lanes[of[n]].ordered and left_out or others
      list[#list + 1] = id
    end
    new = others
    if #new == 0 then return 0, left_out end
  end
  local place_before = redis.call('HINCRBY', K.counts, 'place', #new) - #new
  local jobs, ready, due, later, open = {}, {}, {}, {}, {}
  for n, id in ipairs(new) do
    local first = at[id]
    local lane, delay = lanes[args[first + 1]], tonumber(args[first + 4])
    own(lane, args[first + 2])
    local owner = delay == 0 and lane.owner == args[first + 2] and '' or args[first + 2]
    local job = {
      lane = lane.id, owner = owner, subject = args[first + 3], place = place_before + n, at = now + delay,
      claims = 0, rescues = 0, priority = FIRST_TRY, trace = args[first + 5],
    }
    jobs[#jobs + 1] = id
    jobs[#jobs + 1] = pack_job(job)
    if delay > 0 then
      due[#due + 1] = job.at
      due[#due + 1] = id
      later[#later + 1] = 0
      later[#later + 1] = lane.id .. id
    else
      ready[#ready + 1] = 0
      ready[#ready + 1] = ready_member(job, id)
      lane.ready = lane.ready + 1
      open[#open + 1] = lane
    end
  end
  in_parts('HSET', K.jobs, jobs)
  in_parts('ZADD', K.ready, ready)
  in_parts('ZADD', K.due, due)
  in_parts('ZADD', K.later, later)
  add('ready', #ready / 2)
  add('scheduled', #due / 2)
  for _, lane in ipairs(open) do place(lane) end
  commit(true)
  return #new, left_out
end

local function offer(keys, args)
  local new = take_in(keys, args, false)
  return new
end

local function offer_unordered(keys, args)
  local _, left_out = take_in(keys, args, true)
  return left_out
end

-- More lanes of an owner in the ring, in turn. Those that turn out to be closed leave it.
local function look_for_lanes(owner, most, skip, seen)
  local members = redis.call('ZRANGEBYLEX', K.ring, owner.from, '(' .. owner.name .. '\1', 'LIMIT', 0, most)
  owner.has_more = #members == most
  if #members == 0 then return end
  owner.from = '(' .. members[#members]
  local ids = {}
  for n, member in ipairs(members) do ids[n] = string.sub(member, -16) end
  read_lanes(ids)
  for _, id in ipairs(ids) do
    if skip[id] then seen.skipped = seen.skipped + 1
    else
      local lane = lanes[id]
      seen.lanes = seen.lanes + 1
      lane.room = math.min(lane.ready, allowed(lane) - lane.running, allowed_by_rate(lane))
      lane.take = 0
      if lane.room > 0 and opens_at(lane) <= now then owner.lanes[#owner.lanes + 1] = lane else place(lane) end
    end
  end
end

-- The owner's next lane that has room for one more job. All of them get one before any of them gets another.
local function next_lane(owner, most, skip, seen)
  while true do
    local lane = owner.lanes[owner.at]
    if lane then
      owner.at = owner.at + 1
      if lane.take < lane.room then return lane end
    elseif owner.has_more and seen.lanes < LOOKED_AT then
      look_for_lanes(owner, most, skip, seen)
    else
      local open = {}
      for _, one in ipairs(owner.lanes) do
        if one.take < one.room then open[#open + 1] = one end
      end
      if #open == 0 then return nil end
      owner.lanes, owner.at = open, 1
    end
  end
end

-- token, maximum, lease, default concurrency, how many lanes to skip, these, and the owners to skip. Returns whether there
-- is more, how many lanes are full, in how many milliseconds one opens (or ''), and the jobs: id, owner, packed job.
local function claim(keys, args)
  begin(keys, args)
  local token, max, lease = args[3], tonumber(args[4]), tonumber(args[5])
  if count('concurrency') ~= tonumber(args[6]) then redis.call('HSET', K.counts, 'concurrency', args[6]) end
  local skip, skip_owner, skipped_owners = {}, {}, 0
  for n = 8, 7 + tonumber(args[7]) do skip[args[n]] = true end
  for n = 8 + tonumber(args[7]), #args do
    skip_owner[args[n]] = true
    skipped_owners = skipped_owners + 1
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.shut, '-inf', now, 'LIMIT', 0, LOOKED_AT)) do place(read_lane(id)) end

  local owners = {}
  local names = redis.call('ZRANGE', K.owners, 0, max + skipped_owners - 1)
  for _, name in ipairs(names) do
    if not skip_owner[name] and #owners < max then
      owners[#owners + 1] = { name = name, from = '[' .. name .. '\0', has_more = true, lanes = {}, at = 1 }
    end
  end
  local at_once = #owners > 0 and math.ceil(max / #owners) + tonumber(args[7]) or 0
  local seen = { lanes = 0, skipped = 0 }
  local turns, left, waiting = {}, max, owners
  while left > 0 and #waiting > 0 do
    local again = {}
    for _, owner in ipairs(waiting) do
      local lane = left > 0 and next_lane(owner, at_once, skip, seen)
      if lane then
        lane.take = lane.take + 1
        left = left - 1
        turns[#turns + 1] = lane
        owner.served = true
        again[#again + 1] = owner
      end
    end
    waiting = again
  end

  local taken, gone, leases, served = {}, {}, {}, {}
  for _, lane in ipairs(turns) do
    if not lane.ids then
      lane.ids, lane.given = {}, 0
      for n, member in ipairs(first_ready(lane.id, lane.take)) do
        gone[#gone + 1] = member
        lane.ids[n] = id_of(member)
      end
      served[#served + 1] = lane
    end
    lane.given = lane.given + 1
    local id = lane.ids[lane.given]
    if id then
      taken[#taken + 1] = id
      leases[#leases + 1] = now + lease
      leases[#leases + 1] = token .. id
    end
  end
  in_parts('ZREM', K.ready, gone)
  in_parts('ZADD', K.leases, leases)
  add('ready', -#taken)
  for _, lane in ipairs(served) do
    local jobs = #lane.ids
    lane.ready, lane.running = lane.ready - jobs, lane.running + jobs
    if lane.interval > 0 then lane.next = math.max(lane.next, now * 1000) + jobs * lane.interval end
    if lane.running >= allowed(lane) or opens_at(lane) > now then lane.full_at = now end
    take_out(lane)
    place(lane)
  end
  for _, owner in ipairs(owners) do
    if owner.served then redis.call('ZADD', K.owners, 'XX', next_turn(), owner.name) end
  end

  local jobs = {}
  for n, packed in ipairs(values_of(K.jobs, taken)) do
    -- The owner of the lane, which a job names only if its own is another one.
    jobs[#jobs + 1] = taken[n]
    jobs[#jobs + 1] = lanes[string.sub(packed, 1, 16)].owner
    jobs[#jobs + 1] = packed
  end
  commit(false)
  local opens = redis.call('ZRANGE', K.shut, 0, 0, 'WITHSCORES')[2]
  opens = opens and tonumber(opens) < FOREVER and string.format('%.0f', math.max(tonumber(opens) - now, 0)) or ''
  local stopped = left == 0 or seen.lanes >= LOOKED_AT or #names == max + skipped_owners
  local more = stopped and redis.call('ZCARD', K.ring) > seen.skipped
  return { more and 1 or 0, redis.call('SCARD', K.full), opens, jobs }
end

-- Ends a claim on a job that comes back.
local function come_back(lane, id, packed, finish)
  local job = unpack_job(packed)
  job.claims = job.claims + 1
  if finish == 'r' then
    job.at = now
    return make_ready(lane, job, id)
  end
  local delay = tonumber(finish)
  if lane.ordered then
    -- The job keeps its place, and the lane waits for it.
    if delay > 0 then lane.paused = math.max(lane.paused, now + delay) end
    job.at = now + delay
    return make_ready(lane, job, id)
  end
  job.priority, job.at = RETRY, now
  if delay > 0 then schedule(lane, job, id, now + delay) else make_ready(lane, job, id) end
end

-- For each: token, job, and what becomes of it: 'd' (it is removed), 'r' (released), or in how many milliseconds it is
-- retried. Returns the jobs whose leases were valid.
local function finish(keys, args)
  begin(keys, args)
  local was_empty = redis.call('ZCARD', K.ring) == 0
  local held, ends = {}, {}
  for n = 3, #args, 3 do
    if redis.call('ZREM', K.leases, args[n] .. args[n + 1]) == 1 then
      held[#held + 1] = args[n + 1]
      ends[#ends + 1] = args[n + 2]
    end
  end
  local packed, ids, gone = values_of(K.jobs, held), {}, {}
  for n = 1, #held do ids[n] = string.sub(packed[n], 1, 16) end
  read_lanes(ids)
  for n, id in ipairs(held) do
    local lane = lanes[ids[n]]
    lane.running = lane.running - 1
    if ends[n] == 'd' then gone[#gone + 1] = id else come_back(lane, id, packed[n], ends[n]) end
  end
  in_parts('HDEL', K.jobs, gone)
  for _, lane in pairs(lanes) do place(lane) end
  -- The worker that finishes jobs claims the next ones; others are needed only if they found nothing.
  commit(was_empty)
  return held
end

-- lease, and for each: token, job. Returns the jobs whose leases were valid.
local function extend(keys, args)
  begin(keys, args)
  local held = {}
  for n = 4, #args, 2 do
    local member = args[n] .. args[n + 1]
    if redis.call('ZSCORE', K.leases, member) then
      redis.call('ZADD', K.leases, 'XX', now + tonumber(args[3]), member)
      held[#held + 1] = args[n + 1]
    end
  end
  return held
end

-- maximum. Returns how many jobs have become ready, and in how many milliseconds the next one is due (or '').
local function promote(keys, args)
  begin(keys, args)
  local due = redis.call('ZRANGEBYSCORE', K.due, '-inf', now, 'LIMIT', 0, tonumber(args[3]))
  if #due > 0 then
    local jobs, of, ready, later = {}, {}, {}, {}
    for n, packed in ipairs(values_of(K.jobs, due)) do
      jobs[n] = unpack_job(packed)
      of[n] = jobs[n].lane
    end
    read_lanes(of)
    for n, job in ipairs(jobs) do
      ready[#ready + 1] = 0
      ready[#ready + 1] = ready_member(job, due[n])
      later[n] = job.lane .. due[n]
      own(lanes[job.lane], job.owner)
      lanes[job.lane].ready = lanes[job.lane].ready + 1
    end
    in_parts('ZADD', K.ready, ready)
    in_parts('ZREM', K.due, due)
    in_parts('ZREM', K.later, later)
    add('ready', #due)
    add('scheduled', -#due)
    for _, lane in pairs(lanes) do place(lane) end
    commit(true)
  end
  local next_one = redis.call('ZRANGE', K.due, 0, 0, 'WITHSCORES')[2]
  return { #due, next_one and string.format('%.0f', math.max(tonumber(next_one) - now, 0)) or '' }
end

-- maximum, maximum of rescues, token, lease. Returns how many jobs are ready again, and the exhausted ones: id, owner,
-- packed job.
local function rescue(keys, args)
  begin(keys, args)
  local most, token, lease = tonumber(args[4]), args[5], tonumber(args[6])
  local expired = redis.call('ZRANGEBYSCORE', K.leases, '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, tonumber(args[3]))
  local ids, returned, exhausted = {}, 0, {}
  for n, member in ipairs(expired) do ids[n] = string.sub(member, 17) end
  in_parts('ZREM', K.leases, expired)
  for n, packed in ipairs(values_of(K.jobs, ids)) do
    local job = unpack_job(packed)
    local lane = read_lane(job.lane)
    if job.rescues >= most then
      redis.call('ZADD', K.leases, now + lease, token .. ids[n])
      exhausted[#exhausted + 1] = ids[n]
      exhausted[#exhausted + 1] = lane.owner
      exhausted[#exhausted + 1] = packed
    else
      job.rescues, job.claims, job.at = job.rescues + 1, job.claims + 1, now
      lane.running = lane.running - 1
      make_ready(lane, job, ids[n])
      returned = returned + 1
    end
  end
  for _, lane in pairs(lanes) do place(lane) end
  commit(true)
  return { returned, exhausted }
end
