//! iptables rules as data: tables of chains of rules, which print as `iptables-restore` reads them.

use std::fmt;

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    name: &'static str,
    chains: Vec<Chain>,
}

/// A chain, or some rules of a built-in one.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    name: String,
    /// What it is for; a sentence for the reader of the rules.
    about: String,
    /// It comes with the table, so it is not declared: that would set its policy.
    built_in: bool,
    /// Its rules, without `-A NAME`.
    pub(super) rules: Vec<String>,
}

/// Appends a rule to a chain: `rule!(chain, "-s {ip} -j RETURN")`.
macro_rules! rule {
    ($chain:expr, $($rule:tt)+) => {
        $chain.rules.push(format!($($rule)+))
    };
}
pub(super) use rule;

impl Table {
    pub(super) fn new(name: &'static str, chains: impl IntoIterator<Item = Chain>) -> Table {
        Table { name, chains: chains.into_iter().collect() }
    }

    pub(super) fn add(&mut self, chains: impl IntoIterator<Item = Chain>) {
        self.chains.extend(chains);
    }
}

impl Chain {
    /// A chain of ours; an empty one is declared all the same.
    pub(super) fn new(name: impl Into<String>, about: impl Into<String>) -> Chain {
        Chain { name: name.into(), about: about.into(), built_in: false, rules: Vec::new() }
    }

    /// Rules of a chain that the table has anyway.
    pub(super) fn built_in(name: impl Into<String>, about: impl Into<String>) -> Chain {
        Chain { built_in: true, ..Chain::new(name, about) }
    }
}

/// `-m comment --comment …`, quoted where it must be.
pub(super) fn note(text: &str) -> String {
    let quote = if text.contains(' ') { "\"" } else { "" };
    format!("-m comment --comment {quote}{text}{quote}")
}

/// First all declarations, so that any rule may jump to any chain; a declaration empties its
/// chain if it is there already, and so a second load replaces the first.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "*{}", self.name)?;
        for chain in self.chains.iter().filter(|chain| !chain.built_in) {
            writeln!(f, ":{} - [0:0]", chain.name)?;
        }
        for chain in self.chains.iter().filter(|chain| !chain.rules.is_empty()) {
            writeln!(f, "# {}: {}", chain.name, chain.about)?;
            for rule in &chain.rules {
                writeln!(f, "-A {} {rule}", chain.name)?;
            }
        }
        writeln!(f, "COMMIT")
    }
}
