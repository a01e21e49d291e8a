//! The story of a connection as a screen of text, or as JSON.

use super::{
    Colour,
    paint::{Ink, paint},
};
use crate::proxy::trace::{
    live::Live,
    route::Route,
    story::{HookStop, Outcome, Rewrite, Role, Side, Stop, Story, Way},
};

/// The forms of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people; with the number of the way to show in full, if it is not for this to choose.
    Text(Option<usize>),
    /// The [`Story`] itself.
    Json,
}

/// Renders a story.
pub fn render(story: &Story, form: Form, colour: Colour) -> String {
    match form {
        Form::Json => {
            // Strings, numbers and lists of them: there is nothing in it that JSON could not hold.
            let text = serde_json::to_string_pretty(story).expect("a story is plain data");
            text + "\n"
        }
        Form::Text(way) => Page { story, colour, text: String::new() }.page(way),
    }
}

struct Page<'a> {
    story: &'a Story,
    colour: Colour,
    text: String,
}

/// The column in which a rule begins.
const INDENT: usize = 14;
/// Longer names of chains push what comes after them aside.
const CHAIN_LIMIT: usize = 34;

impl Page<'_> {
    fn page(mut self, number: Option<usize>) -> String {
        let story = self.story;
        let number = number.or(story.live.as_ref().and_then(|live| live.way)).unwrap_or(1);
        let ways = match story.ways.len() {
            1 => "there is one way".to_owned(),
            count => format!("chance chooses one of {count} ways"),
        };
        let Story { from, to, protocol, address, proxy, .. } = story;
        let resolved = if *to == address.to_string() { String::new() } else { format!(" ({address})") };
        self.heading(&format!("{from} → {to}{resolved} {protocol}, by the rules of {proxy}: {ways}"));
        if let Some(way) = story.ways.iter().find(|way| way.number == number) {
            self.way(way);
        }
        let others: Vec<&Way> = story.ways.iter().filter(|way| way.number != number).collect();
        if let (false, Some(shown)) = (others.is_empty(), story.ways.iter().find(|way| way.number == number)) {
            self.blank();
            self.heading("the other ways");
            for way in others {
                self.other(way, shown);
            }
        }
        if let Some(live) = &story.live {
            self.live(live);
        }
        self.text
    }

    fn way(&mut self, way: &Way) {
        self.blank();
        let title = if self.story.ways.len() == 1 { "the way there".to_owned() } else { way_title(way) };
        self.heading(&title);
        self.stops(&way.stops);
        let ink = ink(way.outcome);
        self.line(INDENT, &paint(self.colour, ink, &way.end));
        if !way.reply.is_empty() {
            self.blank();
            self.heading("the reply's way");
            self.stops(&way.reply);
        }
        let sight = paint(self.colour, ink, &way.sight);
        if way.reply.is_empty() {
            self.blank();
        }
        self.line(if way.reply.is_empty() { 0 } else { INDENT }, &sight);
    }

    /// A way in one line: what becomes of it, and how it differs from the one that was shown.
    fn other(&mut self, way: &Way, shown: &Way) {
        let mut words = vec![match way.outcome {
            Outcome::Answered => format!("{} at {}", way.pod.as_deref().unwrap_or(&way.place), way.endpoint),
            _ => format!("{}: {}", way.endpoint, way.end),
        }];
        let through = |way: &Way| {
            let nodes = way.stops.iter().filter(|stop| stop.role == Role::Passes || stop.role == Role::Sends);
            nodes.map(|stop| stop.place.clone()).collect::<Vec<_>>()
        };
        let (here, there) = (through(shown), through(way));
        if here != there {
            words.push(format!("by way of {}", there.last().map_or("", String::as_str)));
        }
        if way.outcome == Outcome::Answered && way.client != shown.client {
            let client: Vec<String> = way.client.iter().map(ToString::to_string).collect();
            words.push(format!("which sees {}", client.join(" or ")));
        }
        if words.len() == 1 && way.outcome == shown.outcome {
            words.push("otherwise the same".to_owned());
        }
        let number = format!("way {}", way.number);
        let share = format!("{:.1} %", way.share * 100.0);
        self.line(0, &format!("{number:<INDENT$}{share:<9}{}", words.join(", ")));
    }

    fn stops(&mut self, stops: &[Stop]) {
        let hooks = stops.iter().flat_map(|stop| &stop.hooks);
        let names = hooks.flat_map(|hook| hook.rules.iter().map(|rule| hook.table.len() + 1 + rule.chain.len()));
        let width = names.max().unwrap_or(0).min(CHAIN_LIMIT);
        for (i, stop) in stops.iter().enumerate() {
            let place = format!("{:<INDENT$}", stop.place);
            let place = paint(self.colour, Ink::Heading, &place);
            self.line(0, &format!("{place}{} → {}", stop.source, stop.to));
            for rewrite in &stop.undone {
                self.rewrite(rewrite, "conntrack");
            }
            let routed = |hook: &&HookStop| !matches!(hook.hook.as_str(), "PREROUTING" | "OUTPUT");
            let split = stop.hooks.iter().position(|hook| routed(&hook)).unwrap_or(stop.hooks.len());
            for hook in &stop.hooks[..split] {
                self.hook(hook, width);
            }
            if let Some(route) = &stop.route {
                let next = stops.get(i + 1).map(|next| next.place.as_str());
                self.line(2, &format!("{:<width$}{}", "route", route_text(route, next), width = INDENT - 2));
            }
            for hook in &stop.hooks[split..] {
                self.hook(hook, width);
            }
        }
    }

    fn hook(&mut self, hook: &HookStop, width: usize) {
        let mut name = hook.hook.as_str();
        for rule in &hook.rules {
            let asks = if rule.asks.is_empty() { String::new() } else { format!("{}  ", rule.asks) };
            let comment = rule.comment.as_ref().map_or(String::new(), |comment| format!("   # {comment}"));
            let comment = paint(self.colour, Ink::Faint, &comment);
            let does = paint(self.colour, Ink::Heading, &rule.does);
            let chain = format!("{} {}", hook.table, rule.chain);
            self.line(2, &format!("{name:<hooks$}{chain:<width$}  {asks}→ {does}{comment}", hooks = INDENT - 2));
            name = "";
        }
        for rewrite in &hook.rewrites {
            self.rewrite(rewrite, if hook.rules.is_empty() { "conntrack" } else { "" });
        }
    }

    fn rewrite(&mut self, rewrite: &Rewrite, who: &str) {
        let what = match rewrite.what {
            Side::Source => "source",
            Side::Destination => "destination",
        };
        let text = paint(self.colour, Ink::Doubtful, &format!("{what} {} → {}", rewrite.from, rewrite.to));
        self.line(2, &format!("{who:<width$}{text}", width = INDENT - 2));
    }

    fn live(&mut self, live: &Live) {
        self.blank();
        self.heading(&format!("the kernel, on a real connection from port {}", live.port));
        self.stops(&live.stops);
        if !live.reply.is_empty() {
            self.blank();
            self.heading("the kernel, on its reply");
            self.stops(&live.reply);
        }
        self.blank();
        self.line(0, &live.sight);
        let ink = if live.agrees { Ink::Good } else { Ink::Bad };
        self.line(0, &paint(self.colour, ink, &live.verdict));
    }

    fn heading(&mut self, text: &str) {
        let text = paint(self.colour, Ink::Heading, text);
        self.line(0, &text);
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }
}

fn way_title(way: &Way) -> String {
    let who = way.pod.as_deref().unwrap_or(&way.place);
    format!("way {}, {:.1} %: {} at {}", way.number, way.share * 100.0, who, way.endpoint)
}

fn ink(outcome: Outcome) -> Ink {
    match outcome {
        Outcome::Answered => Ink::Good,
        Outcome::Refused | Outcome::Silence | Outcome::Unreachable => Ink::Bad,
    }
}

fn route_text(route: &Route, next: Option<&str>) -> String {
    let Route { to, via, gateway, device } = route;
    let Some(device) = device else { return format!("blackhole {to}") };
    let gateway = gateway.as_deref();
    let via = via.map_or(String::new(), |via| format!(" via {via}"));
    let toward = match (gateway, next) {
        (Some(gateway), _) => format!(", to {gateway}"),
        (None, Some(next)) if to != "local" => format!(", to {next}"),
        _ => String::new(),
    };
    format!("{to}{via} dev {device}{toward}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        lab::{
            self,
            model::{Lab, Protocol, ProxyMode, ServiceKind},
        },
        probe::rehearsal::golden,
        proxy::{
            self,
            trace::{
                Tracer,
                story::{Question, story},
            },
            view::view,
        },
    };

    /// The book's lab, and a Service that nothing is behind.
    fn book() -> Lab {
        let mut lab = lab::load(include_str!("../../labs/nodeport.toml")).expect("it is a good lab");
        let mut empty = lab.services[0].clone();
        (empty.name, empty.kind) = ("empty".parse().expect("a name"), ServiceKind::ClusterIp);
        empty.cluster_ip = Some("10.96.1.200".parse().expect("an address"));
        empty.selector.values_mut().for_each(|value| *value = "nobody".parse().expect("a value"));
        (empty.ports[0].port, empty.ports[0].node_port) = (80, None);
        lab.services.push(empty);
        lab
    }

    fn told(lab: &Lab, proxy: ProxyMode, from: &str, to: &str) -> Story {
        let texts: BTreeMap<_, _> = lab.node_ids().map(|node| (node, proxy::render(proxy, &view(lab, node)))).collect();
        let tracer = Tracer::new(lab, proxy, &texts).expect("every rule is of a known shape");
        let question = Question {
            from: lab.find(from).expect("a test names places"),
            to: to.parse().expect("a test says addresses"),
            written: to.to_owned(),
            protocol: Protocol::Tcp,
            proxy,
        };
        story(lab, &tracer, &question).expect("the rules are sound").0
    }

    #[test]
    fn screens() {
        let lab = book();
        for proxy in ProxyMode::ALL {
            let mut text = String::new();
            for (from, to, way) in [
                ("laptop", "10.30.45.100:30080", None),
                ("laptop", "10.30.45.100:30080", Some(3)),
                ("pod1a", "10.96.1.100:8080", None),
                ("node1", "127.0.0.1:30080", None),
                // No endpoint, no Service, no listener.
                ("pod1a", "10.96.1.200:80", None),
                ("pod1a", "10.96.77.77:80", None),
                ("laptop", "10.30.45.100:31111", None),
                ("laptop", "10.96.1.100:8080", None),
            ] {
                let flag = way.map_or(String::new(), |way| format!(" --way {way}"));
                text.push_str(&format!("$ netlab trace {from} {to}{flag} --proxy {proxy}\n"));
                text.push_str(&render(&told(&lab, proxy, from, to), Form::Text(way), Colour::Off));
                text.push_str("\n\n");
            }
            golden(&format!("trace.{proxy}.txt"), &text);
        }
    }

    #[test]
    fn json_has_the_same_story() {
        let story = told(&book(), ProxyMode::Iptables, "laptop", "10.30.45.100:30080");
        let json: serde_json::Value = serde_json::from_str(&render(&story, Form::Json, Colour::Off)).expect("JSON");
        assert_eq!(json["version"], 1);
        assert_eq!(json["source"], "192.0.2.10");
        assert_eq!(json["ways"].as_array().map(Vec::len), Some(3));
        let way = &json["ways"][0];
        assert_eq!(way["outcome"], "answered");
        assert_eq!(way["client"][0], "192.168.1.1");
        let node = &way["stops"][2];
        assert_eq!((&node["place"], &node["role"]), (&"node1".into(), &"passes".into()));
        assert_eq!(
            node["hooks"][0]["rewrites"][0],
            serde_json::json!({ "what": "destination", "from": "10.30.45.100:30080", "to": "192.168.1.10:80" })
        );
        assert_eq!(node["hooks"][0]["hook"], "prerouting");
        assert_eq!(node["route"]["device"], "br0");
        assert_eq!(way["reply"][1]["undone"].as_array().map(Vec::len), Some(2));
    }

    /// Every path of the lab can be told, and each ends in what its fate says.
    #[test]
    fn every_story_has_an_end() {
        let lab = book();
        for proxy in ProxyMode::ALL {
            for from in lab.places() {
                for to in
                    ["10.30.45.100:30080", "10.30.45.200:30080", "10.96.1.100:8080", "192.168.2.20:80", "8.8.8.8:53"]
                {
                    let story = told(&lab, proxy, &lab.netns(from), to);
                    let total: f64 = story.ways.iter().map(|way| way.share).sum();
                    assert!((total - 1.0).abs() < 1e-8, "{story:?}");
                    for way in &story.ways {
                        let answered = way.outcome == Outcome::Answered;
                        let last = way.reply.last().map(|stop| (stop.place.as_str(), stop.role));
                        // A client that is the server has its reply already.
                        let home = last.is_some_and(|(place, _)| place == story.from);
                        assert!(!answered || home, "{way:#?}");
                        assert!(!way.stops.is_empty() && !way.end.is_empty() && !way.sight.is_empty(), "{way:#?}");
                    }
                }
            }
        }
    }
}
