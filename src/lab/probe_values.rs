//! The values that only `[[probe]]` has: words or a table, one thing or a list, shares.

use serde_json::{Value as Json, json};
use toml::{Spanned, de::DeValue};

use super::{
    model::HttpMethod,
    probe_tables::{ExpectTable, SpreadTable},
    said::At,
    value::{Value, choice, choose, invalid, pairs, wrong_type},
};
use crate::{
    diag::{Problems, quoted},
    probe::question::{Rcode, RecordKind},
};

/// A text, or a list of them.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) all: Vec<At<String>>,
    /// It is written as a list.
    pub(super) is_list: bool,
}

/// What must come back: a word or a table.
#[derive(Debug)]
pub(super) enum Expectation {
    Word(Ending),
    Table(Box<ExpectTable>),
}

/// How connections are spread: "even" or a table.
#[derive(Debug)]
pub(super) enum Spread {
    Even,
    Table(SpreadTable),
}

/// Headers of HTTP, as they are written.
#[derive(Debug, Clone)]
pub(super) struct Headers(pub(super) Vec<(String, String)>);

/// Shares by the names of pods, each with its place.
#[derive(Debug)]
pub(super) struct Shares(pub(super) Vec<(At<String>, f64)>);

/// A type of records.
pub(super) type RecordType = RecordKind;
/// A response code.
pub(super) type Rcodes = Rcode;

choice! {
    /// The key `expect` of a probe, if it is a word.
    enum Ending {
        "answered" => Answered,
        "refused" => Refused,
        "timeout" => Timeout,
        "unreachable" => Unreachable,
        "unresolved" => Unresolved,
        "nxdomain" => NxDomain,
        "servfail" => ServFail,
    }
}

choice!(HttpMethod {
    "GET" => Get,
    "HEAD" => Head,
    "POST" => Post,
    "PUT" => Put,
    "PATCH" => Patch,
    "DELETE" => Delete,
    "OPTIONS" => Options,
});
choice!(RecordKind {
    "A" => A,
    "AAAA" => Aaaa,
    "SRV" => Srv,
    "PTR" => Ptr,
    "CNAME" => Cname,
    "TXT" => Txt,
});
choice!(Rcode {
    "NOERROR" => NoError,
    "FORMERR" => FormErr,
    "SERVFAIL" => ServFail,
    "NXDOMAIN" => NxDomain,
    "NOTIMP" => NotImp,
    "REFUSED" => Refused,
});

impl Value for Words {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        if value.get_ref().as_array().is_none() {
            return At::decode(key, value, problems).map(|word| Words { all: vec![word], is_list: false });
        }
        let all: Vec<At<String>> = Vec::decode(key, value, problems)?;
        if all.is_empty() {
            let problem = invalid(key, "[]", value.span(), "must name somebody");
            problems.push(problem.hint("for example \"pods app=web\""));
            return None;
        }
        Some(Words { all, is_list: true })
    }

    fn schema() -> Json {
        json!({ "anyOf": [String::schema(), { "type": "array", "items": String::schema(), "minItems": 1 }] })
    }
}

impl Value for Expectation {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => Ending::decode(key, value, problems).map(Expectation::Word),
            _ => ExpectTable::decode(key, value, problems).map(|table| Expectation::Table(Box::new(table))),
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [Ending::schema(), ExpectTable::schema()] })
    }
}

impl Value for Spread {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => choose(key, value, &[("even", ())], problems).map(|()| Spread::Even),
            _ => SpreadTable::decode(key, value, problems).map(Spread::Table),
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "const": "even" }, SpreadTable::schema()] })
    }
}

/// What netlab's own clients say about the connection, which nobody else may.
const FRAMING: [&str; 6] = ["connection", "content-length", "expect", "te", "transfer-encoding", "upgrade"];

impl Value for Headers {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let parse = |name: &str, text: &str, problems: &mut Problems, at: super::model::Span| {
            // A token of RFC 9110, section 5.6.2.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                let why = "the name of a header is made of letters, digits and '-'";
                problems.push(invalid(key, quoted(name), at, why).hint("for example `accept = \"text/plain\"`"));
                return None;
            }
            if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
                let problem = invalid(key, quoted(name), at, "the client says this itself, about the connection");
                problems.push(problem.hint("leave this header out"));
                return None;
            }
            let visible = |b: u8| matches!(b, b'\t' | b' '..=b'~');
            if !text.bytes().all(visible) || text.trim() != text {
                let why = "the value of a header is one line of visible ASCII characters, without blanks at its ends";
                problems.push(invalid(key, quoted(text), at, why).hint("leave line breaks and other characters out"));
                return None;
            }
            Some((name.to_owned(), text.to_owned()))
        };
        let all = pairs(key, value, problems, parse)?;
        Some(Headers(all.into_iter().collect()))
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

impl Value for Shares {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        const EXAMPLE: &str = "for example `shares = { \"web-0\" = 0.5, \"web-1\" = 0.5 }`";
        let Some(table) = value.get_ref().as_table() else {
            problems.push(wrong_type(key, "a table", value).hint(EXAMPLE));
            return None;
        };
        let mut good = Some(Vec::new());
        for (name, value) in table {
            let number = match value.get_ref() {
                DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
                DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
                _ => None,
            };
            let fits = number.filter(|number| *number > 0.0 && *number <= 1.0);
            match (fits, &mut good) {
                (Some(share), Some(good)) => {
                    good.push((At { value: name.get_ref().to_string(), at: name.span() }, share));
                }
                (Some(_), None) => {}
                (None, _) => {
                    let message = format!("the share of {} is no number above 0 and up to 1", quoted(name.get_ref()));
                    problems.push(crate::diag::Diagnostic::new(value.span(), message).hint(EXAMPLE));
                    good = None;
                }
            }
        }
        let good = good?;
        let sum: f64 = good.iter().map(|(_, share)| share).sum();
        // Thirds that are written with three digits are thirds.
        if (sum - 1.0).abs() > 0.005 {
            let problem = invalid(key, format!("{:.3}", sum.abs()), value.span(), "all shares together must be 1");
            problems.push(problem.hint("name every pod that shall get something, and nobody else"));
            return None;
        }
        Some(Shares(good.into_iter().map(|(name, share)| (name, share / sum)).collect()))
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": { "type": "number", "exclusiveMinimum": 0, "maximum": 1 } })
    }
}
