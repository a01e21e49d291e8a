//! The clients whose first answer stops the clock, the same for every contender: they ask until they are
//! answered, without a pause that could be mistaken for the contender's own.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use crate::run::{Failure, Result};

/// Gives up after this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for `/` until there is an answer, then prints `answered`.
pub(crate) fn ask(to: SocketAddr) -> Result<()> {
    // A refusal comes at once; the servers that start need the processor too.
    until_answered(to, Duration::from_millis(200), thread::yield_now)?;
    println!("answered");
    Ok(())
}

/// Says `asking`, and then when it was answered, by the clock of [`now`]. What is sent before there are rules
/// is lost, so an attempt must be short, or the next one would come too late.
pub(crate) fn notice(to: SocketAddr) -> Result<()> {
    println!("asking");
    // No event tells another machine that a Service answers now: only asking does. Who changes the lab needs the
    // processors meanwhile, so it rests between two attempts, for less than what is measured is told in.
    let rest = || thread::sleep(Duration::from_micros(200));
    until_answered(to, Duration::from_millis(2), rest)?;
    println!("{}", now()?.as_nanos());
    Ok(())
}

/// The clock that all processes of a host share.
pub(crate) fn now() -> Result<Duration> {
    let time =
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|errno| Failure(format!("there is no clock: {errno}")))?;
    Ok(time.into())
}

fn until_answered(to: SocketAddr, attempt: Duration, pause: impl Fn()) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if answers(to, attempt) {
            return Ok(());
        }
        pause();
    }
    Err(Failure(format!("{to} has not answered in {PATIENCE:?}")))
}

fn answers(to: SocketAddr, attempt: Duration) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, attempt) else { return false };
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    let mut status = [0; 12];
    let asked =
        stream.set_read_timeout(Some(Duration::from_secs(1))).and_then(|()| stream.write_all(request.as_bytes()));
    asked.and_then(|()| stream.read_exact(&mut status)).is_ok() && status.ends_with(b" 200")
}
