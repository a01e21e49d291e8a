//! From a probe to the commands that a person would type for it.

use serde::Serialize;

use crate::probe::{
    order::{Order, What},
    question::{Question, Transport},
    suite::{Group, Probe, Suite},
};

/// A probe that is not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it belongs to.
    pub group: Group,
    /// The network namespaces it would be tried from.
    pub from: String,
    /// How many tries it would make.
    pub tries: usize,
    /// What must happen.
    pub expected: String,
    /// A command that does the same by hand.
    pub command: String,
}

/// Every probe of a suite.
pub fn list(suite: &Suite) -> Vec<Listed> {
    let listed = |probe: &Probe| {
        let mut command = command(probe);
        suite.options.lab.iter().for_each(|lab| name_lab(&mut command, lab));
        Listed {
            id: probe.id.clone(),
            name: probe.name(),
            group: probe.group,
            from: probe.from_text(),
            tries: probe.orders.iter().map(|order| order.times).sum(),
            expected: crate::probe::judge::expected(&probe.expect),
            command,
        }
    };
    suite.probes.iter().map(listed).collect()
}

/// Every probe of a suite as commands, one a line, each with what must come of it.
pub fn paste(suite: &Suite) -> String {
    let mut text = String::new();
    for probe in &suite.probes {
        let expected = crate::probe::judge::expected(&probe.expect);
        for order in &probe.orders {
            let mut command = of_order(order);
            suite.options.lab.iter().for_each(|lab| name_lab(&mut command, lab));
            text.push_str(&format!("{command}   # {}: {expected}\n", probe.name()));
        }
    }
    text
}

/// `netlab exec pod1a …` → `netlab exec -l LAB pod1a …`, for the verbs that look into a lab.
pub(super) fn name_lab(command: &mut String, lab: &str) {
    for verb in ["netlab exec ", "netlab rules ", "netlab logs "] {
        if let Some(rest) = command.strip_prefix(verb) {
            *command = format!("{verb}-l {lab} {rest}");
            return;
        }
    }
}

/// The real dig, with the place's own settings if it is they that are meant; else with all names of
/// the search list at once.
fn dig(question: &Question) -> String {
    let Question { name, kind, transport, resolver } = question;
    let over = if *transport == Transport::Tcp { " +tcp" } else { "" };
    if resolver.own {
        return format!("dig +search{over} {name} {kind}");
    }
    let server = resolver.servers.first().map(ToString::to_string).unwrap_or_default();
    let at = server.strip_suffix(":53").unwrap_or(&server);
    let names = resolver.candidates(name).into_iter().map(|name| format!(" {name}. {kind}"));
    format!("dig @{at}{over}{}", names.collect::<String>())
}

/// More tries by hand than this are tedious to watch.
const BY_HAND: usize = 60;

/// The command that does by hand what the probe's first order does.
pub(super) fn command(probe: &Probe) -> String {
    probe.orders.first().map(of_order).unwrap_or_default()
}

fn of_order(order: &Order) -> String {
    let (url, timeout_ms) = match &order.what {
        What::Curl { url, timeout_ms } => (url.clone(), *timeout_ms),
        What::Http { to, path, timeout_ms } => (format!("http://{to}{path}"), *timeout_ms),
        What::HttpByName { host, port, path, timeout_ms, .. } => {
            let authority = if *port == 80 { host.clone() } else { format!("{host}:{port}") };
            (format!("http://{authority}{path}"), *timeout_ms)
        }
        What::Errand(errand) => return format!("netlab exec {} -- {}", order.netns, errand.by_hand(order.times)),
        What::Names { question, .. } => return format!("netlab exec {} -- {}", order.netns, dig(question)),
        What::Udp { to, timeout_ms } => {
            let seconds = timeout_ms.div_ceil(1000);
            let (ip, port) = (to.ip(), to.port());
            return format!("netlab exec {} -- sh -c 'echo hello | nc -u -w {seconds} {ip} {port}'", order.netns);
        }
    };
    // The URL of a user may hold anything but a quote, which the lab file's checks refuse; a
    // quoted word keeps the shell away from the rest.
    let plain = url.chars().all(|c| c.is_ascii_alphanumeric() || ":/.-_[]%~".contains(c)) && !url.contains('[');
    let url = if plain { url } else { format!("'{}'", url.replace('\'', "%27")) };
    let curl = format!("curl -sS --max-time {} {url}", timeout_ms.div_ceil(1000));
    match order.times {
        1 => format!("netlab exec {} -- {curl}", order.netns),
        times => {
            let inner = curl.replace('\'', "\"");
            let times = times.min(BY_HAND);
            format!("netlab exec {} -- sh -c 'for i in $(seq {times}); do {inner}; done' | sort | uniq -c", order.netns)
        }
    }
}
