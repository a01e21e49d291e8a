//! What a Service must do, as a table of rows: each a behaviour of Kubernetes, a small lab, and
//! what must be seen in it.
//!
//! The table is data. Whoever runs it asks each row of three opinions, which must agree with the
//! row and with each other: [`truth`](crate::proxy::truth), [`trace`](crate::proxy::trace) and
//! the kernel (`tests/conformance.rs`). [`page()`] prints it for people (`cargo xtask conformance`).
//!
//! The rows' ids up to `Z` with a number are those of the project's reference; `own-…` are
//! drawn from the contract besides.

mod labs;
mod page;
mod rows;

use crate::{
    dns::resolv,
    lab::{
        load,
        model::{Lab, Place, Protocol, ProxyMode},
    },
    probe::{
        judge::in_order,
        question::{Found, Question, RecordKind, Resolver, Response, Said, Transport},
    },
    proxy::{
        ladder,
        truth::{Choice, Sight},
    },
};

pub use page::page;

/// One behaviour, and how it shows.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name: `B1`.
    pub id: &'static str,
    /// What must be so: one sentence without a full stop.
    pub behaviour: &'static str,
    /// Where Kubernetes says, or tests, so.
    pub source: &'static str,
    /// How it shows.
    pub proof: Proof,
}

/// How a behaviour shows.
#[derive(Debug, Clone, Copy)]
pub enum Proof {
    /// In what is seen in a lab.
    Paths(&'static Setting, &'static [Path]),
    /// A Service of this lab has no rule at all: none names it.
    NoRules(&'static Setting, &'static str),
    /// A node answers a load balancer's question about its endpoints.
    Health(&'static Setting, &'static [Health]),
    /// The name servers of a lab answer these questions.
    Names(&'static Setting, &'static [Ask]),
    /// A Service with these keys is refused, with this sentence, before anything is touched.
    Invalid(&'static str, &'static str),
    /// A Service with these keys means this.
    Valid(&'static str, fn(&Lab) -> String, &'static str),
    /// In what is seen in one lab, and then in another that is brought up in its place: netlab does
    /// not change a lab that runs.
    Restarted(&'static [Act]),
    /// In this lab's clients: each stays with its endpoint as long as it comes back in time, and is
    /// given another one some time after it has been gone for so many seconds.
    Forgets(&'static Setting, &'static [Path], u32),
    /// It does not show yet: why.
    NotYet(&'static str),
}

/// A lab, and what is seen in it.
pub type Act = (&'static Setting, &'static [Path]);

/// A lab, and what is done to it.
#[derive(Debug)]
pub struct Setting {
    /// Its name, with which no other begins.
    pub name: &'static str,
    /// Its file, without the line that chooses a proxy.
    pub file: &'static str,
    /// More of the table `[cluster]`.
    pub cluster: &'static str,
    /// Routes that `host` gets besides: addresses and the nodes that they lead to.
    pub routes: &'static [(&'static str, &'static str)],
}

/// A connection, and what its client must see under each proxy.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// The name of the place that asks.
    pub from: &'static str,
    /// `ADDRESS:PORT`.
    pub to: &'static str,
    /// Over what.
    pub protocol: Protocol,
    /// How many bytes are sent and come back, if it matters.
    pub bytes: Option<usize>,
    /// The port that datagrams are sent from, if it is always the same.
    pub source_port: Option<u16>,
    /// What must be seen, in the order of [`ProxyMode::ALL`]; `None` if it is not said.
    seen: [Option<Seen>; 3],
}

/// What a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// All of these answer, with a space between, and nobody else; each sees the client so.
    By(&'static str, Source),
    /// One of these answers, and stays the one.
    Sticky(&'static str, Source),
    /// It is refused at once.
    Refused,
    /// Nothing comes back.
    Timeout,
    /// It is said that there is no way.
    Unreachable,
    /// Some connections are answered by these; others get no answer: a hole of the contract.
    Holes(&'static str, Source),
}

/// Which client address a server sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The client's own.
    Kept,
    /// A node's.
    Node,
    /// It depends on the endpoint.
    Either,
}

/// A question about a name.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Who asks: by its own resolver, and at the cluster's DNS for a name with a dot at its end.
    pub from: &'static str,
    /// The name.
    pub name: &'static str,
    /// What is asked about it.
    pub kind: RecordKind,
    /// Over what.
    pub transport: Transport,
    /// For how many seconds the answer lasts, if it is said.
    pub ttl: Option<u32>,
    /// What must be said, in the words of [`said`].
    pub says: &'static str,
}

/// A question about a node's endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Who asks.
    pub from: &'static str,
    /// `ADDRESS:PORT`.
    pub to: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A text in the answer.
    pub says: &'static str,
}

/// All rows, in the order of the page.
pub fn rows() -> Vec<Row> {
    rows::ALL.concat()
}

impl Row {
    /// It as rows of one lab each, one after the other; none if it takes no lab.
    pub fn acts(&self) -> Vec<(&'static Setting, Row)> {
        match self.proof {
            Proof::Paths(setting, _)
            | Proof::NoRules(setting, _)
            | Proof::Health(setting, _)
            | Proof::Names(setting, _)
            | Proof::Forgets(setting, ..) => vec![(setting, *self)],
            Proof::Restarted(acts) => acts
                .iter()
                .map(|(setting, paths)| (*setting, Row { proof: Proof::Paths(setting, paths), ..*self }))
                .collect(),
            Proof::Invalid(..) | Proof::Valid(..) | Proof::NotYet(_) => Vec::new(),
        }
    }
}

/// The first words of a proof that waits for something, by what that is.
pub const NOT_YET: &str = "not yet: ";

impl Setting {
    /// Its file for one proxy.
    pub fn text(&self, mode: ProxyMode) -> String {
        format!("[cluster]\nproxy = \"{mode}\"\n{}\n{}", self.cluster, self.file)
    }

    /// The lab for one proxy.
    ///
    /// # Panics
    ///
    /// If the file is wrong, which is a mistake in the table.
    pub fn lab(&self, mode: ProxyMode) -> Lab {
        let text = self.text(mode);
        load(&text).unwrap_or_else(|problems| panic!("{}", problems.render(self.name, &text, crate::diag::Colour::Off)))
    }

    /// Why a proxy cannot have this lab, if it cannot.
    pub fn refused_by(&self, mode: ProxyMode) -> Option<String> {
        match mode {
            ProxyMode::Iptables | ProxyMode::Nftables => None,
            ProxyMode::Ladder => ladder::cannot_express(&self.lab(mode)).into_iter().next().map(|(_, why)| why),
        }
    }
}

impl Path {
    const fn new(from: &'static str, to: &'static str, protocol: Protocol) -> Path {
        Path { from, to, protocol, bytes: None, source_port: None, seen: [None; 3] }
    }

    const fn large(self, bytes: usize) -> Path {
        Path { bytes: Some(bytes), ..self }
    }

    const fn sent_from(self, port: u16) -> Path {
        Path { source_port: Some(port), ..self }
    }

    /// The same under every proxy.
    const fn sees(self, seen: Seen) -> Path {
        Path { seen: [Some(seen); 3], ..self }
    }

    /// Something else under nftables.
    const fn nft(self, seen: Seen) -> Path {
        let [iptables, _, ladder] = self.seen;
        Path { seen: [iptables, Some(seen), ladder], ..self }
    }

    /// Something else under the ladder.
    const fn ladder(self, seen: Seen) -> Path {
        let [iptables, nftables, _] = self.seen;
        Path { seen: [iptables, nftables, Some(seen)], ..self }
    }

    /// What must be seen under a proxy.
    pub fn seen(&self, mode: ProxyMode) -> Option<Seen> {
        let index = ProxyMode::ALL.iter().position(|other| *other == mode)?;
        self.seen[index]
    }
}

impl Seen {
    /// What is seen agrees with what must be.
    pub fn fits(self, lab: &Lab, from: Place, sight: &Sight) -> bool {
        match (self, sight) {
            (Seen::By(names, source) | Seen::Sticky(names, source), Sight::Served(choices))
            | (Seen::Holes(names, source), Sight::Mixed { served: choices, .. }) => {
                let mut wanted: Vec<&str> = names.split(' ').collect();
                let mut found: Vec<String> = choices.iter().map(|choice| answerer(lab, choice)).collect();
                wanted.sort_unstable();
                found.sort_unstable();
                wanted == found && choices.iter().all(|choice| source.fits(lab, from, choice))
            }
            (Seen::Refused, Sight::Refused)
            | (Seen::Timeout, Sight::Dropped)
            | (Seen::Unreachable, Sight::Unreachable) => true,
            _ => false,
        }
    }

    /// In a few words.
    pub fn words(self) -> String {
        match self {
            Seen::By(_, source) => format!("served{}", source.words()),
            Seen::Sticky(_, source) => format!("sticks{}", source.words()),
            Seen::Refused => "refused".to_owned(),
            Seen::Timeout => "timeout".to_owned(),
            Seen::Unreachable => "unreachable".to_owned(),
            Seen::Holes(..) => "served, but not by itself".to_owned(),
        }
    }
}

impl Source {
    fn fits(self, lab: &Lab, from: Place, choice: &Choice) -> bool {
        let nodes = |ip| lab.nodes.iter().any(|node| node.ip == ip || node.pod_gateway == ip);
        let own = |ip: std::net::IpAddr| match from {
            Place::Pod(pod) => lab.pod(pod).ip == ip,
            Place::Client(client) => lab.client(client).ip.addr() == ip,
            Place::Host => lab.cluster.gateway == ip,
            Place::External(external) => lab.external(external).ips.contains(&ip),
            Place::LoadBalancer => lab.load_balancer.as_ref().is_some_and(|balancer| balancer.ip == ip),
            Place::Node(node) => lab.node(node).ip == ip || lab.node(node).pod_gateway == ip || ip.is_loopback(),
        };
        choice.sources.iter().all(|source| match self {
            Source::Kept => own(*source),
            Source::Node => nodes(*source),
            Source::Either => nodes(*source) || own(*source),
        })
    }

    fn words(self) -> &'static str {
        match self {
            Source::Kept => ", source kept",
            Source::Node => ", masqueraded",
            Source::Either => "",
        }
    }
}

impl Ask {
    /// The question, as it is asked in a lab.
    pub fn question(&self, lab: &Lab) -> Question {
        let own = lab.find(self.from).map(|place| resolv::Resolver::of(lab, place).to_string());
        let resolver = Resolver::of_file(&own.unwrap_or_default());
        Question { name: self.name.to_owned(), kind: self.kind, transport: self.transport, resolver }
    }
}

/// What a name server says, in a few words: its code if there is no answer, the records, and whose
/// name it is in a negative answer of the cluster.
pub fn said(response: &Response) -> String {
    let answers: Vec<Said> = response.answers.iter().map(|found| found.data.clone()).collect();
    let mut words: Vec<String> = in_order(&answers).iter().map(ToString::to_string).collect();
    if words.is_empty() {
        words.push(response.rcode.to_string());
        let is_soa = |found: &&Found| matches!(found.data, Said::Authority(_)) && !found.name.is_empty();
        words.extend(response.authority.iter().find(is_soa).map(|found| format!("SOA of {}", found.name)));
    }
    words.join(", ")
}

/// Who answers: a pod, a machine outside, or an address.
pub fn answerer(lab: &Lab, choice: &Choice) -> String {
    let ip = choice.endpoint.ip();
    let machine = || lab.client_ids().find(|client| lab.client(*client).ip.addr() == ip).map(Place::Client);
    let external = || lab.external_ids().find(|id| lab.external(*id).ips.contains(&ip)).map(Place::External);
    let host = || (lab.cluster.gateway == ip).then_some(Place::Host);
    match choice.pod {
        Some(pod) => lab.pod(pod).full_name(),
        None => machine()
            .or_else(external)
            .or_else(host)
            .map_or_else(|| choice.endpoint.to_string(), |place| lab.netns(place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::rehearsal::response;

    /// The built-in server says what the rows say, without a kernel.
    #[test]
    fn the_built_in_server_agrees_with_every_row() {
        let mut asked = 0;
        for row in rows() {
            let Proof::Names(setting, asks) = row.proof else { continue };
            let lab = setting.lab(ProxyMode::Iptables);
            for ask in asks {
                let response = response(&lab, &ask.question(&lab));
                assert_eq!(said(&response), ask.says, "{}: {} {}", row.id, ask.kind, ask.name);
                let lasts = response.answers.iter().all(|found| ask.ttl.is_none_or(|ttl| ttl == found.ttl));
                assert!(lasts, "{}: {} {}: {response:?}", row.id, ask.kind, ask.name);
                asked += 1;
            }
        }
        assert!(asked > 50, "only {asked} questions");
    }
}
