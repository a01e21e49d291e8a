//! Questions to name servers and their answers, as they are tried and judged: plain data, and the
//! search list of a resolver worked out.
//!
//! How they look on the wire is the kernel side's business ([`crate::kernel`]).

pub mod wire;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// The port of name servers.
pub const PORT: u16 = 53;
/// The version of Kubernetes' DNS specification, which `dns-version` under the cluster domain says.
pub const SCHEMA: &str = "1.1.0";
/// How many dots make a resolver try a name as it is first, if it is not told.
const NDOTS: u8 = 1;
/// More than this is taken for this (`RES_MAXNDOTS`).
const MOST_NDOTS: u8 = 15;

/// A question to a resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The name, as a program would have it: with a dot at its end, nothing is put behind it.
    pub name: String,
    /// What is asked about it.
    pub kind: RecordKind,
    /// Over what.
    pub transport: Transport,
    /// Whom, and what is put behind the name.
    pub resolver: Resolver,
}

/// What a resolver is told: an `/etc/resolv.conf`, understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// The name servers, in their order.
    pub servers: Vec<SocketAddr>,
    /// The domains that are put behind a name, in their order.
    pub search: Vec<String>,
    /// With so many dots, a name is tried as it is first.
    pub ndots: u8,
    /// These are the settings of the place that asks: its own tools have them too.
    pub own: bool,
}

/// The types of records that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Ports and their machines.
    Srv,
    /// The name of an address.
    Ptr,
    /// Another name.
    Cname,
    /// A text.
    Txt,
}

/// How a question travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// In a datagram; and over TCP if the answer does not fit into one.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What a name server said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The name that this is about: the one of the search list that was found, or the best of those
    /// that were not.
    pub name: String,
    /// How it went.
    pub rcode: Rcode,
    /// The server is an authority for the name.
    pub authoritative: bool,
    /// The first answer did not fit into a datagram, so this one came over TCP.
    pub truncated: bool,
    /// The answer.
    pub answers: Vec<Found>,
    /// With a negative answer: the record that says whose it is.
    pub authority: Vec<Found>,
}

/// One record of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its name, without a dot at its end.
    pub name: String,
    /// Its time to live in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Said,
}

/// What a record says; names are in lower case and without a dot at their end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// CNAME.
    Alias(String),
    /// A or AAAA.
    Address(IpAddr),
    /// SRV.
    Service {
        /// The lower, the sooner.
        priority: u16,
        /// The higher, the more.
        weight: u16,
        /// The port.
        port: u16,
        /// The machine.
        target: String,
    },
    /// PTR.
    Pointer(String),
    /// TXT.
    Text(String),
    /// SOA: for so many seconds a name that is not there may be taken for missing.
    Authority(u32),
    /// Something else, in the words of who read it.
    Other(String),
}

/// How a question went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rcode {
    /// The name is there; what was asked for may not be.
    NoError,
    /// The server does not understand the question.
    FormErr,
    /// The server cannot find out.
    ServFail,
    /// There is no such name.
    NxDomain,
    /// The server does not know how to answer that.
    NotImp,
    /// The server does not want to.
    Refused,
    /// Another one.
    Other(u16),
}

impl Resolver {
    /// One server and no search list.
    pub fn of_server(server: SocketAddr) -> Resolver {
        Resolver { servers: vec![server], search: Vec::new(), ndots: NDOTS, own: false }
    }

    /// From the text of a `resolv.conf` of the place that asks. Lines that a resolver does not
    /// understand it passes over, and so does this.
    pub fn of_file(text: &str) -> Resolver {
        let mut resolver = Resolver { servers: Vec::new(), search: Vec::new(), ndots: NDOTS, own: true };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver.servers.extend(ip.map(|ip| SocketAddr::new(ip, PORT)));
                }
                // The last one counts.
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse::<u8>().ok()).last();
                    resolver.ndots = ndots.unwrap_or(resolver.ndots).min(MOST_NDOTS);
                }
                _ => {}
            }
        }
        resolver
    }

    /// The absolute names that stand for `name`, in the order in which glibc tries them until one
    /// is found.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let dots = name.matches('.').count();
        let mut names = Vec::new();
        let first = dots >= usize::from(self.ndots);
        if first {
            names.push(name.to_owned());
        }
        for domain in &self.search {
            match domain.trim_matches('.') {
                // A lone dot is the root: the name as it is.
                "" if first => {}
                "" => names.push(name.to_owned()),
                domain => names.push(format!("{name}.{domain}")),
            }
        }
        if names.iter().all(|other| other != name) {
            names.push(name.to_owned());
        }
        names
    }
}

impl Response {
    /// There is a record of this type among the answers.
    pub fn has(&self, kind: RecordKind) -> bool {
        self.answers.iter().any(|found| found.data.is(kind))
    }

    /// The search ends here: what was asked for is there.
    pub fn is_found(&self, kind: RecordKind) -> bool {
        self.rcode == Rcode::NoError && self.has(kind)
    }

    /// It says which version of the specification it follows, as only a cluster's DNS does.
    pub fn is_of_a_cluster(&self) -> bool {
        let version = |found: &Found| matches!(&found.data, Said::Text(text) if text == SCHEMA);
        self.rcode == Rcode::NoError && self.answers.iter().any(version)
    }
}

impl Said {
    /// It is of this type.
    pub fn is(&self, kind: RecordKind) -> bool {
        match (self, kind) {
            (Said::Address(ip), RecordKind::A) => ip.is_ipv4(),
            (Said::Address(ip), RecordKind::Aaaa) => ip.is_ipv6(),
            (Said::Alias(_), RecordKind::Cname)
            | (Said::Service { .. }, RecordKind::Srv)
            | (Said::Pointer(_), RecordKind::Ptr)
            | (Said::Text(_), RecordKind::Txt) => true,
            _ => false,
        }
    }
}

impl RecordKind {
    /// As zone files spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordKind::A => "A",
            RecordKind::Aaaa => "AAAA",
            RecordKind::Srv => "SRV",
            RecordKind::Ptr => "PTR",
            RecordKind::Cname => "CNAME",
            RecordKind::Txt => "TXT",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rcode::NoError => f.pad("NOERROR"),
            Rcode::FormErr => f.pad("FORMERR"),
            Rcode::ServFail => f.pad("SERVFAIL"),
            Rcode::NxDomain => f.pad("NXDOMAIN"),
            Rcode::NotImp => f.pad("NOTIMP"),
            Rcode::Refused => f.pad("REFUSED"),
            Rcode::Other(code) => write!(f, "rcode {code}"),
        }
    }
}

/// As `dig +short` has it, with the type in front.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Alias(name) => write!(f, "CNAME {name}"),
            Said::Address(ip) if ip.is_ipv4() => write!(f, "A {ip}"),
            Said::Address(ip) => write!(f, "AAAA {ip}"),
            Said::Service { priority, weight, port, target } => write!(f, "SRV {priority} {weight} {port} {target}"),
            Said::Pointer(name) => write!(f, "PTR {name}"),
            Said::Text(text) => write!(f, "TXT {text:?}"),
            Said::Authority(seconds) => write!(f, "SOA ({seconds} s)"),
            Said::Other(text) => f.write_str(text),
        }
    }
}

/// The name under which an address is looked up.
pub fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).chain(["ip6.arpa".to_owned()]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\n\
                       options ndots:5\n";

    #[test]
    fn a_file_is_read_as_a_resolver_reads_it() {
        let resolver = Resolver::of_file(POD);
        assert_eq!(resolver.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(resolver.search, ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!(resolver.ndots, 5);
        let odd =
            Resolver::of_file("# x\ndomain a\nsearch b c\nnameserver nonsense\nnameserver ::1\noptions ndots:99\n");
        assert_eq!((odd.search.len(), odd.servers.len(), odd.ndots), (2, 1, 15));
        assert_eq!(Resolver::of_file("").ndots, 1);
    }

    /// What glibc does with these, as its manual and `res_search` have it.
    #[test]
    fn a_name_is_searched_for() {
        let resolver = Resolver::of_file(POD);
        let tried = |name| resolver.candidates(name);
        assert_eq!(
            tried("shop"),
            ["shop.default.svc.cluster.local", "shop.svc.cluster.local", "shop.cluster.local", "shop"]
        );
        assert_eq!(tried("shop.other")[1], "shop.other.svc.cluster.local");
        assert_eq!(tried("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(tried("a.b.c.d.e.f").len(), 4);
        assert_eq!(tried("shop.default.svc.cluster.local."), ["shop.default.svc.cluster.local"]);
        let root = Resolver { search: vec![".".to_owned(), "a".to_owned()], ..resolver };
        assert_eq!(root.candidates("x"), ["x", "x.a"]);
        assert_eq!(root.candidates("a.b.c.d.e.f"), ["a.b.c.d.e.f", "a.b.c.d.e.f.a"]);
    }

    #[test]
    fn addresses_are_turned_round() {
        assert_eq!(reverse("10.96.1.100".parse().unwrap()), "100.1.96.10.in-addr.arpa");
        let six = reverse("fd00::1".parse().unwrap());
        assert!(six.starts_with("1.0.0.0.") && six.ends_with(".0.0.d.f.ip6.arpa"), "{six}");
    }
}
