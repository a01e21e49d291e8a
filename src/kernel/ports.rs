//! Ports on which somebody listens in a namespace.
//!
//! When a lab is built, those of all its built-in servers are opened first, by a thread for each core that goes
//! from namespace to namespace. One that is opened later has a thread of its own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::sys::socket::{Backlog, listen};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use super::netns;
use crate::{
    error::{Context, Result},
    lab::model::{Lab, Protocol, Server},
    plan::step::{PlannedStep, Step},
};

/// Ports that are open, and that nobody serves yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports(Arc<Mutex<BTreeMap<Port, Opened>>>);

/// By namespace.
type Port = (String, u16, Protocol);

#[derive(Debug)]
enum Opened {
    Tcp(std::net::TcpListener),
    Udp(std::net::UdpSocket),
}

impl Ports {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Port, Opened>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the ports of the built-in servers that are to be started. One that cannot be opened now is tried again
    /// by its server, which then says why.
    pub(super) fn open(&self, lab: &Lab, servers: &[PlannedStep], cores: usize) {
        let wanted: Vec<(&str, u16, Protocol)> = servers
            .iter()
            .filter_map(|planned| match &planned.step {
                Step::Serve { netns, pod, container, .. } => Some((netns, &lab.pod(*pod).containers[*container])),
                _ => None,
            })
            .filter(|(_, container)| container.server == Server::Echo)
            .flat_map(|(netns, container)| {
                container.ports.iter().map(|port| (netns.as_str(), port.container_port, port.protocol))
            })
            .collect();
        let share = wanted.len().div_ceil(cores).max(1);
        thread::scope(|scope| {
            for wanted in wanted.chunks(share) {
                let thread = thread::Builder::new().name("netns".into()).stack_size(256 << 10);
                // Without the thread, the servers open them themselves.
                let _ = thread.spawn_scoped(scope, || self.open_all(wanted));
            }
        });
    }

    fn open_all(&self, wanted: &[(&str, u16, Protocol)]) {
        let mut here = None;
        for (netns, port, protocol) in wanted {
            if here != Some(*netns) && netns::enter(netns).is_err() {
                return;
            }
            here = Some(*netns);
            let any = SocketAddr::from(([0, 0, 0, 0], *port));
            let opened = match protocol {
                Protocol::Tcp => listener(any).map(Opened::Tcp),
                Protocol::Udp => std::net::UdpSocket::bind(any).map(Opened::Udp),
                Protocol::Sctp => continue,
            };
            if let Ok(opened) = opened {
                self.table().insert(((*netns).to_owned(), *port, *protocol), opened);
            }
        }
    }

    /// A TCP port on all addresses of a namespace.
    ///
    /// # Errors
    ///
    /// When it is taken.
    pub(super) fn tcp(&self, netns: &str, port: u16) -> Result<TcpListener> {
        match self.table().remove(&(netns.to_owned(), port, Protocol::Tcp)) {
            Some(Opened::Tcp(listener)) => tcp_served(listener, port),
            _ => tcp_listener(netns, port),
        }
    }

    /// A UDP port on all addresses of a namespace.
    ///
    /// # Errors
    ///
    /// When it is taken.
    pub(super) fn udp(&self, netns: &str, port: u16) -> Result<UdpSocket> {
        match self.table().remove(&(netns.to_owned(), port, Protocol::Udp)) {
            Some(Opened::Udp(socket)) => udp_served(socket, port),
            _ => udp_socket(netns, port),
        }
    }
}

/// A socket of the calling thread's namespace.
///
/// # Errors
///
/// When the kernel gives none.
pub(super) fn tcp_socket(to: SocketAddr) -> Result<TcpSocket> {
    match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .context("cannot make a socket")
}

/// Opens a UDP port on all addresses of a namespace.
///
/// # Errors
///
/// When it is taken.
pub(super) fn udp_socket(netns: &str, port: u16) -> Result<UdpSocket> {
    let any = SocketAddr::from(([0, 0, 0, 0], port));
    let socket =
        netns::inside(netns, || std::net::UdpSocket::bind(any).context(format!("cannot listen on port {port}/UDP")))?;
    udp_served(socket, port)
}

fn udp_served(socket: std::net::UdpSocket, port: u16) -> Result<UdpSocket> {
    socket
        .set_nonblocking(true)
        .and_then(|()| UdpSocket::from_std(socket))
        .context(format!("cannot listen on port {port}/UDP"))
}

/// Opens a TCP port on all addresses of a namespace.
///
/// # Errors
///
/// When it is taken.
pub(super) fn tcp_listener(netns: &str, port: u16) -> Result<TcpListener> {
    let any = SocketAddr::from(([0, 0, 0, 0], port));
    let opened = netns::inside(netns, || listener(any).context(format!("cannot listen on port {port}/TCP")))?;
    tcp_served(opened, port)
}

/// The port of a server that has just ended is free (`SO_REUSEADDR`, which std sets).
fn listener(any: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(any)?;
    // A SYN that finds no room comes again after a second, and is led to where the first one was. So as many may
    // wait as the kernel allows (net.core.somaxconn).
    listen(&listener, Backlog::MAXALLOWABLE)?;
    Ok(listener)
}

fn tcp_served(listener: std::net::TcpListener, port: u16) -> Result<TcpListener> {
    listener
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(listener))
        .context(format!("cannot listen on port {port}/TCP"))
}
