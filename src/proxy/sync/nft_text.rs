//! nftables rules as text, read into their parts: what the renderer writes, and what `nft list` prints.
//!
//! A part is a piece of the text; it is taken apart further only where it has changed.

/// A table.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    /// `ip kube-proxy`
    pub(crate) head: &'a str,
    pub(crate) objects: Vec<Object<'a>>,
}

/// A chain, a set or a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Object<'a> {
    /// `chain NAME`, `set NAME`, `map NAME`.
    pub(crate) head: &'a str,
    /// The lines between its braces.
    body: &'a str,
}

/// An element of a set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// What it is found by.
    pub(crate) key: &'a str,
    /// With its comment, and what a map has for it.
    pub(crate) text: &'a str,
}

impl<'a> Object<'a> {
    pub(crate) fn is_chain(&self) -> bool {
        self.head.starts_with("chain ")
    }

    /// Without `chain `, `set ` or `map `.
    pub(crate) fn name(&self) -> &'a str {
        self.head.split_once(' ').map_or(self.head, |(_, name)| name)
    }

    /// The hook and priority of a base chain.
    pub(crate) fn hook(&self) -> Option<&'a str> {
        self.lines().find(|line| line.starts_with("type ")).filter(|_| self.is_chain())
    }

    /// The rules of a chain.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &'a str> {
        let is_rule = |line: &&str| !line.starts_with("type ") && !line.starts_with("comment ");
        self.lines().filter(is_rule)
    }

    /// What a set or map is, without its elements.
    pub(crate) fn properties(&self) -> impl Iterator<Item = &'a str> {
        self.lines().take_while(|line| !line.starts_with("elements = {"))
    }

    /// Whether rules put the elements in: what it has learned is not for us to say.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.properties().any(|line| line.starts_with("flags ") && line.contains("dynamic"))
    }

    /// The elements of a set or map.
    pub(crate) fn elements(&self) -> Vec<Element<'a>> {
        let Some((_, rest)) = self.body.split_once("elements = {") else { return Vec::new() };
        // The last brace of the body ends them: nothing comes after the elements.
        let inside = rest.rfind('}').map_or(rest, |end| &rest[..end]);
        split(inside).map(str::trim).filter(|text| !text.is_empty()).map(Element::new).collect()
    }

    /// The lines that say something.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &'a str> {
        self.body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    }
}

impl<'a> Element<'a> {
    /// The key is words with dots between them; a comment, a time or the value may follow.
    pub(crate) fn new(text: &'a str) -> Self {
        let word = |from: usize| text[from..].find(' ').map_or(text.len(), |length| from + length);
        let mut end = word(0);
        while text[end..].starts_with(" . ") {
            end = word(end + " . ".len());
        }
        Element { key: &text[..end], text }
    }
}

/// Splits at commas that are not in quotes.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    })
}

pub(crate) fn parse(text: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    let mut in_table = false;
    let mut open: Option<(&str, usize)> = None;
    let mut in_elements = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let (begin, words) = (start, line.trim());
        start += line.len();
        if in_elements {
            in_elements = !words.ends_with('}');
        } else if let Some((head, body)) = open {
            if words.starts_with("elements = {") {
                in_elements = !words.ends_with('}');
            } else if words == "}" {
                open = None;
                if let Some(table) = tables.last_mut() {
                    table.objects.push(Object { head, body: &text[body..begin] });
                }
            }
        } else if words == "}" {
            in_table = false;
        } else if !words.starts_with('#')
            && let Some(opened) = words.strip_suffix(" {")
        {
            if in_table {
                open = Some((opened, start));
            } else if let Some(head) = opened.strip_prefix("table ") {
                in_table = true;
                tables.push(Table { head, objects: Vec::new() });
            }
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lab::model::NodeId,
        proxy::{nftables::render, sample, view::view},
    };

    #[test]
    fn what_is_rendered() {
        let text = render(&view(&sample::everything(), NodeId(0)));
        let tables = parse(&text);
        let heads: Vec<&str> = tables.iter().map(|table| table.head).collect();
        assert_eq!(heads, ["ip kube-proxy", "ip netlab"]);
        let count =
            text.lines().filter(|line| line.starts_with("    ") && line.ends_with(" {") && !line.starts_with("     "));
        assert_eq!(tables.iter().map(|table| table.objects.len()).sum::<usize>(), count.count());
        let map = tables[0].objects.iter().find(|it| it.head == "map service-nodeports").expect("it is there");
        assert_eq!(map.properties().collect::<Vec<_>>(), ["type inet_proto . inet_service : verdict"]);
        let elements = map.elements();
        assert_eq!(elements.len(), 3);
        let text = "tcp . 30003 comment \"default/outside\" : goto external-UU3GIVJO-default/outside/tcp/";
        assert_eq!(elements[0], Element { key: "tcp . 30003", text });
        let chain = tables[0].objects.iter().find(|it| it.head == "chain filter-input").expect("it is there");
        assert_eq!(chain.hook(), Some("type filter hook input priority 0; policy accept;"));
        assert_eq!(chain.rules().count(), 2);
    }

    #[test]
    fn what_nft_prints() {
        let text = "table ip a {\n\tcomment \"x {\"\n\tset s {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\t\
                    elements = { 1.1.1.1 expires 3s, 2.2.2.2 comment \"b, } c\",\n\t\t\t     3.3.3.3 }\n\t}\n\n\t\
                    chain c {\n\t\tct state { new } accept\n\t}\n}\ntable ip6 a {\n}\n";
        let tables = parse(text);
        assert_eq!(tables.iter().map(|table| table.head).collect::<Vec<_>>(), ["ip a", "ip6 a"]);
        let [set, chain] = tables[0].objects[..] else { panic!("{tables:?}") };
        assert!(set.is_dynamic() && !set.is_chain() && chain.is_chain());
        let keys: Vec<&str> = set.elements().iter().map(|element| element.key).collect();
        assert_eq!(keys, ["1.1.1.1", "2.2.2.2", "3.3.3.3"]);
        assert_eq!((chain.name(), chain.rules().collect::<Vec<_>>()), ("c", vec!["ct state { new } accept"]));
    }
}
