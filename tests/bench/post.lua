-- Posts single mails, each to another address. Arguments: a Bearer token or "-", and "keys" to send
-- an Idempotency-Key with each.
local token, keys, run, sent = "-", false, tostring(os.time()), 0

function init(args)
  token = args[1] or "-"
  keys = args[2] == "keys"
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  if token ~= "-" then wrk.headers["Authorization"] = "Bearer " .. token end
end

function request()
  sent = sent + 1
  if keys then wrk.headers["Idempotency-Key"] = run .. "-" .. sent end
  return wrk.format(nil, "/v1/messages", nil, '{"messages":[{"subject":"Order ' .. sent ..
    '","content":"<p>Thank you for your order.</p>","emails":["ann' .. sent ..
    '@example.com"],"topic_id":"orders"}]}')
end
