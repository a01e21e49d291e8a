//! One run of all probes: what the agent is asked for at which time, and what came of it.
//!
//! First come the probes of which each is answered at once. From the slowest of their answers it is
//! known how long this lab takes on this machine at this moment, and so how long silence has to last
//! to be believed. Those that wait for silence begin with them, and are told then how long they have
//! to, while load is measured beside them; only curl has to know before it begins.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    agent::{
        directory::Directory,
        link::{Conversation, Hearing},
        protocol::{Reply, Request},
    },
    cli::output::Terminal,
    error::{Error, Result},
    probe::{
        judge::{self, Verdict},
        order::{FailureKind, Order, Outcome, Patience},
        suite::{Probe, Suite},
    },
};

/// How many functional probes run at a time. Each is a process; those that must time out only
/// wait.
const PROBES_AT_ONCE: usize = 32;
/// How many probes that wait for silence run at a time.
const SILENT_AT_ONCE: usize = 64;
/// How many probes of many tries run at a time. More would be a measurement's load, fewer would
/// make a broken lab slow to look at: each broken one waits for its timeout.
const CROWDS_AT_ONCE: usize = 3;
/// How many measurements run at a time: each keeps up to 64 connections open on its own, and a
/// machine that is too busy looks like a network that loses packets.
const MEASUREMENTS_AT_ONCE: usize = 2;
/// Silence is believed after so many times as long as the slowest answer took.
const LONGER: u32 = 20;
/// And after no less than this: a packet that comes takes microseconds.
const LEAST_SILENCE: Duration = Duration::from_millis(60);

/// A lab, and what is to be tried in it.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) directory: &'a Directory,
    pub(super) suite: &'a Suite,
}

/// What has come of it so far.
struct Progress<'a> {
    suite: &'a Suite,
    /// The probe of each order.
    probes: BTreeMap<usize, &'a Probe>,
    outcomes: Mutex<Vec<Outcome>>,
    /// Something has failed, and that is to be the end.
    over: AtomicBool,
    bar: Option<ProgressBar>,
}

/// In microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Slowest {
    /// Until there was a TCP connection. Only kernels take part in it: however busy the servers are, it
    /// says how soon packets arrive.
    handshake: Option<u64>,
    /// Until a datagram was answered, which takes a program.
    answer: Option<u64>,
}

impl Course<'_> {
    /// Tries everything once.
    pub(super) fn run(self, terminal: &Terminal) -> Result<Vec<Outcome>> {
        let (silent, first): (Vec<Order>, Vec<Order>) = self.first_orders();
        let (mut crowds, first): (Vec<Order>, Vec<Order>) = first.into_iter().partition(|order| order.times > 1);
        // Those that make all of their tries take longest, and others have an end beside them.
        crowds.sort_by_key(|order| order.until.is_some());
        let progress = Progress::new(self.suite, terminal, silent.len() + first.len() + crowds.len());
        let (early, silent): (Vec<Order>, Vec<Order>) = silent.into_iter().partition(Order::can_wait_from_the_start);
        let request = (!early.is_empty()).then_some(Request::Silence { orders: early, at_once: SILENT_AT_ONCE });
        let early = request.map(|request| Conversation::begin(self.directory, &request)).transpose()?;
        thread::scope(|scope| {
            let early = early.as_ref();
            let heard = early.map(|early| scope.spawn(|| hear_outcomes(early, &progress)));
            let answered = self.carry_out(first, PROBES_AT_ONCE, &progress);
            let patience = progress.patience();
            // Whoever has heard all, or that the lab has ended, hears nothing more.
            let _ = early.map(|early| early.add(&patience));
            let rest = answered.and_then(|()| {
                let silent = hasten(silent, patience);
                let silent = scope.spawn(|| self.carry_out(silent, SILENT_AT_ONCE, &progress));
                let measured = self.carry_out(crowds, CROWDS_AT_ONCE, &progress).and_then(|()| {
                    let second = self.suite.second_orders(&progress.so_far());
                    progress.measure(second.len());
                    self.carry_out(second, MEASUREMENTS_AT_ONCE, &progress)
                });
                measured.and(joined(silent))
            });
            rest.and(heard.map_or(Ok(()), joined))
        })?;
        Ok(progress.finish())
    }

    /// The orders of the functional probes: those that wait for silence, and the others.
    fn first_orders(self) -> (Vec<Order>, Vec<Order>) {
        let (mut silent, mut others) = (Vec::new(), Vec::new());
        for probe in self.suite.probes.iter().filter(|probe| !probe.is_measurement()) {
            (if probe.waits_for_silence() { &mut silent } else { &mut others }).extend(probe.orders.iter().cloned());
        }
        (silent, others)
    }

    /// Has the agent try these, and collects what came of it.
    fn carry_out(self, orders: Vec<Order>, at_once: usize, progress: &Progress<'_>) -> Result<()> {
        if orders.is_empty() || progress.is_over() {
            return Ok(());
        }
        hear_outcomes(&Conversation::begin(self.directory, &Request::Probe { orders, at_once })?, progress)
    }
}

/// Collects what came of what was asked for.
fn hear_outcomes(conversation: &Conversation<'_>, progress: &Progress<'_>) -> Result<()> {
    conversation.hear(|reply| match reply {
        Reply::Outcome(outcome) => Ok(progress.hear(outcome)),
        Reply::Done => Ok(Hearing::Last),
        _ => Err(Error::bug("outcomes were asked for, and something else was given")),
    })
}

/// What came of another thread.
fn joined(thread: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().map_err(|_| Error::bug("a thread has panicked"))?
}

/// Has orders wait no longer for silence than they must.
fn hasten(mut orders: Vec<Order>, patience: Patience) -> Vec<Order> {
    orders.iter_mut().for_each(|order| order.hasten(patience));
    orders
}

impl<'a> Progress<'a> {
    fn new(suite: &'a Suite, terminal: &Terminal, length: usize) -> Self {
        let of_probe = |probe: &'a Probe| probe.orders.iter().map(move |order| (order.id, probe));
        Progress {
            suite,
            probes: suite.probes.iter().flat_map(of_probe).collect(),
            outcomes: Mutex::default(),
            over: AtomicBool::new(false),
            bar: bar(terminal, length),
        }
    }

    /// Whoever panicked with the lock held did no more than push.
    fn outcomes(&self) -> std::sync::MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn so_far(&self) -> Vec<Outcome> {
        self.outcomes().clone()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn hear(&self, outcome: Outcome) -> Hearing {
        let id = outcome.id;
        let mut outcomes = self.outcomes();
        outcomes.push(outcome);
        if self.suite.options.fail_fast && self.has_failed(id, &outcomes) {
            self.over.store(true, Ordering::Relaxed);
        }
        self.bar.iter().for_each(|bar| bar.inc(1));
        if self.is_over() { Hearing::Last } else { Hearing::More }
    }

    /// The probe of this order is complete, and has failed.
    fn has_failed(&self, order: usize, outcomes: &[Outcome]) -> bool {
        let Some(probe) = self.probes.get(&order) else { return false };
        let own = probe.orders.iter().filter_map(|order| outcomes.iter().find(|outcome| outcome.id == order.id));
        let own: Vec<&Outcome> = own.collect();
        let complete = own.len() == probe.orders.len();
        complete && matches!(judge::judge(probe, &own, self.suite.alpha_each()).verdict, Verdict::Fail(_))
    }

    /// How long silence has to last.
    fn patience(&self) -> Patience {
        let slowest = self.slowest();
        let millis = |micros: u64| {
            let patience = (Duration::from_micros(micros) * LONGER).max(LEAST_SILENCE);
            u32::try_from(patience.as_millis()).unwrap_or(u32::MAX)
        };
        Patience {
            handshake_ms: slowest.handshake.or(slowest.answer).map_or(u32::MAX, millis),
            answer_ms: slowest.answer.or(slowest.handshake).map_or(u32::MAX, millis),
        }
    }

    /// What took longest of that which was answered; a refusal is an answer too, if there is no other.
    fn slowest(&self) -> Slowest {
        let outcomes = self.outcomes();
        let mut slowest = Slowest::default();
        let mut refused = None;
        for outcome in outcomes.iter() {
            let order = |probe: &&'a Probe| probe.orders.iter().find(|order| order.id == outcome.id);
            let is_datagrams = self.probes.get(&outcome.id).and_then(order).is_some_and(Order::is_of_datagrams);
            for it in &outcome.tries {
                match &it.result {
                    Ok(answer) => {
                        slowest.handshake = slowest.handshake.max(answer.handshake_micros);
                        slowest.answer = slowest.answer.max(is_datagrams.then_some(it.micros));
                    }
                    Err(failure) if failure.kind == FailureKind::Refused => refused = refused.max(Some(it.micros)),
                    Err(_) => {}
                }
            }
        }
        if slowest == Slowest::default() {
            slowest.answer = refused;
        }
        slowest
    }

    fn measure(&self, more: usize) {
        if let Some(bar) = &self.bar {
            bar.inc_length(more as u64);
            bar.set_message("measuring");
        }
    }

    fn finish(self) -> Vec<Outcome> {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
        self.outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bar(terminal: &Terminal, length: usize) -> Option<ProgressBar> {
    terminal.is_interactive().then(|| {
        let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} probes {msg}");
        ProgressBar::new(length as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}
