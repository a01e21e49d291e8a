//! The lab file: from its text to a [`model::Lab`], or to all that is wrong with it.
//!
//! Text → TOML (`toml`) → records as written (`file`, whose values are checked each for
//! itself) → the lab as meant (`lower`: defaults, allocation, references, checks between items).
//! Every stage goes on after a problem as far as something true can still be said.

mod address;
mod alloc;
mod backends;
mod balancer;
mod block;
mod check;
mod containers;
pub mod difference;
mod dns;
mod edited;
mod excerpt;
mod externals;
mod file;
mod grid;
mod hostnames;
mod kept;
mod leaving;
mod lower;
pub mod model;
pub mod name;
mod network;
mod overrides;
mod pods;
mod probe_tables;
mod probe_values;
mod probes;
mod range;
mod readiness;
mod resolver;
mod said;
mod scale;
mod schema;
mod services;
mod shared;
mod stated;
mod table;
mod turn;
mod value;

use toml::de::DeTable;

use crate::diag::{Diagnostic, Diagnostics, Problems};
pub use edited::load_edited;
use file::LabFile;
pub use grid::{Grid, GridError};
pub use kept::Kept;
use lower::Beside;
use model::Lab;
use name::Name;
pub use overrides::Overrides;
pub use scale::{ScaleError, scaled};
pub use schema::schema;
pub use stated::{Expectation, expectation, is_meant};
pub use turn::Turn;

/// A lab file may have so many bytes: the largest lab, written out pod by pod and Service by Service,
/// has about five million.
const MOST_BYTES: usize = 8 << 20;
/// Up to so many bytes, all syntax errors are listed; beyond, only the first, since garbage has
/// one for every byte.
const RECOVERABLE_BYTES: usize = 256 << 10;

/// Reads a lab from the text of its file; one without a `name` is called `lab`.
///
/// # Errors
///
/// All problems at once, in file order.
pub fn load(text: &str) -> Result<Lab, Diagnostics> {
    let name = "lab".parse().unwrap_or_else(|_| unreachable!("`lab` is a DNS label"));
    load_named(text, &name)
}

/// Reads a lab from the text of its file; one without a `name` is called `default_name`.
///
/// # Errors
///
/// All problems at once, in file order.
pub fn load_named(text: &str, default_name: &Name) -> Result<Lab, Diagnostics> {
    load_after(text, default_name, &Kept::default())
}

/// The same, where what is there already keeps what it has.
///
/// # Errors
///
/// All problems at once, in file order.
pub fn load_after(text: &str, default_name: &Name, kept: &Kept) -> Result<Lab, Diagnostics> {
    let mut problems = Problems::default();
    let lab = read(text, default_name, kept, &mut problems);
    match (problems.finish(), lab) {
        (Some(problems), _) => Err(problems),
        (None, Some(lab)) => Ok(lab),
        (None, None) => Err(Diagnostics(vec![
            Diagnostic::new(0..0, "the lab was refused without a reason, which is a bug in netlab")
                .hint("please report it together with this file"),
        ])),
    }
}

/// The text of a lab file, of which the bytes may be anything.
///
/// # Errors
///
/// One problem at the first byte that is not UTF-8; it can be rendered against the lossy text.
pub fn decode(bytes: &[u8]) -> Result<&str, Diagnostics> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let problem = Diagnostic::new(at..at + 1, "the file is not text: this byte is not UTF-8");
        Diagnostics(vec![problem.hint("a lab file is TOML; see `netlab new`")])
    })
}

fn read(text: &str, default_name: &Name, kept: &Kept, problems: &mut Problems) -> Option<Lab> {
    read_with(text, problems, |document, problems| {
        let file = LabFile::of(&document, problems);
        lower::lower(&file, default_name, kept, Beside::default(), problems)
    })
}

fn read_with<'t>(
    text: &'t str,
    problems: &mut Problems,
    lower: impl FnOnce(DeTable<'t>, &mut Problems) -> Option<Lab>,
) -> Option<Lab> {
    if text.len() > MOST_BYTES {
        let message = format!("the file has {} bytes, and a lab file may have {MOST_BYTES}", text.len());
        problems.push(Diagnostic::new(MOST_BYTES..MOST_BYTES, message).hint("use `replicas` for pods that are alike"));
        return None;
    }
    let (document, errors) = if text.len() > RECOVERABLE_BYTES {
        match DeTable::parse(text) {
            Ok(document) => (Some(document), Vec::new()),
            Err(error) => (None, vec![error]),
        }
    } else {
        let (document, errors) = DeTable::parse_recoverable(text);
        (Some(document), errors)
    };
    // After a repeated key the rest still means what it says; after any other error it is a guess.
    let sound = errors.iter().all(|error| error.message() == DUPLICATE);
    for error in errors {
        problems.push(syntax(text, &error));
    }
    let document = document.filter(|_| sound)?;
    lower(document.into_inner(), problems)
}

/// The parser's message for a key or table that is there twice.
const DUPLICATE: &str = "duplicate key";

fn syntax(text: &str, error: &toml::de::Error) -> Diagnostic {
    let at = error.span().unwrap_or(0..0);
    if error.message() == DUPLICATE {
        let problem = Diagnostic::new(at.clone(), "this key is given twice");
        // `[pod]` twice is how one would expect to write two pods.
        let word = text.get(at).unwrap_or_default();
        return match word {
            "node" | "pod" | "service" | "client" | "external" | "probe" => {
                problem.hint(format!("write `[[{word}]]` for each"))
            }
            _ => problem.hint("leave one of them out"),
        };
    }
    let message: String = error.message().chars().take(300).collect();
    // Sorted by how much they say: the first that fits is shown.
    const HINTS: [(&str, &str); 7] = [
        ("recur", "nothing in a lab file is nested that deep"),
        ("string values must be quoted", "put text in quotes: `name = \"web\"`"),
        ("basic string", "end it with a quote on the same line, and write control characters as \\n, \\t or \\u001B"),
        ("inline table", "end it with `}`"),
        ("unclosed table", "a header is `[cluster]` or `[[pod]]`"),
        ("array", "end it with `]`, with commas between the elements"),
        ("", "a lab file is TOML: `key = value` lines below headers such as `[[pod]]`"),
    ];
    let hint = HINTS.iter().find(|(part, _)| message.contains(part)).map_or("", |(_, hint)| hint);
    Diagnostic::new(at, format!("not valid TOML: {message}")).hint(hint)
}
