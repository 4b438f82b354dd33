#!/bin/sh
# laptop_host.sh COMMAND ...: run a command in this network namespace after it got what laptops have: Docker's sysctls,
# bridge and rules, another CNI's bridge, somebody's firewall. What the kernel lacks is left out.
set -eu

try() {
    "$@" 2>/dev/null || echo "laptop_host.sh: left out: $*" >&2
}

for name in net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables net/bridge/bridge-nf-call-ip6tables; do
    [ ! -e "/proc/sys/$name" ] || try sh -c "echo 1 >/proc/sys/$name"
done
for name in docker0:172.17.0.1/16 cni0:10.85.0.1/16 virbr0:192.168.122.1/24; do
    try ip link add "${name%%:*}" type bridge
    try ip address add "${name#*:}" dev "${name%%:*}"
    try ip link set "${name%%:*}" up
done
try ip link add wlan0 type veth peer name access-point
try ip address add 192.168.178.23/24 dev wlan0
try ip link set access-point up
try ip link set wlan0 up
try ip route add default via 192.168.178.1

try iptables-restore <<'RULES'
*nat
:PREROUTING ACCEPT
:POSTROUTING ACCEPT
:OUTPUT ACCEPT
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
:DOCKER-USER -
:DOCKER-ISOLATION-STAGE-1 -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
RULES
try nft -f - <<'RULES'
table inet firewall {
    set trusted { type ipv4_addr; flags interval; elements = { 192.168.178.0/24, 127.0.0.0/8 } }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname "lo" accept
        ip saddr @trusted accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
    }
}
table netdev empty {
}
RULES
try nft -f - <<'RULES'
table bridge foreign {
    chain forward {
        type filter hook forward priority 0; policy accept;
    }
}
RULES
exec "$@"
