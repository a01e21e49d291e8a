//! Datagrams whose answers come from the address that was asked.
//!
//! A socket bound to "any address" answers from whatever address the route back suggests. In a
//! pod that is the pod's only one; a node has several, and a client that has asked one of them
//! does not take an answer from another.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::{
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
        sockopt::Ipv4PacketInfo,
    },
};
use tokio::{io::Interest, net::UdpSocket};

/// No datagram is larger.
const LARGEST: usize = 1 << 16;

/// A datagram that came in.
#[derive(Debug)]
pub(super) struct Received {
    /// What is in it.
    pub(super) bytes: Vec<u8>,
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// The address of ours that it was sent to.
    to: Ipv4Addr,
}

/// A UDP socket that knows which of its addresses was asked.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    largest: usize,
}

impl Datagrams {
    /// Over a bound socket.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell the address.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        Self::up_to(LARGEST, socket)
    }

    /// The same; of a larger datagram than that, only the beginning is received.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell the address.
    pub(super) fn up_to(largest: usize, socket: UdpSocket) -> io::Result<Self> {
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        Ok(Datagrams { socket, largest })
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    ///
    /// What the kernel says, for instance that an earlier answer could not be delivered.
    pub(super) async fn receive(&self) -> io::Result<Received> {
        self.socket.async_io(Interest::READABLE, || receive(&self.socket, self.largest)).await
    }

    /// Answers a datagram.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(super) async fn answer(&self, received: &Received, text: &[u8]) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, || answer(&self.socket, received, text)).await
    }
}

fn receive(socket: &UdpSocket, largest: usize) -> io::Result<Received> {
    // Only while a datagram is there: most servers are idle most of the time.
    let mut bytes = vec![0; largest];
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
    let to = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))),
        _ => None,
    });
    let from = message.address.ok_or_else(|| io::Error::other("a datagram from nobody"))?;
    let from = SocketAddr::V4(SocketAddrV4::new(from.ip(), from.port()));
    let length = message.bytes;
    bytes.truncate(length);
    Ok(Received { bytes, from, to: to.unwrap_or(Ipv4Addr::UNSPECIFIED) })
}

fn answer(socket: &UdpSocket, received: &Received, text: &[u8]) -> io::Result<()> {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(received.to).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let SocketAddr::V4(client) = received.from else { return Err(io::Error::other("not an IPv4 client")) };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    let client = SockaddrIn::from(client);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(text)], &control, MsgFlags::empty(), Some(&client))?;
    Ok(())
}
