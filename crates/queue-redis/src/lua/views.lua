-- What people see: workers, and lanes in which jobs wait.

-- How long a worker is known that has not checked in again.
local FORGOTTEN_AFTER = 60000
-- How many workers are known.
local MOST_WORKERS = 1000

-- worker, host, version, jobs in flight, for how long it counts as running. Returns whether another one that runs started
-- earlier.
local function check_in(keys, args)
  begin(keys, args)
  local is_later = false
  local known = redis.call('HGETALL', K.workers)
  local started = now
  for n = 1, #known, 2 do
    local worker = cjson.decode(known[n + 1])
    if known[n] == args[3] then started = worker.started
    elseif worker.seen < now - FORGOTTEN_AFTER then redis.call('HDEL', K.workers, known[n])
    elseif worker.lapses >= now and known[n] < args[3] then is_later = true
    end
  end
  if #known / 2 < MOST_WORKERS or redis.call('HEXISTS', K.workers, args[3]) == 1 then
    redis.call('HSET', K.workers, args[3], cjson.encode {
      host = args[4], version = args[5], in_flight = tonumber(args[6]), started = started, seen = now,
      lapses = now + tonumber(args[7]),
    })
  end
  return is_later and 1 or 0
end

-- worker
local function check_out(keys, args)
  begin(keys, args)
  redis.call('HDEL', K.workers, args[3])
end

-- Returns for each worker: id, host, version, when it started and was last seen, jobs in flight, whether it is silent.
local function workers(keys, args)
  begin(keys, args)
  local known, found = redis.call('HGETALL', K.workers), {}
  for n = 1, #known, 2 do
    local worker = cjson.decode(known[n + 1])
    if worker.seen >= now - FORGOTTEN_AFTER then
      found[#found + 1] = known[n]
      found[#found + 1] = worker.host
      found[#found + 1] = worker.version
      found[#found + 1] = string.format('%.0f', worker.started)
      found[#found + 1] = string.format('%.0f', worker.seen)
      found[#found + 1] = worker.in_flight
      found[#found + 1] = worker.lapses < now and 1 or 0
    end
  end
  return found
end

-- lane, maximum. Returns the next lanes after that one in which jobs wait: id, owner, limit, whether it is ordered, interval,
-- burst, how many jobs wait, are not due and run, the age of the oldest, holds, for how long it is paused, whether it probes.
local function list(keys, args)
  begin(keys, args)
  local found, after, most = {}, args[3], tonumber(args[4])
  for _ = 1, most do
    -- Behind all members of the lane, whose next byte is a priority.
    local member = redis.call('ZRANGEBYLEX', K.ready, '(' .. after .. '\255', '+', 'LIMIT', 0, 1)[1]
    if not member then break end
    after = string.sub(member, 1, 16)
    local lane = read_lane(after)
    local first = {}
    for _, one in ipairs(first_ready(after, 1)) do first[#first + 1] = id_of(one) end
    for _, one in ipairs(first_ready(after, 1, RETRY)) do first[#first + 1] = id_of(one) end
    local oldest = 0
    for _, packed in ipairs(values_of(K.jobs, first)) do oldest = math.max(oldest, now - unpack_job(packed).at) end
    for _, value in ipairs {
      after, lane.owner, lane.limit, lane.ordered and 1 or 0, string.format('%.0f', lane.interval), lane.burst, lane.ready,
      redis.call('ZLEXCOUNT', K.later, '[' .. after, '(' .. after .. string.rep('\255', 17)), lane.running,
      string.format('%.0f', oldest), lane.holds, string.format('%.0f', math.max(lane.paused - now, 0)), lane.probing and 1 or 0,
    } do found[#found + 1] = value end
  end
  return found
end
