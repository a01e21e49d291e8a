//! Tells the kernel a batch of nftables messages, in a socket of one namespace, and hears what it says.
//!
//! The kernel carries a batch out while it is being sent: when that is over, it is done as a whole or
//! not at all, and what there is to say of it can be read.

use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::NetfilterMessage;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
        sockopt::{RcvBufForce, SndBuf, SndBufForce},
    },
};

use super::netns;
use crate::{
    error::{Context, Error, Result},
    proxy::nfnetlink::Batch,
};

/// What is sent must fit the buffer of the socket, which is rarely as large.
const ROOM: usize = 64 << 10;
/// A message of the kernel's has the one that it is about in it, or the beginning of that.
const ANSWER: usize = 64 << 10;

/// What became of a batch.
#[derive(Debug)]
pub enum Heard {
    /// It is carried out.
    Done,
    /// It is more than may be sent at a time; nothing was done.
    TooLong,
    /// The kernel did not take it; nothing was done.
    Refused(Error),
}

/// Sends a batch to the kernel, in a namespace.
///
/// # Errors
///
/// When there is no such namespace, or no socket; nothing was done then.
pub fn send(netns: &str, batch: &Batch<'_>) -> Result<Heard> {
    let socket = netns::inside(netns, || open(batch.bytes().len()))?;
    let sent = sendto(socket.as_raw_fd(), batch.bytes(), &NetlinkAddr::new(0, 0), MsgFlags::empty());
    match sent {
        Ok(_) => Ok(hear(&socket, batch)),
        Err(Errno::EMSGSIZE) => Ok(Heard::TooLong),
        Err(errno) => Ok(Heard::Refused(Error::refused(format!("the kernel took no rules: {}", errno.desc())))),
    }
}

/// A socket in the calling thread's namespace, which takes so many bytes at a time if that is allowed.
fn open(length: usize) -> Result<OwnedFd> {
    let kind = (AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
    let socket = socket(kind.0, kind.1, kind.2, kind.3).context("cannot open a netfilter socket")?;
    let room = length + ROOM;
    if setsockopt(&socket, SndBufForce, &room).is_err() {
        // Who is root in a user namespace only may have as much as the host gives everybody; whether
        // that is enough, sending will show.
        let _ = setsockopt(&socket, SndBuf, &room);
    }
    // There may be an answer to each message. If they do not all fit, that is heard of.
    let _ = setsockopt(&socket, RcvBufForce, &room);
    Ok(socket)
}

/// What the kernel says of a batch that it has dealt with.
fn hear(socket: &OwnedFd, batch: &Batch<'_>) -> Heard {
    let mut answer = vec![0; ANSWER];
    let mut done = false;
    loop {
        let length = match recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) if done => return Heard::Done,
            Err(Errno::EAGAIN) => return Heard::Refused(Error::refused("the kernel says nothing of the rules")),
            Err(errno) => return Heard::Refused(Error::refused(format!("the rules: {}", errno.desc()))),
        };
        let Ok(message) = NetlinkMessage::<NetfilterMessage>::deserialize(&answer[..length]) else { continue };
        let NetlinkPayload::Error(said) = message.payload else { continue };
        let number = message.header.sequence_number;
        match said.code {
            // Of several complaints, the first is the reason for the others.
            Some(code) => return Heard::Refused(refusal(Errno::from_raw(code.get().saturating_abs()), number, batch)),
            None => done |= number == batch.last(),
        }
    }
}

fn refusal(errno: Errno, number: u32, batch: &Batch<'_>) -> Error {
    let about = batch.statement(number).map(|statement| format!(": {statement}")).unwrap_or_default();
    Error::refused(format!("the kernel refused the rules: {}{about}", errno.desc()))
}
