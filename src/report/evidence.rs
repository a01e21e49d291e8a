//! The evidence of a failed probe as text: which probes it is kept of, what the folder is called, what
//! is in its files.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{Cause, ProbeReport, Report, ResultKind, table::telling};
use crate::{
    probe::{
        capture::{Captured, Packet},
        order::{Order, What},
        suite::Probe,
    },
    proxy::flow::{Connection, Way},
};

/// Evidence is kept of so many failed probes.
pub const MOST: usize = 12;
/// Of a way with more namespaces than this, the likeliest are listened in.
pub const MOST_PLACES: usize = 48;
/// A probe of many tries is tried so often while packets are taken down.
const TRIES: usize = 3;
/// And waits so long for an answer, in milliseconds.
const PATIENCE: u32 = 1000;
/// A folder's name is no longer.
const LONGEST: usize = 100;

/// The failed probes whose evidence is kept: those that the report tells in full, of as many causes
/// as possible.
pub fn chosen(report: &Report) -> Vec<&ProbeReport> {
    let failed: Vec<&ProbeReport> = report.probes.iter().filter(|it| it.result == ResultKind::Failed).collect();
    let of = |cause: &Cause| -> Vec<&ProbeReport> {
        telling(&failed.iter().filter(|it| cause.probes.contains(&it.id)).collect::<Vec<_>>())
    };
    let told: Vec<Vec<&ProbeReport>> = report.causes.iter().map(of).collect();
    let deepest = told.iter().map(Vec::len).max().unwrap_or_default();
    // The first of each cause, then the second of each.
    let in_turn = (0..deepest).flat_map(|depth| told.iter().filter_map(move |told| told.get(depth).copied()));
    let mut seen = BTreeSet::new();
    let mut chosen: Vec<&ProbeReport> = in_turn.filter(|it| seen.insert(&it.id)).take(MOST).collect();
    chosen.sort_by_key(|it| failed.iter().position(|other| other.id == it.id));
    chosen
}

/// `01-services_pod1a_cluster-ip_shop_8080`.
pub fn folder(number: usize, id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    let name: String = id.chars().map(plain).take(LONGEST).collect();
    format!("{number:02}-{name}")
}

/// A probe's first order, as it is tried once more: a few times only, and with little patience. What
/// is lost is seen at once.
pub fn order(probe: &Probe) -> Option<Order> {
    let mut order = probe.orders.first()?.clone();
    order.times = order.times.min(TRIES);
    order.what.hasten(PATIENCE);
    (order.until, order.counted_by) = (None, None);
    if let What::Errand(errand) = &mut order.what {
        errand.until = None;
    }
    Some(order)
}

/// Leaves out the TCP connections that did not begin in this capture: those of earlier tries, which
/// a server repeats its answer to.
pub fn own(mut captured: Captured) -> Captured {
    let tcp: Vec<Option<Segment>> = captured.packets.iter().map(|packet| segment(&packet.frame)).collect();
    let begun: BTreeSet<[SocketAddr; 2]> =
        tcp.iter().flatten().filter(|segment| segment.begins).map(|segment| segment.ends).collect();
    let mut stays = tcp.into_iter().map(|it| it.is_none_or(|segment| begun.contains(&segment.ends)));
    captured.packets.retain(|_| stays.next().unwrap_or(true));
    captured
}

struct Segment {
    /// The lower one first.
    ends: [SocketAddr; 2],
    /// It is a connection's first.
    begins: bool,
}

/// A frame as a TCP segment, if it is one.
fn segment(frame: &[u8]) -> Option<Segment> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return None };
    let (from, to): (IpAddr, IpAddr) = match sliced.net? {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => return None,
    };
    let mut ends = [SocketAddr::new(from, tcp.source_port()), SocketAddr::new(to, tcp.destination_port())];
    ends.sort();
    Some(Segment { ends, begins: tcp.syn() && !tcp.ack() })
}

/// The namespaces that a probe's packets may pass: where to listen, the likeliest if there are many.
pub fn places(probe: &Probe) -> Vec<String> {
    let mut hops: Vec<_> = probe.way.iter().collect();
    if hops.len() > MOST_PLACES {
        hops.sort_by(|a, b| b.chance.total_cmp(&a.chance));
        hops.truncate(MOST_PLACES);
    }
    hops.into_iter().map(|hop| hop.netns.clone()).collect()
}

/// What was expected, what happened, and on which interfaces packets were seen when it was tried
/// once more.
pub fn summary(report: &Report, probe: &ProbeReport, captured: &Captured) -> String {
    let mut out = format!("{}\n\n", probe.name);
    let rows = [
        ("id", &probe.id),
        ("expected", &probe.expected),
        ("happened", &probe.happened),
        ("why", &probe.why),
        ("by hand", &probe.command),
    ];
    for (what, text) in rows {
        out.push_str(&format!("{what:<10}{text}\n"));
    }
    for cause in report.causes.iter().filter(|cause| cause.probes.contains(&probe.id)) {
        out.push_str(&format!("{:<10}{}: {}\n", "cause", cause.netns, cause.text));
    }
    out.push_str("\nTried once more, while packets were taken down:\n");
    for tried in &captured.outcome.tries {
        let how = match &tried.result {
            Ok(answer) => match &answer.pod {
                Some(pod) => format!("{pod} answered"),
                None => "an answer".to_owned(),
            },
            Err(failure) => failure.text.clone(),
        };
        out.push_str(&format!("  after {} ms: {how}\n", tried.micros / 1000));
    }
    out.push_str("\nPackets in packets.pcapng, by interface, in the order in which they were first seen:\n");
    out.push_str(&seen(captured));
    for place in &captured.missing {
        out.push_str(&format!("  {place}: there is no such namespace any more\n"));
    }
    if captured.cut {
        out.push_str("  there were more packets than were kept\n");
    }
    out
}

fn seen(captured: &Captured) -> String {
    let mut by_interface: BTreeMap<usize, Vec<&Packet>> = BTreeMap::new();
    for packet in &captured.packets {
        by_interface.entry(packet.interface).or_default().push(packet);
    }
    if by_interface.is_empty() {
        return "  none: nothing was sent\n".to_owned();
    }
    let mut in_order: Vec<_> = by_interface.into_iter().collect();
    in_order.sort_by_key(|(_, packets)| packets[0].nanos);
    let begin = captured.packets[0].nanos;
    let line = |(index, packets): (usize, Vec<&Packet>)| {
        let interface = &captured.interfaces[index];
        let name = format!("{}/{}", interface.netns, interface.name);
        let out = packets.iter().filter(|packet| packet.outgoing).count();
        let first = (packets[0].nanos - begin) as f64 / 1e6;
        format!("  {name:<28} from {first:>9.3} ms  in {:>4}  out {out:>4}\n", packets.len() - out)
    };
    in_order.into_iter().map(line).collect()
}

/// Connections, a line each, as `conntrack -L` has them.
pub fn connections(connections: &[Connection]) -> String {
    let mut sorted: Vec<&Connection> = connections.iter().collect();
    sorted.sort_by_key(|it| (it.flow.transport, it.flow.original.to, it.flow.original.from, it.flow.reply));
    sorted.into_iter().map(|it| format!("{}\n", connection(it))).collect()
}

fn connection(it: &Connection) -> String {
    let way = |way: Way| {
        let ports = match (way.from.port(), way.to.port()) {
            (0, 0) => String::new(),
            (from, to) => format!(" sport={from} dport={to}"),
        };
        let ip = |end: SocketAddr| end.ip();
        format!("src={} dst={}{ports}", ip(way.from), ip(way.to))
    };
    let expires = it.expires.map_or_else(String::new, |seconds| format!("{seconds} "));
    let (unreplied, assured) =
        (if it.answered { "" } else { "[UNREPLIED] " }, if it.assured { " [ASSURED]" } else { "" });
    let state = it.tcp.map_or("", |state| state.as_str());
    let flow = it.flow;
    format!("{} {expires}{state} {} {unreplied}{}{assured}", flow.transport, way(flow.original), way(flow.reply))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probe::order::Outcome,
        proxy::flow::{Flow, TcpState, Transport},
    };

    #[test]
    fn folders_have_plain_names() {
        assert_eq!(folder(3, "services/pod1a/cluster-ip/shop:8080"), "03-services_pod1a_cluster-ip_shop_8080");
        assert_eq!(folder(12, "yours/../é\n"), "12-yours_..___");
        assert_eq!(folder(1, &"x".repeat(300)).len(), LONGEST + 3);
    }

    #[test]
    fn connections_that_began_before_are_left_out() {
        let frame = |from: u16, to: u16, syn: bool, ack: bool| {
            let mut bytes = vec![0; 12];
            bytes.extend([8, 0]);
            let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            if ack && syn {
                ip[12..].rotate_left(4);
            }
            bytes.extend(ip);
            bytes.extend(from.to_be_bytes());
            bytes.extend(to.to_be_bytes());
            bytes.extend([0; 8]);
            bytes.extend([0x50, u8::from(ack) << 4 | u8::from(syn) << 1, 0, 0, 0, 0, 0, 0]);
            bytes
        };
        let arp = [vec![0xff; 12], vec![8, 6], vec![0; 28]].concat();
        let frames = [
            frame(80, 40000, true, true),
            frame(40001, 80, true, false),
            frame(80, 40001, true, true),
            arp,
            frame(40000, 80, false, true),
        ];
        let packet = |(nanos, frame)| Packet { interface: 0, nanos, outgoing: false, frame };
        let captured = Captured {
            outcome: Outcome::new(0, Vec::new()),
            interfaces: Vec::new(),
            packets: (0..).zip(frames).map(packet).collect(),
            cut: false,
            missing: Vec::new(),
        };
        let left: Vec<u64> = own(captured).packets.iter().map(|packet| packet.nanos).collect();
        assert_eq!(left, [1, 2, 3]);
    }

    #[test]
    fn connections_read_as_conntrack_prints_them() {
        let end = |text: &str| text.parse().unwrap();
        let known = Connection {
            flow: Flow {
                transport: Transport::Tcp,
                original: Way { from: end("192.0.2.10:40000"), to: end("10.30.45.100:30080") },
                reply: Way { from: end("192.168.1.10:80"), to: end("10.30.45.100:40000") },
            },
            tcp: Some(TcpState::SynSent),
            answered: false,
            assured: false,
            expires: Some(117),
        };
        assert_eq!(
            connections(&[known]),
            "tcp 117 SYN_SENT src=192.0.2.10 dst=10.30.45.100 sport=40000 dport=30080 [UNREPLIED] src=192.168.1.10 \
             dst=10.30.45.100 sport=80 dport=40000\n"
        );
    }
}
