-- wrk sends the bodies of a file in turn by POST (zero bytes separate them), and prints its results as a line of JSON.
-- Use: wrk --threads 1 -s wrk.lua URL -- BODIES_FILE CONTENT_TYPE [codes]
-- With `codes` it counts answers by status, which costs a call of Lua for every answer.

local thread

function setup(each)
  thread = each
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.headers["Content-Type"] = args[2]
  local requests, last = {}, 0
  for body in file:read("*a"):gmatch("%Z+") do
    table.insert(requests, wrk.format(nil, nil, nil, body))
  end
  file:close()
  request = function()
    last = last % #requests + 1
    return requests[last]
  end
  codes = {}
  if args[3] == "codes" then
    response = function(status)
      codes[status] = (codes[status] or 0) + 1
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local counted = {}
  for status, count in pairs(thread:get("codes")) do
    table.insert(counted, string.format('"%d": %d', status, count))
  end
  io.write(string.format(
    '\n{"requests": %d, "duration": %d, "p50": %d, "p90": %d, "p95": %d, "p99": %d, "longest": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, "codes": {%s}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(95),
    latency:percentile(99), latency.max, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    table.concat(counted, ", ")))
end
