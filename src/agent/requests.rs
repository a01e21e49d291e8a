//! Answers the CLI: one request a connection.

use std::{collections::BTreeSet, pin::pin, sync::Arc, thread, time::Duration};

use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Take},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

use super::{
    changing, faults, leaving, living,
    protocol::{Applied, NodeConnections, Phase, Problem, Reply, Request},
    repair,
    state::{Now, State},
    telling::{Word, tell},
};
use crate::{
    error::{Context, Error, Result},
    kernel::{
        capture,
        client::{self, Circumstances},
        conntrack::{Conntrack, Which},
        inspect, look,
        patience::Said,
        stopwatch::Stopwatch,
        trace,
        unanswered::Unanswered,
        view,
    },
    lab::model::{NodeId, Place},
    probe::order::{Order, Outcome, Patience},
    report::timings::Who,
};

/// No request is longer; a probe of a big lab has some hundred thousand bytes.
const REQUEST_LIMIT: u64 = 64 << 20;

/// So many bytes of it are read at a time.
const READ_AT_ONCE: usize = 64 << 10;

/// How many orders may begin at a time, for each processor: with more, each would take as long as all of
/// them together to hear of an answer that has long been there, and the lab would seem slow.
const STARTS: usize = 3;
/// For so long an order is one of those; after that it waits, which is no load.
const START: Duration = Duration::from_millis(25);

/// Accepts connections for as long as the agent lives.
pub(super) async fn serve(listener: UnixListener, state: Arc<State>, over: mpsc::Sender<()>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let (state, over) = (Arc::clone(&state), over.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &state, &over).await {
                // Only the one who asked wanted to know, and has gone.
                eprintln!("a conversation broke off: {error}");
            }
        });
    }
}

async fn converse(stream: UnixStream, state: &Arc<State>, over: &mpsc::Sender<()>) -> Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(READ_AT_ONCE, reader.take(REQUEST_LIMIT));
    let mut line = String::new();
    reader.read_line(&mut line).await.context("cannot read a request")?;
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let problem = Error::usage(format!("not a request: {error}"))
                .hint("this netlab and the one that made the lab are of different versions");
            return say(&mut writer, &Reply::Problem(problem.into())).await;
        }
    };
    match request {
        Request::Status => say(&mut writer, &Reply::Status(state.status())).await,
        Request::Down => {
            let said = say(&mut writer, &Reply::Done).await;
            // The receiver is gone only when the end has begun already.
            let _ = over.send(()).await;
            said
        }
        _ if state.status().phase == Phase::Building => {
            let problem = Error::usage("the lab is still being built");
            say(&mut writer, &Reply::Problem(problem.into())).await
        }
        Request::Probe { orders, at_once } => {
            probe(&mut writer, Tries { orders, at_once, patience: None }, state).await
        }
        Request::Silence { orders, at_once } => {
            let (sender, said) = watch::channel(None);
            let tries = Tries { orders, at_once, patience: Some(&said) };
            let (probed, ()) = tokio::join!(probe(&mut writer, tries, state), hear_patience(reader, sender));
            probed
        }
        Request::Inspect => {
            // Half-way through a change, the kernel is as neither plan says.
            let _turn = state.turn().await;
            let Now { lab, plan, .. } = state.now();
            let drifts = inspect::drifts(&lab, &plan, &state.processes, &state.servers).await;
            say(&mut writer, &drifts.map_or_else(|error| Reply::Problem(error.into()), Reply::Drifts)).await
        }
        Request::Repair { how } => {
            let repaired = repair::repair(Arc::clone(state), how).await;
            say(&mut writer, &repaired.map_or_else(Reply::Problem, Reply::Repaired)).await
        }
        Request::Trace(order) => {
            let traced = trace::trace(order, &state.now().plan, &state.processes).await;
            say(&mut writer, &traced.map_or_else(|error| Reply::Problem(error.into()), Reply::Traced)).await
        }
        Request::Capture(order) => {
            let captured = capture::capture(order, &state.now().lab, &state.processes, state.servers.events()).await;
            say(&mut writer, &captured.map_or_else(|error| Reply::Problem(error.into()), Reply::Captured)).await
        }
        Request::Look { places } => {
            let Now { lab, .. } = state.now();
            let looked = look::look(&places, lab.cluster.proxy, &state.processes).await;
            say(&mut writer, &looked.map_or_else(|error| Reply::Problem(error.into()), Reply::Looked)).await
        }
        Request::Apply { length, looked, no_wait, timings } => {
            let mut text = String::new();
            reader.take(length as u64).read_to_string(&mut text).await.context("cannot read a lab's text")?;
            if text.len() < length {
                let problem = Error::usage("the text of the lab broke off");
                return say(&mut writer, &Reply::Problem(problem.into())).await;
            }
            let watch = if timings { Stopwatch::of(Who::Agent) } else { Stopwatch::default() };
            let applied = changing::apply(Arc::clone(state), (text, looked), watch.clone()).await;
            let Some(applied) = applied.transpose() else { return say(&mut writer, &Reply::Look).await };
            if timings {
                say(&mut writer, &Reply::Timings(watch.take())).await?;
            }
            settled(&mut writer, state, applied, no_wait).await
        }
        Request::Ready { pods } => {
            let applied = tell(state, Word::Ready(pods)).await;
            settled(&mut writer, state, applied, false).await
        }
        Request::Delete { pods, no_wait } => {
            let applied = tell(state, Word::Delete(pods)).await;
            settled(&mut writer, state, applied, no_wait).await
        }
        Request::Scale { name, replicas, no_wait } => {
            let applied = living::scale(Arc::clone(state), name, replicas).await;
            settled(&mut writer, state, applied, no_wait).await
        }
        Request::Node { nodes, order } => {
            let applied = faults::carry_out(Arc::clone(state), nodes, order).await;
            settled(&mut writer, state, applied, false).await
        }
        Request::Kill { pods } => {
            let killed = living::kill(state, &pods);
            say(&mut writer, &killed.map_or_else(|error| Reply::Problem(error.into()), |()| Reply::Done)).await
        }
        Request::Events { follow } => events(&mut writer, follow, state).await,
        Request::Conntrack { node } => {
            let known = connections(state, node.as_deref()).await;
            say(&mut writer, &known.map_or_else(|error| Reply::Problem(error.into()), Reply::Conntrack)).await
        }
        Request::View { place } => {
            let view = view::find(&state.now().lab, &place);
            say(&mut writer, &view.map_or_else(|error| Reply::Problem(error.into()), Reply::View)).await
        }
    }
}

async fn say(writer: &mut OwnedWriteHalf, reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_vec(reply).context("cannot write a reply down")?;
    line.push(b'\n');
    writer.write_all(&line).await.context("cannot reply")
}

/// Says what has changed; first waits until the pods that end because of it are gone, if that is wanted.
async fn settled(
    writer: &mut OwnedWriteHalf,
    state: &State,
    applied: Result<(Applied, BTreeSet<String>), Problem>,
    no_wait: bool,
) -> Result<()> {
    let reply = match applied {
        Ok((applied, _)) if no_wait => Reply::Applied(applied),
        Ok((applied, ending)) => {
            leaving::gone(state, ending).await.map_or_else(Reply::Problem, |()| Reply::Applied(applied))
        }
        Err(problem) => Reply::Problem(problem),
    };
    say(writer, &reply).await
}

async fn events(writer: &mut OwnedWriteHalf, follow: bool, state: &State) -> Result<()> {
    let events = state.servers.events();
    let mut last = 0;
    let mut news = events.after(last);
    loop {
        last = news.last().map_or(last, |it| it.number);
        say(writer, &Reply::Events(news)).await?;
        if !follow {
            return Ok(());
        }
        news = events.wait_after(last).await;
    }
}

/// What is to be tried, and how.
struct Tries<'a> {
    orders: Vec<Order>,
    at_once: usize,
    patience: Option<&'a Said>,
}

/// Hears how long silence has to last, and hands it on.
async fn hear_patience(mut reader: BufReader<Take<OwnedReadHalf>>, said: watch::Sender<Option<Patience>>) {
    let mut line = String::new();
    // Who says nothing, or nothing that can be understood, has no say in it.
    if reader.read_line(&mut line).await.is_ok() {
        said.send_replace(serde_json::from_str(&line).ok());
    }
}

async fn probe(writer: &mut OwnedWriteHalf, tries: Tries<'_>, state: &State) -> Result<()> {
    let Tries { orders, at_once, patience } = tries;
    let Now { lab, .. } = state.now();
    let mut unanswered = Unanswered::all(&orders);
    let (events, processes) = (state.servers.events(), &state.processes);
    let circumstances = Circumstances { lab: &lab, processes, events, patience };
    let starts = Semaphore::new(STARTS * thread::available_parallelism().map_or(1, |it| it.get()));
    let tries = orders.into_iter().map(|order| begin(&starts, client::attempt(order, circumstances)));
    let mut told = Ok(());
    let mut outcomes = stream::iter(tries).buffer_unordered(at_once.clamp(1, 256));
    while let Some(outcome) = outcomes.next().await {
        unanswered.hear(&outcome);
        told = say(writer, &Reply::Outcome(outcome)).await;
        if told.is_err() {
            break;
        }
    }
    // Closes the sockets of what is still being tried.
    drop(outcomes);
    let nodes = lab.node_ids().map(Place::Node).filter(|node| !lab.is_off(*node)).map(|node| lab.netns(node));
    if let Err(error) = unanswered.forget(nodes).await {
        eprintln!("conntrack still knows of probes that nobody answered: {error}");
    }
    told?;
    say(writer, &Reply::Done).await
}

/// Carries out an order as one of few at first, and as one of many once it waits.
async fn begin(starts: &Semaphore, attempt: impl Future<Output = Outcome>) -> Outcome {
    let mut attempt = pin!(attempt);
    // There is none only if the semaphore is closed, which nobody does.
    let start = starts.acquire().await.ok();
    let soon = timeout(START, &mut attempt).await;
    drop(start);
    match soon {
        Ok(outcome) => outcome,
        Err(_) => attempt.await,
    }
}

/// What the conntrack of one node knows, or of all.
async fn connections(state: &State, node: Option<&str>) -> Result<Vec<NodeConnections>> {
    let Now { lab, .. } = state.now();
    let wanted = |id: &NodeId| node.is_none_or(|name| lab.node(*id).name.as_str() == name);
    let runtime = tokio::runtime::Handle::current();
    let mut known = Vec::new();
    for id in lab.node_ids().filter(wanted) {
        if lab.is_off(Place::Node(id)) {
            if node.is_some() {
                view::must_be_on(&lab, Place::Node(id))?;
            }
            continue;
        }
        let conntrack = Conntrack::open_in(&lab.netns(Place::Node(id)), &runtime)?;
        let connections = conntrack.connections(Which::All).await?;
        known.push(NodeConnections { node: lab.node(id).name.to_string(), connections });
    }
    match node {
        Some(name) if known.is_empty() => Err(Error::usage(format!("there is no node {name} in this lab"))),
        _ => Ok(known),
    }
}
