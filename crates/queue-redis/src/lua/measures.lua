-- Depth and waiting times.

-- Some lanes of the ring: all, if they are not too many.
local function lanes_in_ring()
  local members
  if redis.call('ZCARD', K.ring) <= LOOKED_AT then members = redis.call('ZRANGE', K.ring, 0, -1)
  else members = redis.call('ZRANDMEMBER', K.ring, LOOKED_AT)
  end
  local ids = {}
  for n, member in ipairs(members) do ids[n] = string.sub(member, -16) end
  return ids
end

-- The age of the oldest of the jobs that come first in these lanes: of each priority, or of all.
local function oldest_of(ids, counts, of_each)
  read_lanes(ids)
  local first, oldest = {}, nil
  for _, id in ipairs(ids) do
    if counts(lanes[id]) then
      for _, member in ipairs(first_ready(id, 1)) do first[#first + 1] = id_of(member) end
      if of_each then
        for _, member in ipairs(first_ready(id, 1, RETRY)) do first[#first + 1] = id_of(member) end
      end
    end
  end
  for _, packed in ipairs(values_of(K.jobs, first)) do
    local age = math.max(now - unpack_job(packed).at, 0)
    if not oldest or age > oldest then oldest = age end
  end
  return oldest and string.format('%.0f', oldest) or ''
end

local function is_closed(lane) return lane.holds > 0 or lane.paused > now end

-- Returns how many jobs are ready, scheduled, held and running, and the age of the oldest ready one (or '').
local function depth(keys, args)
  begin(keys, args)
  -- Some of the lanes that are shut. The rest holds as many jobs each.
  local shut = redis.call('ZREVRANGE', K.shut, 0, LOOKED_AT - 1)
  read_lanes(shut)
  local held = 0
  for _, id in ipairs(shut) do
    if is_closed(lanes[id]) then held = held + lanes[id].ready end
  end
  if #shut == LOOKED_AT then held = math.floor(held * redis.call('ZCARD', K.shut) / LOOKED_AT) end
  local ready = count('ready')
  held = math.min(held, ready)
  local ids = lanes_in_ring()
  for _, id in ipairs(redis.call('SRANDMEMBER', K.full, LOOKED_AT)) do ids[#ids + 1] = id end
  for _, id in ipairs(shut) do ids[#ids + 1] = id end
  local oldest = oldest_of(ids, function(lane) return not is_closed(lane) end, true)
  return { ready - held, count('scheduled'), held, redis.call('ZCARD', K.leases), oldest }
end

-- for how long a lane must not have been full. Returns the longest wait of a job that lacks a worker (or '').
local function longest_wait(keys, args)
  begin(keys, args)
  local calm = tonumber(args[3])
  local function counts(lane)
    return lane.ready > 0 and not is_closed(lane) and not lane.probing and lane.full_at <= now - calm
  end
  local ids = lanes_in_ring()
  for _, id in ipairs(redis.call('SRANDMEMBER', K.full, LOOKED_AT)) do ids[#ids + 1] = id end
  for _, id in ipairs(redis.call('ZRANGE', K.shut, 0, LOOKED_AT - 1)) do ids[#ids + 1] = id end
  return oldest_of(ids, counts, false)
end

-- Returns what tells these contents from others: the run of this Redis, and the marker that the store has set (or '').
local function identity(keys, args)
  begin(keys, args)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  return { run or '', redis.call('HGET', K.counts, 'marker') or '' }
end

-- marker
local function mark(keys, args)
  begin(keys, args)
  redis.call('HSET', K.counts, 'marker', args[3])
end
