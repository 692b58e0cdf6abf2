-- wrk sends the requests of a file, which are separated by NUL, and prints one line of JSON at the end.
-- Arguments: FILE once|cycle
local requests, at, once = {}, 0, false
local threads = {}
exhausted = 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local file = io.open(args[1], "rb")
  for each in file:read("*a"):gmatch("%Z+") do
    requests[#requests + 1] = each
  end
  file:close()
  once = args[2] == "once"
end

function request()
  at = at + 1
  if at > #requests then
    at = 1
    if once then exhausted = 1 end
  end
  return requests[at]
end

function done(summary, latency, _)
  local errors, used_up = summary.errors, 0
  for _, thread in ipairs(threads) do
    used_up = used_up + thread:get("exhausted")
  end
  io.write(string.format(
    'JSON {"requests": %d, "seconds": %f, "bytes": %d, "failures": %d, "p50": %f, "p99": %f, "exhausted": %d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, used_up))
end
