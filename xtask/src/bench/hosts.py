# A network of Mininet's: Linux bridges, no controller, so many switches with so many hosts on each.
# What `cargo xtask bench` measures netlab against; run it in namespaces of its own.
#
#     hosts.py SWITCHES HOSTS
#
# It prints `started`, and ends the network.
import sys

from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import Topo

# Else it raises limits of the real host, which is neither wanted nor part of a start.
Mininet.inited = True
# A warning that does not matter: there are no rules that bridged packets could meet.
LinuxBridge.setup = classmethod(lambda cls: None)


class Grid(Topo):
    def build(self, switches, hosts):
        lan = self.addSwitch("lan0")
        for switch in range(switches):
            bridge = self.addSwitch(f"s{switch}") if switches > 1 else lan
            if bridge != lan:
                self.addLink(lan, bridge)
            for host in range(hosts):
                self.addLink(bridge, self.addHost(f"h{switch}x{host}"))


net = Mininet(topo=Grid(int(sys.argv[1]), int(sys.argv[2])), switch=LinuxBridge, controller=None)
net.start()
print("started", flush=True)
net.stop()
