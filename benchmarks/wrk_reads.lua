-- What `wrk` asks: the given paths in turn, each connection once in `delay()` milliseconds.
-- Ends with one line of JSON; times are in milliseconds.

local paths, next_path = {}, 0

function init(given)
   for index, path in ipairs(given) do
      paths[index] = path
   end
end

function delay()
   return 100
end

function request()
   next_path = next_path % #paths + 1
   return wrk.format("GET", paths[next_path])
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"reads": %d, "failed": %d, "p50_ms": %.1f, "p95_ms": %.1f, "p99_ms": %.1f}\n',
      summary.requests,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50) / 1000,
      latency:percentile(95) / 1000,
      latency:percentile(99) / 1000))
end
