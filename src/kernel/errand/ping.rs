//! An ICMP echo request over a raw socket, which needs no `ping`: the agent may open one in every
//! namespace of its lab, as root or in a user namespace. (The kernel's own sockets for pings are open to
//! nobody in a new namespace, `net.ipv4.ping_group_range`.)

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv, send, setsockopt, socket,
    sockopt::Ipv4RecvErr,
};
use tokio::{io::Interest, net::UdpSocket};

use super::super::{client::failure, questions};
use crate::probe::order::{Answer, Failure, FailureKind};

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// As long as that of `ping`.
const PAYLOAD: usize = 56;

/// Sends one, and waits for its answer or for word that there will be none.
pub(super) async fn once(netns: &str, to: IpAddr) -> Result<Answer, Failure> {
    let IpAddr::V4(to) = to else {
        return Err(Failure { kind: FailureKind::Other, text: format!("{to} is no IPv4 address") });
    };
    // What `connect` says (there is no route) is an end like any other.
    let socket = questions::inside(netns, move || Ok(open(to))).await?.map_err(|error| failure(&error))?;
    // Chance keeps the answers to different requests apart: every raw socket of a namespace hears all.
    let chance = RandomState::new().hash_one(to);
    let request = request(chance);
    let sent = socket
        .async_io(Interest::WRITABLE, || send(socket.as_raw_fd(), &request, MsgFlags::empty()).map_err(io::Error::from))
        .await;
    match sent {
        // A rule in OUTPUT has stopped it; what it says of that is the next error, if anything.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        sent => drop(sent.map_err(|error| failure(&error))?),
    }
    let mut buffer = [0; 2048];
    loop {
        let heard = socket
            .async_io(Interest::READABLE | Interest::ERROR, || {
                recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from)
            })
            .await;
        let length = heard.map_err(|error| failure(&error))?;
        if is_answer(&request, &buffer[..length]) {
            return Ok(Answer::default());
        }
    }
}

/// A socket that hears of errors on the way as well. The runtime takes it for one of UDP: of both it
/// knows no more than that datagrams go in and out.
fn open(to: Ipv4Addr) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    setsockopt(&fd, Ipv4RecvErr, &true)?;
    // A connected socket is told of errors, and of no other host's answers.
    connect(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(to, 0)))?;
    UdpSocket::from_std(fd.into())
}

/// RFC 792; chance is the identifier, the sequence number and the first bytes of the payload.
fn request(chance: u64) -> Vec<u8> {
    let mut packet = vec![0; HEADER + PAYLOAD];
    packet[0] = ECHO_REQUEST;
    packet[4..8].copy_from_slice(&chance.to_be_bytes()[..4]);
    packet[HEADER..HEADER + 8].copy_from_slice(&chance.to_be_bytes());
    let sum = checksum(&packet).to_be_bytes();
    packet[2..4].copy_from_slice(&sum);
    packet
}

/// RFC 1071: the complement of the one's complement sum of all 16-bit words.
fn checksum(packet: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = packet.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Whether an IPv4 packet is the answer to a request.
fn is_answer(request: &[u8], packet: &[u8]) -> bool {
    let Some(first) = packet.first() else { return false };
    let header = usize::from(first & 0xf) * 4;
    let Some(message) = packet.get(header..) else { return false };
    // Code 0, and the same identifier, sequence number and payload.
    message.len() == request.len() && message[..2] == [ECHO_REPLY, 0] && message[4..] == request[4..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_up_to_nothing() {
        assert_eq!(checksum(&request(0x0123_4567_89ab_cdef)), 0);
        // RFC 1071, section 3: the sum of these is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn an_answer_is_known_among_others() {
        let request = request(7);
        let mut packet = vec![0x45; 20];
        packet.extend(&request);
        assert!(!is_answer(&request, &packet), "it is the request");
        packet[20] = ECHO_REPLY;
        assert!(is_answer(&request, &packet));
        packet[24] ^= 1;
        assert!(!is_answer(&request, &packet), "it is another one's");
        assert!(!is_answer(&request, &[]) && !is_answer(&request, &packet[..30]));
    }
}
