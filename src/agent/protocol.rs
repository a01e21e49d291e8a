//! What the CLI and an agent say to each other: one JSON value a line. The text of a lab, which may be long,
//! follows its line as it is.
//!
//! Two channels speak it. The *control* channel exists while `up` waits: the agent reports
//! [`Event`]s, and ends when the channel closes before it was told to [`Farewell::Stay`]. The
//! *socket* exists as long as the lab: one [`Request`] a connection, answered by [`Reply`]s.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    dns::environment::Environment,
    error::ErrorKind,
    lab::difference::Difference,
    probe::{
        capture::{CaptureOrder, Captured, Look},
        drift::Drift,
        order::{Order, Outcome},
    },
    proxy::{
        flow::Connection,
        trace::tap::{TapOrder, Tapped},
    },
    report::timings::Lap,
};

/// What an agent reports while it builds its lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A stage begins.
    Stage {
        /// Its name.
        name: String,
        /// How many steps it has.
        steps: usize,
    },
    /// A stage is done.
    Done {
        /// Its name.
        name: String,
        /// How long it took.
        micros: u64,
    },
    /// Everything runs, but some pods have not proved yet that they are ready.
    Waiting(Waiting),
    /// What was done when, if that was asked for.
    Timings(Vec<Lap>),
    /// Everything runs.
    Ready,
    /// It could not be built; the agent ends.
    Failed(Problem),
}

/// Pods whose readiness probes have not succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waiting {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub first: Vec<Unready>,
}

impl Waiting {
    /// So many are told of.
    pub const MOST: usize = 5;
}

/// `web-1 (…), web-2 (…) and 3 more`.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.first.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(", "))?;
        match self.count.saturating_sub(self.first.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A pod whose readiness probe has not succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unready {
    /// The pod, as `NAME` or `NAME.NAMESPACE`.
    pub pod: String,
    /// Why the probe failed last; nothing if it has not been tried yet.
    pub failure: Option<String>,
}

/// `web-1 (its readiness probe failed: …)`.
impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Some(failure) => write!(f, "{} (its readiness probe failed: {})", self.pod, failure.trim()),
            None => write!(f, "{} (its readiness probe has not succeeded often enough yet)", self.pod),
        }
    }
}

/// What went wrong in an agent, for the CLI to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What went wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The step that failed, as a person would type it.
    pub step: Option<String>,
    /// The part of the lab file that asked for it: a byte range.
    pub at: Option<(usize, usize)>,
}

/// What `up` says last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Farewell {
    /// Live on without me.
    Stay,
}

/// A question to a running agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How are you?
    Status,
    /// Try these; answered by one [`Reply::Outcome`] each, in any order, and [`Reply::Done`].
    Probe {
        /// What to try.
        orders: Vec<Order>,
        /// How many at a time.
        at_once: usize,
    },
    /// The same, and most of them will not be answered: how long silence has to last, at most as long as each
    /// of them says, is said on a second line, a [`Patience`](crate::probe::order::Patience), as soon as it is
    /// known.
    Silence {
        /// What to try.
        orders: Vec<Order>,
        /// How many at a time.
        at_once: usize,
    },
    /// What differs from the plan? Answered by [`Reply::Drifts`].
    Inspect,
    /// Put right what differs from the plan. Answered by [`Reply::Repaired`].
    Repair {
        /// Whether to do it, or to say what would be done.
        how: Earnest,
    },
    /// How do processes see the world in this place? Answered by [`Reply::View`].
    View {
        /// The name of a place.
        place: String,
    },
    /// Make a connection, and listen to what the kernel does with it. Answered by
    /// [`Reply::Traced`].
    Trace(TapOrder),
    /// Try something, and take down the packets of it. Answered by [`Reply::Captured`].
    Capture(CaptureOrder),
    /// How are these network namespaces? Answered by [`Reply::Looked`].
    Look {
        /// Their names.
        places: Vec<String>,
    },
    /// Become what a text says, which follows the line as it is. Answered by [`Reply::Applied`].
    Apply {
        /// How many bytes the text of the lab file has.
        length: usize,
        /// Whether whoever asks has read it, and found the host fit for it. If not, [`Reply::Look`] may be the
        /// answer.
        looked: bool,
        /// Do not wait until pods that end because of it are gone.
        #[serde(default)]
        no_wait: bool,
        /// Whether to tell first what was done when, by [`Reply::Timings`].
        #[serde(default)]
        timings: bool,
    },
    /// Make these pods ready, or not ready. Answered by [`Reply::Applied`].
    Ready {
        /// Each with whether it shall be; nothing for what its file and its readiness probe say.
        pods: Vec<(String, Option<bool>)>,
    },
    /// Delete these pods. Answered by [`Reply::Applied`] when they are gone.
    Delete {
        /// The pods.
        pods: Vec<String>,
        /// Do not wait until pods that end because of it are gone.
        #[serde(default)]
        no_wait: bool,
    },
    /// Give a `[[pod]]` another number of replicas. Answered by [`Reply::Applied`].
    Scale {
        /// Its name in the lab file.
        name: String,
        /// How many there shall be.
        replicas: u32,
        /// Do not wait until pods that end because of it are gone.
        #[serde(default)]
        no_wait: bool,
    },
    /// Do this to nodes, or with them. Answered by [`Reply::Applied`] when it is so.
    Node {
        /// The nodes.
        nodes: Vec<String>,
        /// What.
        order: NodeOrder,
    },
    /// Kill the processes of these pods. Answered by [`Reply::Done`].
    Kill {
        /// The pods.
        pods: Vec<String>,
    },
    /// What has happened lately? Answered by [`Reply::Events`].
    Events {
        /// And by another one whenever something happens, until the lab ends.
        follow: bool,
    },
    /// Which connections does conntrack know? Answered by [`Reply::Conntrack`].
    Conntrack {
        /// On this node only.
        node: Option<String>,
    },
    /// End.
    Down,
}

/// An answer of a running agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Probe`].
    Outcome(Outcome),
    /// That was all, or: it will be done.
    Done,
    /// To [`Request::Inspect`].
    Drifts(Vec<Drift>),
    /// To [`Request::Repair`].
    Repaired(Repaired),
    /// To [`Request::View`].
    View(View),
    /// To [`Request::Trace`].
    Traced(Tapped),
    /// To [`Request::Capture`].
    Captured(Captured),
    /// To [`Request::Look`]: of those that are there.
    Looked(Vec<Look>),
    /// To [`Request::Apply`].
    Applied(Applied),
    /// To [`Request::Apply`] of a text that nobody has looked at, and that is about more than Services.
    Look,
    /// What was done when.
    Timings(Vec<Lap>),
    /// To [`Request::Conntrack`].
    Conntrack(Vec<NodeConnections>),
    /// To [`Request::Events`], the oldest first.
    Events(Vec<Happening>),
    /// It cannot be done.
    Problem(Problem),
}

/// What can be done to a node, or with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOrder {
    /// Place no new pods there.
    Cordon,
    /// Place pods there again.
    Uncordon,
    /// Cordon it, and move its pods away.
    Drain,
    /// Pull its cable to the LAN.
    Unplug {
        /// After so many milliseconds the control plane notices.
        notice: Option<u64>,
    },
    /// Plug it in again.
    Plug,
    /// Power it off.
    Stop,
    /// Power it on.
    Start,
}

/// Whether something is done, or only said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Earnest {
    /// It is done.
    Done,
    /// It is said what would be done.
    Said,
}

/// What became of what differed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// What was put right, or would be.
    pub mended: Vec<Drift>,
    /// What could not be.
    pub left: Vec<Left>,
    /// What others have made, which is left alone.
    pub foreign: Vec<Drift>,
    /// What was done, or would be, as a person would type it in `netlab shell`.
    pub commands: Vec<String>,
}

/// What could not be put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The difference.
    pub drift: Drift,
    /// Why it is still there.
    pub why: String,
    /// What to do.
    pub hint: String,
}

/// What a change has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Thing by thing; nothing if the lab was so already.
    pub differences: Vec<Difference>,
}

/// How a lab is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The lab's name.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// The stages that are done, with how long they took, in microseconds.
    pub stages: Vec<(String, u64)>,
    /// How each container's server is.
    pub servers: Vec<ServerStatus>,
}

/// How far a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being built.
    Building,
    /// Built as far as was asked for.
    Running,
}

/// How a container's server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The pod, as `NAME` or `NAME.NAMESPACE`.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
    /// Its process id in the lab, if it is a process that runs.
    pub pid: Option<i32>,
    /// In words.
    pub text: String,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// It has ended, and will be started again.
    #[serde(default)]
    pub again: bool,
    /// It counts as ready.
    #[serde(default)]
    pub ready: bool,
    /// What its readiness probe says, if it has one.
    #[serde(default)]
    pub probe: Option<ProbeStatus>,
    /// When its pod came into the world, in milliseconds since 1970.
    #[serde(default)]
    pub since: u64,
}

/// What a readiness probe says of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// The verdict.
    pub ready: bool,
    /// How many answers of the last one's kind have come in a row; 0 if none has come yet.
    pub times: u32,
    /// Why it failed last, if the last answer was a failure.
    pub failure: Option<String>,
}

/// Something that happened in a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Its number, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub millis: u64,
    /// Whether it was as it should be.
    pub tone: Tone,
    /// Why it is told, in one word.
    pub reason: String,
    /// What it is about: `pod/NAME` and the like.
    pub object: String,
    /// In words.
    pub message: String,
}

/// Whether something was as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// It was.
    Normal,
    /// It was not.
    Warning,
}

impl Tone {
    /// As kubectl spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Tone::Normal => "Normal",
            Tone::Warning => "Warning",
        }
    }
}

/// The connections that a node's conntrack knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConnections {
    /// The node.
    pub node: String,
    /// In no particular order.
    pub connections: Vec<Connection>,
}

/// What processes in a place see of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The network namespace's name.
    pub netns: String,
    /// The hostname; `None` for the lab's outer one.
    pub hostname: Option<String>,
    /// Files laid over others: pairs of a file of the lab's and a path.
    pub binds: Vec<(String, String)>,
    /// Variables of their environment, besides those of whoever starts them.
    #[serde(default)]
    pub env: Environment,
}
