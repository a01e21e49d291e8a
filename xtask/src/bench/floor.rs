//! The kernel floor: one thread that makes the namespaces, links, addresses and routes of a
//! plan, call after call, and nothing else. What it takes, the kernel takes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
    process::Command,
    time::Instant,
};

use nix::sched::{CloneFlags, setns, unshare};

use super::{
    netlink::Netlink,
    plan::{self, HOST, Thing},
};
use crate::run::{Failure, Result};

/// Makes the network of a plan (a file with the output of `netlab plan`) in throw-away
/// namespaces, and prints how many nanoseconds the calls took; with `rules`, the tool that loads each
/// node's as well. The network is gone with this process, which ends then.
pub(crate) fn floor(plan: &Path, rules: Option<&Path>) -> Result<()> {
    let text = fs::read_to_string(plan).map_err(|error| Failure(format!("{}: {error}", plan.display())))?;
    let things = plan::read(&text)?;
    let began = Instant::now();
    enter_a_nest().map_err(|error| Failure(format!("the kernel gives no namespaces: {error}")))?;
    let mut places: BTreeMap<&str, Place> = BTreeMap::new();
    places.insert(HOST, Place::here().map_err(refused(HOST, &Thing::Netns))?);
    for (netns, thing) in &things {
        let made = match thing {
            Thing::Netns => Place::new().map(|place| {
                places.insert(netns, place);
            }),
            _ => make(&places, netns, thing),
        };
        made.map_err(refused(netns, thing))?;
    }
    for tool in ["nft", "iptables-restore"] {
        let Some(directory) = rules.map(|rules| rules.join(tool)).filter(|it| it.exists()) else { continue };
        let wrong = |error| Failure(format!("{}: {error}", directory.display()));
        for entry in fs::read_dir(&directory).map_err(wrong)? {
            let file = entry.map_err(wrong)?.path();
            let node = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let place =
                places.get(node).ok_or_else(|| Failure(format!("there are rules for {node}, which is not there")))?;
            load(tool, &file, place)?;
        }
    }
    println!("{}", began.elapsed().as_nanos());
    Ok(())
}

/// The tool runs in the namespace that this thread, the only one, is in.
fn load(tool: &str, rules: &Path, place: &Place) -> Result<()> {
    setns(&place.netns, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Failure(format!("cannot enter a namespace: {errno}")))?;
    let input = File::open(rules).map_err(|error| Failure(format!("{}: {error}", rules.display())))?;
    let arguments: &[&str] = if tool == "nft" { &["-f", "-"] } else { &["--noflush", "-w", "10"] };
    let status = Command::new(tool).args(arguments).stdin(input).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure(format!("{tool} of {}: {status}", rules.display()))),
        Err(error) => Err(Failure(format!("cannot run {tool}: {error}"))),
    }
}

/// A network namespace, and a socket in it.
pub(crate) struct Place {
    pub(crate) netns: OwnedFd,
    pub(crate) socket: Netlink,
}

impl Place {
    /// A new one, into which the calling thread moves.
    pub(crate) fn new() -> nix::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Place::here()
    }

    /// The calling thread's.
    pub(crate) fn here() -> nix::Result<Self> {
        let file = File::open("/proc/thread-self/ns/net").map_err(|_| nix::errno::Errno::ENOENT)?;
        Ok(Place { netns: file.into(), socket: Netlink::open()? })
    }
}

fn make(places: &BTreeMap<&str, Place>, netns: &str, thing: &Thing) -> nix::Result<()> {
    let place = places.get(netns).ok_or(nix::errno::Errno::ENOENT)?;
    let peer = match thing {
        Thing::Veth { peer_netns, .. } => {
            Some(&places.get(peer_netns.as_str()).ok_or(nix::errno::Errno::ENOENT)?.netns)
        }
        _ => None,
    };
    place.socket.make(thing, peer)
}

fn refused(netns: &str, thing: &Thing) -> impl FnOnce(nix::errno::Errno) -> Failure {
    move |errno| Failure(format!("the kernel refused {thing:?} in {netns}: {errno}"))
}

/// A network namespace of one's own, as the lab's outer one, and whatever it takes to get one.
pub(crate) fn enter_a_nest() -> std::io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        unshare(CloneFlags::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    unshare(CloneFlags::CLONE_NEWNET)?;
    Ok(())
}
