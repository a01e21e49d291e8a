//! SCTP without an SCTP of the kernel's: a server that speaks the first two packets of it, and no more, over a raw
//! socket. For nodes and their rules there is no difference.

use super::{BARE, Setting};

/// It answers an INIT for port 80 by an INIT ACK, whose cookie says who answers, and whom it sees.
macro_rules! server {
    () => {
        r#"
import socket, struct
def crc(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff
server = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
while True:
    packet, (client, _) = server.recvfrom(65536)
    data = packet[(packet[0] & 15) * 4:]
    source, port, _, _, chunk, _, _, tag = struct.unpack('!HHIIBBHI', data[:20])
    if (port, chunk) != (80, 1):
        continue
    text = f'{socket.gethostname()} {client}'.encode()
    cookie = struct.pack('!HH', 7, 4 + len(text)) + text + bytes(-len(text) % 4)
    answer = struct.pack('!BBHIIHHI', 2, 0, 20 + len(cookie), 1, 65536, 1, 1, 1) + cookie
    head = struct.pack('!HHI', 80, source, tag)
    sum = struct.pack('<I', crc(head + bytes(4) + answer))
    server.sendto(head + sum + answer, (client, 0))
"#
    };
}

/// A pod that runs it.
macro_rules! pod {
    ($name:literal, $ip:literal) => {
        concat!(
            "\n[[pod]]\nname = \"",
            $name,
            "\"\nip = \"",
            $ip,
            "\"\nlabels = { app = \"web\" }\nports = [{ container_port = 80, protocol = \"SCTP\" }]\n",
            "command = [\"python3\", \"-c\", '''",
            server!(),
            "''']\n",
        )
    };
}

/// A Service over SCTP.
pub(in crate::conformance) static SCTP: Setting = Setting {
    name: "sctp",
    file: two_nodes!(
        pod!("b1", "10.244.1.10"),
        pod!("b2a", "10.244.2.10"),
        pod!("b2b", "10.244.2.11"),
        r#"
[[service]]
name = "web"
type = "LoadBalancer"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
load_balancer_ips = ["203.0.113.1"]
ports = [{ port = 53, target_port = 80, protocol = "SCTP", node_port = 30080 }]
"#,
    ),
    ..BARE
};

/// One that keeps to the node, and one without endpoints.
pub(in crate::conformance) static SCTP_NEAR: Setting = Setting {
    name: "sctp-near",
    file: two_nodes!(
        pod!("b1", "10.244.1.10"),
        r#"
[[service]]
name = "near"
type = "NodePort"
cluster_ip = "10.96.1.1"
selector = { app = "web" }
external_traffic_policy = "Local"
session_affinity = "ClientIP"
ports = [{ port = 53, target_port = 80, protocol = "SCTP", node_port = 30080 }]

[[service]]
name = "empty"
cluster_ip = "10.96.1.2"
endpoints = []
ports = [{ port = 53, protocol = "SCTP" }]
"#,
    ),
    ..BARE
};
