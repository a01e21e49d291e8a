//! Listens to the kernel while it handles one real connection.
//!
//! In every node's namespace a table of netlab's own picks the connection's packets out, and an
//! `nft monitor trace` prints what they meet. Both are gone when the answer is given, whatever
//! came of it and whoever still waits for it; should the agent end before, they end with the lab.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};

use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::{TcpSocket, UdpSocket},
    process::ChildStdout,
    sync::Mutex,
    time::timeout,
};

use super::{
    client, netns,
    process::{Entrance, Processes, Spawned},
    rules,
};
use crate::{
    error::{Context, Error, Result},
    plan::step::{Plan, Step},
    probe::order::{Try, What},
    proxy::trace::{
        monitor,
        tap::{self, TABLE, Tap, TapOrder, Tapped},
    },
};

/// One at a time: the table has one name.
static TURN: Mutex<()> = Mutex::const_new(());

/// How long a monitor may take to start, or to print what it has heard.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for a monitor to hear a mark before it is given another. The first may have
/// come before it listened.
const AGAIN: Duration = Duration::from_millis(5);

/// Makes the connection, and gives back what was heard of it.
///
/// # Errors
///
/// When the rules of this lab are not nft's, when nft is missing or refuses, or when a namespace
/// is gone.
pub async fn trace(order: TapOrder, plan: &Plan, processes: &Processes) -> Result<Tapped> {
    let _turn = TURN.lock().await;
    refuse_legacy(plan, processes).await?;
    let client = Client::open(&order)?;
    let mut ears = Vec::new();
    let begun = begin(&order, &client, &mut ears, processes).await;
    let tapped = match begun {
        Ok(()) => listen(client, &mut ears).await,
        Err(error) => Err(error),
    };
    let ended = join_all(ears.into_iter().map(|ear| ear.end(processes))).await;
    // What came of it is more interesting than that the table could not be removed.
    let tapped = tapped?;
    ended.into_iter().collect::<Result<()>>()?;
    Ok(tapped)
}

async fn refuse_legacy(plan: &Plan, processes: &Processes) -> Result<()> {
    for planned in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let Step::Rules { netns, proxy, text } = &planned.step else { continue };
        if rules::is_legacy(*proxy, text.len(), processes).await? {
            let error =
                Error::host(format!("the kernel cannot tell of the rules of {netns}: they are iptables-legacy's"));
            return Err(
                error.hint("live tracing needs rules that nft knows: use iptables-nft, or `proxy = \"nftables\"`")
            );
        }
    }
    Ok(())
}

/// The client's socket, whose port is known before it connects.
enum Client {
    Tcp { socket: TcpSocket, port: u16, to: SocketAddr, path: String, limit: Duration },
    Udp { socket: UdpSocket, port: u16, to: SocketAddr, limit: Duration },
}

impl Client {
    fn open(order: &TapOrder) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let what = "cannot open a socket";
        netns::inside(&order.order.netns, || {
            let _guard = runtime.enter();
            match &order.order.what {
                What::Http { to, path, timeout_ms } => {
                    let socket = client::tcp_socket(*to).context(what)?;
                    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into()).context(what)?;
                    let port = socket.local_addr().context(what)?.port();
                    let limit = Duration::from_millis((*timeout_ms).into());
                    Ok(Client::Tcp { socket, port, to: *to, path: path.clone(), limit })
                }
                What::Udp { to, timeout_ms } => {
                    let socket = client::udp_socket(*to).context(what)?;
                    let port = socket.local_addr().context(what)?.port();
                    Ok(Client::Udp { socket, port, to: *to, limit: Duration::from_millis((*timeout_ms).into()) })
                }
                What::Curl { .. } | What::HttpByName { .. } | What::Names { .. } | What::Errand(_) => {
                    Err(Error::bug("who has to ask for a name first, or is another program, does not say its port"))
                }
            }
        })
    }

    fn tap<'a>(&self, endpoints: &'a [SocketAddr], marks: &'a [u16]) -> Tap<'a> {
        let (protocol, port, to) = match self {
            Client::Tcp { port, to, .. } => ("tcp", *port, *to),
            Client::Udp { port, to, .. } => ("udp", *port, *to),
        };
        Tap { protocol, port, to, endpoints, marks }
    }

    async fn connect(self) -> (u16, Try) {
        match self {
            Client::Tcp { socket, port, to, path, limit } => (port, client::http(socket, to, &path, limit).await),
            Client::Udp { socket, port, to, limit } => (port, client::udp(socket, to, limit.into()).await),
        }
    }
}

/// Gives every node an ear, and waits until all of them hear.
async fn begin(order: &TapOrder, client: &Client, ears: &mut Vec<Ear>, processes: &Processes) -> Result<()> {
    let opening = order.nodes.iter().map(|node| Ear::open(node, client, &order.endpoints, processes));
    let mut first_error = None;
    for opened in join_all(opening).await {
        match opened {
            Ok(ear) => ears.push(ear),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    if let Some(error) = first_error {
        return Err(error);
    }
    join_all(ears.iter_mut().map(Ear::is_open)).await.into_iter().collect()
}

async fn listen(client: Client, ears: &mut [Ear]) -> Result<Tapped> {
    let (port, result) = client.connect().await;
    join_all(ears.iter_mut().map(Ear::hear_out)).await.into_iter().collect::<Result<()>>()?;
    let heard = ears.iter_mut().map(|ear| (ear.netns.clone(), std::mem::take(&mut ear.heard))).collect();
    Ok(Tapped { port, result, heard })
}

/// A monitor in a node's namespace.
struct Ear {
    netns: String,
    monitor: Spawned,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    /// Sends datagrams to itself that the monitor hears of: it is heard when it listens, and
    /// the last one after everything else.
    first: Mark,
    last: Mark,
    heard: Vec<String>,
}

struct Mark {
    socket: UdpSocket,
    port: u16,
}

impl Mark {
    fn open() -> Result<Self> {
        let what = "cannot open a socket";
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context(what)?;
        socket.set_nonblocking(true).context(what)?;
        let port = socket.local_addr().context(what)?.port();
        Ok(Mark { socket: UdpSocket::from_std(socket).context(what)?, port })
    }

    async fn send(&self) -> Result<()> {
        let sent = self.socket.send_to(b"netlab", (Ipv4Addr::LOCALHOST, self.port)).await;
        sent.context("cannot send to myself").map(|_| ())
    }
}

impl Ear {
    async fn open(netns: &str, client: &Client, endpoints: &[SocketAddr], processes: &Processes) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let (first, last) = netns::inside(netns, || {
            let _guard = runtime.enter();
            Ok((Mark::open()?, Mark::open()?))
        })?;
        let marks = [first.port, last.port];
        nft(netns, &["-f", "-"], tap::rules(&client.tap(endpoints, &marks)), processes).await?;
        let monitor = match monitor(netns, processes) {
            Ok(monitor) => monitor,
            Err(error) => {
                remove_table(netns, processes).await?;
                return Err(error);
            }
        };
        let mut ear = Ear { netns: netns.to_owned(), monitor, lines: None, first, last, heard: Vec::new() };
        ear.lines = ear.monitor.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(ear)
    }

    /// Comes when the monitor has heard a mark.
    async fn is_open(&mut self) -> Result<()> {
        let port = self.first.port;
        timeout(PATIENCE, async {
            loop {
                self.first.send().await?;
                match timeout(AGAIN, self.hear_mark(port)).await {
                    Ok(heard) => return heard,
                    Err(_) => continue,
                }
            }
        })
        .await
        .unwrap_or_else(|_| Err(Error::refused(format!("`nft monitor trace` hears nothing in {}", self.netns))))?;
        self.heard.clear();
        Ok(())
    }

    /// Comes when the monitor has printed all that was there to be heard by now.
    async fn hear_out(&mut self) -> Result<()> {
        let port = self.last.port;
        self.last.send().await?;
        timeout(PATIENCE, self.hear_mark(port))
            .await
            .unwrap_or_else(|_| Err(Error::refused(format!("`nft monitor trace` fell silent in {}", self.netns))))
    }

    /// Reads on until a packet from this port is told of. It may be interrupted and called
    /// again: a line is either read or not.
    async fn hear_mark(&mut self, port: u16) -> Result<()> {
        loop {
            let line = match &mut self.lines {
                Some(lines) => lines.next_line().await.context("cannot read from nft")?,
                None => None,
            };
            let Some(line) = line else {
                return Err(Error::refused(format!("`nft monitor trace` ended in {}", self.netns)));
            };
            let visits = monitor::visits([line.as_str()]);
            let is_mark = |source: SocketAddr| source == SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if visits.iter().any(|visit| is_mark(visit.header.source)) {
                return Ok(());
            }
            self.heard.push(line);
        }
    }

    /// Ends the monitor and removes the table.
    async fn end(mut self, processes: &Processes) -> Result<()> {
        // If its end was seen already, the number may be another's by now.
        if self.monitor.ended.try_recv().is_err() {
            // That it ends just now is as good.
            let _ = kill(self.monitor.pid, Signal::SIGKILL);
            let _ = self.monitor.ended.await;
        }
        remove_table(&self.netns, processes).await
    }
}

fn monitor(netns: &str, processes: &Processes) -> Result<Spawned> {
    let mut command = Command::new(rules::find("nft")?);
    command.args(["monitor", "trace"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    processes.spawn(command, Entrance::to_netns(netns)?)
}

async fn remove_table(netns: &str, processes: &Processes) -> Result<()> {
    nft(netns, &["delete", "table", "ip", TABLE], String::new(), processes).await
}

async fn nft(netns: &str, arguments: &[&str], input: String, processes: &Processes) -> Result<()> {
    let mut command = Command::new(rules::find("nft")?);
    command.args(arguments);
    let output = processes.run(command, Entrance::to_netns(netns)?, input.into_bytes()).await?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::refused(format!("nft refused in {netns}: {}", words.lines().next().unwrap_or("it does not say why"))))
}
