//! Writes messages, as long as they may be.
//!
//! hickory-proto's own encoder compresses the first 120 names only and, short of room, leaves out
//! records that would fit once their names are compressed. An answer with every endpoint of a large
//! Service wants neither. What is in a record is hickory-proto's to write all the same.

use std::collections::BTreeMap;

use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, RData, Record},
    serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
};

/// A pointer is 14 bits.
const POINTERS: usize = 1 << 14;
/// What an answer takes at least: the header, the question with the longest name, and some record.
const LEAST: usize = 400;

/// Writes an answer of at most so many bytes, which must be 512 or more: from the first record on
/// that has no room, none is written, and the answer says that it is truncated.
pub(super) fn write(message: &Message, limit: usize) -> Vec<u8> {
    let edns = message.edns.as_ref().map(|edns| {
        let whole = option_record(message, edns.clone());
        // A client that fills its answer with options of its own gets the answer without them.
        if whole.len() + LEAST <= limit { whole } else { option_record(message, plain(edns)) }
    });
    let edns = edns.unwrap_or_default();
    let mut page = Page { bytes: vec![0; HEADER], names: BTreeMap::new(), room: limit.saturating_sub(edns.len()) };
    for query in &message.queries {
        page.question(query);
    }
    let mut whole = true;
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let counts = sections.map(|section| {
        let written = if whole { section.iter().take_while(|record| page.record(record)).count() } else { 0 };
        whole &= written == section.len();
        written
    });
    page.bytes.extend(&edns);
    page.header(message, counts, !whole, !edns.is_empty());
    page.bytes
}

const HEADER: usize = 12;

/// A message that is being written.
struct Page {
    bytes: Vec<u8>,
    /// Where names begin that are there already, the ends of longer ones included.
    names: BTreeMap<Vec<u8>, u16>,
    room: usize,
}

impl Page {
    fn word(&mut self, word: u16) {
        self.bytes.extend(word.to_be_bytes());
    }

    fn header(&mut self, message: &Message, [answers, authorities, additionals]: [usize; 3], cut: bool, edns: bool) {
        let said = &message.metadata;
        let flags = [
            (15, true),
            (10, said.authoritative),
            (9, said.truncation || cut),
            (8, said.recursion_desired),
            (7, said.recursion_available),
            (5, said.authentic_data),
            (4, said.checking_disabled),
        ];
        let flags = flags.iter().filter(|(_, set)| *set).fold(0, |all, (bit, _)| all | 1 << bit);
        let code = u16::from(said.response_code.low());
        // A message of 64 KiB has fewer records than that.
        let count = |many: usize| u16::try_from(many).unwrap_or(u16::MAX);
        let counts = [count(message.queries.len()), count(answers), count(authorities)];
        let words = [said.id, flags | code, counts[0], counts[1], counts[2], count(additionals + usize::from(edns))];
        for (at, word) in words.into_iter().enumerate() {
            self.bytes[2 * at..2 * at + 2].copy_from_slice(&word.to_be_bytes());
        }
    }

    fn question(&mut self, query: &Query) {
        self.name(query.name());
        self.word(query.query_type().into());
        self.word(query.query_class().into());
    }

    /// Writes a record if it has room.
    fn record(&mut self, record: &Record) -> bool {
        let start = self.bytes.len();
        self.name(&record.name);
        self.word(record.record_type().into());
        self.word(record.dns_class.into());
        self.bytes.extend(record.ttl.to_be_bytes());
        let length = self.bytes.len();
        self.word(0);
        let written = self.data(&record.data);
        let long = u16::try_from(self.bytes.len() - length - 2);
        match long {
            Ok(long) if written && self.bytes.len() <= self.room => {
                self.bytes[length..length + 2].copy_from_slice(&long.to_be_bytes());
                true
            }
            _ => {
                self.bytes.truncate(start);
                false
            }
        }
    }

    /// Writes what a record says; the types of RFC 1035 may have their names compressed.
    fn data(&mut self, data: &RData) -> bool {
        match data {
            RData::Update0(_) => {}
            RData::CNAME(alias) => self.name(&alias.0),
            RData::NS(server) => self.name(&server.0),
            RData::PTR(pointer) => self.name(&pointer.0),
            RData::SOA(soa) => {
                self.name(&soa.mname);
                self.name(&soa.rname);
                let numbers = [soa.refresh, soa.retry, soa.expire].map(i32::cast_unsigned);
                for number in [soa.serial].into_iter().chain(numbers).chain([soa.minimum]) {
                    self.bytes.extend(number.to_be_bytes());
                }
            }
            other => {
                let mut bytes = Vec::new();
                let mut encoder = BinEncoder::new(&mut bytes);
                encoder.set_name_encoding(NameEncoding::Uncompressed);
                if other.emit(&mut encoder).is_err() {
                    return false;
                }
                self.bytes.extend(bytes);
            }
        }
        true
    }

    /// Writes a name, or the beginning of it and where the rest is.
    fn name(&mut self, name: &Name) {
        let mut whole = Vec::with_capacity(name.len() + 1);
        let mut starts = Vec::with_capacity(name.num_labels().into());
        for label in name.iter() {
            starts.push(whole.len());
            // A label has at most 63 bytes.
            whole.push(label.len() as u8);
            whole.extend(label);
        }
        for start in starts {
            let rest = &whole[start..];
            if let Some(at) = self.names.get(rest) {
                let pointer = 0b11 << 14 | at;
                self.word(pointer);
                return;
            }
            let at = self.bytes.len();
            if at < POINTERS {
                self.names.insert(rest.to_vec(), at as u16);
            }
            self.bytes.extend(&rest[..=usize::from(rest[0])]);
        }
        self.bytes.push(0);
    }
}

/// The record that says what both sides can do.
fn option_record(message: &Message, mut edns: Edns) -> Vec<u8> {
    edns.set_rcode_high(message.metadata.response_code.high());
    let mut bytes = Vec::new();
    match Record::from(&edns).emit(&mut BinEncoder::new(&mut bytes)) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

fn plain(edns: &Edns) -> Edns {
    let mut plain = Edns::new();
    plain.set_max_payload(edns.max_payload()).set_dnssec_ok(edns.flags().dnssec_ok);
    plain
}
