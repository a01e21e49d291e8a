//! A line of nft's language as words: quoted ones are one.

use super::expression::Wanted;

/// What is left of a line.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Words { rest: text.trim() }
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.clone().next()
    }

    pub(super) fn expect(&mut self, word: &str) -> Option<()> {
        self.next().filter(|it| *it == word).map(|_| ())
    }

    /// Takes `!=`, if it is next.
    pub(super) fn wanted(&mut self) -> Wanted {
        if self.peek() == Some("!=") {
            self.next();
            return Wanted::No;
        }
        Wanted::Yes
    }

    /// A field is named, and another one after it: what they say together is looked up.
    pub(super) fn is_key(&self) -> bool {
        let mut ahead = self.clone();
        ahead.next().is_some() && ahead.next() == Some(".")
    }

    /// All that is left up to the brace that closes one which was taken, and not that.
    pub(super) fn block(&mut self) -> Option<&'a str> {
        let (inside, rest) = self.rest.split_once('}')?;
        self.rest = rest.trim_start();
        Some(inside.trim()).filter(|it| !it.contains('"') && !it.contains('{'))
    }

    /// What is left.
    pub(super) fn rest(self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = match self.rest.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map_or(self.rest.len(), |at| at + 2),
            None => self.rest.find(char::is_whitespace).unwrap_or(self.rest.len()),
        };
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_are_one() {
        let words: Vec<&str> = Words::new(" a  \"b c { }\" d ").collect();
        assert_eq!(words, ["a", "\"b c { }\"", "d"]);
    }

    #[test]
    fn a_block_ends_with_its_brace() {
        let mut words = Words::new("{ 1, 2 } x");
        assert_eq!((words.expect("{"), words.block(), words.rest()), (Some(()), Some("1, 2"), "x"));
        assert_eq!(Words::new("1, 2").block(), None);
    }
}
