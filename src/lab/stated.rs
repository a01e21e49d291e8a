//! The key `expect`: what a lab file says that a test of it must find. It is read even where the rest
//! of the file is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    file::LabFile,
    model::Span,
    said::{At, Said},
    table::{Key, Table, first, object, plain, record},
    value::{Value, invalid, wrong_type},
};
use crate::diag::{Diagnostic, Problems, quoted};

/// What `netlab test` must find.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// The file is good, the lab comes up, and all of its probes pass.
    #[default]
    Passes,
    /// The file is refused, and each of these texts is in what is said of one of its problems.
    Invalid(Vec<String>),
    /// The lab comes up, and exactly those probes fail that have one of these texts in their id or
    /// name; each of the texts stands for one at least.
    Fails(Vec<String>),
}

record! {
    /// What `netlab test` must find; nothing else makes the lab pass. Default: a good file, and probes
    /// that all pass.
    StatedTable, "expectation" {
        /// The file is refused, with this text in what is said of one of its problems; or a list of such
        /// texts.
        optional invalid: Texts,
        /// The lab comes up, and exactly those probes fail that have one of these texts in their id or
        /// name.
        optional fails: Texts,
    }
}

/// A text, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts(Vec<String>);

/// The word that stands for any refusal.
const INVALID: &str = "invalid";

impl Value for Expectation {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        const HINT: &str =
            "write `expect = \"invalid\"`, `expect = { invalid = \"TEXT\" }` or `expect = { fails = [\"PROBE\"] }`";
        match value.get_ref() {
            DeValue::String(word) if word == INVALID => Some(Expectation::Invalid(Vec::new())),
            DeValue::String(word) => {
                let why = "the only word is \"invalid\"";
                problems.push(invalid(key, quoted(word), value.span(), why).hint(HINT));
                None
            }
            DeValue::Table(_) => meant(&StatedTable::decode(key, value, problems)?, problems),
            _ => {
                problems.push(wrong_type(key, "\"invalid\" or a table", value).hint(HINT));
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "const": INVALID }, StatedTable::schema()] })
    }
}

fn meant(table: &StatedTable, problems: &mut Problems) -> Option<Expectation> {
    match (&table.invalid, &table.fails) {
        (Said::Nothing, Said::Nothing) => {
            let problem = Diagnostic::new(table.at.clone(), "this expectation says nothing");
            problems.push(problem.hint("add `invalid = \"TEXT\"` or `fails = [\"PROBE\"]`, or leave `expect` out"));
            None
        }
        (Said::Value(invalid), Said::Nothing) => Some(Expectation::Invalid(invalid.value.0.clone())),
        (Said::Nothing, Said::Value(fails)) => Some(Expectation::Fails(fails.value.0.clone())),
        (Said::Value(invalid), Said::Value(fails)) => {
            let problem = Diagnostic::new(fails.at.clone(), "a file that is refused has no probes that fail");
            let problem = problem.also(invalid.at.clone(), "it is to be refused");
            problems.push(problem.hint("leave one of the two out"));
            None
        }
        (Said::Nonsense, _) | (_, Said::Nonsense) => None,
    }
}

impl Value for Texts {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let said = match value.get_ref() {
            DeValue::Array(_) => Vec::<At<String>>::decode(key, value, problems)?,
            _ => vec![At::<String>::decode(key, value, problems)?],
        };
        let empty = match said.as_slice() {
            [] => Some(value.span()),
            said => said.iter().find(|said| said.value.trim().is_empty()).map(|said| said.at.clone()),
        };
        if let Some(at) = empty {
            let problem = Diagnostic::new(at, format!("`{key}` must not be empty"));
            problems.push(problem.hint("write a part of the text that must be found"));
            return None;
        }
        Some(Texts(said.into_iter().map(|said| said.value).collect()))
    }

    fn schema() -> Json {
        let text = json!({ "type": "string", "minLength": 1 });
        json!({ "anyOf": [text, { "type": "array", "items": text, "minItems": 1 }] })
    }
}

/// What a file says that a test of it must find. Of a file that is no TOML, what stands above the line
/// of the first error is read. One whose `expect` is itself refused expects nothing special.
pub fn expectation(text: &str) -> Expectation {
    let Some(document) = top(text) else { return Expectation::Passes };
    let file = LabFile::of(&document, &mut Problems::default());
    file.expect.get().cloned().unwrap_or_default()
}

/// Whether a file is meant to be a lab: other programs have TOML files too, and these have none of a
/// lab's keys. What cannot be read is taken for a lab, so that nobody misses it.
pub fn is_meant(text: &str) -> bool {
    let Ok(document) = DeTable::parse(text) else { return true };
    let keys = || document.get_ref().keys().map(|key| key.get_ref().as_ref());
    // Many programs' files have a `name`.
    let known = || LabFile::KEYS.iter().filter(|key| **key != "name");
    let is_near = |key: &str| known().any(|known| strsim::osa_distance(key, known) <= 1);
    keys().all(|key| key == "name") || keys().any(is_near)
}

/// The document, or the part of it above the first line with an error.
fn top(text: &str) -> Option<DeTable<'_>> {
    let error = match DeTable::parse(text) {
        Ok(document) => return Some(document.into_inner()),
        Err(error) => error,
    };
    let at = error.span().map_or(0, |span| span.start);
    let above = text.get(..at).map(|above| above.rfind('\n').map_or(0, |end| end + 1))?;
    DeTable::parse(&text[..above]).ok().map(Spanned::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_a_file_expects() {
        let cases = [
            ("", Expectation::Passes),
            ("[[pod]]\nname = \"web\"\n", Expectation::Passes),
            ("expect = \"invalid\"\n", Expectation::Invalid(Vec::new())),
            ("expect = { invalid = \"no pods\" }\n", Expectation::Invalid(texts(&["no pods"]))),
            ("nodes = 7\n[expect]\ninvalid = [\"a\", \"b\"]\n", Expectation::Invalid(texts(&["a", "b"]))),
            ("expect = { fails = [\"laptop\"] }\n", Expectation::Fails(texts(&["laptop"]))),
            ("expect = { fails = \"laptop\" }\n", Expectation::Fails(texts(&["laptop"]))),
            // Not TOML; what is above the error counts.
            ("expect = \"invalid\"\n[[pod]\nname = 3\n", Expectation::Invalid(Vec::new())),
            ("name = \"x\nexpect = \"invalid\"\n", Expectation::Passes),
            // An expectation that is refused is none.
            ("expect = \"wrong\"\n", Expectation::Passes),
            ("expect = { }\n", Expectation::Passes),
            ("expect = { fails = [] }\n", Expectation::Passes),
            ("expect = { invalid = \"a\", fails = \"b\" }\n", Expectation::Passes),
        ];
        for (text, expected) in cases {
            assert_eq!(expectation(text), expected, "{text}");
        }
    }

    #[test]
    fn other_programs_files() {
        let labs = ["", "name = \"x\"", "[[pod]]", "[[pods]]\nname = \"x\"", "[[pod]", "expect = \"invalid\"", "[dsn]"];
        for text in labs {
            assert!(is_meant(text), "{text}");
        }
        let others =
            ["[package]\nname = \"x\"", "name = \"x\"\n[tool.black]\nx = 1", "max_width = 120", "[dependencies]"];
        for text in others {
            assert!(!is_meant(text), "{text}");
        }
    }
}
