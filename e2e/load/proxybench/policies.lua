-- The policies of the nginx + Lua contender, as cheap as they can be written: an API key looked up by its HMAC, a group,
-- and a counter for each consumer and minute. Called with the file of consumers: lines "HMAC-in-hex name group".
local pepper = "bench-pepper"
local limit, window = 1000000000, 60

local consumers, members = {}, {}
for line in io.lines((...)) do
	local hex, name, group = line:match("^(%x+) (%S+) (%S+)$")
	local digest = hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
	members[group] = members[group] or { [group] = true }
	consumers[digest] = { name = name, groups = members[group] }
end

local hmac, exit = ngx.hmac_sha1, ngx.exit
local counters = ngx.shared.counters

local function access()
	local key = ngx.var.http_x_api_key
	if not key then
		return exit(401)
	end
	local consumer = consumers[hmac(pepper, key)]
	if not consumer then
		return exit(401)
	end
	if not consumer.groups.gold then
		return exit(403)
	end
	local n, err = counters:incr(consumer.name, 1, 0, window)
	if not n then
		ngx.log(ngx.ERR, "count: ", err)
		return exit(500)
	end
	if n > limit then
		return exit(429)
	end
end

return { access = access }
