//! One TOML table → one record: every key declared once, in [`record!`], from which come the
//! struct, its decoder, the list of known keys and the JSON Schema.

use serde_json::{Map, Value as Json, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    model::Span,
    said::{At, Said},
    value::{Value, listed, wrong_type},
};
use crate::diag::{Diagnostic, Problems, nearest, quoted};

/// So many misspelt keys of a table are understood.
const MISSPELT: usize = 16;

/// A table that is being read.
pub(super) struct Table<'t, 'i> {
    what: &'static str,
    table: &'t DeTable<'i>,
    /// The known keys that others are misspellings of.
    meant: Vec<&'static str>,
    at: Span,
}

impl<'t, 'i> Table<'t, 'i> {
    /// Opens a value that must be a table.
    pub(super) fn open(
        what: &'static str,
        example: &str,
        key: &str,
        value: &'t Spanned<DeValue<'i>>,
        problems: &mut Problems,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Table { what, table, meant: Vec::new(), at: value.span() }),
            DeValue::Array(_) if matches!(key, "cluster" | "load_balancer" | "dns") => {
                problems.push(wrong_type(key, "a table", value).hint(format!("write `[{key}]`, and only once")));
                None
            }
            _ => {
                let hint = format!("{} is a table, such as `{{ {example} = … }}`", article(what));
                problems.push(wrong_type(key, "a table", value).hint(hint));
                None
            }
        }
    }

    /// The document itself.
    pub(super) fn root(what: &'static str, table: &'t DeTable<'i>) -> Self {
        Table { what, table, meant: Vec::new(), at: 0..0 }
    }

    /// Where it stands: its header or its braces.
    pub(super) fn at(&self) -> Span {
        self.at.clone()
    }

    /// With the keys that it knows. What another key is a misspelling of was said, though badly: that it is
    /// not there is no problem besides.
    pub(super) fn of_keys(mut self, known: &[&'static str]) -> Self {
        let others = self.table.keys().filter(|word| !known.contains(&word.get_ref().as_ref()));
        // Who misspells more than that, hears enough.
        self.meant = others.take(MISSPELT).filter_map(|word| nearest(word.get_ref(), known.iter().copied())).collect();
        self
    }

    /// A key that may be left out.
    pub(super) fn optional<T: Value>(&self, key: &str, problems: &mut Problems) -> Said<T> {
        match self.table.get(key) {
            None if self.meant.contains(&key) => Said::Nonsense,
            None => Said::Nothing,
            Some(value) => match T::decode(key, value, problems) {
                Some(good) => Said::Value(At { value: good, at: value.span() }),
                None => Said::Nonsense,
            },
        }
    }

    /// A key that must be there.
    pub(super) fn required<T: Value>(&self, key: &str, problems: &mut Problems) -> Said<T> {
        let said = self.optional(key, problems);
        if !said.is_nothing() {
            return said;
        }
        let message = format!("missing key `{key}`");
        let problem = Diagnostic::new(self.at(), message).label(format!("this {} has no `{key}`", self.what));
        problems.push(problem.hint(format!("add `{key} = …`")));
        Said::Nonsense
    }

    /// Refuses every key but the known ones.
    pub(super) fn refuse_others(&self, known: &[&'static str], problems: &mut Problems) {
        for word in self.table.keys().filter(|word| !known.contains(&word.get_ref().as_ref())) {
            let message = format!("unknown key {}", quoted(word.get_ref()).replace('"', "`"));
            let problem = Diagnostic::new(word.span(), message).label(format!("not a key of {}", article(self.what)));
            problems.push_nearest(problem, word.get_ref(), known.iter().copied(), || {
                Some(format!("{} has {}", article(self.what), listed(known).replace(" or ", " and ")))
            });
        }
    }
}

/// `a node`, `an endpoint`.
fn article(what: &str) -> String {
    let an = what.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {what}", if an { "an" } else { "a" })
}

/// Declares a table of the lab file: `optional` and `required` keys with their types, each with
/// the text that documents it for readers of the code and, in the schema, for users.
macro_rules! record {
    (
        $(#[doc = $about:literal])+
        $name:ident, $what:literal {
            $( $(#[doc = $doc:literal])+ $need:ident $key:ident: $type:ty, )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(super) struct $name {
            /// Its header or its braces.
            pub(super) at: Span,
            $( $(#[doc = $doc])+ pub(super) $key: Said<$type>, )+
        }

        impl $name {
            pub(super) const KEYS: &'static [&'static str] = &[$(plain(stringify!($key))),+];

            /// The key that a hint shows: the first one.
            const EXAMPLE: &'static str = first(&[$((stringify!($need), plain(stringify!($key)))),+]);

            fn read(table: Table<'_, '_>, problems: &mut Problems) -> Self {
                let table = table.of_keys(Self::KEYS);
                let record = $name {
                    at: table.at(),
                    $( $key: table.$need(plain(stringify!($key)), problems), )+
                };
                table.refuse_others(Self::KEYS, problems);
                record
            }
        }

        impl Value for $name {
            fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
                Table::open($what, Self::EXAMPLE, key, value, problems).map(|table| Self::read(table, problems))
            }

            fn schema() -> Json {
                object(concat!($($about, "\n"),+), vec![$( Key {
                    name: plain(stringify!($key)),
                    need: stringify!($need),
                    about: concat!($($doc, "\n"),+),
                    schema: <$type>::schema(),
                } ),+])
            }
        }
    };
}
pub(super) use record;

/// The name of a key, which may be a word that Rust reserves.
pub(super) const fn plain(field: &'static str) -> &'static str {
    match field.as_bytes() {
        // The two bytes are ASCII, so the rest is whole characters.
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// The first required key, or, if none is required, the first.
pub(super) const fn first(keys: &[(&'static str, &'static str)]) -> &'static str {
    let mut nth = 0;
    while nth < keys.len() {
        if matches!(keys[nth].0.as_bytes(), b"required") {
            return keys[nth].1;
        }
        nth += 1;
    }
    keys[0].1
}

/// One key of a record, for the schema.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) need: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: Json,
}

/// The schema of a record.
pub(super) fn object(about: &str, keys: Vec<Key>) -> Json {
    let required: Vec<&str> = keys.iter().filter(|key| key.need == "required").map(|key| key.name).collect();
    let mut properties = Map::new();
    for mut key in keys {
        if let Json::Object(schema) = &mut key.schema {
            schema.insert("description".to_owned(), json!(prose(key.about)));
        }
        properties.insert(key.name.to_owned(), key.schema);
    }
    let mut schema = json!({
        "type": "object",
        "description": prose(about),
        "properties": properties,
        "additionalProperties": false,
    });
    if let (Json::Object(schema), false) = (&mut schema, required.is_empty()) {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

/// Doc comment lines as one paragraph.
fn prose(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
