//! Notices when the kernel has freed what a lab was made of.
//!
//! Network namespaces are freed in the background, some time after their last process has
//! ended. An observer that keeps the lab's *outer* namespace alive sees the near ends of the
//! nodes' and clients' veths vanish when the namespaces at their far ends are freed.

use std::{collections::BTreeSet, io::Read, os::unix::net::UnixStream, time::Duration};

use futures::StreamExt;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use nix::{
    sched::{CloneFlags, setns},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::{join, netlink::link_name};
use crate::{
    agent::link::{Ended, Handle},
    error::{Context, Error, Result},
    plan::VETH_PREFIX,
};

/// A child process that watches a lab's links: it has to be in the lab's user namespace, which
/// it can never leave again.
pub struct Leftovers {
    observer: Handle,
    pid: Pid,
}

impl Leftovers {
    /// Begins to watch a running lab. The calling process must have one thread only.
    ///
    /// # Errors
    ///
    /// When the lab has ended already.
    pub fn watch(agent: &Handle) -> Result<Self> {
        let what = "cannot watch the lab's links";
        let (mut ours, theirs) = UnixStream::pair().context(what)?;
        // SAFETY: with one thread, the child's copy of the memory is consistent.
        match unsafe { fork() }.context(what)? {
            ForkResult::Child => {
                drop(ours);
                let watched = observe(agent, theirs);
                std::process::exit(i32::from(watched.is_err()))
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let leftovers = Leftovers { observer: Handle::open(child)?, pid: child };
                // A byte comes when the observer sees everything; nothing, when it cannot.
                ours.read_exact(&mut [0]).map_err(|_| Error::refused(what))?;
                Ok(leftovers)
            }
        }
    }

    /// Waits until all have vanished, or until `limit` has passed.
    ///
    /// # Errors
    ///
    /// When they have not vanished in time.
    pub fn wait(self, limit: Duration) -> Result<()> {
        let ended = self.observer.ended_within(limit)?;
        if ended == Ended::NotYet {
            self.observer.kill();
        }
        waitpid(self.pid, None).context("lost the observer")?;
        match ended {
            Ended::Yes => Ok(()),
            Ended::NotYet => Err(Error::refused(format!("the kernel has not freed everything within {limit:?}"))),
        }
    }
}

fn observe(agent: &Handle, ready: UnixStream) -> Result<()> {
    let what = "cannot watch the lab's links";
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !join::same_user_namespace(agent.pid).context(what)? {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    setns(agent.descriptor(), flags).context(what)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(what)?;
    runtime.block_on(async {
        let (connection, socket, mut messages) = new_multicast_connection(&[MulticastGroup::Link]).context(what)?;
        tokio::spawn(connection);
        let links: Vec<_> = socket.link().get().execute().collect().await;
        let links = links.into_iter().flatten();
        let veths = links.filter(|link| link_name(link).is_some_and(|name| name.starts_with(VETH_PREFIX)));
        let mut left: BTreeSet<u32> = veths.map(|link| link.header.index).collect();
        std::io::Write::write_all(&mut &ready, b".").context(what)?;
        while !left.is_empty() {
            let Some((message, _)) = messages.next().await else { break };
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = message.payload {
                left.remove(&link.header.index);
            }
        }
        Ok(())
    })
}
