//! What the user may choose of a suite, and where it could not try everything.

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Group, Probe};

/// The false-alarm rate of all distribution tests of a run together, unless told otherwise.
pub const DEFAULT_ALPHA: f64 = 0.001;
/// The probability with which a distribution test notices each of the
/// [`Mistake`](crate::probe::stats::Mistake)s, unless told otherwise.
pub const DEFAULT_POWER: f64 = 0.999;

/// What the user may choose.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteOptions {
    /// The client of the functional probes.
    pub engine: Engine,
    /// Fresh connections per distribution test; `None` for as many as the power needs.
    pub samples: Option<usize>,
    /// The false-alarm rate of all distribution tests together.
    pub alpha: f64,
    /// The probability with which each of them notices a mistake.
    pub power: f64,
    /// Only the probes that one of these [means]; empty for all.
    pub only: Vec<String>,
    /// Not the probes that one of these means.
    pub skip: Vec<String>,
    /// What chooses among too many things to try.
    pub seed: u64,
    /// Try everything, however much it is.
    pub full: bool,
    /// After a failure, what was not tried is no failure.
    pub fail_fast: bool,
    /// The lab's name, if the commands of the report have to say which lab they mean.
    pub lab: Option<String>,
}

/// The client of the functional probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The host's curl.
    Curl,
    /// The client built into netlab.
    Builtin,
}

/// A place where not everything is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// The group of the probes.
    pub group: Group,
    /// What is counted: `pairs of pods`.
    pub what: String,
    /// How many of them are tried.
    pub tried: usize,
    /// How many there are.
    pub of: usize,
}

impl Default for SuiteOptions {
    fn default() -> Self {
        SuiteOptions {
            engine: Engine::Curl,
            samples: None,
            alpha: DEFAULT_ALPHA,
            power: DEFAULT_POWER,
            only: Vec::new(),
            skip: Vec::new(),
            seed: 0,
            full: false,
            fail_fast: false,
            lab: None,
        }
    }
}

impl Engine {
    /// As the command line spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Curl => "curl",
            Engine::Builtin => "builtin",
        }
    }
}

impl SuiteOptions {
    pub(super) fn wants(&self, probe: &Probe) -> bool {
        let is_one_of = |texts: &[String]| !texts.is_empty() && texts.iter().any(|text| means(text, probe));
        (self.only.is_empty() || is_one_of(&self.only)) && !is_one_of(&self.skip)
    }
}

/// A text means the probes of the group of that name, those whose id or name it is a part of, and, if
/// it has a `*`, a `?` or a `[`, those whose id or name it matches as a whole.
pub fn means(text: &str, probe: &Probe) -> bool {
    let name = probe.name();
    if let (true, Ok(pattern)) = (text.contains(['*', '?', '[']), Pattern::new(text)) {
        return pattern.matches(&probe.id) || pattern.matches(&name);
    }
    probe.group.as_str() == text || probe.id.contains(text) || name.contains(text)
}

/// Whether a text that is to mean probes can be understood.
///
/// # Errors
///
/// Why not, in a few words.
pub fn understand(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an empty text is part of every name".to_owned());
    }
    Pattern::new(text).map(drop).map_err(|error| format!("no pattern: {}", error.msg))
}
