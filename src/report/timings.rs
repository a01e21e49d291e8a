//! What was done when → where the time went, as a table, and as a trace that <https://ui.perfetto.dev>
//! opens (the Trace Event Format of Chrome).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lap {
    /// Who did it.
    pub who: Who,
    /// The stage it belongs to.
    pub stage: String,
    /// What kind of thing: `veth`, `route`, …
    pub kind: String,
    /// Which one, for people.
    pub what: String,
    /// When it began, in microseconds of the clock that all processes of a host share.
    pub begin: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The command.
    Command,
    /// The lab's agent.
    Agent,
}

/// All things of one kind in one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The stage.
    pub stage: String,
    /// The kind.
    pub kind: String,
    /// How many.
    pub count: usize,
    /// Their times together: more than `wall` where several were done at a time.
    pub sum_micros: u64,
    /// From when the first began until the last was done.
    pub wall_micros: u64,
    /// What part of the whole that is; parts that were done at a time add up to more than 1.
    pub share: f64,
}

impl Lap {
    fn end(&self) -> u64 {
        self.begin + self.micros
    }
}

/// Sums up, in the order in which the parts began.
pub fn parts(laps: &[Lap]) -> Vec<Part> {
    let whole = wall(laps.iter()).max(1);
    let mut groups: BTreeMap<(&str, &str), Vec<&Lap>> = BTreeMap::new();
    for lap in laps {
        groups.entry((&lap.stage, &lap.kind)).or_default().push(lap);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, laps)| laps.iter().map(|lap| lap.begin).min());
    let part = |((stage, kind), laps): ((&str, &str), Vec<&Lap>)| {
        let wall_micros = wall(laps.iter().copied());
        Part {
            stage: stage.to_owned(),
            kind: kind.to_owned(),
            count: laps.len(),
            sum_micros: laps.iter().map(|lap| lap.micros).sum(),
            wall_micros,
            share: wall_micros as f64 / whole as f64,
        }
    };
    groups.into_iter().map(part).collect()
}

fn wall<'a>(laps: impl Iterator<Item = &'a Lap> + Clone) -> u64 {
    let begin = laps.clone().map(|lap| lap.begin).min().unwrap_or(0);
    laps.map(Lap::end).max().unwrap_or(0) - begin
}

/// For people.
pub fn table(laps: &[Lap]) -> String {
    let millis = |micros: u64| micros as f64 / 1000.0;
    let mut text =
        format!("{:<16} {:<12} {:>6} {:>12} {:>12} {:>6}\n", "STAGE", "KIND", "COUNT", "SUM", "WALL", "SHARE");
    for Part { stage, kind, count, sum_micros, wall_micros, share } in parts(laps) {
        let (sum, wall) = (millis(sum_micros), millis(wall_micros));
        let share = share * 100.0;
        text.push_str(&format!("{stage:<16} {kind:<12} {count:>6} {sum:>9.2} ms {wall:>9.2} ms {share:>5.1}%\n"));
    }
    text.push_str(&format!(
        "{:<16} {:<12} {:>6} {:>12} {:>9.2} ms\n",
        "all",
        "",
        laps.len(),
        "",
        millis(wall(laps.iter()))
    ));
    text
}

/// An event of the trace.
#[derive(Debug, Serialize)]
struct Event<'a> {
    name: &'a str,
    cat: &'a str,
    /// `X`: one that has a duration; `M`: a name for a process.
    ph: &'static str,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    pid: u32,
    tid: usize,
    args: BTreeMap<&'static str, &'a str>,
}

/// A trace file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace<'a> {
    trace_events: Vec<Event<'a>>,
    display_time_unit: &'static str,
    other_data: OtherData,
}

/// What is not drawn.
#[derive(Debug, Serialize)]
struct OtherData {
    /// When the first lap began, in microseconds of the clock of [`Lap::begin`]: so a trace can be laid beside
    /// what others noted.
    origin: u64,
}

/// For Perfetto and its kind: JSON.
///
/// # Errors
///
/// None that could happen: all of it is text and numbers.
pub fn trace(laps: &[Lap]) -> serde_json::Result<String> {
    let origin = laps.iter().map(|lap| lap.begin).min().unwrap_or(0);
    let mut events: Vec<Event<'_>> = [(Who::Command, "netlab"), (Who::Agent, "agent")]
        .into_iter()
        .map(|(who, name)| Event {
            name: "process_name",
            cat: "",
            ph: "M",
            ts: 0,
            dur: None,
            pid: process(who),
            tid: 0,
            args: [("name", name)].into(),
        })
        .collect();
    for (lap, lane) in lanes(laps) {
        events.push(Event {
            name: &lap.kind,
            cat: &lap.stage,
            ph: "X",
            ts: lap.begin - origin,
            dur: Some(lap.micros),
            pid: process(lap.who),
            tid: lane,
            args: [("stage", lap.stage.as_str()), ("what", lap.what.as_str())].into(),
        });
    }
    serde_json::to_string(&Trace { trace_events: events, display_time_unit: "ms", other_data: OtherData { origin } })
}

fn process(who: Who) -> u32 {
    match who {
        Who::Command => 1,
        Who::Agent => 2,
    }
}

/// Each in the first lane that is free when it begins: what is drawn in one must not overlap.
fn lanes(laps: &[Lap]) -> Vec<(&Lap, usize)> {
    let mut sorted: Vec<&Lap> = laps.iter().collect();
    sorted.sort_by_key(|lap| (lap.begin, lap.end()));
    let mut free: BTreeMap<Who, Vec<u64>> = BTreeMap::new();
    let place = |lap: &'_ Lap, free: &mut BTreeMap<Who, Vec<u64>>| {
        let lanes = free.entry(lap.who).or_default();
        let lane = lanes.iter().position(|until| *until <= lap.begin).unwrap_or(lanes.len());
        lanes.resize(lanes.len().max(lane + 1), 0);
        lanes[lane] = lap.end();
        lane + 1
    };
    sorted.into_iter().map(|lap| (lap, place(lap, &mut free))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lap(who: Who, kind: &str, begin: u64, micros: u64) -> Lap {
        Lap { who, stage: "cables".to_owned(), kind: kind.to_owned(), what: "pod1".to_owned(), begin, micros }
    }

    fn laps() -> Vec<Lap> {
        vec![
            lap(Who::Command, "read", 1000, 500),
            lap(Who::Agent, "veth", 1500, 1000),
            lap(Who::Agent, "veth", 2000, 1000),
            lap(Who::Agent, "route", 2500, 500),
        ]
    }

    #[test]
    fn a_table() {
        let expected = "\
STAGE            KIND          COUNT          SUM         WALL  SHARE
cables           read              1      0.50 ms      0.50 ms  25.0%
cables           veth              2      2.00 ms      1.50 ms  75.0%
cables           route             1      0.50 ms      0.50 ms  25.0%
all                                4                   2.00 ms
";
        assert_eq!(table(&laps()), expected);
        assert_eq!(table(&[]).lines().count(), 2);
    }

    #[test]
    fn a_trace_has_no_overlap_in_a_lane() {
        let text = trace(&laps()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let events: Vec<_> = json["traceEvents"].as_array().unwrap().iter().filter(|it| it["ph"] == "X").collect();
        let seen: Vec<_> = events
            .iter()
            .map(|it| (it["pid"].as_u64().unwrap(), it["tid"].as_u64().unwrap(), it["ts"].as_u64().unwrap()))
            .collect();
        assert_eq!(seen, [(1, 1, 0), (2, 1, 500), (2, 2, 1000), (2, 1, 1500)]);
        assert_eq!(events[1]["args"]["what"], "pod1");
    }
}
