//! From bytes to a question that can be answered, or to the answer that refuses them.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, RecordType,
        rdata::opt::{EdnsCode, OPT},
    },
};

use super::{
    Reaction,
    reply::{Answer, Reply},
};

/// How a question came, and so how much may go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// 512 bytes, or as many as the client says.
    Udp,
    /// 64 KiB.
    Tcp,
}

/// A well-formed question of class IN.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) query: Query,
    pub(super) metadata: Metadata,
    pub(super) edns: Option<Edns>,
    /// The largest answer.
    pub(super) limit: usize,
}

/// The header of a message.
const HEADER: usize = 12;
/// The largest answer by UDP for those who do not say (RFC 1035), and for those who say less (RFC 6891).
const SMALLEST: u16 = 512;
/// The largest datagram that IPv4 carries.
const DATAGRAM: u16 = u16::MAX - 20 - 8;

const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0b1111 << 11;
/// What of the flags of a question is said again in its answer: RD and CD.
const ECHOED: u16 = 1 << 8 | 1 << 4;

/// Reads a question.
///
/// # Errors
///
/// What to do about bytes that are no question. As with CoreDNS: an answer and what is shorter than
/// a header get nothing, other opcodes NOTIMP, all that is malformed FORMERR, a class other than IN
/// and transfers of zones REFUSED.
pub(super) fn read(bytes: &[u8], transport: Transport) -> Result<Request, Reaction> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Err(Reaction::Silence) };
    let word = |nth: usize| u16::from_be_bytes([header[2 * nth], header[2 * nth + 1]]);
    let (flags, counts) = (word(1), [word(2), word(3), word(4), word(5)]);
    if flags & RESPONSE != 0 {
        return Err(Reaction::Silence);
    }
    if flags & OPCODE != 0 {
        return Err(bare(word(0), flags & (OPCODE | ECHOED), ResponseCode::NotImp));
    }
    // One question. A question has no use for records, but for EDNS and a signature at the end.
    let plausible = counts[0] == 1 && counts[1] <= 1 && counts[2] <= 1 && counts[3] <= 2;
    let message = plausible.then(|| Message::from_vec(bytes).ok()).flatten();
    let Some(Message { metadata, mut queries, edns, .. }) = message else {
        return Err(bare(word(0), flags & ECHOED, ResponseCode::FormErr));
    };
    let Some(query) = queries.pop() else { return Err(bare(word(0), flags & ECHOED, ResponseCode::FormErr)) };
    let said = edns.as_ref().map_or(SMALLEST, Edns::max_payload);
    let limit = match transport {
        Transport::Udp => said.clamp(SMALLEST, DATAGRAM),
        Transport::Tcp => u16::MAX,
    };
    let metadata = Metadata::response_from_request(&metadata);
    let request = Request { query, metadata, edns, limit: limit.into() };
    let refusal = match &request {
        it if it.query.query_class() != DNSClass::IN => Some(ResponseCode::Refused),
        it if it.edns.as_ref().is_some_and(|edns| edns.version() > 0) => Some(ResponseCode::BADVERS),
        it if matches!(it.query.query_type(), RecordType::AXFR | RecordType::IXFR) => Some(ResponseCode::Refused),
        _ => None,
    };
    match refusal {
        Some(code) => Err(Reaction::Answer(Reply::new(code).send(&request, 0))),
        None => Ok(request),
    }
}

/// An answer that is a header.
fn bare(id: u16, flags: u16, code: ResponseCode) -> Reaction {
    let words = [id, RESPONSE | flags | u16::from(code.low()), 0, 0, 0, 0];
    Reaction::Answer(Answer { bytes: words.into_iter().flat_map(u16::to_be_bytes).collect(), counted: None })
}

impl Request {
    /// A message that answers it, and says nothing yet.
    pub(super) fn blank(&self) -> Message {
        let mut message = Message::new(self.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata = self.metadata;
        message.add_query(self.query.clone());
        message
    }

    /// What the answer says of EDNS: the client's own terms, and those of its options that CoreDNS
    /// says again.
    pub(super) fn own_edns(&self) -> Option<Edns> {
        let theirs = self.edns.as_ref()?;
        let known = [EdnsCode::NSID, EdnsCode::Expire, EdnsCode::Cookie, EdnsCode::Keepalive, EdnsCode::Padding];
        let options = theirs.options().options.iter().filter(|(code, _)| known.contains(code)).cloned().collect();
        let mut edns = Edns::new();
        edns.set_max_payload(theirs.max_payload()).set_dnssec_ok(theirs.flags().dnssec_ok);
        *edns.options_mut() = OPT::new(options);
        Some(edns)
    }
}
