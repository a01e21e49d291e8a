#!/usr/bin/env bash
# The nodeport lab as a person would script it: one `ip`, `sysctl` or `iptables` after the other,
# and python servers. What `cargo xtask bench` measures netlab against; run it in namespaces of
# its own, as it makes the lab's `host` out of the network namespace that it finds.
#
#     script.sh rules                       stop when the last rule is in
#     script.sh all PYTHON SERVER XTASK     go on, and end as soon as `XTASK ask` is answered
#
# PYTHON is the interpreter, SERVER the web server. It prints `rules`, and XTASK prints `answered`.
set -euo pipefail
mount -t tmpfs none /run
mkdir -p /run/netns
ip link set lo up

lan=10.30.45
vip=10.96.1.100
port=8080
node_port=30080
backends=(192.168.1.10 192.168.1.20 192.168.2.20)
declare -A address=([node1]=$lan.100 [node2]=$lan.200)
declare -A subnet=([node1]=192.168.1 [node2]=192.168.2)
declare -A other=([node1]=node2 [node2]=node1)
declare -A remote=([node1]="192.168.2.20" [node2]="192.168.1.10 192.168.1.20")

plug() { # NETNS INTO BRIDGE ADDRESS GATEWAY: a cable from a bridge into a namespace
  local netns=$1 into=$2 bridge=$3
  local at=(ip); [ "$into" = host ] || at=(ip -n "$into")
  "${at[@]}" link add "veth-$netns" type veth peer name eth0 netns "$netns"
  "${at[@]}" link set "veth-$netns" master "$bridge"
  [ "$into" = host ] || "${at[@]}" link set "veth-$netns" type bridge_slave hairpin on
  "${at[@]}" link set "veth-$netns" up
  ip -n "$netns" link set lo up
  ip -n "$netns" address add "$4" dev eth0
  ip -n "$netns" link set eth0 up
  ip -n "$netns" route add default via "$5"
}

share() { # NODE CHAIN ADDRESS PORT: one backend in three, then one in two, then the last
  local odds=(0.3333333333 0.5000000000 1) i
  for i in 0 1 2; do
    ip netns exec "$1" iptables -t nat -A "$2" -d "$3" -p tcp --dport "$4" \
      -m statistic --mode random --probability "${odds[$i]}" -j DNAT --to-destination "${backends[$i]}:80"
  done
}

ip link add lan0 type bridge
ip address add $lan.1/24 dev lan0
ip link set lan0 up
sysctl -qw net.ipv4.ip_forward=1
ip netns add laptop
ip link add net0 type bridge
ip address add 192.0.2.1/24 dev net0
ip link set net0 up
plug laptop host net0 192.0.2.10/24 192.0.2.1

for node in node1 node2; do
  ip netns add $node
  plug $node host lan0 ${address[$node]}/24 $lan.1
  ip -n $node link add br0 type bridge
  ip -n $node address add ${subnet[$node]}.1/24 dev br0
  ip -n $node link set br0 up
  ip netns exec $node sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1
done
for node in node1 node2; do
  ip -n $node route add ${subnet[${other[$node]}]}.0/24 via ${address[${other[$node]}]}
done
while read -r pod node ip; do
  ip netns add "$pod"
  plug "$pod" "$node" br0 "$ip/24" "${ip%.*}.1"
done <<'PODS'
pod1a node1 192.168.1.10
pod1b node1 192.168.1.20
pod2 node2 192.168.2.20
PODS

for node in node1 node2; do
  own=${subnet[$node]}.0/24
  share $node PREROUTING $vip $port
  share $node OUTPUT $vip $port
  share $node PREROUTING ${address[$node]} $node_port
  share $node OUTPUT 127.0.0.1 $node_port
  share $node OUTPUT ${address[$node]} $node_port
  ip netns exec $node iptables -t nat -A POSTROUTING -s "$own" ! -d 192.168.0.0/16 -j MASQUERADE
  for ip in ${remote[$node]}; do
    ip netns exec $node iptables -t nat -A POSTROUTING -s 127.0.0.1 -d "$ip" -p tcp --dport 80 -j SNAT --to-source ${address[$node]}
    ip netns exec $node iptables -t nat -A POSTROUTING -d "$ip" -p tcp --dport 80 -m conntrack --ctstate DNAT -j MASQUERADE
  done
  ip netns exec $node iptables -t nat -A POSTROUTING -d "$own" -m conntrack --ctstate DNAT -j MASQUERADE
done
echo rules
[ "$1" = all ] || exit 0

for pod in pod1a pod1b pod2; do
  ip netns exec $pod "$2" "$3" $pod 80 >/dev/null 2>&1 &
done
exec "$4" ask ${address[node1]}:$node_port
