//! A connection as a node's conntrack knows it: pure data, and how it reads.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::lab::model::Protocol;

/// What is spoken above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP: pings.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
    /// Another, by its IANA number.
    Other(u8),
}

impl Transport {
    /// Its IANA number.
    pub fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
            Transport::Icmp => 1,
            Transport::Icmpv6 => 58,
            Transport::Other(number) => number,
        }
    }

    /// By its IANA number.
    pub fn of(number: u8) -> Self {
        let known = [Transport::Tcp, Transport::Udp, Transport::Sctp, Transport::Icmp, Transport::Icmpv6];
        known.into_iter().find(|it| it.number() == number).unwrap_or(Transport::Other(number))
    }
}

impl From<Protocol> for Transport {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => Transport::Sctp,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Tcp => f.pad("tcp"),
            Transport::Udp => f.pad("udp"),
            Transport::Sctp => f.pad("sctp"),
            Transport::Icmp => f.pad("icmp"),
            Transport::Icmpv6 => f.pad("icmpv6"),
            Transport::Other(number) => f.pad(&format!("ip-{number}")),
        }
    }
}

/// One direction of a connection. Where the protocol has no ports, they are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Way {
    /// Who sends.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
}

/// A connection, both ways: what the client wrote, and what comes back. Where they are not each
/// other's reverse, addresses are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// What is spoken.
    pub transport: Transport,
    /// From the client to whom it wrote to.
    pub original: Way,
    /// From who really answers, to whom it sees as its client.
    pub reply: Way,
}

/// A connection, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Between whom.
    pub flow: Flow,
    /// The state of TCP, as `conntrack -L` has it.
    pub tcp: Option<TcpState>,
    /// Something came back.
    pub answered: bool,
    /// It is not given up before its time when the table is full.
    pub assured: bool,
    /// It is forgotten after this many seconds without a packet.
    pub expires: Option<u32>,
}

impl Connection {
    /// Its state in one word: TCP's own, or whether there was an answer.
    pub fn state(&self) -> &'static str {
        match self.tcp {
            Some(state) => state.as_str(),
            None if !self.answered => "UNREPLIED",
            None if self.assured => "ASSURED",
            None => "REPLIED",
        }
    }
}

/// The state of a TCP connection in the kernel's conntrack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TcpState {
    /// None that is known.
    None,
    /// The client has knocked.
    SynSent,
    /// The server has answered the knock.
    SynRecv,
    /// They talk.
    Established,
    /// One side has said all.
    FinWait,
    /// The other side has heard so.
    CloseWait,
    /// Both have said all.
    LastAck,
    /// It is over, and late packets may still come.
    TimeWait,
    /// It broke.
    Close,
    /// Both have knocked at once.
    SynSent2,
}

impl TcpState {
    /// The state by its number in the kernel (`enum tcp_conntrack`).
    pub fn of(number: u8) -> Self {
        const STATES: [TcpState; 10] = [
            TcpState::None,
            TcpState::SynSent,
            TcpState::SynRecv,
            TcpState::Established,
            TcpState::FinWait,
            TcpState::CloseWait,
            TcpState::LastAck,
            TcpState::TimeWait,
            TcpState::Close,
            TcpState::SynSent2,
        ];
        STATES.get(usize::from(number)).copied().unwrap_or(TcpState::None)
    }

    /// As `conntrack -L` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            TcpState::None => "NONE",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::FinWait => "FIN_WAIT",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::LastAck => "LAST_ACK",
            TcpState::TimeWait => "TIME_WAIT",
            TcpState::Close => "CLOSE",
            TcpState::SynSent2 => "SYN_SENT2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_keep_their_numbers() {
        for number in 0..=u8::MAX {
            assert_eq!(Transport::of(number).number(), number);
        }
        assert_eq!(Transport::of(17), Transport::Udp);
        assert_eq!(Transport::of(47).to_string(), "ip-47");
    }

    #[test]
    fn states_are_named_as_conntrack_names_them() {
        assert_eq!(TcpState::of(3).as_str(), "ESTABLISHED");
        assert_eq!(TcpState::of(9).as_str(), "SYN_SENT2");
        assert_eq!(TcpState::of(200), TcpState::None);
    }
}
