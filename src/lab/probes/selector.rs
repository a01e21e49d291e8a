//! A label selector as kubectl has it, and the labels it matches.

use super::super::{
    model::Labels,
    name::{LabelKey, LabelValue},
};

/// All of its requirements must be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    /// `key=value`, `key in (value, …)`.
    In(LabelKey, Vec<LabelValue>),
    /// `key!=value`, `key notin (value, …)`: met by who does not have the key, too.
    NotIn(LabelKey, Vec<LabelValue>),
    /// `key`.
    Exists(LabelKey),
    /// `!key`.
    Absent(LabelKey),
}

impl Selector {
    /// Reads one; otherwise, why it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let requirements = parts(text)?.into_iter().map(requirement).collect::<Result<Vec<_>, _>>()?;
        Ok(Selector(requirements))
    }

    /// Whether these labels meet it.
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

/// What stands between the commas that are in no parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match (c, inside) {
            ('(', false) => inside = true,
            (')', true) => inside = false,
            ('(', true) | (')', false) => return Err("has a parenthesis too many".to_owned()),
            (',', false) => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("has a parenthesis that is not closed".to_owned());
    }
    parts.push(text[start..].trim());
    Ok(parts)
}

fn requirement(text: &str) -> Result<Requirement, String> {
    if text.is_empty() {
        return Err("has a part that is empty".to_owned());
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(self::key(key)?, vec![self::value(value)?]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(self::key(key)?, vec![self::value(value)?]));
    }
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(self::key(key)?));
    }
    let Some((head, list)) = text.split_once('(') else { return Ok(Requirement::Exists(key(text)?)) };
    let Some(list) = list.trim_end().strip_suffix(')') else {
        return Err("has something behind a list".to_owned());
    };
    let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
    let words: Vec<&str> = head.split_whitespace().collect();
    match words[..] {
        [key, "in"] => Ok(Requirement::In(self::key(key)?, values)),
        [key, "notin"] => Ok(Requirement::NotIn(self::key(key)?, values)),
        _ => Err("must have `KEY in` or `KEY notin` before a list".to_owned()),
    }
}

fn key(text: &str) -> Result<LabelKey, String> {
    text.trim().parse().map_err(|error| format!("the key of a label {error}"))
}

fn value(text: &str) -> Result<LabelValue, String> {
    text.trim().parse().map_err(|error| format!("the value of a label {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// As `kubectl get pods -l` has them.
    #[test]
    fn selectors_match_as_in_kubectl() {
        let web = labels(&[("app", "web"), ("tier", "front")]);
        let other = labels(&[("app", "db")]);
        for (text, of_web, of_other) in [
            ("app=web", true, false),
            ("app==web", true, false),
            ("app = web", true, false),
            ("app=web,tier=front", true, false),
            ("app!=web", false, true),
            ("tier!=front", false, true),
            ("app in (web, db)", true, true),
            ("app in (web),tier", true, false),
            ("app notin (db)", true, false),
            ("tier", true, false),
            ("!tier", false, true),
            ("app=", false, false),
        ] {
            let selector = Selector::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((selector.matches(&web), selector.matches(&other)), (of_web, of_other), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in
            ["", "app=web,", "=web", "app=we b", "app in web", "app in (web", "app (web)", "app in (a)(b)", "a b"]
        {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
    }
}
