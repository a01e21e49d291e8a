//! A question for the upstream name server, and what to do with its answer.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, Record},
};

use super::{
    reply::{Answer, Chance, Reply, rename, send},
    request::Request,
};

/// A question for the upstream name server.
#[derive(Debug)]
pub struct Ask {
    question: Vec<u8>,
    id: u16,
    query: Query,
    /// What waits for the answer.
    pub pending: Pending,
}

/// A question of a client that waits for what the upstream says.
#[derive(Debug)]
pub struct Pending {
    request: Request,
    seed: u64,
    purpose: Purpose,
    rewritten: Option<Rewritten>,
}

/// What the upstream's answer is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// It is the client's answer.
    Forward,
    /// It is what these aliases lead to.
    Chase(Vec<Record>),
}

/// What was asked instead of what the client asked.
#[derive(Debug, Clone)]
pub(super) struct Rewritten {
    pub(super) asked: Name,
    pub(super) meant: Name,
}

/// What came of asking the upstream.
#[derive(Debug)]
pub enum Heard {
    /// This, of which [`Ask::judge`] has said that it is an answer.
    Answer(Vec<u8>),
    /// Nothing: no upstream has answered in time.
    Nothing,
    /// It was not asked: too many questions wait already.
    TooMany,
}

/// What a message from the upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The answer.
    Answer,
    /// The beginning of the answer: all of it comes by TCP.
    Truncated,
    /// Something that cannot be read.
    Broken,
    /// The answer to another question, or no answer.
    Foreign,
}

impl Ask {
    /// Asks for `name` on behalf of a client, in the client's own terms.
    pub(super) fn new(request: Request, name: Name, purpose: Purpose, rewritten: Option<Rewritten>, seed: u64) -> Self {
        let mut chance = Chance(seed);
        // The upper half is the best mixed one.
        let id = (chance.next() >> 48) as u16;
        let mut query = request.query.clone();
        query.set_name(name);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = request.metadata.recursion_desired;
        message.metadata.checking_disabled = request.metadata.checking_disabled;
        message.add_query(query.clone());
        if let Some(theirs) = &request.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(theirs.max_payload()).set_dnssec_ok(theirs.flags().dnssec_ok);
            message.set_edns(edns);
        }
        // A header, a question and an OPT record without options always fit.
        let question = message.to_vec().unwrap_or_default();
        Ask { question, id, query, pending: Pending { request, seed: chance.next(), purpose, rewritten } }
    }

    /// The message to send.
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// Where to begin in a list of so many upstreams: by chance, as CoreDNS does.
    pub fn first_of(&self, many: usize) -> usize {
        usize::from(self.id) % many.max(1)
    }

    /// What a message is that came from the upstream.
    pub fn judge(&self, bytes: &[u8]) -> Judgement {
        if bytes.first_chunk() != Some(&self.id.to_be_bytes()) {
            return Judgement::Foreign;
        }
        let Ok(message) = Message::from_vec(bytes) else { return Judgement::Broken };
        let same = |query: &Query| {
            query.name() == self.query.name()
                && query.query_type() == self.query.query_type()
                && query.query_class() == self.query.query_class()
        };
        match &message {
            it if it.metadata.message_type != MessageType::Response => Judgement::Foreign,
            it if it.queries.len() != 1 || !it.queries.iter().all(same) => Judgement::Foreign,
            it if it.metadata.truncation => Judgement::Truncated,
            _ => Judgement::Answer,
        }
    }
}

impl Pending {
    /// The client's answer.
    ///
    /// Forwarded, it is what the upstream said, under the client's id and in the client's terms. As the
    /// end of a chain of aliases it is these and what the upstream knows of the last, if anything: that
    /// the aliases are there is true whatever becomes of it.
    pub(super) fn resume(self, heard: Heard) -> Answer {
        let Pending { request, seed, purpose, rewritten } = self;
        let upstream = match &heard {
            Heard::Answer(bytes) => Message::from_vec(bytes).ok(),
            Heard::Nothing | Heard::TooMany => None,
        };
        let mut message = match (purpose, upstream) {
            (Purpose::Forward, Some(mut message)) => {
                message.metadata.id = request.metadata.id;
                message.metadata.message_type = MessageType::Response;
                message.metadata.op_code = OpCode::Query;
                message.queries = vec![request.query.clone()];
                message.signature = None;
                message
            }
            (Purpose::Forward, None) => {
                let too_many = matches!(heard, Heard::TooMany);
                let code = if too_many { ResponseCode::Refused } else { ResponseCode::ServFail };
                Reply::new(code).message(&request)
            }
            (Purpose::Chase(mut answers), upstream) => {
                let truncated = upstream.as_ref().is_some_and(|message| message.metadata.truncation);
                answers.extend(upstream.into_iter().flat_map(|message| message.answers));
                Reply { truncated, ..Reply::of(answers) }.message(&request)
            }
        };
        if let Some(Rewritten { asked, meant }) = &rewritten {
            rename(&mut message, asked, meant);
        }
        send(message, &request, seed)
    }
}
