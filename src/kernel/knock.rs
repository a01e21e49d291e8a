//! Counts whom a node leads new TCP connections to, without troubling the servers.
//!
//! Which endpoint a connection gets is decided when its first packet meets the node's rules; every
//! further packet follows that one. So only first packets are sent: a SYN from a raw socket, which
//! belongs to no connection of this machine. If a SYN/ACK comes back, the kernel, which has no socket for
//! it, breaks it off with a RST before the server's program hears of it. That the answer came is seen
//! here; whom the SYN was led to, and under which address, says the node's conntrack.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsRawFd,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use etherparse::{SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use futures::{StreamExt, stream};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, getsockname, recv, send,
    setsockopt, socket, sockopt::Ipv4RecvErr,
};
use tokio::{
    io::Interest,
    net::{TcpSocket, UdpSocket},
    runtime,
    time::timeout,
};

use super::{
    client::{failure, http, micros},
    conntrack::Conntrack,
    hop,
};
use crate::{
    error::{Context, Result},
    probe::order::{Answer, Failure, FailureKind, Try},
    proxy::flow::{Connection, Flow, Transport, Way},
};

/// How many are on their way at a time: a raw socket's queue holds the answers of about so many.
const AT_ONCE: usize = 128;
/// A connection that conntrack does not know of is replaced by another, but not for ever. An old one with the
/// same port may be in its place, of which the time runs out a moment after the SYN has passed.
const ROUNDS: usize = 3;
/// Answers are taken out after so many have been sent.
const IN_A_ROW: usize = 32;
/// What is lost is sent once more after this, as the kernel does.
const AGAIN: Duration = Duration::from_secs(1);
/// A server that remembers an older connection from the same port answers a SYN with an ACK of that one. This
/// kernel's RST makes it forget, and the SYN is sent once more after this, as the kernel does with its own.
const SOON: Duration = Duration::from_millis(8);
/// A refusal by ICMP does not say which connection is meant; after this, all that are left are.
const GRACE: Duration = Duration::from_millis(200);
/// How many whole requests are made at a time until everybody has answered one.
const WHOLE_AT_ONCE: usize = 6;
/// Source ports below those that the kernel gives to others (`net.ipv4.ip_local_port_range`), and below those
/// of Services.
const PORTS: std::ops::Range<u16> = 10_240..30_000;

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting<'a> {
    /// From where.
    pub(super) netns: &'a str,
    /// Whose conntrack knows.
    pub(super) node: &'a str,
    /// Whom connections ask.
    pub(super) to: SocketAddrV4,
    /// What whole requests ask for.
    pub(super) path: &'a str,
    /// How many.
    pub(super) times: usize,
    /// How long each may take.
    pub(super) limit: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Counted {
    /// For each connection whom it was led to, or how it failed.
    pub(super) tries: Vec<Try>,
    /// The whole requests.
    pub(super) whole: Vec<Try>,
}

/// Counts; fails only where that is impossible: without raw sockets, or without ctnetlink.
pub(super) async fn count(counting: Counting<'_>) -> Result<Counted> {
    let Counting { netns, node, to, times, limit, .. } = counting;
    let runtime = runtime::Handle::current();
    let table = hop::inside(node, move || Conntrack::open(&runtime)).await?;
    let door = hop::inside(netns, move || Door::open(to).context("cannot open a raw socket")).await?;
    let door = match door {
        Ok(door) => door,
        // What `connect` says (there is no route) is the end of every try.
        Err(error) => {
            let result = Err(failure(&error));
            return Ok(Counted { tries: vec![Try { result, micros: 0 }; times], whole: Vec::new() });
        }
    };
    let mut tries = Vec::with_capacity(times);
    let mut unknown = times;
    for _ in 0..ROUNDS {
        for ports in fresh_ports(std::mem::take(&mut unknown)).chunks(AT_ONCE) {
            let heard = door.knock(ports, limit).await;
            let looked = stream::iter(heard).map(|(port, heard)| look(&table, &door, port, heard));
            let looked: Vec<Result<Option<Try>>> = looked.buffered(AT_ONCE).collect().await;
            for it in looked {
                match it? {
                    Some(known) => tries.push(known),
                    None => unknown += 1,
                }
            }
        }
    }
    tries.resize(times, Try { result: Err(not_known(node)), micros: 0 });
    let whole = if tries.iter().all(|it| it.result.is_ok()) {
        whole(counting, &table, &door, &tries).await?
    } else {
        Vec::new()
    };
    Ok(Counted { tries, whole })
}

/// Ports that were used longest ago, by anybody in this program.
fn fresh_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let begin = NEXT.fetch_add(count, Ordering::Relaxed);
    (begin..begin + count).map(|nth| PORTS.start + (nth % PORTS.len()) as u16).collect()
}

/// Whom a connection was led to, or how it failed; `None` if conntrack does not know of it.
async fn look(table: &Conntrack, door: &Door, port: u16, heard: Heard) -> Result<Option<Try>> {
    let Heard { result, micros } = heard;
    if let Err(failure) = result {
        return Ok(Some(Try { result: Err(failure), micros }));
    }
    let known = table.find(Transport::Tcp, door.way(port)).await?;
    Ok(known.map(|Connection { flow: Flow { reply, .. }, .. }| {
        let answer = Answer {
            client: Some(reply.to.ip()),
            led_to: Some(reply.from),
            handshake_micros: Some(micros),
            ..Answer::default()
        };
        Try { result: Ok(answer), micros }
    }))
}

fn not_known(node: &str) -> Failure {
    Failure { kind: FailureKind::Other, text: format!("the conntrack of {node} does not know of it") }
}

/// Whole requests until everybody who was led to has answered one, or one of them fails; for chance, no
/// more than were counted.
async fn whole(counting: Counting<'_>, table: &Conntrack, door: &Door, tries: &[Try]) -> Result<Vec<Try>> {
    let Counting { netns, to, path, times, limit, .. } = counting;
    let led_to = |it: &Try| it.result.as_ref().ok().and_then(|answer| answer.led_to);
    let mut left: BTreeSet<SocketAddr> = tries.iter().filter_map(led_to).collect();
    let mut whole = Vec::new();
    while !left.is_empty() && whole.len() < times.max(WHOLE_AT_ONCE) {
        let open = || (0..WHOLE_AT_ONCE).map(|_| bound()).collect::<io::Result<Vec<_>>>();
        let sockets = hop::inside(netns, move || open().context("cannot open a socket")).await?;
        let requests = stream::iter(sockets).map(|(socket, port)| async move {
            let mut it = http(socket, to.into(), path, limit).await;
            if let Ok(answer) = &mut it.result {
                let known = table.find(Transport::Tcp, door.way(port)).await?;
                answer.led_to = known.map(|connection| connection.flow.reply.from);
                if answer.led_to.is_none() {
                    it.result = Err(not_known(counting.node));
                }
            }
            Ok(it)
        });
        let some: Vec<Result<Try>> = requests.buffer_unordered(WHOLE_AT_ONCE).collect().await;
        let some = some.into_iter().collect::<Result<Vec<Try>>>()?;
        for it in &some {
            match led_to(it) {
                Some(endpoint) => drop(left.remove(&endpoint)),
                None => left.clear(),
            }
        }
        whole.extend(some);
    }
    Ok(whole)
}

/// A socket that knows its port before it is connected.
fn bound() -> io::Result<(TcpSocket, u16)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// Whether a SYN was answered, and after which time.
#[derive(Debug)]
struct Heard {
    result: std::result::Result<(), Failure>,
    micros: u64,
}

/// A raw socket that hears from one machine only, and knows its own address towards it.
#[derive(Debug)]
struct Door {
    socket: UdpSocket,
    own: Ipv4Addr,
    to: SocketAddrV4,
}

impl Door {
    /// In the calling thread's namespace. The inner error is what the kernel says of the way.
    fn open(to: SocketAddrV4) -> io::Result<io::Result<Self>> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Tcp)?;
        // A connected socket is told of errors on the way, and of no other machine's packets.
        setsockopt(&fd, Ipv4RecvErr, &true)?;
        if let Err(errno) = connect(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0))) {
            return Ok(Err(errno.into()));
        }
        let own = getsockname::<SockaddrIn>(fd.as_raw_fd())?.ip();
        // The runtime takes it for one of UDP: of both it knows no more than that datagrams go in and out.
        Ok(Ok(Door { socket: UdpSocket::from_std(fd.into())?, own, to }))
    }

    /// A connection from here.
    fn way(&self, port: u16) -> Way {
        Way { from: SocketAddrV4::new(self.own, port).into(), to: self.to.into() }
    }

    /// Sends a SYN from each port, and waits for all answers, or until the time is up.
    async fn knock(&self, ports: &[u16], limit: Duration) -> BTreeMap<u16, Heard> {
        let began = Instant::now();
        let mut left: BTreeMap<u16, Instant> = BTreeMap::new();
        let mut heard = BTreeMap::new();
        let mut refusal = None;
        let mut waiting: Vec<u16> = ports.to_vec();
        while !waiting.is_empty() && refusal.is_none() && began.elapsed() < limit {
            let mut older: BTreeSet<u16> = BTreeSet::new();
            for ports in waiting.chunks(IN_A_ROW) {
                for port in ports {
                    left.entry(*port).or_insert_with(Instant::now);
                    if let Err(error) = self.send(*port).await {
                        refusal = Some(failure(&error));
                    }
                }
                while let Some(Ok(word)) = self.receive_now() {
                    older.extend(settle(word, &mut left, &mut heard));
                }
            }
            let again = Instant::now() + AGAIN.min(limit.saturating_sub(began.elapsed()));
            let mut until = if older.is_empty() { again } else { again.min(Instant::now() + SOON) };
            while !left.is_empty() {
                match timeout(until.saturating_duration_since(Instant::now()), self.receive()).await {
                    Ok(Ok(word)) => {
                        if let Some(port) = settle(word, &mut left, &mut heard) {
                            older.insert(port);
                            until = until.min(Instant::now() + SOON);
                        }
                    }
                    Ok(Err(error)) => {
                        refusal = Some(failure(&error));
                        until = again.min(Instant::now() + GRACE);
                    }
                    Err(_) => break,
                }
            }
            older.retain(|port| left.contains_key(port));
            waiting = if older.is_empty() { left.keys().copied().collect() } else { older.into_iter().collect() };
        }
        let text = || format!("no answer within {} ms", limit.as_millis());
        let refusal = refusal.unwrap_or_else(|| Failure { kind: FailureKind::Timeout, text: text() });
        let failed = |since: Instant| Heard { result: Err(refusal.clone()), micros: micros(since) };
        heard.extend(left.into_iter().map(|(port, since)| (port, failed(since))));
        heard
    }

    async fn send(&self, port: u16) -> io::Result<()> {
        let bytes = self.syn(port)?;
        let send = || send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(io::Error::from);
        match self.socket.async_io(Interest::WRITABLE, send).await {
            // A rule in OUTPUT has stopped it; what it says of that is the next error, if anything.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// The first packet of a connection.
    fn syn(&self, port: u16) -> io::Result<Vec<u8>> {
        const WINDOW: u16 = 64_240;
        const SEGMENT: u16 = 1460;
        let mut header = TcpHeader::new(port, self.to.port(), rand::random(), WINDOW);
        header.syn = true;
        header.set_options(&[TcpOptionElement::MaximumSegmentSize(SEGMENT)]).map_err(io::Error::other)?;
        let sum = header.calc_checksum_ipv4_raw(self.own.octets(), self.to.ip().octets(), &[]);
        header.checksum = sum.map_err(io::Error::other)?;
        Ok(header.to_bytes().to_vec())
    }

    async fn receive(&self) -> io::Result<Option<Word>> {
        self.socket.async_io(Interest::READABLE | Interest::ERROR, || self.read()).await
    }

    /// What is there already; `None` if nothing is.
    fn receive_now(&self) -> Option<io::Result<Option<Word>>> {
        match self.read() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            read => Some(read),
        }
    }

    fn read(&self) -> io::Result<Option<Word>> {
        let mut buffer = [0; 256];
        let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        Ok(word(self.to, &buffer[..length]))
    }
}

/// What comes back for a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// The port that it came from.
    port: u16,
    says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Somebody listens there.
    Listens,
    /// Nobody does.
    Refused,
    /// There was a connection from that port a moment ago.
    Older,
}

/// What an IPv4 packet says, if it is an answer to a SYN of ours.
fn word(to: SocketAddrV4, packet: &[u8]) -> Option<Word> {
    let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ip(packet).ok()?.transport else { return None };
    let is_answer = tcp.source_port() == to.port() && tcp.ack();
    let says = match (tcp.syn(), tcp.rst()) {
        (true, _) => Says::Listens,
        (false, true) => Says::Refused,
        (false, false) => Says::Older,
    };
    is_answer.then(|| Word { port: tcp.destination_port(), says })
}

/// Gives back the port if it has to be tried once more.
fn settle(word: Option<Word>, left: &mut BTreeMap<u16, Instant>, heard: &mut BTreeMap<u16, Heard>) -> Option<u16> {
    let Word { port, says } = word?;
    // What belongs to others, and what is said twice, is passed over.
    let since = *left.get(&port)?;
    let result = match says {
        Says::Listens => Ok(()),
        Says::Refused => Err(Failure { kind: FailureKind::Refused, text: "Connection refused".to_owned() }),
        Says::Older => return Some(port),
    };
    left.remove(&port);
    heard.insert(port, Heard { result, micros: micros(since) });
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 1, 100), 8080);

    /// An IPv4 packet from a Service to port 10240 of a pod.
    fn packet(from: u16, change: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
        let mut tcp = TcpHeader::new(from, 10_240, 7, 100);
        change(&mut tcp);
        let bytes = tcp.to_bytes();
        let (pod, service) = ([192, 168, 1, 10], TO.ip().octets());
        let length = u16::try_from(bytes.len()).unwrap();
        let ip = etherparse::Ipv4Header::new(length, 64, etherparse::IpNumber::TCP, service, pod).unwrap();
        [&ip.to_bytes()[..], &bytes[..]].concat()
    }

    #[test]
    fn answers_are_told_from_other_packets() {
        let accepts = |tcp: &mut TcpHeader| (tcp.syn, tcp.ack) = (true, true);
        let refuses = |tcp: &mut TcpHeader| (tcp.rst, tcp.ack) = (true, true);
        assert_eq!(word(TO, &packet(8080, accepts)), Some(Word { port: 10_240, says: Says::Listens }));
        assert_eq!(word(TO, &packet(8080, refuses)), Some(Word { port: 10_240, says: Says::Refused }));
        assert_eq!(word(TO, &packet(8081, accepts)), None, "from another port");
        assert_eq!(
            word(TO, &packet(8080, |tcp| tcp.ack = true)),
            Some(Word { port: 10_240, says: Says::Older }),
            "of a connection that was"
        );
        assert_eq!(word(TO, &packet(8080, |tcp| tcp.syn = true)), None, "a hairpin's own SYN");
        assert_eq!(word(TO, &packet(8080, accepts)[..30]), None, "cut off");
    }

    #[test]
    fn each_is_settled_once() {
        let (mut left, mut heard) = (BTreeMap::from([(1, Instant::now()), (2, Instant::now())]), BTreeMap::new());
        let mut hear = |port, says| settle(Some(Word { port, says }), &mut left, &mut heard);
        for (port, says, again) in [
            (1, Says::Older, Some(1)),
            (1, Says::Listens, None),
            (1, Says::Refused, None),
            (1, Says::Older, None),
            (3, Says::Listens, None),
            (3, Says::Older, None),
        ] {
            assert_eq!(hear(port, says), again, "{says:?} of {port}");
        }
        assert_eq!(settle(None, &mut left, &mut heard), None);
        assert_eq!(left.keys().copied().collect::<Vec<_>>(), [2]);
        assert!(heard.len() == 1 && heard[&1].result.is_ok());
    }
}
