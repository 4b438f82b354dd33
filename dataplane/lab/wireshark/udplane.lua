-- What is in a datagram of the overlay: one bare IPv4 or IPv6 packet, as the first four bits say.
--
--     wireshark -X lua_script:udplane.lua FILE
--
-- Without Lua, for IPv4 in the tunnel: wireshark -d udp.port==8285,ip FILE

local PORT = 8285
local INNER = { [4] = "ip", [6] = "ipv6" }

local overlay = Proto("udplane", "udplane overlay (flannel udp)")

function overlay.dissector(buffer, pinfo, tree)
    if buffer:len() == 0 then
        return 0
    end
    local version = math.floor(buffer(0, 1):uint() / 16)
    local inner = INNER[version]
    if inner == nil then
        return 0
    end
    tree:add(overlay, buffer(), "udplane overlay: an IPv" .. version .. " packet of " .. buffer:len() .. " bytes")
    return Dissector.get(inner):call(buffer, pinfo, tree)
end

DissectorTable.get("udp.port"):add(PORT, overlay)
