//! Asks other name servers, from the namespace of the one that asks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    net::TcpSocket,
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::tcp;
use crate::{
    dns::{Ask, Heard, Judgement},
    error::{Context, Error, Result},
    kernel::{netns, ports::tcp_socket},
};

/// So long is each name server given (CoreDNS's read timeout for `forward`).
const EACH: Duration = Duration::from_secs(2);
/// So long may a question wait in all (CoreDNS's `defaultTimeout`).
const ALL: Duration = Duration::from_secs(5);
/// So many questions may wait (`max_concurrent` of kubeadm's Corefile).
const WAITING: usize = 1000;
/// So many sockets are opened in one visit to the namespace.
const AT_ONCE: usize = 64;

/// The name servers that are asked.
#[derive(Debug)]
pub(super) struct Upstream {
    servers: Vec<SocketAddr>,
    wanted: mpsc::Sender<Wanted>,
    waiting: Semaphore,
    /// Questions that were refused, because too many waited.
    pub(super) refused: AtomicU64,
}

/// A socket that somebody waits for.
#[derive(Debug)]
enum Wanted {
    /// Connected.
    Udp(SocketAddr, oneshot::Sender<Result<UdpSocket>>),
    /// Not connected yet.
    Tcp(SocketAddr, oneshot::Sender<Result<TcpSocket>>),
}

impl Upstream {
    /// Asks from a namespace.
    pub(super) fn new(netns: &str, servers: Vec<SocketAddr>) -> Self {
        let (wanted, waiting) = mpsc::channel(AT_ONCE);
        tokio::spawn(open_all(netns.to_owned(), waiting));
        Upstream { servers, wanted, waiting: Semaphore::new(WAITING), refused: AtomicU64::new(0) }
    }

    /// What the name servers say.
    pub(super) async fn ask(&self, ask: &Ask) -> Heard {
        let Ok(_place) = self.waiting.try_acquire() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Heard::TooMany;
        };
        match timeout(ALL, self.ask_around(ask)).await {
            Ok(Some(answer)) => Heard::Answer(answer),
            Ok(None) | Err(_) => Heard::Nothing,
        }
    }

    /// Asks one after the other, and begins anew as long as it is worth it: a server that has not
    /// answered may not have heard the question, one that refuses refuses again.
    async fn ask_around(&self, ask: &Ask) -> Option<Vec<u8>> {
        let (before, after) = self.servers.split_at(ask.first_of(self.servers.len()));
        loop {
            let mut silent = false;
            for server in after.iter().chain(before) {
                match timeout(EACH, self.exchange(*server, ask)).await {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(_)) => {}
                    Err(_) => silent = true,
                }
            }
            if !silent {
                return None;
            }
        }
    }

    /// Asks by UDP, with a socket of its own, and by TCP if the answer is too long for that.
    async fn exchange(&self, server: SocketAddr, ask: &Ask) -> Result<Vec<u8>> {
        let what = || format!("cannot ask {server}");
        let socket = self.open(|reply| Wanted::Udp(server, reply)).await?;
        let socket = tokio::net::UdpSocket::from_std(socket).context(what())?;
        socket.send(ask.question()).await.context(what())?;
        loop {
            let message = receive(&socket).await.context(what())?;
            match ask.judge(&message) {
                Judgement::Answer => return Ok(message),
                // If TCP does not work, the client can try that for itself.
                Judgement::Truncated => return Ok(self.by_tcp(server, ask).await.unwrap_or(message)),
                Judgement::Broken => return Err(Error::refused(format!("{}: a broken answer", what()))),
                Judgement::Foreign => {}
            }
        }
    }

    async fn by_tcp(&self, server: SocketAddr, ask: &Ask) -> Result<Vec<u8>> {
        let what = || format!("cannot ask {server} by TCP");
        let socket = self.open(|reply| Wanted::Tcp(server, reply)).await?;
        let asking = async { tcp::exchange(socket.connect(server).await?, ask.question()).await };
        let answer = asking.await.context(what())?;
        match ask.judge(&answer) {
            Judgement::Answer | Judgement::Truncated => Ok(answer),
            Judgement::Broken | Judgement::Foreign => Err(Error::refused(format!("{}: a broken answer", what()))),
        }
    }

    async fn open<T>(&self, wanted: impl FnOnce(oneshot::Sender<Result<T>>) -> Wanted) -> Result<T> {
        let (reply, socket) = oneshot::channel();
        // Who opens sockets lives as long as the agent.
        let gone = |_| Error::bug("nobody opens sockets");
        self.wanted.send(wanted(reply)).await.map_err(|_| Error::bug("nobody opens sockets"))?;
        socket.await.map_err(gone)?
    }
}

/// Opens the sockets that are wanted, as many as there are in one visit to the namespace.
async fn open_all(netns: String, mut wanted: mpsc::Receiver<Wanted>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    while wanted.recv_many(&mut batch, AT_ONCE).await > 0 {
        // Those who cannot be served see that their sender is gone. Who gave up waiting does not
        // want the socket any more.
        let _ = netns::inside(&netns, || {
            for wanted in batch.drain(..) {
                match wanted {
                    Wanted::Udp(to, reply) => _ = reply.send(udp_socket(to).context("cannot make a socket")),
                    Wanted::Tcp(to, reply) => _ = reply.send(tcp_socket(to)),
                }
            }
            Ok(())
        });
        batch.clear();
    }
}

/// Receives a message. A thousand questions may wait, so the room for it is made when it is there.
async fn receive(socket: &tokio::net::UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let mut bytes = vec![0; usize::from(u16::MAX)];
        match socket.try_recv(&mut bytes) {
            Ok(length) => {
                bytes.truncate(length);
                bytes.shrink_to_fit();
                return Ok(bytes);
            }
            // The kernel was wrong about it, which it may be: the checksum was bad.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn udp_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
