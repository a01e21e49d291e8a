//! On what was measured, when, and what else the machine did meanwhile.

use std::{fs, process::Command, thread};

use serde_json::json;

/// A machine, and how busy it was.
#[derive(Debug)]
pub(crate) struct Machine {
    cores: usize,
    kernel: String,
    memory: String,
    processor: String,
    day: String,
    /// The load average of a minute when the measurement began, and when it ended.
    load: (String, String),
}

impl Machine {
    /// This one, as the measurement begins.
    pub(crate) fn this() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Machine {
            cores,
            kernel: file("/proc/sys/kernel/osrelease"),
            memory: field("/proc/meminfo", "MemTotal"),
            processor: field("/proc/cpuinfo", "model name"),
            day: day(),
            load: (load(), String::new()),
        }
    }

    /// The measurement has ended, or part of it.
    pub(crate) fn has_ended(&mut self) {
        self.load.1 = load();
    }

    /// One sentence.
    pub(crate) fn words(&self, rounds: usize) -> String {
        let Machine { cores, kernel, memory, processor, day, load } = self;
        format!(
            "{day}, {rounds} rounds; {cores} cores of {processor}, {memory}, Linux {kernel}; load average {} at the beginning, {} at the end, the bench's own included.",
            load.0, load.1
        )
    }

    /// The one that [`Machine::json`] has told of.
    pub(crate) fn read(json: &serde_json::Value) -> Option<Self> {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Some(Machine {
            cores: usize::try_from(json["cores"].as_u64()?).ok()?,
            kernel: text(&json["kernel"])?,
            memory: text(&json["memory"])?,
            processor: text(&json["processor"])?,
            day: text(&json["day"])?,
            load: (text(&json["load"][0])?, text(&json["load"][1])?),
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let Machine { cores, kernel, memory, processor, day, load } = self;
        json!({
            "cores": cores, "kernel": kernel, "memory": memory, "processor": processor, "day": day,
            "load": [load.0, load.1],
        })
    }
}

/// What is not known is said to be so: nothing depends on it.
fn file(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn field(path: &str, name: &str) -> String {
    let text = file(path);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value));
    value.unwrap_or("unknown").trim().to_owned()
}

fn load() -> String {
    file("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()
}

fn day() -> String {
    let output = Command::new("date").args(["--utc", "+%Y-%m-%d"]).output();
    output.map_or_else(|_| "unknown".to_owned(), |it| String::from_utf8_lossy(&it.stdout).trim().to_owned())
}
