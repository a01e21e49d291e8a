//! The smallest rtnetlink there is: one request, one acknowledgement, no allocation that could
//! be saved. The kernel floor is made with it, so it must cost next to nothing itself.

use std::os::fd::{AsRawFd, OwnedFd};

use ipnet::Ipv4Net;
use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use super::plan::Thing;

/// A socket in the namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

/// From linux/veth.h and linux/if_link.h; libc has no names for these two.
const VETH_INFO_PEER: u16 = 1;
const HEADER: usize = 16;

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub(crate) fn open() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkRoute)).map(Netlink)
    }

    /// Makes one thing; `peer` is the namespace of a veth's other end.
    pub(crate) fn make(&self, thing: &Thing, peer: Option<&OwnedFd>) -> nix::Result<()> {
        self.request(&message(thing, peer))
    }

    fn request(&self, message: &[u8]) -> nix::Result<()> {
        send(self.0.as_raw_fd(), message, MsgFlags::empty())?;
        let mut answer = [0; 1024];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // An acknowledgement is a header and an errno, negated; zero is success.
        let errno = answer[..length].get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok());
        match errno.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw(-errno)),
            None => Err(Errno::EBADMSG),
        }
    }
}

fn message(thing: &Thing, peer: Option<&OwnedFd>) -> Vec<u8> {
    match thing {
        // Namespaces are not made by rtnetlink; the caller never asks for one.
        Thing::Netns => Vec::new(),
        Thing::Up { index } => request(libc::RTM_NEWLINK, 0, |out| link(out, *index, libc::IFF_UP)),
        Thing::Bridge { name, index } => request(libc::RTM_NEWLINK, CREATE, |out| {
            link(out, *index, libc::IFF_UP);
            attribute(out, libc::IFLA_IFNAME, &c_string(name));
            nest(out, libc::IFLA_LINKINFO, |out| attribute(out, libc::IFLA_INFO_KIND, b"bridge"));
        }),
        Thing::Veth { name, index, master, peer: peer_name, peer_index, .. } => {
            request(libc::RTM_NEWLINK, CREATE, |out| {
                link(out, *index, libc::IFF_UP);
                attribute(out, libc::IFLA_IFNAME, &c_string(name));
                if let Some(master) = master {
                    attribute(out, libc::IFLA_MASTER, &master.to_ne_bytes());
                }
                nest(out, libc::IFLA_LINKINFO, |out| {
                    attribute(out, libc::IFLA_INFO_KIND, b"veth");
                    nest(out, libc::IFLA_INFO_DATA, |out| {
                        nest(out, VETH_INFO_PEER, |out| {
                            link(out, *peer_index, 0);
                            attribute(out, libc::IFLA_IFNAME, &c_string(peer_name));
                            if let Some(netns) = peer {
                                attribute(out, libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
                            }
                        });
                    });
                });
            })
        }
        Thing::Address { index, address } => request(libc::RTM_NEWADDR, CREATE, |out| {
            out.extend([AF_INET, address.prefix_len(), 0, 0]);
            out.extend(index.to_ne_bytes());
            attribute(out, libc::IFA_LOCAL, &address.addr().octets());
            attribute(out, libc::IFA_ADDRESS, &address.addr().octets());
            attribute(out, libc::IFA_BROADCAST, &address.broadcast().octets());
        }),
        Thing::Route { to, via, index } => request(libc::RTM_NEWROUTE, CREATE, |out| route(out, *to, *via, *index)),
    }
}

const AF_INET: u8 = 2;
const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

fn route(out: &mut Vec<u8>, to: Ipv4Net, via: Option<std::net::Ipv4Addr>, index: Option<u32>) {
    const RTN_UNICAST: u8 = 1;
    const RTN_BLACKHOLE: u8 = 6;
    let kind = if index.is_some() { RTN_UNICAST } else { RTN_BLACKHOLE };
    let scope = if via.is_none() && index.is_some() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    out.extend([AF_INET, to.prefix_len(), 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, kind, 0, 0, 0, 0]);
    if to.prefix_len() > 0 {
        attribute(out, libc::RTA_DST, &to.network().octets());
    }
    if let Some(via) = via {
        attribute(out, libc::RTA_GATEWAY, &via.octets());
    }
    if let Some(index) = index {
        attribute(out, libc::RTA_OIF, &index.to_ne_bytes());
    }
}

/// A whole message: `struct nlmsghdr`, and what `body` writes.
fn request(kind: u16, flags: i32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    body(&mut out);
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).unwrap_or(u16::MAX);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[0..4].copy_from_slice(&length.to_ne_bytes());
    out[4..6].copy_from_slice(&kind.to_ne_bytes());
    out[6..8].copy_from_slice(&flags.to_ne_bytes());
    out
}

/// `struct ifinfomsg`: a link by its index, and whether it is to be up.
fn link(out: &mut Vec<u8>, index: u32, up: i32) {
    out.extend([0, 0, 0, 0]);
    out.extend(index.to_ne_bytes());
    out.extend(up.to_ne_bytes());
    out.extend(up.to_ne_bytes());
}

/// `struct rtattr` and its value, padded to four bytes.
fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nest(out, kind, |out| out.extend(value));
}

fn nest(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0, 0]);
    out.extend(kind.to_ne_bytes());
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}

fn c_string(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}
