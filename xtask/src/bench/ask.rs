//! The client whose first answer stops the clock, the same for every contender: it asks until
//! it is answered, without a pause that could be mistaken for the contender's own.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::run::{Failure, Result};

/// Gives up after this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for `/` until there is an answer, then prints `answered`.
pub(crate) fn ask(to: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if answers(to) {
            println!("answered");
            return Ok(());
        }
        // A refusal comes at once; the servers that start need the processor too.
        thread::yield_now();
    }
    Err(Failure(format!("{to} has not answered in {PATIENCE:?}")))
}

fn answers(to: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(200)) else { return false };
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    let mut status = [0; 12];
    let asked =
        stream.set_read_timeout(Some(Duration::from_secs(1))).and_then(|()| stream.write_all(request.as_bytes()));
    asked.and_then(|()| stream.read_exact(&mut status)).is_ok() && status.ends_with(b" 200")
}
