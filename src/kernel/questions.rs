//! Asks name servers from inside a namespace, as the resolver of the C library does: one candidate of
//! the search list after the other, one server after the other, over UDP and, if an answer does not
//! fit, over TCP.

use std::{io, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream};
use hickory_proto::{
    op::{Message, MessageType, Metadata, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    client::{failure, tcp_socket, timed, udp_socket},
    netns,
};
use crate::{
    error::Context,
    probe::{
        order::{Answer, Failure, FailureKind, Try},
        question::{Found, Question, Rcode, RecordKind, Resolver, Response, Said, Transport},
    },
};

/// How many questions of one order are on their way at a time.
const AT_ONCE: usize = 16;
/// A datagram may be lost on a busy machine: after this it is sent again, as resolvers do.
const AGAIN: Duration = Duration::from_millis(1200);
/// No answer is larger.
const LARGEST: usize = 1 << 16;

/// Asks so often.
pub(super) async fn ask(netns: &str, question: &Question, times: usize, limit: Duration) -> Vec<Try> {
    let tries = (0..times).map(|_| once(netns, question, limit));
    stream::iter(tries).buffer_unordered(AT_ONCE).collect().await
}

async fn once(netns: &str, question: &Question, limit: Duration) -> Try {
    timed(limit, async { search(netns, question).await.map(answer) }).await
}

/// The first IPv4 address of a machine.
pub(super) async fn resolve(netns: &str, host: &str, resolver: &Resolver) -> Result<std::net::IpAddr, Failure> {
    let (kind, transport) = (RecordKind::A, Transport::Udp);
    let question = Question { name: host.to_owned(), kind, transport, resolver: resolver.clone() };
    let unnamed = |text| Failure { kind: FailureKind::Unnamed, text };
    let response = search(netns, &question).await.map_err(|failure| unnamed(failure.text))?;
    let address = response.answers.iter().find_map(|found| match found.data {
        Said::Address(ip) => Some(ip),
        _ => None,
    });
    address.ok_or_else(|| unnamed(format!("could not resolve host: {host} ({})", response.rcode)))
}

fn answer(response: Response) -> Answer {
    Answer { status: 0, pod: None, client: None, body: String::new(), names: Some(response) }
}

/// Tries the candidates until one is found. If none is, the answer is that of the first one whose
/// name is there at all, or else of one that the server could not tell anything of, or else the last.
async fn search(netns: &str, question: &Question) -> Result<Response, Failure> {
    let mut best: Option<Response> = None;
    for name in question.resolver.candidates(&question.name) {
        let response = of_servers(netns, question, &name).await?;
        let found = response.is_found(question.kind);
        if found || best.as_ref().is_none_or(|best| rank(&response) < rank(best) || rank(best) == 2) {
            best = Some(response);
        }
        if found {
            break;
        }
    }
    best.ok_or_else(|| Failure { kind: FailureKind::Other, text: "there is no name to ask for".to_owned() })
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
async fn of_servers(netns: &str, question: &Question, name: &str) -> Result<Response, Failure> {
    let text = "there is no name server to ask".to_owned();
    let mut last = Err(Failure { kind: FailureKind::Unnamed, text });
    for server in &question.resolver.servers {
        last = of_server(netns, *server, question, name).await;
        if matches!(&last, Ok(response) if matches!(response.rcode, Rcode::NoError | Rcode::NxDomain)) {
            break;
        }
    }
    last
}

async fn of_server(netns: &str, server: SocketAddr, question: &Question, name: &str) -> Result<Response, Failure> {
    let malformed = |error: hickory_proto::ProtoError| Failure { kind: FailureKind::Other, text: error.to_string() };
    let name_asked = Name::from_ascii(format!("{name}.")).map_err(malformed)?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name_asked, record_type(question.kind)));
    let bytes = message.to_vec().map_err(malformed)?;
    let mut truncated = false;
    let reply = match question.transport {
        Transport::Tcp => over_tcp(netns, server, &bytes).await?,
        Transport::Udp => match over_udp(netns, server, &message.metadata, &bytes).await? {
            reply if reply.metadata.truncation => {
                truncated = true;
                over_tcp(netns, server, &bytes).await?
            }
            reply => reply,
        },
    };
    if !is_reply(&message.metadata, &reply) {
        return Err(Failure { kind: FailureKind::Other, text: "an answer to another question came".to_owned() });
    }
    Ok(response(name, reply, truncated))
}

async fn over_udp(netns: &str, server: SocketAddr, asked: &Metadata, bytes: &[u8]) -> Result<Message, Failure> {
    let socket = inside(netns, || udp_socket(server))?;
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
                // What is no answer to this question may be one to an earlier one of this port.
                match Message::from_vec(&buffer[..length]) {
                    Ok(reply) if is_reply(asked, &reply) => break Ok(reply),
                    Ok(_) => {}
                    Err(error) => break Err(Failure { kind: FailureKind::Other, text: error.to_string() }),
                }
            }
        };
        if let Ok(heard) = timeout(AGAIN, heard).await {
            return heard;
        }
    }
}

async fn over_tcp(netns: &str, server: SocketAddr, bytes: &[u8]) -> Result<Message, Failure> {
    let socket = inside(netns, || tcp_socket(server))?;
    let io = |error: io::Error| failure(&error);
    let mut stream = socket.connect(server).await.map_err(io)?;
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await.map_err(io)?;
    let mut reply = vec![0; stream.read_u16().await.map_err(io)?.into()];
    stream.read_exact(&mut reply).await.map_err(io)?;
    Message::from_vec(&reply).map_err(|error| Failure { kind: FailureKind::Other, text: error.to_string() })
}

/// Opens a socket in a namespace.
pub(super) fn inside<S: Send>(netns: &str, open: impl FnOnce() -> io::Result<S> + Send) -> Result<S, Failure> {
    let runtime = tokio::runtime::Handle::current();
    netns::inside(netns, || {
        let _guard = runtime.enter();
        open().context("cannot open a socket")
    })
    .map_err(|error| Failure { kind: FailureKind::Other, text: error.to_string() })
}

fn is_reply(asked: &Metadata, reply: &Message) -> bool {
    reply.metadata.message_type == MessageType::Response && reply.metadata.id == asked.id
}

fn response(name: &str, reply: Message, truncated: bool) -> Response {
    Response {
        name: name.to_owned(),
        rcode: rcode(reply.metadata.response_code),
        authoritative: reply.metadata.authoritative,
        truncated,
        answers: reply.answers.iter().map(found).collect(),
        authority: reply.authorities.iter().map(found).collect(),
    }
}

fn found(record: &Record) -> Found {
    let data = match &record.data {
        RData::A(a) => Said::Address(a.0.into()),
        RData::AAAA(aaaa) => Said::Address(aaaa.0.into()),
        RData::CNAME(alias) => Said::Alias(plain(&alias.0)),
        RData::PTR(pointer) => Said::Pointer(plain(&pointer.0)),
        RData::SRV(srv) => Said::Service {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: plain(&srv.target),
        },
        RData::TXT(txt) => {
            Said::Text(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect())
        }
        RData::SOA(soa) => Said::Authority(soa.minimum),
        other => Said::Other(format!("{} {other}", record.record_type())),
    };
    let name = record.name.to_ascii();
    Found { name: name.strip_suffix('.').unwrap_or(&name).to_owned(), ttl: record.ttl, data }
}

/// In lower case and without the dot at its end.
fn plain(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Srv => RecordType::SRV,
        RecordKind::Ptr => RecordType::PTR,
        RecordKind::Cname => RecordType::CNAME,
        RecordKind::Txt => RecordType::TXT,
    }
}

fn rcode(code: ResponseCode) -> Rcode {
    match code {
        ResponseCode::NoError => Rcode::NoError,
        ResponseCode::FormErr => Rcode::FormErr,
        ResponseCode::ServFail => Rcode::ServFail,
        ResponseCode::NXDomain => Rcode::NxDomain,
        ResponseCode::NotImp => Rcode::NotImp,
        ResponseCode::Refused => Rcode::Refused,
        other => Rcode::Other(other.into()),
    }
}
