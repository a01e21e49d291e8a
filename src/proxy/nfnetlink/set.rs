//! Sets and maps, and their elements: what nft tells the kernel about them.
//!
//! The kernel takes keys as bytes, and keeps for nft what it needs to print them: `userdata`, a list of
//! types, lengths and values, which is nft's own matter (`libnftnl/udata.h`).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    attributes::Writer,
    expression::{SetName, Verdict, write_value},
    words::Words,
};
use crate::proxy::sync::nft_text::{self, Element};

/// nft's numbers of the types of data.
const INTEGER: u32 = 4;
const IPV4_ADDR: u32 = 7;
const INET_PROTO: u32 = 12;
const INET_SERVICE: u32 = 13;
const VERDICT: u32 = 0xffff_ff00;
/// The types of a key's parts are one number, with so many bits for each.
const TYPE_BITS: u32 = 6;

const ANONYMOUS: u32 = 1 << 0;
const CONSTANT: u32 = 1 << 1;
const INTERVAL: u32 = 1 << 2;
const MAP: u32 = 1 << 3;
const TIMEOUT: u32 = 1 << 4;
const EVAL: u32 = 1 << 5;

const INTERVAL_END: u32 = 1;
/// In an element's userdata: it has no end.
const OPEN: [u8; 6] = [1, 4, 1, 0, 0, 0];
/// A list of elements is one attribute, whose length is a number of 16 bits; this leaves room.
const MOST_ELEMENTS: usize = 60_000;
const LIST_ELEM: u16 = 1;

/// A field of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    SAddr,
    DAddr,
    Protocol,
    DPort,
}

/// What a map of numbers has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Verdicts,
    Endpoints,
}

/// A set with a name, as it is declared.
#[derive(Debug)]
pub(super) struct Declared {
    flags: u32,
    key: Types,
    is_map: bool,
    timeout: Option<u64>,
}

/// The types of a key.
#[derive(Debug, Clone)]
struct Types(Vec<u32>);

/// A set that one rule has for itself.
#[derive(Debug)]
pub(super) struct Anonymous<'a> {
    id: u32,
    pattern: &'static str,
    flags: u32,
    key: u32,
    /// Type and length of what a map has.
    data: Option<(u32, u32)>,
    userdata: Vec<u8>,
    members: Vec<Member<'a>>,
}

/// An element, ready to be written down.
#[derive(Debug, Default)]
pub(super) struct Member<'a> {
    key: Vec<u8>,
    data: Option<Data<'a>>,
    flags: u32,
    userdata: Vec<u8>,
}

#[derive(Debug)]
enum Data<'a> {
    Verdict(Verdict<'a>),
    Value(Vec<u8>),
}

impl Declared {
    /// Reads `type KEY : verdict; flags dynamic,timeout; timeout 60s`.
    pub(super) fn read(properties: &str) -> Option<Self> {
        let mut set = Declared { flags: 0, key: Types(Vec::new()), is_map: false, timeout: None };
        for property in properties.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            match property.split_once(' ')? {
                ("type", types) => {
                    let key = types.strip_suffix(" : verdict");
                    set.is_map = key.is_some();
                    set.key = Types::read(key.unwrap_or(types))?;
                }
                ("flags", "dynamic,timeout") => set.flags = TIMEOUT | EVAL,
                ("timeout", time) => set.timeout = Some(time.strip_suffix('s')?.parse::<u64>().ok()? * 1000),
                _ => return None,
            }
        }
        (!set.key.0.is_empty()).then_some(set)
    }

    /// Whether `map` or `set` is right for it.
    pub(super) fn is_a(&self, kind: &str) -> bool {
        self.is_map == (kind == "map")
    }

    /// What a message says of it after its name.
    pub(super) fn write(&self, id: u32, to: &mut Writer) -> Option<()> {
        to.number(3, self.flags | if self.is_map { MAP } else { 0 })?;
        to.number(4, self.key.number())?;
        to.number(5, self.key.length())?;
        if self.is_map {
            to.number(6, VERDICT)?;
            to.number(7, 0)?;
        }
        to.number(10, id)?;
        self.timeout.map_or(Some(()), |timeout| to.raw(11, &timeout.to_be_bytes()))?;
        to.raw(13, &self.userdata())
    }

    fn userdata(&self) -> Vec<u8> {
        let one = self.key.0.len() == 1;
        let mut userdata = number(0, if one { BIG_ENDIAN } else { 0 });
        if self.is_map {
            userdata.extend(number(1, 0));
        }
        if !one {
            userdata.extend(nested(3, &expression(CONCATENATION, &[])));
        }
        if self.is_map {
            userdata.extend(number(6, 0));
        }
        userdata
    }
}

impl Types {
    fn read(text: &str) -> Option<Self> {
        let types = text.split(" . ").map(|word| {
            Some(match word {
                "ipv4_addr" => IPV4_ADDR,
                "inet_proto" => INET_PROTO,
                "inet_service" => INET_SERVICE,
                _ => return None,
            })
        });
        types.collect::<Option<_>>().map(Types)
    }

    fn number(&self) -> u32 {
        self.0.iter().fold(0, |number, part| number << TYPE_BITS | part)
    }

    /// Each part of several has a register of four bytes; none has more than that.
    fn length(&self) -> u32 {
        match self.0[..] {
            [INET_PROTO] => 1,
            [INET_SERVICE] => 2,
            [_] => 4,
            ref several => several.iter().map(|_| 4).sum(),
        }
    }
}

/// In a set's userdata: in which order the bytes of its keys are.
const HOST_ENDIAN: u32 = 1;
const BIG_ENDIAN: u32 = 2;
/// nft's numbers of the kinds of expressions that a set's types come from.
const VERDICTS: u32 = 1;
const PAYLOAD: u32 = 7;
const CONCATENATION: u32 = 13;
/// nft's number of the IPv4 header, and of the addresses in it.
const IP_HEADER: u32 = 12;
const IP_SADDR: u32 = 11;
const IP_DADDR: u32 = 12;

/// Entries of userdata.
fn number(kind: u8, value: u32) -> Vec<u8> {
    nested(kind, &value.to_ne_bytes())
}

fn nested(kind: u8, value: &[u8]) -> Vec<u8> {
    // Nothing that is put into userdata has more than 255 bytes: the longest is a comment of 128.
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [&[kind, length], value].concat()
}

fn expression(kind: u32, more: &[u8]) -> Vec<u8> {
    [number(0, kind), nested(1, more)].concat()
}

/// The userdata of a comment.
pub(super) fn comment(text: &str) -> Vec<u8> {
    nested(0, &[text.as_bytes(), &[0]].concat())
}

impl<'a> Anonymous<'a> {
    /// `{ 10.0.0.1, 10.0.0.2 }` or, where there are prefixes, ranges between them.
    pub(super) fn of_networks(id: u32, field: Field, list: &str, networks: &[Ipv4Net]) -> Option<Self> {
        let source = match field {
            Field::SAddr => IP_SADDR,
            Field::DAddr => IP_DADDR,
            Field::Protocol | Field::DPort => return None,
        };
        let has_prefixes = list.contains('/');
        let (flags, members) = if has_prefixes { (INTERVAL, ranges(networks)) } else { (0, addresses(networks)) };
        let merged = if has_prefixes { number(2, 1) } else { Vec::new() };
        let place = [number(0, IP_HEADER), number(1, source)].concat();
        let userdata = [number(0, BIG_ENDIAN), merged, nested(3, &expression(PAYLOAD, &place))].concat();
        let flags = ANONYMOUS | CONSTANT | flags;
        Some(Anonymous { id, pattern: "__set%d", flags, key: IPV4_ADDR, data: None, userdata, members })
    }

    /// `{ 0 : VALUE, 1 : VALUE }`.
    pub(super) fn of_numbers(id: u32, kind: Kind, list: &'a str) -> Option<Self> {
        let members = elements(list).map(|element| {
            let (key, value) = element.split_once(" : ")?;
            let data = match kind {
                Kind::Verdicts => Data::Verdict(verdict(value)?),
                Kind::Endpoints => Data::Value(self::key(value)?),
            };
            Some(Member { key: key.parse::<u32>().ok()?.to_ne_bytes().to_vec(), data: Some(data), ..Member::default() })
        });
        let members = members.collect::<Option<_>>()?;
        let mut userdata = [number(0, HOST_ENDIAN), number(1, 0)].concat();
        let data = match kind {
            Kind::Verdicts => {
                userdata.extend(nested(4, &expression(VERDICTS, &[])));
                (VERDICT, 0)
            }
            Kind::Endpoints => (IPV4_ADDR << TYPE_BITS | INET_SERVICE, 8),
        };
        userdata.extend(number(6, 0));
        let flags = ANONYMOUS | CONSTANT | MAP;
        Some(Anonymous { id, pattern: "__map%d", flags, key: INTEGER, data: Some(data), userdata, members })
    }

    /// How a rule refers to it.
    pub(super) fn name<'n>(&self) -> SetName<'n> {
        SetName::Anonymous { pattern: self.pattern, id: self.id }
    }

    /// The name that the kernel makes one of.
    pub(super) fn pattern(&self) -> &'static str {
        self.pattern
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    /// What a message says of it after its name.
    pub(super) fn write(&self, to: &mut Writer) -> Option<()> {
        to.number(3, self.flags)?;
        to.number(4, self.key)?;
        to.number(5, 4)?;
        if let Some((kind, length)) = self.data {
            to.number(6, kind)?;
            to.number(7, length)?;
        }
        to.number(10, self.id)?;
        to.nested(9, |to| to.number(1, u32::try_from(self.members.len()).ok()?))?;
        to.raw(13, &self.userdata)
    }
}

fn addresses<'a>(networks: &[Ipv4Net]) -> Vec<Member<'a>> {
    let key = |network: &Ipv4Net| network.addr().octets().to_vec();
    networks.iter().map(|network| Member { key: key(network), ..Member::default() }).collect()
}

/// Where each range begins, and where it has ended; what comes before the first one is said to have
/// ended at zero. Neighbours are one range.
fn ranges<'a>(networks: &[Ipv4Net]) -> Vec<Member<'a>> {
    let mut sorted: Vec<(u32, u32)> =
        networks.iter().map(|net| (net.network().into(), net.broadcast().into())).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, before)) if before.checked_add(1).is_none_or(|next| first <= next) => *before = last.max(*before),
            _ => merged.push((first, last)),
        }
    }
    let key = |at: u32| Ipv4Addr::from(at).octets().to_vec();
    let end = |at: u32| Member { key: key(at), flags: INTERVAL_END, ..Member::default() };
    let mut members: Vec<Member<'_>> =
        merged.first().filter(|(first, _)| *first > 0).map(|_| end(0)).into_iter().collect();
    for (first, last) in merged {
        let next = last.checked_add(1);
        let userdata = if next.is_none() { OPEN.to_vec() } else { Vec::new() };
        members.push(Member { key: key(first), userdata, ..Member::default() });
        members.extend(next.map(end));
    }
    members
}

/// The elements of a list.
pub(super) fn elements(list: &str) -> impl Iterator<Item = &str> {
    nft_text::split(list).map(str::trim).filter(|element| !element.is_empty())
}

/// The elements of `add element` and `delete element`; in the latter they have nothing but a key.
pub(super) fn members(list: &str) -> Option<Vec<Member<'_>>> {
    elements(list).map(Member::read).collect()
}

impl<'a> Member<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let element = Element::new(text);
        let mut member = Member { key: key(element.key)?, ..Member::default() };
        let mut words = Words::new(&text[element.key.len()..]);
        while let Some(word) = words.next() {
            match word {
                "comment" => member.userdata = comment(words.next()?.strip_prefix('"')?.strip_suffix('"')?),
                ":" => {
                    member.data = Some(Data::Verdict(verdict(words.rest())?));
                    break;
                }
                _ => return None,
            }
        }
        Some(member)
    }

    fn write(&self, to: &mut Writer) -> Option<()> {
        to.nested(LIST_ELEM, |to| {
            if self.flags != 0 {
                to.number(3, self.flags)?;
            }
            write_value(1, &self.key, to)?;
            match &self.data {
                Some(Data::Verdict(verdict)) => verdict.write(2, to)?,
                Some(Data::Value(value)) => write_value(2, value, to)?,
                None => {}
            }
            if self.userdata.is_empty() { Some(()) } else { to.raw(6, &self.userdata) }
        })
    }

    /// About how long it is, and no less.
    fn length(&self) -> usize {
        let chain = match &self.data {
            Some(Data::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))) => chain.len(),
            _ => 0,
        };
        64 + self.key.len() + self.userdata.len() + chain
    }
}

/// As many elements as go into one message, one lot after the other.
pub(super) fn lots<'m, 'a>(members: &'m [Member<'a>]) -> Vec<&'m [Member<'a>]> {
    let (mut lots, mut start, mut length) = (Vec::new(), 0, 0);
    for (at, member) in members.iter().enumerate() {
        if length + member.length() > MOST_ELEMENTS {
            lots.push(&members[start..at]);
            (start, length) = (at, 0);
        }
        length += member.length();
    }
    lots.push(&members[start..]);
    lots
}

/// A lot of elements, as a message has it.
pub(super) fn write_lot(lot: &[Member<'_>], to: &mut Writer) -> Option<()> {
    to.nested(3, |to| lot.iter().try_for_each(|member| member.write(to)))
}

/// The bytes of a key: an address, a protocol, a port, or several of these.
pub(super) fn key(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split(" . ").map(|word| {
        Some(match word {
            "tcp" => vec![6],
            "udp" => vec![17],
            "sctp" => vec![132],
            _ if word.contains('.') => word.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
            _ => word.parse::<u16>().ok()?.to_be_bytes().to_vec(),
        })
    });
    let first = parts.next()??;
    let Some(second) = parts.next() else { return Some(first) };
    let mut bytes = Vec::new();
    for part in [Some(first), second].into_iter().chain(parts) {
        bytes.extend(part?);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Some(bytes)
}

fn verdict(text: &str) -> Option<Verdict<'_>> {
    match text.split_once(' ') {
        Some(("goto", chain)) => Some(Verdict::Goto(chain)),
        Some(("jump", chain)) => Some(Verdict::Jump(chain)),
        None if text == "drop" => Some(Verdict::Drop),
        _ => None,
    }
}
