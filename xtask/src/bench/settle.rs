//! Waits until the kernel has freed the namespaces that have ended.
//!
//! It frees them in the background, one batch after the other (`cleanup_net`, a queue with one
//! worker). So a namespace that ends now is freed after all that ended before, and that can be
//! seen: the near end of a veth vanishes when the namespace of its far end is freed. In the middle
//! of a batch, though, and those that ended before may be in the same one; a second namespace that
//! ends then is in a later batch, which begins when all of that one is done.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::{
    floor::{Place, enter_a_nest},
    plan::Thing,
};
use crate::run::{Failure, Result};

const NEAR: u32 = 100;

/// Ends a namespace, and waits until it is freed; and once more.
pub(crate) fn settle() -> Result<()> {
    enter_a_nest().map_err(|error| Failure(format!("the kernel gives no namespaces: {error}")))?;
    let here = Place::here().map_err(refused)?;
    batch(&here)?;
    batch(&here)
}

fn refused(errno: Errno) -> Failure {
    Failure(format!("the kernel gives no namespaces: {errno}"))
}

fn batch(here: &Place) -> Result<()> {
    // The namespace has only that thread and its socket, and both are gone afterwards.
    let there = thread::spawn(Place::new).join().map_err(|_| Failure("a thread panicked".to_owned()))?;
    let there = there.map_err(refused)?;
    let veth = Thing::Veth {
        name: "near".to_owned(),
        index: NEAR,
        master: None,
        peer: "far".to_owned(),
        peer_index: NEAR + 1,
        peer_netns: String::new(),
    };
    here.socket.make(&veth, Some(&there.netns)).map_err(refused)?;
    drop(there);
    let deadline = Instant::now() + Duration::from_secs(60);
    while here.socket.make(&Thing::Up { index: NEAR }, None) != Err(Errno::ENODEV) {
        if Instant::now() > deadline {
            return Err(Failure("the kernel has not freed a namespace within a minute".to_owned()));
        }
        // Nothing is measured here, and the kernel is to have the processor.
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
