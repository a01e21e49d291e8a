//! Fresh TCP connections, one after the other from each of some threads, and how long each took to be
//! there: what a Service adds to the first packets of a connection. Nothing is sent, and the end is a
//! reset, so that no port is kept busy and no server has more to do than to accept.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};
use serde_json::json;

use crate::run::{Failure, Result};

/// How many, and from how many threads.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Load {
    /// Connections of each thread
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Connects, and prints the median of the times and how many connections there were a second.
pub(crate) fn dial(to: SocketAddr, load: Load) -> Result<()> {
    // The first ones of all find nothing in the caches.
    connections(to, load.count.div_ceil(10))?;
    let began = Instant::now();
    let threads: Vec<_> = (0..load.threads).map(|_| thread::spawn(move || connections(to, load.count))).collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| Failure("a thread panicked".to_owned()))??);
    }
    let whole = began.elapsed();
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let per_second = times.len() as f64 / whole.as_secs_f64();
    println!("{}", json!({ "median_micros": median.as_secs_f64() * 1e6, "per_second": per_second }));
    Ok(())
}

fn connections(to: SocketAddr, count: usize) -> Result<Vec<Duration>> {
    (0..count).map(|_| connection(to).map_err(|error| Failure(format!("{to}: {error}")))).collect()
}

fn connection(to: SocketAddr) -> std::io::Result<Duration> {
    let began = Instant::now();
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    let took = began.elapsed();
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(took)
}
