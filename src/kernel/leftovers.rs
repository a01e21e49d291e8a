//! Notices when the kernel has freed what a lab was made of.
//!
//! Network namespaces are freed in the background, some time after their last process has
//! ended. An observer that keeps the nodes' namespaces alive sees the near ends of the pods' veths
//! vanish when the namespaces at their far ends are freed. Then it lets go of the nodes, and in the
//! lab's *outer* namespace sees the near ends of theirs and of the other machines' vanish as well.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    rc::Rc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, channel::mpsc::UnboundedReceiver, future::join_all};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};
use nix::{
    sched::{CloneFlags, setns},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork},
};
use rtnetlink::{Handle as Links, MulticastGroup, new_multicast_connection, sys::SocketAddr};
use tokio::task::JoinHandle;

use super::{client::raise_descriptor_limit, join, netlink::link_name, netns};
use crate::{
    agent::link::Handle,
    error::{Context, Error, Result},
    plan::VETH_PREFIX,
};

/// A child process that watches a lab's links: it has to be in the lab's user namespace, which
/// it can never leave again.
pub struct Leftovers {
    observer: Handle,
    pid: Pid,
    news: News,
}

impl Leftovers {
    /// Begins to watch a running lab with these nodes. The calling process must have one thread only.
    ///
    /// # Errors
    ///
    /// When the lab has ended already.
    pub fn watch(agent: &Handle, nodes: &[String]) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context(WHAT)?;
        // SAFETY: with one thread, the child's copy of the memory is consistent.
        match unsafe { fork() }.context(WHAT)? {
            ForkResult::Child => {
                drop(ours);
                let watched = observe(agent, nodes, theirs);
                std::process::exit(i32::from(watched.is_err()))
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let observer = Handle::open(child)?;
                // What is there is told when the observer sees everything; nothing, when it cannot.
                let news = News::new(ours, patience).map_err(|_| Error::refused(WHAT))?;
                Ok(Leftovers { observer, pid: child, news })
            }
        }
    }

    /// Waits until all have vanished. It goes on for as long as some still do.
    ///
    /// # Errors
    ///
    /// When none has vanished for a time that follows from how many are left.
    pub fn wait(self) -> Result<()> {
        let heard = self.news.hear_out();
        if heard.is_err() {
            self.observer.kill();
        }
        let ended = waitpid(self.pid, None).context("lost the observer")?;
        heard?;
        match ended {
            WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(Error::refused("lost sight of what the kernel has freed")),
        }
    }
}

const WHAT: &str = "cannot watch the lab's links";

/// How long no link may vanish while so many are left. The kernel frees namespaces in batches, a few
/// milliseconds each, and the links of a batch vanish together, at its end.
fn patience(left: usize) -> Duration {
    Duration::from_secs(30) + Duration::from_millis(50) * u32::try_from(left).unwrap_or(u32::MAX)
}

/// What the observer tells: lines with the number of links that are left, and the names of some.
struct News {
    lines: BufReader<UnixStream>,
    left: usize,
    some: String,
    patience: fn(usize) -> Duration,
}

impl News {
    /// Waits for the first.
    fn new(stream: UnixStream, patience: fn(usize) -> Duration) -> Result<Self> {
        let mut news = News { lines: BufReader::new(stream), left: 0, some: String::new(), patience };
        if !news.hear()? {
            return Err(Error::refused(WHAT));
        }
        Ok(news)
    }

    /// Waits for the next; `false` if there is none any more.
    fn hear(&mut self) -> Result<bool> {
        let limit = (self.patience)(self.left);
        self.lines.get_ref().set_read_timeout(Some(limit)).context(WHAT)?;
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => Ok(false),
            Ok(_) => {
                let (left, some) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
                self.left = left.parse().context(WHAT)?;
                self.some = some.to_owned();
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let News { left, some, .. } = self;
                let message = format!(
                    "the kernel has not freed everything: {left} links are left ({some}), and none vanished in {limit:?}"
                );
                Err(Error::refused(message)
                    .hint("it may go on later; `lsns -t net` shows processes outside of the lab that are still in it"))
            }
            Err(error) => Err(error).context(WHAT),
        }
    }

    fn hear_out(mut self) -> Result<()> {
        while self.hear()? {}
        Ok(())
    }
}

fn observe(agent: &Handle, nodes: &[String], mut news: UnixStream) -> Result<()> {
    // One socket for each node.
    raise_descriptor_limit()?;
    // From inside the lab's mount namespace an outsider would keep all of its names alive. A lab that
    // is only half built does not have them all yet.
    let root = format!("/proc/{}/root{}", agent.pid, netns::DIRECTORY);
    let nodes = nodes.iter().filter_map(|node| Some((node, File::open(format!("{root}/{node}")).ok()?)));
    let nodes: Vec<(&String, File)> = nodes.collect();
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !join::same_user_namespace(agent.pid).context(WHAT)? {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    setns(agent.descriptor(), flags).context(WHAT)?;
    let outer = File::open("/proc/self/ns/net").context(WHAT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(WHAT)?;
    runtime.block_on(async {
        let mut watches = Vec::new();
        for (name, node) in nodes {
            setns(node, CloneFlags::CLONE_NEWNET).context(WHAT)?;
            watches.push(Watch::begin(name).await?);
        }
        setns(outer, CloneFlags::CLONE_NEWNET).context(WHAT)?;
        watches.push(Watch::begin(netns::HOST).await?);
        let left: Vec<Rc<Left>> = watches.iter().map(|watch| Rc::clone(&watch.left)).collect();
        let mut said = tell(&left);
        news.write_all(said.as_bytes()).context(WHAT)?;
        let mut gone = std::pin::pin!(join_all(watches.into_iter().map(Watch::until_gone)));
        // Each link would be a line; whoever waits does not need to know that exactly.
        let mut now_and_then = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                all = &mut gone => return all.into_iter().collect(),
                _ = now_and_then.tick() => {
                    let now = tell(&left);
                    if now != said {
                        news.write_all(now.as_bytes()).context(WHAT)?;
                        said = now;
                    }
                }
            }
        }
    })
}

/// The veths that are left in a namespace.
struct Left {
    namespace: String,
    links: RefCell<BTreeMap<u32, String>>,
}

/// A line for whoever waits.
fn tell(left: &[Rc<Left>]) -> String {
    let number: usize = left.iter().map(|it| it.links.borrow().len()).sum();
    let names = left.iter().flat_map(|it| {
        let links = it.links.borrow();
        links.values().take(3).map(|link| format!("{link} in {}", it.namespace)).collect::<Vec<_>>()
    });
    let mut some = names.take(3).collect::<Vec<_>>().join(", ");
    if number > 3 {
        some.push_str(" …");
    }
    format!("{number} {some}\n")
}

/// Watches the veths of one namespace, which it keeps alive.
struct Watch {
    left: Rc<Left>,
    links: Links,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: JoinHandle<()>,
}

impl Watch {
    /// Of the namespace that the calling thread is in.
    async fn begin(namespace: &str) -> Result<Self> {
        let (connection, links, messages) = new_multicast_connection(&[MulticastGroup::Link]).context(WHAT)?;
        let connection = tokio::spawn(connection);
        let there = RefCell::new(veths(&links).await?);
        let left = Rc::new(Left { namespace: namespace.to_owned(), links: there });
        Ok(Watch { left, links, messages, connection })
    }

    /// Until the last one has vanished; then the namespace is let go of.
    async fn until_gone(mut self) -> Result<()> {
        while !self.left.links.borrow().is_empty() {
            let Some((message, _)) = self.messages.next().await else { return Err(Error::refused(WHAT)) };
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                    self.left.links.borrow_mut().remove(&link.header.index);
                }
                // So many have vanished at once that the kernel could not tell of all.
                NetlinkPayload::Overrun(_) => {
                    let there = veths(&self.links).await?;
                    self.left.links.borrow_mut().retain(|index, _| there.contains_key(index));
                }
                _ => {}
            }
        }
        self.connection.abort();
        // That it was aborted is no news.
        let _ = self.connection.await;
        Ok(())
    }
}

/// The veths of the namespace of a socket.
async fn veths(links: &Links) -> Result<BTreeMap<u32, String>> {
    let links: Vec<_> = links.link().get().execute().try_collect().await.context(WHAT)?;
    let named = |link: LinkMessage| Some((link.header.index, link_name(&link)?.to_owned()));
    Ok(links.into_iter().filter_map(named).filter(|(_, name)| name.starts_with(VETH_PREFIX)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(namespace: &str, links: &[(u32, &str)]) -> Rc<Left> {
        let links = links.iter().map(|(index, name)| (*index, (*name).to_owned())).collect();
        Rc::new(Left { namespace: namespace.to_owned(), links: RefCell::new(links) })
    }

    #[test]
    fn as_long_as_links_vanish_it_is_waited() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let left = [left("node1", &[(1, "veth-a"), (2, "veth-b"), (3, "veth-c")]), left("host", &[(9, "veth-node1")])];
        theirs.write_all(tell(&left).as_bytes()).unwrap();
        let patience = |left: usize| if left == 1 { Duration::from_millis(1) } else { Duration::from_secs(3600) };
        let mut news = News::new(ours, patience).unwrap();
        assert_eq!((news.left, news.some.as_str()), (4, "veth-a in node1, veth-b in node1, veth-c in node1 …"));
        left[0].links.borrow_mut().clear();
        theirs.write_all(tell(&left).as_bytes()).unwrap();
        assert!(news.hear().unwrap());
        let error = news.hear_out().unwrap_err();
        assert_eq!(
            error.message,
            "the kernel has not freed everything: 1 links are left (veth-node1 in host), and none vanished in 1ms"
        );
    }

    #[test]
    fn the_end_is_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(tell(&[left("host", &[])]).as_bytes()).unwrap();
        drop(theirs);
        News::new(ours, patience).unwrap().hear_out().unwrap();
        let (ours, _) = UnixStream::pair().unwrap();
        assert!(News::new(ours, patience).is_err(), "nobody tells anything");
    }

    /// A busy observer does not hear of every link, but that it has not.
    #[tokio::test]
    async fn what_the_kernel_had_no_room_to_tell_is_looked_up() {
        let (connection, links, _) = rtnetlink::new_connection().unwrap();
        let connection = tokio::spawn(connection);
        let (sender, messages) = futures::channel::mpsc::unbounded();
        let left = left("node1", &[(u32::MAX >> 1, "veth-gone")]);
        let watch = Watch { left: Rc::clone(&left), links, messages, connection };
        let overrun = NetlinkMessage::new(Default::default(), NetlinkPayload::Overrun(Vec::new()));
        sender.unbounded_send((overrun, SocketAddr::new(0, 0))).unwrap();
        tokio::time::timeout(Duration::from_secs(30), watch.until_gone()).await.expect("nothing is left").unwrap();
        assert!(left.links.borrow().is_empty());
        // There was more to hear, had it gone on.
        assert!(sender.is_closed());
    }

    #[test]
    fn more_links_may_take_longer() {
        assert_eq!((patience(0), patience(3000)), (Duration::from_secs(30), Duration::from_secs(180)));
    }
}
