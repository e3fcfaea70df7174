-- Posts the lines of a file, one after the other, as SNS would. Argument: the file.
local lines, at = {}, 0

function init(args)
  for line in io.lines(args[1]) do lines[#lines + 1] = line end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "text/plain; charset=UTF-8"
end

function request()
  at = at % #lines + 1
  return wrk.format(nil, "/v1/events/results", nil, lines[at])
end
