//! Asks name servers from inside a namespace, as the resolver of the C library does: one candidate of
//! the search list after the other, one server after the other, over UDP and, if an answer does not
//! fit, over TCP.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    client::{failure, tcp_socket, timed, udp_socket},
    hop,
    patience::{Limit, Limits},
};
use crate::{
    error::Context,
    probe::{
        order::{Answer, Failure, FailureKind, Try},
        question::{
            Question, Rcode, RecordKind, Resolver, Response, Said, Transport,
            wire::{self, Reading},
        },
    },
};

/// How many questions of one order are on their way at a time.
const AT_ONCE: usize = 16;
/// A datagram may be lost on a busy machine: after this it is sent again, as resolvers do.
const AGAIN: Duration = Duration::from_millis(1200);
/// No answer is larger.
const LARGEST: usize = 1 << 16;

/// Asks so often.
pub(super) async fn ask(netns: &str, question: &Question, times: usize, limits: impl Into<Limits<'_>>) -> Vec<Try> {
    let limits = limits.into();
    let tries = (0..times).map(|_| once(netns, question, limits));
    stream::iter(tries).buffer_unordered(AT_ONCE).collect().await
}

async fn once(netns: &str, question: &Question, limits: Limits<'_>) -> Try {
    timed(limits.answer, async { search(netns, question, limits.connect).await.map(answer) }).await
}

/// The first IPv4 address of a machine.
pub(super) async fn resolve(netns: &str, host: &str, resolver: &Resolver) -> Result<std::net::IpAddr, Failure> {
    let (kind, transport) = (RecordKind::A, Transport::Udp);
    let question = Question { name: host.to_owned(), kind, transport, resolver: resolver.clone() };
    let unnamed = |text| Failure { kind: FailureKind::Unnamed, text };
    let response = search(netns, &question, Duration::MAX.into()).await.map_err(|failure| unnamed(failure.text))?;
    let address = response.answers.iter().find_map(|found| match found.data {
        Said::Address(ip) => Some(ip),
        _ => None,
    });
    address.ok_or_else(|| unnamed(format!("could not resolve host: {host} ({})", response.rcode)))
}

fn answer(response: Response) -> Answer {
    Answer { names: Some(response), ..Answer::default() }
}

/// Tries the candidates until one is found. If none is, the answer is that of the first one whose
/// name is there at all, or else of one that the server could not tell anything of, or else the last.
async fn search(netns: &str, question: &Question, connect: Limit<'_>) -> Result<Response, Failure> {
    let mut best: Option<Response> = None;
    for name in question.resolver.candidates(&question.name) {
        let response = of_servers(netns, question, &name, connect).await?;
        let found = response.is_found(question.kind);
        if found || best.as_ref().is_none_or(|best| rank(&response) < rank(best) || rank(best) == 2) {
            best = Some(response);
        }
        if found {
            break;
        }
    }
    best.ok_or_else(|| other("there is no name to ask for".to_owned()))
}

/// How much a response that is not what was asked for says, the most first.
fn rank(response: &Response) -> u8 {
    match response.rcode {
        Rcode::NoError => 0,
        Rcode::NxDomain => 2,
        _ => 1,
    }
}

/// Asks the servers until one knows.
async fn of_servers(netns: &str, question: &Question, name: &str, connect: Limit<'_>) -> Result<Response, Failure> {
    let text = "there is no name server to ask".to_owned();
    let mut last = Err(Failure { kind: FailureKind::Unnamed, text });
    for server in &question.resolver.servers {
        last = of_server(netns, *server, question, name, connect).await;
        if matches!(&last, Ok(response) if matches!(response.rcode, Rcode::NoError | Rcode::NxDomain)) {
            break;
        }
    }
    last
}

async fn of_server(
    netns: &str,
    server: SocketAddr,
    question: &Question,
    name: &str,
    connect: Limit<'_>,
) -> Result<Response, Failure> {
    // Chance keeps the answers to different questions apart, as the kernel's choice of ports does.
    let id = RandomState::new().hash_one(name) as u16;
    let bytes = wire::query(name, question.kind, id).ok_or_else(|| other(format!("{name:?} is no name")))?;
    let asked = Asked { netns, server, name, id, bytes: &bytes, connect };
    match question.transport {
        Transport::Tcp => over_tcp(asked).await,
        Transport::Udp => match over_udp(asked).await? {
            Some(response) => Ok(response),
            None => over_tcp(asked).await.map(|response| Response { truncated: true, ..response }),
        },
    }
}

/// A question on its way.
#[derive(Clone, Copy)]
struct Asked<'a> {
    netns: &'a str,
    server: SocketAddr,
    name: &'a str,
    id: u16,
    bytes: &'a [u8],
    /// A connection that has not come about by then will not.
    connect: Limit<'a>,
}

/// `None` where the answer did not fit.
async fn over_udp(asked: Asked<'_>) -> Result<Option<Response>, Failure> {
    let Asked { netns, server, name, id, bytes, .. } = asked;
    let socket = inside(netns, move || udp_socket(server)).await?;
    socket.connect(server).await.map_err(|error| failure(&error))?;
    let mut buffer = vec![0; LARGEST];
    loop {
        match socket.send(bytes).await {
            // A rule in OUTPUT has stopped it; what it says of that is the next error, if anything.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            sent => drop(sent.map_err(|error| failure(&error))?),
        }
        let heard = async {
            loop {
                let length = socket.recv(&mut buffer).await.map_err(|error| failure(&error))?;
                match wire::read(name, id, &buffer[..length]) {
                    Reading::Response(response) => break Ok(Some(response)),
                    Reading::Truncated => break Ok(None),
                    // It may be one to an earlier question of this port.
                    Reading::Foreign => {}
                    Reading::Broken(why) => break Err(other(why)),
                }
            }
        };
        if let Ok(heard) = timeout(AGAIN, heard).await {
            return heard;
        }
    }
}

async fn over_tcp(asked: Asked<'_>) -> Result<Response, Failure> {
    let Asked { netns, server, name, id, bytes, connect } = asked;
    let socket = inside(netns, move || tcp_socket(server)).await?;
    let io = |error: io::Error| failure(&error);
    let mut stream = connect.on(socket.connect(server)).await?.map_err(io)?;
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await.map_err(io)?;
    let mut reply = vec![0; stream.read_u16().await.map_err(io)?.into()];
    stream.read_exact(&mut reply).await.map_err(io)?;
    match wire::read(name, id, &reply) {
        Reading::Response(response) => Ok(response),
        Reading::Truncated => Err(other("an answer that does not fit into a connection".to_owned())),
        Reading::Foreign => Err(other("an answer to another question".to_owned())),
        Reading::Broken(why) => Err(other(why)),
    }
}

/// Opens a socket in a namespace.
pub(super) async fn inside<S: Send + 'static>(
    netns: &str,
    open: impl FnOnce() -> io::Result<S> + Send + 'static,
) -> Result<S, Failure> {
    let opened = hop::inside(netns, || open().context("cannot open a socket")).await;
    opened.map_err(|error| other(error.to_string()))
}

fn other(text: String) -> Failure {
    Failure { kind: FailureKind::Other, text }
}
