//! The rows, by what they are about.

mod cluster_ip;
mod conditions;
mod elsewhere;
mod empty;
mod files;
mod local;
mod names;
mod node_port;
mod outer;
mod pods;
mod restarts;
mod sctp;
mod sticky;
mod zones;

use super::{Ask, Health, Path, Proof, Row, Seen, Setting, Source};
use crate::lab::model::Protocol;

/// All of them, in the order of the page.
pub(super) const ALL: [&[Row]; 14] = [
    pods::ROWS,
    cluster_ip::ROWS,
    node_port::ROWS,
    outer::ROWS,
    empty::ROWS,
    sctp::ROWS,
    sticky::ROWS,
    local::ROWS,
    zones::ROWS,
    conditions::ROWS,
    restarts::ROWS,
    names::ROWS,
    files::ROWS,
    elsewhere::ROWS,
];

/// A row whose proof is a list of paths.
const fn paths(
    id: &'static str,
    behaviour: &'static str,
    source: &'static str,
    setting: &'static Setting,
    paths: &'static [Path],
) -> Row {
    Row { id, behaviour, source, proof: Proof::Paths(setting, paths) }
}

const fn tcp(from: &'static str, to: &'static str) -> Path {
    Path::new(from, to, Protocol::Tcp)
}

const fn udp(from: &'static str, to: &'static str) -> Path {
    Path::new(from, to, Protocol::Udp)
}

const fn sctp(from: &'static str, to: &'static str) -> Path {
    Path::new(from, to, Protocol::Sctp)
}

impl Path {
    /// These answer, and see the client's own address; but the ladder masquerades whatever it
    /// translates.
    const fn kept(self, by: &'static str) -> Path {
        self.sees(Seen::By(by, Source::Kept)).ladder(Seen::By(by, Source::Node))
    }

    /// These answer, and see a node's address.
    const fn masked(self, by: &'static str) -> Path {
        self.sees(Seen::By(by, Source::Node))
    }

    /// The client is one of these: it sees a node's address, the others see the client's own.
    const fn among(self, by: &'static str) -> Path {
        self.sees(Seen::By(by, Source::Either)).ladder(Seen::By(by, Source::Node))
    }

    /// These answer; nothing translates.
    const fn direct(self, by: &'static str) -> Path {
        self.sees(Seen::By(by, Source::Kept))
    }

    const fn refused(self) -> Path {
        self.sees(Seen::Refused)
    }

    const fn timeout(self) -> Path {
        self.sees(Seen::Timeout)
    }
}

/// The three backends of many labs.
const WEB: &str = "b1 b2a b2b";
