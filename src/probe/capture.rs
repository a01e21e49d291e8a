//! Packets of a probe, taken down on every interface of the namespaces that it should cross: what
//! the CLI and the agent say to each other about it.

use serde::{Deserialize, Serialize};

use super::order::{Order, Outcome};
use crate::proxy::flow::Connection;

/// Something to try while packets are taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureOrder {
    /// What to try.
    pub order: Order,
    /// The network namespaces to listen in.
    pub places: Vec<String>,
}

/// What came of a [`CaptureOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// What the prober saw.
    pub outcome: Outcome,
    /// Where packets were listened for.
    pub interfaces: Vec<Interface>,
    /// The packets, the earliest first.
    pub packets: Vec<Packet>,
    /// There were more packets than are kept.
    pub cut: bool,
    /// Namespaces that are not there (any more).
    pub missing: Vec<String>,
}

/// An interface of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The namespace.
    pub netns: String,
    /// Its name there.
    pub name: String,
}

/// A packet on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The place in [`Captured::interfaces`].
    pub interface: usize,
    /// When, in nanoseconds since 1970.
    pub nanos: u64,
    /// The kernel sent it there, rather than got it from there.
    pub outgoing: bool,
    /// The frame, from its Ethernet header on.
    #[serde(with = "frame")]
    pub frame: Vec<u8>,
}

/// How a namespace is: what a person would look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The namespace.
    pub netns: String,
    /// Its rules with their counters, as the tool prints them; nothing if it has none.
    pub rules: String,
    /// Its interfaces, addresses, routes and neighbours, as `ip` prints them.
    pub network: String,
    /// What its conntrack knows.
    pub connections: Vec<Connection>,
}

/// Frames are base64 in JSON.
mod frame {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(frame: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(frame))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
