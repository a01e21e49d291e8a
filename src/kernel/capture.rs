//! Takes packets down while something is tried: one packet socket in each namespace hears all of its
//! interfaces. The sockets end with the request, or with the agent.

use std::{
    collections::BTreeMap,
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::{join_all, pending};
use nix::{
    errno::Errno,
    libc::PACKET_OUTGOING,
    net::if_::if_nameindex,
    sys::socket::{
        AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
        socket, sockopt,
    },
};
use tokio::io::unix::AsyncFd;

use super::{
    client::{self, Circumstances},
    events::Events,
    netns,
    process::Processes,
};
use crate::{
    error::{Context, Result},
    lab::model::Lab,
    probe::{
        capture::{CaptureOrder, Captured, Interface, Packet},
        order::Outcome,
    },
};

/// So many packets of a namespace are kept.
const MOST: usize = 5_000;
/// As much as a GSO frame on a veth has.
const LONGEST: usize = (64 << 10) + 64;
/// What a socket may hold while nobody reads from it; a user namespace gets as much as
/// `net.core.rmem_max` allows.
const BUFFER: usize = 4 << 20;

/// Tries it, and gives back what was heard meanwhile.
///
/// # Errors
///
/// When the kernel gives no packet socket.
pub async fn capture(order: CaptureOrder, lab: &Lab, processes: &Processes, events: &Events) -> Result<Captured> {
    let (there, missing): (Vec<String>, _) = order.places.into_iter().partition(|netns| netns::open(netns).is_ok());
    let mut ears = there.iter().map(|netns| Ear::open(netns)).collect::<Result<Vec<Ear>>>()?;
    let outcome = {
        let circumstances = Circumstances { lab, processes, events, patience: None };
        let hearing = async {
            join_all(ears.iter_mut().map(Ear::hear)).await;
            // Whoever hears nothing waits for the outcome.
            pending::<Outcome>().await
        };
        tokio::select! {
            outcome = client::attempt(order.order, circumstances) => outcome,
            outcome = hearing => outcome,
        }
    };
    let mut captured = Captured { outcome, interfaces: Vec::new(), packets: Vec::new(), cut: false, missing };
    for mut ear in ears {
        // What was on its way when the try was over is in the socket by now.
        ear.drain();
        ear.tell(&mut captured);
    }
    captured.packets.sort_by_key(|packet| packet.nanos);
    Ok(captured)
}

/// An ear of one namespace.
struct Ear {
    netns: String,
    socket: AsyncFd<OwnedFd>,
    /// Its interfaces, by their indices.
    names: BTreeMap<usize, String>,
    heard: Heard,
}

#[derive(Default)]
struct Heard {
    /// With the indices of their interfaces.
    packets: Vec<Packet>,
    cut: bool,
}

impl Ear {
    fn open(netns: &str) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        netns::inside(netns, || {
            let _guard = runtime.enter();
            let what = || format!("cannot listen for packets in {netns}");
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).context(what())?;
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context(what())?;
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER).context(what())?;
            let names = if_nameindex().context(what())?;
            let names =
                names.iter().map(|it| (it.index() as usize, it.name().to_string_lossy().into_owned())).collect();
            // SAFETY: the descriptor is the same as long as it is owned here, and it is never given away.
            let socket = unsafe { AsyncFd::register(socket) }.context(what())?;
            Ok(Ear { netns: netns.to_owned(), socket, names, heard: Heard::default() })
        })
    }

    /// Takes down what comes, for ever.
    async fn hear(&mut self) {
        while let Ok(mut ready) = self.socket.readable().await {
            self.heard.read_all(self.socket.get_ref());
            ready.clear_ready();
        }
    }

    fn drain(&mut self) {
        self.heard.read_all(self.socket.get_ref());
    }

    fn tell(self, captured: &mut Captured) {
        let mut places = BTreeMap::new();
        for (index, name) in self.names {
            places.insert(index, captured.interfaces.len());
            captured.interfaces.push(Interface { netns: self.netns.clone(), name });
        }
        // An interface that came meanwhile is none of the probe's.
        let known = self.heard.packets.into_iter().filter_map(|packet| {
            let interface = *places.get(&packet.interface)?;
            Some(Packet { interface, ..packet })
        });
        captured.packets.extend(known);
        captured.cut |= self.heard.cut;
    }
}

impl Heard {
    /// Reads what there is.
    fn read_all(&mut self, socket: &OwnedFd) {
        let mut bytes = vec![0; LONGEST];
        let mut control = nix::cmsg_space!(nix::libc::timespec);
        loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut into, Some(&mut control), MsgFlags::empty());
            let (length, at, from) = match got {
                Ok(got) => (got.bytes, stamp(got.cmsgs().ok()), got.address),
                // An interface that went down is told of once.
                Err(Errno::ENETDOWN | Errno::EINTR) => continue,
                Err(_) => return,
            };
            let Some(from) = from else { continue };
            if self.packets.len() == MOST {
                self.cut = true;
                continue;
            }
            let outgoing = from.pkttype() == PACKET_OUTGOING;
            let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
            self.packets.push(Packet { interface: from.ifindex(), nanos, outgoing, frame: bytes[..length].to_vec() });
        }
    }
}

/// When the kernel saw a packet, since 1970.
fn stamp(messages: Option<impl Iterator<Item = ControlMessageOwned>>) -> Duration {
    let stamped = messages.into_iter().flatten().find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    });
    stamped.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
