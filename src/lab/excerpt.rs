//! Parts of a text, one after the other, and where each of them stands in the whole: what is read of the
//! parts is told with its places in the whole.

use std::{mem, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Parts of a text, in its order.
#[derive(Debug, Default)]
pub(super) struct Excerpt {
    text: String,
    /// Where each part begins: here, and in the whole.
    parts: Vec<(usize, usize)>,
}

impl Excerpt {
    /// Takes one more part.
    pub(super) fn add(&mut self, whole: &str, part: Range<usize>) {
        self.parts.push((self.text.len(), part.start));
        self.text.push_str(&whole[part]);
    }

    /// The parts.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What was parsed here, as if the whole had been.
    pub(super) fn in_whole<'i>(&self, table: DeTable<'i>) -> DeTable<'i> {
        let pairs = table.into_iter().map(|(key, mut value)| {
            self.put(&mut value);
            (Spanned::new(self.place(key.span()), key.into_inner()), value)
        });
        pairs.collect()
    }

    fn put(&self, value: &mut Spanned<DeValue<'_>>) {
        let at = self.place(value.span());
        let inner = match mem::replace(value.get_mut(), DeValue::Boolean(false)) {
            DeValue::Table(table) => DeValue::Table(self.in_whole(table)),
            DeValue::Array(mut array) => {
                array.iter_mut().for_each(|item| self.put(item));
                DeValue::Array(array)
            }
            plain => plain,
        };
        *value = Spanned::new(at, inner);
    }

    /// A place ends in the part that its last byte is in.
    fn place(&self, at: Range<usize>) -> Range<usize> {
        let start = self.offset(at.start);
        let end = if at.is_empty() { start } else { self.offset(at.end - 1) + 1 };
        start..end
    }

    fn offset(&self, here: usize) -> usize {
        let next = self.parts.partition_point(|(begin, _)| *begin <= here);
        self.parts[..next].last().map_or(here, |(begin, whole)| whole + (here - begin))
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn places_are_those_of_the_whole() {
        let whole = "a = { b = [1, \"x\"] }\n[[s]]\nleft = \"out\"\n[[s]]\nc.\"d e\" = \"y\"\n# end\n[f]";
        let [second, third, end] = ["[[s]]\nleft", "[[s]]\nc", "[f]"].map(|part| whole.find(part).expect("a part"));
        let mut excerpt = Excerpt::default();
        for part in [0..second, third..end, end..whole.len()] {
            excerpt.add(whole, part);
        }
        let parsed = DeTable::parse(excerpt.text()).expect("it is TOML").into_inner();
        let mut expected = DeTable::parse(whole).expect("it is TOML").into_inner();
        let DeValue::Array(tables) = expected["s"].get_ref() else { panic!("two tables") };
        let kept = tables[1].clone();
        let found = excerpt.in_whole(parsed);
        let DeValue::Array(tables) = found["s"].get_ref() else { panic!("one table") };
        assert_eq!(format!("{:?}", tables[0]), format!("{kept:?}"));
        for key in ["a", "f"] {
            assert_eq!(format!("{:?}", found[key]), format!("{:?}", expected.remove(key).expect("it is there")));
        }
        // Keys are in alphabetical order; that of the tables stands where the first of them is that was kept.
        let keys: Vec<_> = found.keys().map(Spanned::span).collect();
        assert_eq!(keys, [0..1, end + 1..end + 2, third + 2..third + 3]);
    }
}
