//! From a rule in nft's words to the kernel's expressions, as nft itself translates it.
//!
//! What is not known here makes the whole rule unknown: half of one would be another rule.

use ipnet::Ipv4Net;

use super::{
    expression::{Base, Ct, Expression, FIB_DESTINATION, FIB_SOURCE, Meta, SetName, TO_VERDICT, Verdict, Wanted, part},
    set::{Anonymous, Field, Kind, elements, key},
    words::Words,
};

/// Where the addresses of an IPv4 header are.
const SADDR: u32 = 12;
const DADDR: u32 = 16;
/// Where the destination port is, whichever the transport.
const DPORT: u32 = 2;
const NEW: u32 = 1 << 3;
const DNAT: u32 = 1 << 5;
const RTN_LOCAL: u32 = 2;
const IFNAMSIZ: usize = 16;

/// A rule, ready to be written down.
#[derive(Debug, Default)]
pub(super) struct Rule<'a> {
    /// The sets that it has for itself.
    pub(super) sets: Vec<Anonymous<'a>>,
    pub(super) expressions: Vec<Expression<'a>>,
    pub(super) comment: Option<&'a str>,
}

impl<'a> Rule<'a> {
    /// Reads a rule; its own sets get the numbers from `id` on.
    pub(super) fn read(text: &'a str, id: u32) -> Option<Self> {
        let mut rule = Rule::default();
        let mut words = Words::new(text);
        while let Some(word) = words.next() {
            rule.statement(word, &mut words, id)?;
        }
        Some(rule)
    }

    fn statement(&mut self, word: &'a str, words: &mut Words<'a>, id: u32) -> Option<()> {
        match word {
            "ip" | "meta" if words.is_key() => self.lookup(word, words),
            "ip" => self.address(words, id),
            "meta" => self.meta(words),
            "tcp" | "udp" | "sctp" => {
                words.expect("dport")?;
                let port: u16 = words.next()?.parse().ok()?;
                self.protocol(word)?;
                self.push(Field::DPort.load(part(0)));
                self.compare(Wanted::Yes, port.to_be_bytes().to_vec())
            }
            "ct" => {
                let (key, bit) = match (words.next()?, words.next()?) {
                    ("state", "new") => (Ct::State, NEW),
                    ("status", "dnat") => (Ct::Status, DNAT),
                    _ => return None,
                };
                self.push(Expression::LoadCt(key));
                self.any_of(bit)
            }
            "fib" => {
                let flag = match words.next()? {
                    "saddr" => FIB_SOURCE,
                    "daddr" => FIB_DESTINATION,
                    _ => return None,
                };
                words.expect("type")?;
                words.expect("local")?;
                self.push(Expression::AddressType { flag });
                self.compare(Wanted::Yes, RTN_LOCAL.to_ne_bytes().to_vec())
            }
            "iifname" => {
                let wanted = words.wanted();
                self.push(Expression::LoadMeta { key: Meta::InName, to: part(0) });
                self.compare(wanted, interface(words.next()?)?)
            }
            "drop" => self.verdict(Verdict::Drop),
            "accept" => self.verdict(Verdict::Accept),
            "return" => self.verdict(Verdict::Return),
            "jump" => self.verdict(Verdict::Jump(words.next()?)),
            "goto" => self.verdict(Verdict::Goto(words.next()?)),
            "reject" => self.push(Expression::Reject),
            "masquerade" => {
                words.expect("fully-random")?;
                self.push(Expression::Masquerade)
            }
            "dnat" => self.dnat(words, id),
            "numgen" => {
                self.random(words)?;
                words.expect("vmap")?;
                self.pick(TO_VERDICT, Kind::Verdicts, words, id)
            }
            "update" => {
                let set = words.next()?.strip_prefix('@')?;
                for word in ["{", "ip", "saddr", "}"] {
                    words.expect(word)?;
                }
                self.push(Field::SAddr.load(part(0)));
                self.push(Expression::Update { set })
            }
            "comment" => {
                self.comment = Some(words.next()?.strip_prefix('"')?.strip_suffix('"')?);
                Some(())
            }
            _ => None,
        }
    }

    fn push(&mut self, expression: Expression<'a>) -> Option<()> {
        self.expressions.push(expression);
        Some(())
    }

    fn verdict(&mut self, verdict: Verdict<'a>) -> Option<()> {
        self.push(Expression::Verdict(verdict))
    }

    fn compare(&mut self, wanted: Wanted, with: Vec<u8>) -> Option<()> {
        self.push(Expression::Compare { wanted, with })
    }

    /// What is loaded has one of these bits.
    fn any_of(&mut self, bits: u32) -> Option<()> {
        self.push(Expression::Bitwise { mask: bits.to_ne_bytes(), xor: [0; 4] });
        self.compare(Wanted::No, vec![0; 4])
    }

    fn protocol(&mut self, word: &str) -> Option<()> {
        self.push(Field::Protocol.load(part(0)));
        self.compare(Wanted::Yes, key(word)?)
    }

    /// `ip daddr . meta l4proto . th dport vmap @services`: several fields, looked up together.
    fn lookup(&mut self, first: &str, words: &mut Words<'a>) -> Option<()> {
        let (mut word, mut nth) = (first, 0);
        loop {
            let field = Field::read(word, words.next()?)?;
            self.push(field.load(part(nth)));
            nth += 1;
            if words.peek() != Some(".") {
                break;
            }
            words.expect(".")?;
            word = words.next()?;
        }
        let to = if words.peek() == Some("vmap") { words.next().map(|_| TO_VERDICT) } else { None };
        let set = SetName::Is(words.next()?.strip_prefix('@')?);
        self.push(Expression::Lookup { set, to, wanted: Wanted::Yes })
    }

    /// `ip saddr`, and what it shall be.
    fn address(&mut self, words: &mut Words<'a>, id: u32) -> Option<()> {
        let field = Field::read("ip", words.next()?)?;
        let offset = match field {
            Field::SAddr => SADDR,
            Field::DAddr => DADDR,
            Field::Protocol | Field::DPort => return None,
        };
        let wanted = words.wanted();
        let word = words.next()?;
        if let Some(set) = word.strip_prefix('@') {
            self.push(field.load(part(0)));
            return self.push(Expression::Lookup { set: SetName::Is(set), to: None, wanted });
        }
        if word != "{" {
            return self.prefix(offset, wanted, network(word)?);
        }
        let list = words.block()?;
        let networks = elements(list).map(network).collect::<Option<Vec<Ipv4Net>>>()?;
        if let [only] = networks[..] {
            return self.prefix(offset, wanted, only);
        }
        let set = Anonymous::of_networks(id + self.number_of_sets()?, field, list, &networks)?;
        self.push(field.load(part(0)));
        self.push(Expression::Lookup { set: set.name(), to: None, wanted });
        self.sets.push(set);
        Some(())
    }

    /// Compares an address with a prefix: as many bytes of it as matter, if that is all.
    fn prefix(&mut self, offset: u32, wanted: Wanted, network: Ipv4Net) -> Option<()> {
        let (length, bytes) = (network.prefix_len(), network.network().octets());
        let whole = usize::from(length / 8);
        let load = |length| Expression::Payload { base: Base::Network, offset, length, to: part(0) };
        if length % 8 == 0 && length > 0 {
            self.push(load(u32::from(length / 8)));
            return self.compare(wanted, bytes[..whole].to_vec());
        }
        self.push(load(4));
        self.push(Expression::Bitwise { mask: network.netmask().octets(), xor: [0; 4] });
        self.compare(wanted, bytes.to_vec())
    }

    fn meta(&mut self, words: &mut Words<'a>) -> Option<()> {
        match (words.next()?, words.next()?) {
            ("l4proto", protocol) => self.protocol(protocol),
            ("mark", "&") => {
                let bits = number(words.next()?)?;
                words.expect("!=")?;
                words.expect("0")?;
                self.push(Expression::LoadMeta { key: Meta::Mark, to: part(0) });
                self.any_of(bits)
            }
            ("mark", "set") => {
                words.expect("meta")?;
                words.expect("mark")?;
                let (operator, bits) = (words.next()?, number(words.next()?)?);
                let mask = match operator {
                    "|" => !bits,
                    "^" => u32::MAX,
                    _ => return None,
                };
                self.push(Expression::LoadMeta { key: Meta::Mark, to: part(0) });
                self.push(Expression::Bitwise { mask: mask.to_ne_bytes(), xor: bits.to_ne_bytes() });
                self.push(Expression::SetMark)
            }
            _ => None,
        }
    }

    /// `to ADDRESS:PORT`, or to one of a map.
    fn dnat(&mut self, words: &mut Words<'a>, id: u32) -> Option<()> {
        match words.next()? {
            "to" => {
                let to: std::net::SocketAddrV4 = words.next()?.parse().ok()?;
                self.push(Expression::DnatTo { address: to.ip().octets(), port: to.port() })
            }
            "ip" => {
                for word in ["addr", ".", "port", "to", "numgen"] {
                    words.expect(word)?;
                }
                self.random(words)?;
                words.expect("map")?;
                self.pick(part(0), Kind::Endpoints, words, id)?;
                self.push(Expression::DnatToMapped)
            }
            _ => None,
        }
    }

    /// `random mod N`.
    fn random(&mut self, words: &mut Words<'a>) -> Option<()> {
        words.expect("random")?;
        words.expect("mod")?;
        self.push(Expression::Random { below: words.next()?.parse().ok()? })
    }

    /// What a map of the rule's own has for the number.
    fn pick(&mut self, to: u32, kind: Kind, words: &mut Words<'a>, id: u32) -> Option<()> {
        words.expect("{")?;
        let set = Anonymous::of_numbers(id + self.number_of_sets()?, kind, words.block()?)?;
        self.push(Expression::Lookup { set: set.name(), to: Some(to), wanted: Wanted::Yes });
        self.sets.push(set);
        Some(())
    }

    fn number_of_sets(&self) -> Option<u32> {
        u32::try_from(self.sets.len()).ok()
    }
}

impl Field {
    fn read(header: &str, name: &str) -> Option<Self> {
        Some(match (header, name) {
            ("ip", "saddr") => Field::SAddr,
            ("ip", "daddr") => Field::DAddr,
            ("meta", "l4proto") => Field::Protocol,
            ("th", "dport") => Field::DPort,
            _ => return None,
        })
    }

    fn load<'a>(self, to: u32) -> Expression<'a> {
        let (base, offset, length) = match self {
            Field::SAddr => (Base::Network, SADDR, 4),
            Field::DAddr => (Base::Network, DADDR, 4),
            Field::DPort => (Base::Transport, DPORT, 2),
            Field::Protocol => return Expression::LoadMeta { key: Meta::Protocol, to },
        };
        Expression::Payload { base, offset, length, to }
    }
}

/// An address, or a prefix.
fn network(word: &str) -> Option<Ipv4Net> {
    match word.split_once('/') {
        Some(_) => word.parse().ok().map(|net: Ipv4Net| net.trunc()),
        None => Some(Ipv4Net::from(word.parse::<std::net::Ipv4Addr>().ok()?)),
    }
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The name of an interface with the zeros after it, or what names begin with.
fn interface(word: &str) -> Option<Vec<u8>> {
    let name = word.strip_prefix('"')?.strip_suffix('"')?;
    if let Some(prefix) = name.strip_suffix('*') {
        return Some(prefix.as_bytes().to_vec()).filter(|it| !it.is_empty() && !it.contains(&b'\\'));
    }
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(IFNAMSIZ, 0);
    Some(bytes).filter(|_| name.len() < IFNAMSIZ)
}
