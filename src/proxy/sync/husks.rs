//! What nft lists → the tables of iptables in which nothing is left but their built-in chains.
//!
//! The tool of iptables makes these tables when it is first used, and cannot take them away; a node on
//! which only nftables' rules were ever loaded does not have them.

/// The tables that iptables makes.
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// The commands that take them away; `None` if there are none.
pub fn husks(listing: &str) -> Option<String> {
    let mut husks: Vec<&str> = Vec::new();
    let mut table: Option<(&str, bool)> = None;
    for line in listing.lines().filter(|line| !line.starts_with('#')) {
        match (table, line.trim()) {
            (None, line) => {
                let name = line.strip_prefix("table ip ").and_then(|line| line.strip_suffix(" {"));
                table = name.filter(|name| TABLES.contains(name)).map(|name| (name, true));
            }
            (Some((name, empty)), _) if line == "}" => {
                husks.extend(empty.then_some(name));
                table = None;
            }
            (Some((name, empty)), line) => table = Some((name, empty && is_nothing(line))),
        }
    }
    let text: String = husks.iter().map(|table| format!("delete table ip {table}\n")).collect();
    Some(text).filter(|text| !text.is_empty())
}

/// A line of a built-in chain without rules.
fn is_nothing(line: &str) -> bool {
    let built_in = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    let chain = line.strip_prefix("chain ").and_then(|line| line.strip_suffix(" {"));
    line.is_empty()
        || line == "}"
        || chain.is_some_and(|chain| built_in.contains(&chain))
        // Whoever lets nothing pass has meant it.
        || (line.starts_with("type ") && line.contains(" hook ") && line.ends_with("policy accept;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "\tchain INPUT {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n";

    #[test]
    fn only_what_is_empty_and_iptables_own() {
        let chain = CHAIN;
        let listing = format!(
            "# Warning: table ip filter is managed by iptables-nft, do not touch!\n\
             table ip filter {{\n{chain}\n{chain}}}\ntable ip nat {{\n{chain}\tchain THEIRS {{\n\t}}\n}}\n\
             table ip mangle {{\n{}}}\ntable ip raw {{\n{}}}\ntable ip theirs {{\n{chain}}}\n\
             table inet filter {{\n{chain}}}\ntable ip security {{\n}}\n",
            chain.replace("\t}\n", "\t\tcounter accept\n\t}\n"),
            chain.replace("policy accept", "policy drop"),
        );
        assert_eq!(husks(&listing).as_deref(), Some("delete table ip filter\ndelete table ip security\n"));
        assert_eq!(husks(&format!("table ip nat {{\n{}}}\n", chain.replace("INPUT", "KUBE-SERVICES"))), None);
        assert_eq!(husks(""), None);
    }
}
