//! Questions that come over connections: several over each, one after the other.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::timeout,
};

use super::NameServer;
use crate::dns::{Reaction, Transport};

/// So long may a client take for its first question (CoreDNS's read timeout).
const FIRST: Duration = Duration::from_secs(3);
/// So long may a connection idle, and a further question take (CoreDNS's idle timeout).
const FURTHER: Duration = Duration::from_secs(10);
/// So many connections may be open; one more closes the oldest, which has had its time.
const CONNECTIONS: usize = 512;

/// Answers over every connection, for as long as the agent lives.
pub(super) async fn serve(server: Arc<NameServer>, listener: TcpListener) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a client that has gone: the oldest connection gives up its own.
            open.pop_front().inspect(AbortHandle::abort);
            tokio::task::yield_now().await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= CONNECTIONS {
            open.pop_front().inspect(AbortHandle::abort);
        }
        let server = Arc::clone(&server);
        // A client that breaks off, or is too slow, is not answered; there is nobody to tell.
        let connection = tokio::spawn(async move { _ = converse(&server, stream).await });
        open.push_back(connection.abort_handle());
    }
}

async fn converse(server: &NameServer, mut stream: TcpStream) -> io::Result<()> {
    let mut patience = FIRST;
    loop {
        let question = timeout(patience, read(&mut stream)).await??;
        patience = FURTHER;
        let answer = match server.react(&question, Transport::Tcp) {
            Reaction::Silence => None,
            Reaction::Answer(answer) => Some(answer),
            Reaction::Ask(ask) => server.ask(ask).await,
        };
        let Some(answer) = answer else { continue };
        timeout(FURTHER, stream.write_all(&framed(&server.count(answer, Transport::Tcp)))).await??;
    }
}

/// Reads one message. It takes as much memory as has come, not as much as is announced.
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    let mut message = Vec::new();
    match stream.take(length as u64).read_to_end(&mut message).await? {
        read if read == length => Ok(message),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A message behind its length.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    // No message is longer than 64 KiB.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

/// Sends a question over a new connection, and reads the answer.
pub(super) async fn exchange(mut stream: TcpStream, question: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&framed(question)).await?;
    read(&mut stream).await
}
