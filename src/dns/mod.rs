//! The names of a lab: which there are, how questions about them are answered, and what pods are
//! told about them.
//!
//! Nothing here opens a socket: bytes come in, bytes go out.
//!
//! [`records`] is what can be listed, for any server of zones. [`Cluster`] is the engine that is built
//! in: the cluster's DNS, which answers as CoreDNS does with kubeadm's Corefile. [`Internet`] is the
//! name server of the lab's internet, whom it asks about all other names.
//!
//! ```text
//! bytes ──request──▶ Request ──zone──▶ Message ──reply──▶ bytes
//!                       └──────ask──────▲
//! ```

mod ask;
mod cluster;
pub mod corefile;
pub mod environment;
pub mod hosts;
mod internet;
pub mod records;
mod reply;
mod request;
pub mod resolv;
mod wire;
mod zone;

pub use ask::{Ask, Heard, Judgement, Pending};
pub use cluster::Cluster;
pub use internet::Internet;
pub use reply::{Answer, Counted};
pub use request::Transport;

/// What is to be done about a message.
#[derive(Debug)]
pub enum Reaction {
    /// Send this back.
    Answer(Answer),
    /// Nothing: it is no question, and whoever answers that can be made to hit somebody else.
    Silence,
    /// Ask the upstream name server, and [`Cluster::resume`] with what it says.
    Ask(Box<Ask>),
}

#[cfg(test)]
mod tests;
