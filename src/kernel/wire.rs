//! A socket for the links, addresses and routes of one namespace that is being built.
//!
//! The kernel does its work while a message is sent, so nothing is gained by waiting for its answer
//! elsewhere: thousands of steps are carried out one after the other by one thread, without a runtime.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use super::message::Request;
use crate::error::{Context, Error, Result};

/// A socket in the namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Wire(OwnedFd);

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// Of an answer only the beginning is of interest: each is a datagram of its own, and so is its acknowledgement.
const ANSWER: usize = 256;

impl Wire {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub(super) fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkRoute));
        socket.map(Wire).context("cannot open a netlink socket")
    }

    /// Sends requests at once. The kernel sees to them in their order, whatever becomes of those before.
    ///
    /// # Errors
    ///
    /// What the kernel says of the first one that it refuses, in its own words.
    pub(super) fn tell(&self, mut requests: Vec<Request>) -> Result<()> {
        let mut bytes = Vec::new();
        for (request, number) in requests.iter_mut().zip(1..) {
            request.header.sequence_number = number;
            request.finalize();
            let begin = bytes.len();
            bytes.resize(begin + request.buffer_len().next_multiple_of(4), 0);
            request.serialize(&mut bytes[begin..begin + request.buffer_len()]);
        }
        let refused = |errno: Errno| Error::refused(io::Error::from(errno).to_string());
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(refused)?;
        let mut first: Option<(u32, Errno)> = None;
        let mut answers = 0;
        let mut answer = [0; ANSWER];
        while answers < requests.len() {
            let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(refused)?;
            let Some((number, errno)) = acknowledgement(&answer[..length]) else { continue };
            answers += 1;
            if errno != 0 && first.is_none_or(|(earlier, _)| number < earlier) {
                first = Some((number, Errno::from_raw(errno)));
            }
        }
        first.map_or(Ok(()), |(_, errno)| Err(refused(errno)))
    }
}

/// The number of the request that a datagram acknowledges, and an errno, or 0. Other datagrams give nothing.
fn acknowledgement(datagram: &[u8]) -> Option<(u32, i32)> {
    let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
    let number = u32::from_ne_bytes(datagram.get(8..12)?.try_into().ok()?);
    let errno = i32::from_ne_bytes(datagram.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some((number, errno.checked_neg()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_acknowledgements() {
        let message = |kind: u16, number: u32, body: &[u8]| {
            let length = u32::try_from(HEADER + body.len()).unwrap();
            let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0, 0], &number.to_ne_bytes(), &[0; 4]];
            [&header.concat(), body].concat()
        };
        assert_eq!(acknowledgement(&message(libc::RTM_NEWLINK, 1, b"a link")), None);
        assert_eq!(acknowledgement(&message(2, 1, &[0; 20])), Some((1, 0)));
        // What was refused follows, and is cut off.
        let refused = [&(-17_i32).to_ne_bytes()[..], &[1; 500]].concat();
        assert_eq!(acknowledgement(&message(2, 7, &refused)[..ANSWER]), Some((7, 17)));
        assert_eq!(acknowledgement(&[]), None);
    }
}
