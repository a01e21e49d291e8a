//! What a rule is made of: the kernel's expressions, and how each is written down.
//!
//! Types, registers and attributes are those of `linux/netfilter/nf_tables.h`.

use super::attributes::Writer;

/// The first register, of sixteen bytes; and those of four bytes after the first four of it.
pub(super) const FIRST: u32 = 1;
const WORDS: u32 = 8;
/// The second register of sixteen bytes.
const SECOND: u32 = 2;
/// The register of verdicts.
const VERDICT: u32 = 0;

/// The register for the nth part of a key.
pub(super) fn part(nth: u32) -> u32 {
    if nth == 0 { FIRST } else { WORDS + nth }
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    Drop,
    Accept,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

/// The header that a piece of a packet is in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base {
    Network = 1,
    Transport = 2,
}

/// What is known of a packet besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    Mark = 3,
    InName = 6,
    Protocol = 16,
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ct {
    State = 0,
    Status = 2,
}

/// Whether what is compared shall be equal, or a lookup find something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes = 0,
    No = 1,
}

/// A set by its name, or an anonymous one of this transaction.
#[derive(Debug, Clone, Copy)]
pub(super) enum SetName<'a> {
    Is(&'a str),
    Anonymous { pattern: &'static str, id: u32 },
}

/// One step of a rule.
#[derive(Debug, Clone)]
pub(super) enum Expression<'a> {
    /// Loads a piece of the packet.
    Payload {
        base: Base,
        offset: u32,
        length: u32,
        to: u32,
    },
    LoadMeta {
        key: Meta,
        to: u32,
    },
    SetMark,
    LoadCt(Ct),
    /// Loads the type of the source's or the destination's address.
    AddressType {
        flag: u32,
    },
    /// The register, masked, then exclusive-or.
    Bitwise {
        mask: [u8; 4],
        xor: [u8; 4],
    },
    Compare {
        wanted: Wanted,
        with: Vec<u8>,
    },
    /// Looks the key up; what a map has for it goes into a register, if one is given.
    Lookup {
        set: SetName<'a>,
        to: Option<u32>,
        wanted: Wanted,
    },
    Verdict(Verdict<'a>),
    /// Translates to an address and a port.
    DnatTo {
        address: [u8; 4],
        port: u16,
    },
    /// Translates to what a map gave.
    DnatToMapped,
    Masquerade,
    Reject,
    /// A random number below this.
    Random {
        below: u32,
    },
    /// Puts the key into a set that rules fill, or renews it there.
    Update {
        set: &'a str,
    },
}

/// `fib saddr`, `fib daddr`.
pub(super) const FIB_SOURCE: u32 = 1;
pub(super) const FIB_DESTINATION: u32 = 2;
/// The register that a map's verdict goes to.
pub(super) const TO_VERDICT: u32 = VERDICT;

const FIB_RESULT_ADDRTYPE: u32 = 3;
const NAT_DNAT: u32 = 1;
const NFPROTO_IPV4: u32 = 2;
const NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
const NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;
const REJECT_ICMP_UNREACH: u32 = 0;
const ICMP_PORT_UNREACH: u8 = 3;
const NG_RANDOM: u32 = 1;
const DYNSET_OP_UPDATE: u32 = 1;
const LOOKUP_F_INV: u32 = 1;

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

impl Verdict<'_> {
    fn code(self) -> i32 {
        match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Goto(_) => -4,
            Verdict::Return => -5,
        }
    }

    /// As data, below the attribute of this kind.
    pub(super) fn write(self, kind: u16, to: &mut Writer) -> Option<()> {
        to.nested(kind, |to| {
            to.nested(DATA_VERDICT, |to| {
                to.raw(1, &self.code().to_be_bytes())?;
                match self {
                    Verdict::Jump(chain) | Verdict::Goto(chain) => to.text(2, chain),
                    Verdict::Drop | Verdict::Accept | Verdict::Return => Some(()),
                }
            })
        })
    }
}

/// Bytes as data, below the attribute of this kind.
pub(super) fn write_value(kind: u16, value: &[u8], to: &mut Writer) -> Option<()> {
    to.nested(kind, |to| to.raw(DATA_VALUE, value))
}

impl Expression<'_> {
    fn name(&self) -> &'static str {
        match self {
            Expression::Payload { .. } => "payload",
            Expression::LoadMeta { .. } | Expression::SetMark => "meta",
            Expression::LoadCt(_) => "ct",
            Expression::AddressType { .. } => "fib",
            Expression::Bitwise { .. } => "bitwise",
            Expression::Compare { .. } => "cmp",
            Expression::Lookup { .. } => "lookup",
            Expression::Verdict(_) => "immediate",
            Expression::DnatTo { .. } | Expression::DnatToMapped => "nat",
            Expression::Masquerade => "masq",
            Expression::Reject => "reject",
            Expression::Random { .. } => "numgen",
            Expression::Update { .. } => "dynset",
        }
    }

    /// As an element of a rule's list.
    pub(super) fn write(&self, to: &mut Writer) -> Option<()> {
        if let Expression::DnatTo { address, port } = self {
            immediate(FIRST, address, to)?;
            immediate(SECOND, &port.to_be_bytes(), to)?;
        }
        element(self.name(), to, |to| self.write_data(to))
    }

    fn write_data(&self, to: &mut Writer) -> Option<()> {
        match *self {
            Expression::Payload { base, offset, length, to: register } => {
                numbers(to, &[(1, register), (2, base as u32), (3, offset), (4, length)])
            }
            Expression::LoadMeta { key, to: register } => numbers(to, &[(2, key as u32), (1, register)]),
            Expression::SetMark => numbers(to, &[(2, Meta::Mark as u32), (3, FIRST)]),
            Expression::LoadCt(key) => numbers(to, &[(2, key as u32), (1, FIRST)]),
            Expression::AddressType { flag } => numbers(to, &[(3, flag), (2, FIB_RESULT_ADDRTYPE), (1, FIRST)]),
            Expression::Bitwise { mask, xor } => {
                numbers(to, &[(1, FIRST), (2, FIRST), (3, 4)])?;
                write_value(4, &mask, to)?;
                write_value(5, &xor, to)
            }
            Expression::Compare { wanted, ref with } => {
                numbers(to, &[(1, FIRST), (2, wanted as u32)])?;
                write_value(3, with, to)
            }
            Expression::Lookup { set, to: register, wanted } => {
                numbers(to, &[(2, FIRST)])?;
                register.map_or(Some(()), |register| to.number(3, register))?;
                match set {
                    SetName::Is(name) => to.text(1, name)?,
                    SetName::Anonymous { pattern, id } => {
                        to.text(1, pattern)?;
                        to.number(4, id)?;
                    }
                }
                if wanted == Wanted::No { to.number(5, LOOKUP_F_INV) } else { Some(()) }
            }
            Expression::Verdict(verdict) => {
                numbers(to, &[(1, VERDICT)])?;
                verdict.write(2, to)
            }
            Expression::DnatTo { .. } => numbers(
                to,
                &[(1, NAT_DNAT), (2, NFPROTO_IPV4), (3, FIRST), (5, SECOND), (7, NAT_RANGE_PROTO_SPECIFIED)],
            ),
            Expression::DnatToMapped => numbers(to, &[(1, NAT_DNAT), (2, NFPROTO_IPV4), (3, FIRST), (5, part(1))]),
            Expression::Masquerade => numbers(to, &[(1, NAT_RANGE_PROTO_RANDOM_FULLY)]),
            Expression::Reject => {
                numbers(to, &[(1, REJECT_ICMP_UNREACH)])?;
                to.raw(2, &[ICMP_PORT_UNREACH])
            }
            Expression::Random { below } => numbers(to, &[(1, FIRST), (2, below), (3, NG_RANDOM), (4, 0)]),
            Expression::Update { set } => {
                numbers(to, &[(4, FIRST), (3, DYNSET_OP_UPDATE)])?;
                to.text(1, set)
            }
        }
    }
}

/// Bytes into a register.
fn immediate(register: u32, value: &[u8], to: &mut Writer) -> Option<()> {
    element("immediate", to, |to| {
        to.number(1, register)?;
        write_value(2, value, to)
    })
}

fn element(name: &str, to: &mut Writer, data: impl FnOnce(&mut Writer) -> Option<()>) -> Option<()> {
    to.nested(LIST_ELEM, |to| {
        to.text(EXPR_NAME, name)?;
        to.nested(EXPR_DATA, data)
    })
}

fn numbers(to: &mut Writer, attributes: &[(u16, u32)]) -> Option<()> {
    attributes.iter().try_for_each(|(kind, value)| to.number(*kind, *value))
}
