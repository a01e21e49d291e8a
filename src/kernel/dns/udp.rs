//! Questions that come as datagrams.

use std::sync::Arc;

use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBuf, RcvBufForce},
};
use tokio::net::UdpSocket;

use super::NameServer;
use crate::{
    dns::{Reaction, Transport},
    error::{Context, Result},
    kernel::{
        datagram::{Datagrams, Received},
        scope::Scope,
    },
};

/// Longer questions are malformed ones: one has a header, a name, and some options.
const LARGEST: usize = 4096;
/// So many bytes may wait to be read: a burst of thousands of questions.
const WAITING: usize = 4 << 20;

/// Answers every datagram, for as long as its scope lets it.
///
/// # Errors
///
/// When the kernel does not tell to which address a datagram was sent.
pub(super) fn serve(server: Arc<NameServer>, socket: UdpSocket, scope: &Scope) -> Result<()> {
    // Root may have that much; others have what net.core.rmem_max allows, and serve as well.
    if setsockopt(&socket, RcvBufForce, &WAITING).is_err() {
        let _ = setsockopt(&socket, RcvBuf, &WAITING);
    }
    let socket = Datagrams::up_to(LARGEST, socket).context("cannot serve DNS by UDP")?;
    scope.spawn(answer_all(server, Arc::new(socket)));
    Ok(())
}

async fn answer_all(server: Arc<NameServer>, socket: Arc<Datagrams>) {
    loop {
        let Ok(received) = socket.receive().await else {
            // A port-unreachable that an earlier answer brought back.
            tokio::task::yield_now().await;
            continue;
        };
        match server.react(&received.bytes, Transport::Udp) {
            Reaction::Silence => {}
            Reaction::Answer(answer) => send(&socket, &received, &server.count(answer, Transport::Udp)).await,
            // Who waits for the upstream holds up nobody else.
            Reaction::Ask(ask) => {
                let (server, socket) = (Arc::clone(&server), Arc::clone(&socket));
                tokio::spawn(async move {
                    let Some(answer) = server.ask(ask).await else { return };
                    send(&socket, &received, &server.count(answer, Transport::Udp)).await;
                });
            }
        }
    }
}

async fn send(socket: &Datagrams, received: &Received, answer: &[u8]) {
    // An answer that cannot be sent is a lost datagram, like any other.
    let _ = socket.answer(received, answer).await;
}
