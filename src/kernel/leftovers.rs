//! Notices when the kernel has freed what a lab was made of.
//!
//! Network namespaces are freed in the background, some time after their last process has
//! ended. An observer that keeps the nodes' namespaces alive sees the near ends of the pods' veths
//! vanish when the namespaces at their far ends are freed. Then it lets go of the nodes, and in the
//! lab's *outer* namespace sees the near ends of theirs and of the other machines' vanish as well.

use std::{collections::BTreeSet, fs::File, io::Read, os::unix::net::UnixStream, time::Duration};

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::{
    sched::{CloneFlags, setns},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};
use rtnetlink::{MulticastGroup, new_multicast_connection, sys::SocketAddr};
use tokio::task::JoinHandle;

use super::{client::raise_descriptor_limit, join, netlink::link_name, netns};
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
    /// Begins to watch a running lab with these nodes. The calling process must have one thread only.
    ///
    /// # Errors
    ///
    /// When the lab has ended already.
    pub fn watch(agent: &Handle, nodes: &[String]) -> Result<Self> {
        let (mut ours, theirs) = UnixStream::pair().context(WHAT)?;
        // SAFETY: with one thread, the child's copy of the memory is consistent.
        match unsafe { fork() }.context(WHAT)? {
            ForkResult::Child => {
                drop(ours);
                let watched = observe(agent, nodes, theirs);
                std::process::exit(i32::from(watched.is_err()))
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let leftovers = Leftovers { observer: Handle::open(child)?, pid: child };
                // A byte comes when the observer sees everything; nothing, when it cannot.
                ours.read_exact(&mut [0]).map_err(|_| Error::refused(WHAT))?;
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

const WHAT: &str = "cannot watch the lab's links";

fn observe(agent: &Handle, nodes: &[String], ready: UnixStream) -> Result<()> {
    // One socket for each node.
    raise_descriptor_limit()?;
    // From inside the lab's mount namespace an outsider would keep all of its names alive. A lab that
    // is only half built does not have them all yet.
    let root = format!("/proc/{}/root{}", agent.pid, netns::DIRECTORY);
    let nodes: Vec<File> = nodes.iter().filter_map(|node| File::open(format!("{root}/{node}")).ok()).collect();
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !join::same_user_namespace(agent.pid).context(WHAT)? {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    setns(agent.descriptor(), flags).context(WHAT)?;
    let outer = File::open("/proc/self/ns/net").context(WHAT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(WHAT)?;
    runtime.block_on(async {
        let mut watches = Vec::new();
        for node in nodes {
            setns(node, CloneFlags::CLONE_NEWNET).context(WHAT)?;
            watches.push(Watch::begin().await?);
        }
        setns(outer, CloneFlags::CLONE_NEWNET).context(WHAT)?;
        let outermost = Watch::begin().await?;
        std::io::Write::write_all(&mut &ready, b".").context(WHAT)?;
        for watch in watches {
            watch.until_gone().await;
        }
        outermost.until_gone().await;
        Ok(())
    })
}

/// The veths of one namespace, which it keeps alive.
struct Watch {
    left: BTreeSet<u32>,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: JoinHandle<()>,
}

impl Watch {
    /// Of the namespace that the calling thread is in.
    async fn begin() -> Result<Self> {
        let (connection, socket, messages) = new_multicast_connection(&[MulticastGroup::Link]).context(WHAT)?;
        let connection = tokio::spawn(connection);
        let links: Vec<_> = socket.link().get().execute().collect().await;
        let links = links.into_iter().flatten();
        let veths = links.filter(|link| link_name(link).is_some_and(|name| name.starts_with(VETH_PREFIX)));
        Ok(Watch { left: veths.map(|link| link.header.index).collect(), messages, connection })
    }

    /// Until the last one has vanished; then the namespace is let go of.
    async fn until_gone(mut self) {
        while !self.left.is_empty() {
            let Some((message, _)) = self.messages.next().await else { break };
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = message.payload {
                self.left.remove(&link.header.index);
            }
        }
        self.connection.abort();
        // That it was aborted is no news.
        let _ = self.connection.await;
    }
}
