-- A script for wrk: every request goes to a route and carries a key, both drawn at random.
-- Arguments: path, routes, consumers, seed.
local hosts, keys = {}, {}

function init(args)
	local path, routes, consumers = args[1], tonumber(args[2]), tonumber(args[3])
	math.randomseed(tonumber(args[4]))
	for i = 1, routes do
		hosts[i] = string.format("GET %s HTTP/1.1\r\nHost: h%d.bench.test\r\nX-API-Key: ", path, i - 1)
	end
	for i = 1, consumers do
		keys[i] = string.format("Load%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0\r\n\r\n", i - 1)
	end
end

local random = math.random

function request()
	return hosts[random(#hosts)] .. keys[random(#keys)]
end
