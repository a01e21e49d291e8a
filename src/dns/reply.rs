//! From what there is to say to bytes that the client can take.

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};

use super::{request::Request, wire};

/// An answer on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message.
    pub bytes: Vec<u8>,
    /// What it counts as; `None` for an answer to what was not even a question.
    pub counted: Option<Counted>,
}

/// What an answer counts as, in the words of CoreDNS's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counted {
    /// The type that was asked for, `other` if it is a rare one.
    pub kind: &'static str,
    /// What came of it.
    pub code: &'static str,
}

/// What there is to say.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    /// It is known not to be all.
    pub(super) truncated: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Reply {
    /// Only a code.
    pub(super) fn new(code: ResponseCode) -> Self {
        Reply { code, ..Reply::default() }
    }

    /// These records, on the authority of the cluster.
    pub(super) fn of(answers: Vec<Record>) -> Self {
        Reply { authoritative: true, answers, ..Reply::default() }
    }

    /// Makes it the answer to a question.
    pub(super) fn send(self, request: &Request, seed: u64) -> Answer {
        send(self.message(request), request, seed)
    }

    /// The same, not yet in bytes.
    pub(super) fn message(self, request: &Request) -> Message {
        let mut message = request.blank();
        message.metadata.response_code = self.code;
        message.metadata.authoritative = self.authoritative;
        message.metadata.truncation = self.truncated;
        message.answers = self.answers;
        message.authorities = self.authorities;
        message.additionals = self.additionals;
        message
    }
}

/// Gives a message the client's terms: addresses in an order by chance, EDNS as it was asked, no
/// more bytes than are wanted.
pub(super) fn send(mut message: Message, request: &Request, seed: u64) -> Answer {
    if message.metadata.response_code == ResponseCode::NoError {
        let mut chance = Chance(seed);
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            shuffle(section, &mut chance);
        }
    }
    message.edns = own_edns(&message, request);
    let counted = Counted { kind: kind(request.query.query_type()), code: code(message.metadata.response_code) };
    Answer { bytes: wire::write(&message, request.limit), counted: Some(counted) }
}

/// The upstream's options are what it can do; all else is as the client said it.
fn own_edns(message: &Message, request: &Request) -> Option<Edns> {
    let mut own = request.own_edns()?;
    match &message.edns {
        Some(upstream) => *own.options_mut() = upstream.options().clone(),
        None if message.metadata.response_code == ResponseCode::BADVERS => own = Edns::new(),
        None => {}
    }
    Some(own)
}

/// Aliases first, in their order; then all that is neither an address nor a mail server; then the
/// addresses and the mail servers, each in an order by chance. CoreDNS's `loadbalance`.
fn shuffle(section: &mut Vec<Record>, chance: &mut Chance) {
    let mut sorted: [Vec<Record>; 4] = Default::default();
    for record in section.drain(..) {
        let class = match record.record_type() {
            RecordType::CNAME => 0,
            RecordType::A | RecordType::AAAA => 2,
            RecordType::MX => 3,
            _ => 1,
        };
        sorted[class].push(record);
    }
    let [aliases, rest, mut addresses, mut mail] = sorted;
    for records in [&mut addresses, &mut mail] {
        for last in (1..records.len()).rev() {
            records.swap(last, chance.below(last + 1));
        }
    }
    section.extend(aliases.into_iter().chain(rest).chain(addresses).chain(mail));
}

/// Chance out of a seed (SplitMix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of so many, each as likely as the others: the bias is below 2^-48.
    fn below(&mut self, many: usize) -> usize {
        (self.next() % many as u64) as usize
    }
}

/// Puts one name in the place of another, and of the end of longer ones, wherever a message has it
/// but in its question: CoreDNS's `rewrite name … answer auto`.
pub(super) fn rename(message: &mut Message, from: &Name, to: &Name) {
    let swap = |name: &mut Name| {
        if let Some(swapped) = swapped(name, from, to) {
            *name = swapped;
        }
    };
    let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
    for record in sections.into_iter().flatten() {
        swap(&mut record.name);
        match &mut record.data {
            RData::CNAME(alias) => swap(&mut alias.0),
            RData::NS(server) => swap(&mut server.0),
            RData::PTR(pointer) => swap(&mut pointer.0),
            RData::MX(mail) => swap(&mut mail.exchange),
            RData::SOA(soa) => swap(&mut soa.mname),
            RData::SRV(service) => swap(&mut service.target),
            _ => {}
        }
    }
}

/// `None` for a name that stays: another one, or one that would become too long.
fn swapped(name: &Name, from: &Name, to: &Name) -> Option<Name> {
    if !from.zone_of(name) {
        return None;
    }
    let before = usize::from(name.num_labels()).checked_sub(usize::from(from.num_labels()))?;
    Name::from_labels(name.iter().take(before).chain(to.iter())).ok()
}

fn kind(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::ANY => "ANY",
        RecordType::AXFR => "AXFR",
        RecordType::CNAME => "CNAME",
        RecordType::DNSKEY => "DNSKEY",
        RecordType::DS => "DS",
        RecordType::HTTPS => "HTTPS",
        RecordType::IXFR => "IXFR",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::NSEC => "NSEC",
        RecordType::NSEC3 => "NSEC3",
        RecordType::PTR => "PTR",
        RecordType::RRSIG => "RRSIG",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

fn code(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::BADVERS => "BADVERS",
        _ => "other",
    }
}
