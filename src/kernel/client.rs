//! Tries what an [`Order`] says from inside a namespace, with curl or the built-in client.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use nix::libc;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::{
    curl, echo, errand,
    events::Events,
    hop,
    knock::{self, Counted, Counting},
    patience::{Limit, Limits, Said},
    process::Processes,
    questions,
};
use crate::{
    error::{Context, Result},
    lab::model::{Lab, Place},
    probe::{
        order::{Answer, CLIENT_HEADER, Failure, FailureKind, Order, Outcome, POD_HEADER, Try, What},
        question::{Resolver, Transport},
    },
};

/// How many connections of one order are open at a time.
const AT_ONCE: usize = 64;
/// How many of an order that ends with an answer of a certain pod.
const UNTIL_AT_ONCE: usize = 4;
/// How much of a body is kept.
pub(super) const BODY_LIMIT: usize = 4096;

/// Where orders are carried out.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// In this lab.
    pub lab: &'a Lab,
    /// Programs that are started belong here.
    pub processes: &'a Processes,
    /// What happens meanwhile.
    pub events: &'a Events,
    /// Silence is waited for no longer than is said here.
    pub patience: Option<&'a Said>,
}

/// Carries out one order. The order may name a pod on the host network instead of its node's
/// namespace: it then asks as that pod does.
pub async fn attempt(order: Order, circumstances: Circumstances<'_>) -> Outcome {
    let Circumstances { lab, processes, events, patience } = circumstances;
    let Order { id, netns: place, what, times, until, connect_ms, counted_by } = order;
    let on_host = lab.pods.iter().find(|pod| pod.host_network && pod.full_name() == place);
    let netns = on_host.map_or_else(|| place.clone(), |pod| lab.netns(Place::Node(pod.node)));
    let tries = match what {
        What::Curl { url, timeout_ms } => {
            let asking = curl::Asking { lab, place: &place, netns: &netns };
            let limits = Limits::of_connection(timeout_ms, connect_ms, None);
            let tries = (0..times).map(|_| curl::get(asking, &url, limits, processes));
            stream::iter(tries).buffer_unordered(curl::AT_ONCE).collect().await
        }
        What::Http { to, path, timeout_ms } => {
            let limits = Limits::of_connection(timeout_ms, connect_ms, patience);
            if let (Some(node), SocketAddr::V4(to)) = (&counted_by, to) {
                let counting = Counting { netns: &netns, node, to, path: &path, times, limit: limits.answer.most };
                match knock::count(counting).await {
                    Ok(Counted { tries, whole }) => return Outcome { whole, ..Outcome::new(id, tries) },
                    // Then whoever is counted has to say so.
                    Err(error) => eprintln!("connections are counted by their answers: {error}"),
                }
            }
            let each =
                |times| each_socket(&netns, times, move || tcp_socket(to), |socket| http(socket, to, &path, limits));
            match until {
                None => each(times).await,
                Some(pod) => {
                    let mut tries = Vec::new();
                    while tries.len() < times && !is_enough(&tries, &pod) {
                        tries.extend(each(UNTIL_AT_ONCE.min(times - tries.len())).await);
                    }
                    tries
                }
            }
        }
        What::Udp { to, timeout_ms } => {
            let limit = Limits::of_datagram(timeout_ms, patience).answer;
            each_socket(&netns, times, move || udp_socket(to), |socket| udp(socket, to, limit)).await
        }
        What::HttpByName { host, port, path, resolver, timeout_ms } => {
            let limit = Duration::from_millis(timeout_ms.into());
            let named = Named { host: &host, port, path: &path, resolver: &resolver };
            let tries = (0..times).map(|_| http_by_name(&netns, named, limit));
            stream::iter(tries).buffer_unordered(AT_ONCE).collect().await
        }
        What::Names { question, timeout_ms } => {
            let limits = match question.transport {
                Transport::Tcp => Limits::of_connection(timeout_ms, connect_ms, patience),
                Transport::Udp => Limits::of_datagram(timeout_ms, patience),
            };
            questions::ask(&netns, &question, times, limits).await
        }
        What::Errand(errand) => {
            let asking = curl::Asking { lab, place: &place, netns: &netns };
            return errand::carry_out(id, &errand, times, errand::Means { asking, processes, events }).await;
        }
    };
    Outcome::new(id, tries)
}

/// This one has answered; or a try has failed, and more would take long to say the same.
fn is_enough(tries: &[Try], pod: &str) -> bool {
    tries.iter().any(|it| it.result.as_ref().map_or(true, |answer| answer.pod.as_deref() == Some(pod)))
}

/// Opens as many sockets in the namespace as there are tries, and tries with each. They are
/// opened a batch at a time, so that a long order neither hops into the namespace for every
/// try nor holds thousands of descriptors.
pub(super) async fn each_socket<S: Send + 'static, F: Future<Output = Try>>(
    netns: &str,
    times: usize,
    open: impl Fn() -> io::Result<S> + Clone + Send + 'static,
    attempt: impl Fn(S) -> F,
) -> Vec<Try> {
    let mut tries = Vec::with_capacity(times);
    while tries.len() < times {
        let count = AT_ONCE.min(times - tries.len());
        let open = open.clone();
        let opened = move || (0..count).map(|_| open()).collect::<io::Result<Vec<S>>>().context("cannot open a socket");
        match hop::inside(netns, opened).await {
            Ok(sockets) => {
                let batch = stream::iter(sockets.into_iter().map(&attempt));
                tries.extend(batch.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
            }
            Err(error) => {
                let result = Err(Failure { kind: FailureKind::Other, text: error.to_string() });
                tries.resize(times, Try { result, micros: 0 });
            }
        }
    }
    tries
}

pub(super) fn tcp_socket(to: SocketAddr) -> io::Result<TcpSocket> {
    match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

pub(super) fn udp_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

pub(super) async fn timed(limit: impl Into<Limit<'_>>, attempt: impl Future<Output = Result<Answer, Failure>>) -> Try {
    let (limit, began) = (limit.into(), Instant::now());
    let result = limit.on(attempt).await.unwrap_or_else(Err);
    Try { result, micros: micros(began) }
}

/// How long after the SYN its answer came: the kernel's own measurement, in which the time until this
/// program heard of it has no part. To be asked before anything else is sent.
fn handshake(stream: &TcpStream) -> Option<u64> {
    // SAFETY: `tcp_info` is numbers only, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    let to = (&raw mut info).cast();
    // SAFETY: the kernel writes no more than `length` bytes to `info`, which is as long and lives.
    let said = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, to, &raw mut length) };
    (said == 0).then_some(info.tcpi_rtt.into())
}

/// How long it has been since.
pub(super) fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

pub(super) async fn http(socket: TcpSocket, to: SocketAddr, path: &str, limits: impl Into<Limits<'_>>) -> Try {
    let limits = limits.into();
    timed(limits.answer, async {
        let connected = limits.connect.on(socket.connect(to)).await?;
        let stream = connected.map_err(|error| failure(&error))?;
        let handshake_micros = handshake(&stream);
        let broken = |error: hyper::Error| Failure { kind: FailureKind::Broken, text: error.to_string() };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::get(path)
            .header(header::HOST, to.to_string())
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure { kind: FailureKind::Other, text: error.to_string() })?;
        let conversation = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (pod, client) = (text(POD_HEADER), text(CLIENT_HEADER));
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        conversation.abort();
        let client = client.and_then(|ip| ip.parse::<IpAddr>().ok());
        Ok(Answer { status, pod, client, body, handshake_micros, ..Answer::default() })
    })
    .await
}

/// What is to be got from a machine that is known by its name.
#[derive(Clone, Copy)]
struct Named<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
    resolver: &'a Resolver,
}

async fn http_by_name(netns: &str, named: Named<'_>, limit: Duration) -> Try {
    let Named { host, port, path, resolver } = named;
    timed(limit, async {
        let to = SocketAddr::new(questions::resolve(netns, host, resolver).await?, port);
        let socket = questions::inside(netns, move || tcp_socket(to)).await?;
        http(socket, to, path, limit).await.result
    })
    .await
}

pub(super) async fn udp(socket: UdpSocket, to: SocketAddr, limit: Limit<'_>) -> Try {
    timed(limit, async {
        let mut answer = [0; BODY_LIMIT];
        let length = udp_exchange(&socket, to, echo::WHO_ARE_YOU, &mut answer).await?;
        let body = String::from_utf8_lossy(&answer[..length]).into_owned();
        let (pod, client) = match body.split_once(' ') {
            Some((pod, client)) => (Some(pod.to_owned()), client.parse().ok()),
            None => (None, None),
        };
        Ok(Answer { status: 0, pod, client, body, ..Answer::default() })
    })
    .await
}

/// Sends a datagram and waits for one; gives back how many bytes that has.
pub(super) async fn udp_exchange(
    socket: &UdpSocket,
    to: SocketAddr,
    send: &[u8],
    answer: &mut [u8],
) -> Result<usize, Failure> {
    socket.connect(to).await.map_err(|error| failure(&error))?;
    match socket.send(send).await {
        // A rule in OUTPUT has stopped it. If it was a REJECT, its word is the next error;
        // if it was a DROP, there will be none.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        sent => drop(sent.map_err(|error| failure(&error))?),
    }
    socket.recv(answer).await.map_err(|error| failure(&error))
}

pub(super) fn failure(error: &io::Error) -> Failure {
    Failure { kind: kind(error.kind()), text: error.to_string() }
}

fn kind(kind: io::ErrorKind) -> FailureKind {
    match kind {
        io::ErrorKind::ConnectionRefused => FailureKind::Refused,
        io::ErrorKind::TimedOut => FailureKind::Timeout,
        // EINVAL is what `connect` says to a blackhole route.
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::InvalidInput => {
            FailureKind::Unreachable
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            FailureKind::Broken
        }
        _ => FailureKind::Other,
    }
}

/// What a probe of a whole suite needs at most, in open descriptors.
///
/// # Errors
///
/// When the limit cannot be read.
pub fn raise_descriptor_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read a limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise a limit")
}
