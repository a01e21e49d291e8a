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
