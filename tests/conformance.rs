//! The table of conformance, asked of three opinions: truth, trace, and the kernel.
//!
//! The kernel's part builds every lab of the table with the built program, once for each proxy,
//! as root and again as nobody; labs run side by side, and rows share them.

mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::SocketAddr,
    path::Path as FilePath,
    sync::{Mutex, PoisonError},
    thread,
};

use netlab::{
    agent::{
        link::{self, Hearing},
        protocol::{Reply, Request},
    },
    conformance::{self, Ask, Health, Path, Proof, Row, Seen, Setting, answerer},
    diag::Colour,
    lab::{
        load,
        model::{Lab, Place, Protocol, ProxyMode},
    },
    probe::{
        order::{Answer, Failure, FailureKind, Order, Outcome, Try, What},
        stats,
    },
    proxy::{
        render, trace,
        truth::{Choice, Sight, Truth},
        view::view,
    },
};

use program::{
    Program, Running, User,
    clients::{FORGETS, FROM_PORT, LARGE_TCP, LARGE_UDP, SCTP},
};

/// What is in front of every Service of a row about lab files: a pod, and no Service besides.
const WEB: &str = "[dns]\nengine = \"none\"\n[[pod]]\nname = \"web\"\nlabels = { app = \"web\" }\n[[service]]\n";
/// How many labs are up at a time.
const AT_ONCE: usize = 4;
/// How many orders a lab carries out at a time, each of up to 64 connections: more, and a small
/// machine is so busy that it loses packets.
const ANSWERS_AT_ONCE: usize = 4;
/// The same for those that must time out, which only wait.
const SILENCES_AT_ONCE: usize = 256;
/// With this probability a good path fails for want of a try.
const MISS: f64 = 1e-7;
/// Only one user's labs are up at a time.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn ids_are_unique() {
    let mut seen = BTreeSet::new();
    for row in conformance::rows() {
        assert!(seen.insert(row.id), "there are two rows {}", row.id);
    }
    let own = seen.iter().filter(|id| id.starts_with("own-")).count();
    assert!(own >= 25, "only {own} rows are drawn from the contract");
}

#[test]
fn the_page_is_the_table() {
    let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let page = conformance::page();
    if env::var_os("NETLAB_BLESS").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "{} is not what the table says; NETLAB_BLESS=1 rewrites it", path.display());
}

#[test]
fn lab_files_are_read_as_the_rows_say() {
    let mut wrong = Vec::new();
    for row in conformance::rows() {
        match row.proof {
            Proof::Invalid(keys, sentence) => {
                let text = format!("{WEB}{keys}\n");
                match load(&text) {
                    Ok(_) => wrong.push(format!("{}: accepted, and should be refused: {sentence}", row.id)),
                    Err(problems) if problems.0.iter().any(|problem| problem.message.contains(sentence)) => {}
                    Err(problems) => wrong.push(format!("{}: {problems}\n  lacks: {sentence}", row.id)),
                }
            }
            Proof::Valid(keys, words, meaning) => {
                let text = format!("{WEB}{keys}\n");
                match load(&text) {
                    Ok(lab) if words(&lab) == meaning => {}
                    Ok(lab) => wrong.push(format!("{}: means {}, not {meaning}", row.id, words(&lab))),
                    Err(problems) => {
                        wrong.push(format!("{}: {}", row.id, problems.render(row.id, &text, Colour::Off)));
                    }
                }
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn truth_and_trace_agree_with_every_row() {
    let mut wrong = Vec::new();
    let mut asked = BTreeMap::new();
    for (setting, row) in conformance::rows().iter().flat_map(Row::acts) {
        for mode in ProxyMode::ALL.into_iter().filter(|mode| setting.refused_by(*mode).is_none()) {
            let stage = Stage::new(setting, mode);
            match row.proof {
                Proof::Paths(_, paths) | Proof::Forgets(_, paths, _) => {
                    for path in paths {
                        wrong.extend(stage.opinions(&row, path));
                    }
                }
                Proof::NoRules(_, service) => {
                    let named = stage.texts.values().any(|text| text.contains(service));
                    wrong.extend(named.then(|| format!("{} {mode}: a rule names {service}", row.id)));
                }
                _ => {}
            }
            *asked.entry(mode).or_insert(0) += 1;
        }
    }
    eprintln!("rows asked of truth and trace: {asked:?}");
    assert!(wrong.is_empty(), "{} disagreements\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_kernel_agrees_with_every_row() {
    on_packets(User::Me);
}

#[test]
fn the_kernel_agrees_for_an_unprivileged_user() {
    // Where the tests are run without rights, the other test has shown it.
    if nix::unistd::geteuid().is_root() {
        on_packets(User::Nobody);
    }
}

/// A lab under one proxy, with the opinions on it.
struct Stage {
    setting: &'static Setting,
    mode: ProxyMode,
    lab: Lab,
    texts: BTreeMap<netlab::lab::model::NodeId, String>,
}

impl Stage {
    fn new(setting: &'static Setting, mode: ProxyMode) -> Stage {
        let lab = setting.lab(mode);
        let texts = lab.node_ids().map(|node| (node, render(mode, &view(&lab, node)))).collect();
        Stage { setting, mode, lab, texts }
    }

    /// What truth says of a path.
    fn truth(&self, path: &Path) -> Sight {
        let (from, to) = self.ends(path);
        let truth = Truth::new(&self.lab, self.mode);
        match self.entry(from, to) {
            None => truth.sight(from, to, path.protocol),
            Some(entry) => truth.sight_via(from, entry, to, path.protocol),
        }
    }

    /// What the rendered rules say of it.
    fn trace(&self, path: &Path) -> Result<Sight, String> {
        let (from, to) = self.ends(path);
        let tracer = trace::Tracer::new(&self.lab, self.mode, &self.texts)?;
        let branches = match self.entry(from, to) {
            None => tracer.trace(from, to, path.protocol),
            Some(entry) => tracer.trace_via(from, entry, to, path.protocol),
        }?;
        Ok(trace::sight(&branches))
    }

    /// What is wrong with them.
    fn opinions(&self, row: &Row, path: &Path) -> Option<String> {
        let seen = path.seen(self.mode)?;
        let (from, _) = self.ends(path);
        let truth = self.truth(path);
        let trace = match self.trace(path) {
            Ok(trace) => trace,
            Err(why) => return Some(format!("{}: cannot be traced: {why}", self.name(row, path))),
        };
        let fits = seen.fits(&self.lab, from, &truth);
        (!fits || truth != trace).then(|| {
            format!(
                "{}\n  row:   {seen:?}\n  truth: {}\n  trace: {}",
                self.name(row, path),
                words(&self.lab, &truth),
                words(&self.lab, &trace)
            )
        })
    }

    fn ends(&self, path: &Path) -> (Place, SocketAddr) {
        let from = self.lab.find(path.from).unwrap_or_else(|| panic!("{} has no {}", self.setting.name, path.from));
        (from, path.to.parse().unwrap_or_else(|_| panic!("{} is no address", path.to)))
    }

    /// The node that `host` has a route to, for this address.
    fn entry(&self, from: Place, to: SocketAddr) -> Option<netlab::lab::model::NodeId> {
        let outside = matches!(from, Place::Host | Place::Client(_));
        let route = self.setting.routes.iter().find(|(ip, _)| outside && to.ip().to_string() == *ip)?;
        self.lab.node_ids().find(|node| self.lab.node(*node).name.as_str() == route.1)
    }

    fn name(&self, row: &Row, path: &Path) -> String {
        let Path { from, to, protocol, .. } = path;
        format!("{} {} in {}: {from} -> {to} {protocol}", row.id, self.mode, self.setting.name)
    }
}

/// Labs that are brought up one in the place of the other, and what is asked in each.
type Acts = Vec<(&'static Setting, Vec<Row>)>;

/// All rows that take labs, those with the same labs together.
fn plays() -> BTreeMap<(Vec<&'static str>, ProxyMode), Acts> {
    let mut plays: BTreeMap<(Vec<&str>, ProxyMode), Acts> = BTreeMap::new();
    for acts in conformance::rows().iter().map(Row::acts).filter(|acts| !acts.is_empty()) {
        let names: Vec<&str> = acts.iter().map(|(setting, _)| setting.name).collect();
        let can = |mode: &ProxyMode| acts.iter().all(|(setting, _)| setting.refused_by(*mode).is_none());
        for mode in ProxyMode::ALL.into_iter().filter(can) {
            let play = plays
                .entry((names.clone(), mode))
                .or_insert_with(|| acts.iter().map(|(setting, _)| (*setting, Vec::new())).collect());
            for ((_, rows), (_, row)) in play.iter_mut().zip(&acts) {
                rows.push(*row);
            }
        }
    }
    plays
}

/// Asks the kernel everything.
fn on_packets(user: User) {
    // If the other user's test has failed, this one is still worth a try.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let program = Program::of(user);
    let plays = plays();
    let mut asked: BTreeMap<ProxyMode, usize> = BTreeMap::new();
    for ((_, mode), acts) in &plays {
        *asked.entry(*mode).or_default() += acts[0].1.len();
    }
    let queue = Mutex::new(plays.into_iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics with it").next();
                    let Some(((_, mode), acts)) = next else { break };
                    let found = play(&program, mode, &acts);
                    wrong.lock().expect("nobody panics with it").extend(found);
                }
            });
        }
    });
    eprintln!("rows asked of the kernel by {user:?}: {asked:?}");
    let wrong = wrong.into_inner().expect("nobody panics with it");
    assert!(wrong.is_empty(), "{} disagreements\n{}", wrong.len(), wrong.join("\n"));
}

/// Brings labs up, one in the place of the other, asks all rows of them, and says what is wrong.
fn play(program: &Program, mode: ProxyMode, acts: &[(&'static Setting, Vec<Row>)]) -> Vec<String> {
    let Some(((first, _), _)) = acts.split_first() else { return Vec::new() };
    let name = format!("{}-{}", first.name, &mode.as_str()[..3]);
    let running = match program.up(&name, &first.text(mode)) {
        Ok(running) => running,
        Err(why) => return vec![why],
    };
    let mut wrong = Vec::new();
    for (nth, (setting, rows)) in acts.iter().enumerate() {
        if nth > 0
            && let Err(why) = running.replace(&setting.text(mode))
        {
            wrong.push(why);
            break;
        }
        wrong.extend(on_stage(&running, &Stage::new(setting, mode), rows));
    }
    wrong
}

/// Asks all rows of a lab, and says what is wrong.
fn on_stage(running: &Running<'_>, stage: &Stage, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (ip, node) in stage.setting.routes {
        let Some(Place::Node(node)) = stage.lab.find(node) else { panic!("{} has no {node}", stage.setting.name) };
        let via = stage.lab.node(node).ip.to_string();
        let done = running.exec("host", &["ip", "route", "replace", ip, "via", &via]);
        if !done.status.success() {
            wrong.push(format!("{}: no route: {}", running.name, String::from_utf8_lossy(&done.stderr)));
        }
    }
    wrong.extend(Asking { running, stage }.ask(rows));
    wrong
}

/// A running lab, and what is known of it.
struct Asking<'a> {
    running: &'a Running<'a>,
    stage: &'a Stage,
}

/// What an order is for.
enum Question<'a> {
    Path(&'a Row, &'a Path),
    Health(&'a Row, &'a Health),
    Names(&'a Row, &'a Ask),
}

impl Asking<'_> {
    fn ask(&self, rows: &[Row]) -> Vec<String> {
        let stage = self.stage;
        let mut questions = Vec::new();
        let mut wrong = Vec::new();
        for row in rows {
            match &row.proof {
                Proof::Paths(_, paths) => {
                    let said = paths.iter().filter(|path| path.seen(stage.mode).is_some());
                    questions.extend(said.map(|path| Question::Path(row, path)));
                }
                Proof::Health(_, asks) => questions.extend(asks.iter().map(|ask| Question::Health(row, ask))),
                Proof::Names(_, asks) => questions.extend(asks.iter().map(|ask| Question::Names(row, ask))),
                Proof::NoRules(_, service) => wrong.extend(self.no_rules(row, service)),
                Proof::Forgets(_, paths, seconds) => {
                    wrong.extend(paths.iter().filter_map(|path| self.forgets(row, path, *seconds)));
                }
                Proof::Restarted(_) | Proof::Invalid(..) | Proof::Valid(..) | Proof::NotYet(_) => {}
            }
        }
        let by_agent = |question: &Question<'_>| match question {
            Question::Path(_, path) => {
                path.bytes.is_none() && path.source_port.is_none() && path.protocol != Protocol::Sctp
            }
            Question::Health(..) | Question::Names(..) => true,
        };
        let orders = questions.iter().enumerate().filter(|(_, question)| by_agent(question));
        let (silent, open): (Vec<Order>, Vec<Order>) =
            orders.map(|(id, question)| order(stage, id, question)).partition(|order| patience(order) < PATIENCE_MS);
        let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
        for (orders, at_once) in [(open, ANSWERS_AT_ONCE), (silent, SILENCES_AT_ONCE)] {
            if let Err(error) = self.carry_out(orders, at_once, &mut outcomes) {
                wrong.push(format!("{}: {error}", self.running.name));
            }
        }
        for (id, question) in questions.iter().enumerate() {
            let found = match (question, outcomes.get(&id)) {
                (Question::Path(row, path), _) if path.bytes.is_some() => self.large(row, path),
                (Question::Path(row, path), _) if !by_agent(question) => self.by_client(row, path),
                (Question::Path(row, path), Some(outcome)) => seen(stage, row, path, &outcome.tries),
                (Question::Health(row, health), Some(outcome)) => answered(stage, row, health, &outcome.tries),
                (Question::Names(row, ask), Some(outcome)) => named(stage, row, ask, &outcome.tries),
                (Question::Path(row, _) | Question::Health(row, _) | Question::Names(row, _), None) => {
                    Some(format!("{}: no outcome", row.id))
                }
            };
            wrong.extend(found);
        }
        wrong
    }

    fn carry_out(
        &self,
        orders: Vec<Order>,
        at_once: usize,
        outcomes: &mut BTreeMap<usize, Outcome>,
    ) -> Result<(), netlab::error::Error> {
        if orders.is_empty() {
            return Ok(());
        }
        link::ask(&self.running.program.directory(&self.running.name), &Request::Probe { orders, at_once }, |reply| {
            match reply {
                Reply::Outcome(outcome) => {
                    outcomes.insert(outcome.id, outcome);
                    Ok(Hearing::More)
                }
                _ => Ok(Hearing::Last),
            }
        })
    }

    /// No rule in any node's kernel names the Service.
    fn no_rules(&self, row: &Row, service: &str) -> Option<String> {
        let stage = self.stage;
        let list: &[&str] = match stage.mode {
            ProxyMode::Iptables | ProxyMode::Ladder => &["iptables-save"],
            ProxyMode::Nftables => &["nft", "list", "ruleset"],
        };
        let node = stage.lab.nodes[0].name.as_str();
        let done = self.running.exec(node, list);
        let text = String::from_utf8_lossy(&done.stdout);
        let good = done.status.success() && text.contains("default/") && !text.contains(service);
        (!good).then(|| format!("{} {}: {node} has a rule for {service}:\n{text}", row.id, stage.mode))
    }

    /// Sends so many bytes there and back, with a client of our own.
    fn large(&self, row: &Row, path: &Path) -> Option<String> {
        let (ip, port) = path.to.split_once(':')?;
        let bytes = path.bytes?.to_string();
        let script = match path.protocol {
            Protocol::Tcp => LARGE_TCP,
            _ => LARGE_UDP,
        };
        let done = self.running.exec(path.from, &["python3", "-c", script, ip, port, &bytes]);
        let text = String::from_utf8_lossy(&done.stderr);
        (!done.status.success())
            .then(|| format!("{}: {bytes} bytes do not come back: {text}", self.stage.name(row, path)))
    }

    /// Sends datagrams from one port, or speaks SCTP, with a client of our own.
    fn by_client(&self, row: &Row, path: &Path) -> Option<String> {
        let (ip, port) = path.to.split_once(':')?;
        let done = match path.source_port {
            Some(source) => self.running.exec(path.from, &["python3", "-c", FROM_PORT, &source.to_string(), ip, port]),
            None => {
                let times = times(self.stage, path).to_string();
                self.running.exec(path.from, &["python3", "-c", SCTP, ip, port, &times])
            }
        };
        let tries: Vec<Try> = String::from_utf8_lossy(&done.stdout).lines().map(heard).collect();
        if !done.status.success() || tries.is_empty() {
            let text = String::from_utf8_lossy(&done.stderr);
            return Some(format!("{}: {text}", self.stage.name(row, path)));
        }
        seen(self.stage, row, path, &tries)
    }

    /// Comes back in time again and again, and then too late.
    fn forgets(&self, row: &Row, path: &Path, seconds: u32) -> Option<String> {
        let done = self.running.exec(path.from, &["python3", "-c", FORGETS, path.to, &seconds.to_string()]);
        let text = String::from_utf8_lossy(&done.stderr);
        (!done.status.success()).then(|| format!("{}: {text}", self.stage.name(row, path)))
    }
}

/// What a client of our own heard: `POD CLIENT`, or how it failed.
fn heard(line: &str) -> Try {
    let failure = |kind| Failure { kind, text: line.to_owned() };
    let result = match (line, line.split_once(' ')) {
        ("refused", _) => Err(failure(FailureKind::Refused)),
        ("timeout", _) => Err(failure(FailureKind::Timeout)),
        (_, Some((pod, client))) => {
            Ok(Answer { status: 0, pod: Some(pod.to_owned()), client: client.parse().ok(), ..Answer::default() })
        }
        _ => Err(failure(FailureKind::Other)),
    };
    Try { result, micros: 0 }
}

/// An answer that should come is waited for this long; silence is believed sooner.
const PATIENCE_MS: u32 = 5000;
/// The cluster's DNS waits for five seconds itself before it says that the upstream is gone.
const NAMES_PATIENCE_MS: u32 = 9000;
const SILENCE_MS: u32 = 1000;

fn patience(order: &Order) -> u32 {
    match &order.what {
        What::Errand(errand) => errand.timeout_ms,
        What::Curl { timeout_ms, .. }
        | What::Http { timeout_ms, .. }
        | What::HttpByName { timeout_ms, .. }
        | What::Udp { timeout_ms, .. }
        | What::Names { timeout_ms, .. } => *timeout_ms,
    }
}

fn order(stage: &Stage, id: usize, question: &Question<'_>) -> Order {
    match question {
        Question::Names(_, ask) => {
            let netns = stage.lab.netns(stage.lab.find(ask.from).expect("a place"));
            let what = What::Names { question: ask.question(&stage.lab), timeout_ms: NAMES_PATIENCE_MS };
            Order { id, ..Order::new(netns, what, 2) }
        }
        Question::Health(_, Health { from, to, .. }) => {
            let (from, to) = (stage.lab.find(from).expect("checked"), to.parse().expect("an address"));
            let what = What::Http { to, path: "/".to_owned(), timeout_ms: PATIENCE_MS };
            Order { id, ..Order::new(stage.lab.netns(from), what, 1) }
        }
        Question::Path(_, path) => {
            let (from, to) = stage.ends(path);
            let times = times(stage, path);
            let timeout_ms = if path.seen(stage.mode) == Some(Seen::Timeout) { SILENCE_MS } else { PATIENCE_MS };
            let what = match path.protocol {
                Protocol::Udp => What::Udp { to, timeout_ms },
                Protocol::Tcp | Protocol::Sctp => What::Http { to, path: "/".to_owned(), timeout_ms },
            };
            Order { id, ..Order::new(stage.lab.netns(from), what, times) }
        }
    }
}

/// How often a path is tried.
fn times(stage: &Stage, path: &Path) -> usize {
    match path.seen(stage.mode) {
        Some(Seen::By(names, _) | Seen::Holes(names, _)) => stats::tries_to_hit(names.split(' ').count(), MISS).max(2),
        Some(Seen::Sticky(..)) => 15,
        Some(Seen::Timeout | Seen::Refused | Seen::Unreachable) | None => 2,
    }
}

/// What is wrong with what the kernel did.
fn seen(stage: &Stage, row: &Row, path: &Path, tries: &[Try]) -> Option<String> {
    let truth = stage.truth(path);
    let good = match (&truth, path.seen(stage.mode)?) {
        (Sight::Served(choices), Seen::Sticky(..)) => {
            let who: BTreeSet<_> = tries.iter().filter_map(|one| one.result.as_ref().ok()?.pod.clone()).collect();
            who.len() == 1 && tries.iter().all(|one| is_one_of(stage, choices, one))
        }
        (Sight::Served(choices), _) => {
            let who: BTreeSet<_> = tries.iter().filter_map(|one| one.result.as_ref().ok()?.pod.clone()).collect();
            who.len() == choices.len() && tries.iter().all(|one| is_one_of(stage, choices, one))
        }
        (Sight::Mixed { served, .. }, _) => {
            let answered: Vec<_> = tries.iter().filter(|one| one.result.is_ok()).collect();
            !answered.is_empty()
                && answered.len() < tries.len()
                && answered.into_iter().all(|one| is_one_of(stage, served, one))
        }
        (Sight::Refused, _) => tries.iter().all(|one| failed(one, FailureKind::Refused)),
        (Sight::Dropped, _) => tries.iter().all(|one| failed(one, FailureKind::Timeout)),
        (Sight::Unreachable, _) => tries.iter().all(|one| failed(one, FailureKind::Unreachable)),
    };
    (!good).then(|| {
        let mut kernel: BTreeMap<String, usize> = BTreeMap::new();
        for one in tries {
            let words = match &one.result {
                Ok(answer) => format!(
                    "{}<{}",
                    answer.pod.as_deref().unwrap_or("?"),
                    answer.client.map_or("?".to_owned(), |ip| ip.to_string())
                ),
                Err(failure) => format!("{:?} ({})", failure.kind, failure.text),
            };
            *kernel.entry(words).or_default() += 1;
        }
        format!("{}\n  truth:  {}\n  kernel: {kernel:?}", stage.name(row, path), words(&stage.lab, &truth))
    })
}

fn is_one_of(stage: &Stage, choices: &[Choice], one: &Try) -> bool {
    let Ok(answer) = &one.result else { return false };
    let (Some(pod), Some(client)) = (&answer.pod, answer.client) else { return false };
    choices.iter().any(|choice| answerer(&stage.lab, choice) == *pod && choice.sources.contains(&client))
}

fn failed(one: &Try, kind: FailureKind) -> bool {
    one.result.as_ref().is_err_and(|failure| failure.kind == kind)
}

fn answered(stage: &Stage, row: &Row, health: &Health, tries: &[Try]) -> Option<String> {
    let good = |one: &Try| {
        one.result.as_ref().is_ok_and(|answer| answer.status == health.status && answer.body.contains(health.says))
    };
    (!tries.iter().all(good)).then(|| format!("{} {}: {health:?}: {tries:?}", row.id, stage.mode))
}

/// What is wrong with what a name server said.
fn named(stage: &Stage, row: &Row, ask: &Ask, tries: &[Try]) -> Option<String> {
    let good = |one: &Try| {
        let Some(said) = one.result.as_ref().ok().and_then(|answer| answer.names.as_ref()) else { return false };
        // The answer is about the name as it was asked, letter by letter.
        let about = said.answers.first().is_none_or(|found| found.name == said.name);
        let lasts = said.answers.iter().all(|found| ask.ttl.is_none_or(|ttl| ttl == found.ttl));
        conformance::said(said) == ask.says && about && lasts
    };
    (!tries.iter().all(good)).then(|| format!("{} {}: {ask:?}: {tries:?}", row.id, stage.mode))
}

/// A sight in a few words: `b1<10.244.1.1` says who answers, and which client it sees.
fn words(lab: &Lab, sight: &Sight) -> String {
    let choices = |choices: &[Choice]| {
        let words = choices.iter().map(|choice| {
            let sources: Vec<String> = choice.sources.iter().map(ToString::to_string).collect();
            format!("{}<{}", answerer(lab, choice), sources.join("|"))
        });
        words.collect::<Vec<_>>().join(" ")
    };
    match sight {
        Sight::Served(served) => choices(served),
        Sight::Mixed { served, refused, lost } => {
            format!("mixed: {}; refused {refused:?}; lost {lost:?}", choices(served))
        }
        other => format!("{other:?}"),
    }
}
