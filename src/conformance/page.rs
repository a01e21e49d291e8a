//! The table as a page of Markdown: `docs/conformance.md`.

use std::fmt::Write;

use super::{NOT_YET, Path, Proof, Row, Setting, rows};
use crate::lab::model::ProxyMode;

const HEAD: &str = "\
# Conformance

What a Service must do, row by row, and what each proxy does. `cargo xtask conformance` prints this page; a test keeps
it as it is. `cargo test --test conformance` asks every row of three opinions, which must agree: the specification
(`truth`), the rendered rules (`trace`), and packets in the kernel, as root and as an unprivileged user.

- *served*: every endpoint that should answer does, and no other; *source kept* or *masqueraded* is what they see;
- *refused*: an ICMP port-unreachable at once; *timeout*: nothing; *unreachable*: no way there;
- *answered*: the cluster's DNS says what it must about each name, to pods by their own resolvers;
- where the cells of a row differ, Kubernetes' proxies differ (or the ladder does, whose flat rules masquerade all that
  they translate); `-` means that the proxy has no such behaviour;
- *→*: another lab is brought up in the place of the first (`up --replace`), as netlab does not change a lab that runs:
  a connection of the first one has no part in it;
- SCTP is spoken over raw sockets, the first two packets of it, so that it needs none of the kernel's own.

Sources: `e2e` is kubernetes/test/e2e/network, `pf` a packet-flow test in pkg/proxy, `core` CoreDNS' kubernetes plugin,
`contract` this project's data-plane reference.

";

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(
        "| row | behaviour | source | iptables | nftables | ladder |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let rows = rows();
    for row in rows.iter().filter(|row| !row.is_pending()) {
        let [iptables, nftables, ladder] = ProxyMode::ALL.map(|mode| row.cell(mode));
        let (id, behaviour, source) = (row.id, row.behaviour, row.source);
        // A String takes all that is written to it.
        let _ = writeln!(page, "| {id} | {behaviour} | {source} | {iptables} | {nftables} | {ladder} |");
    }
    page.push_str("\n## Not shown here\n\n| row | behaviour | source | why |\n| --- | --- | --- | --- |\n");
    for row in &rows {
        if let Proof::NotYet(why) = row.proof {
            let _ = writeln!(page, "| {} | {} | {} | {why} |", row.id, row.behaviour, row.source);
        }
    }
    page
}

impl Row {
    /// It waits for something.
    pub fn is_pending(&self) -> bool {
        matches!(self.proof, Proof::NotYet(_))
    }

    /// What a proxy does.
    fn cell(&self, mode: ProxyMode) -> String {
        match self.proof {
            Proof::Paths(setting, paths) => cell(setting, paths, mode),
            Proof::Restarted(acts) if acts.iter().any(|(setting, _)| setting.refused_by(mode).is_some()) => {
                "-".to_owned()
            }
            Proof::Restarted(acts) => {
                acts.iter().map(|(setting, paths)| cell(setting, paths, mode)).collect::<Vec<_>>().join(" → ")
            }
            Proof::Forgets(setting, ..) if setting.refused_by(mode).is_some() => "-".to_owned(),
            Proof::Forgets(_, _, seconds) => format!("sticks, until nothing has come for {seconds} s"),
            Proof::NoRules(..) => "no rules".to_owned(),
            Proof::Health(setting, _) if setting.refused_by(mode).is_some() => "-".to_owned(),
            Proof::Health(..) => "served".to_owned(),
            Proof::Names(setting, _) if setting.refused_by(mode).is_some() => "-".to_owned(),
            Proof::Names(..) => "answered".to_owned(),
            Proof::Invalid(..) => "refused before anything is built".to_owned(),
            Proof::Valid(_, _, meaning) => format!("`{meaning}`"),
            Proof::NotYet(why) => format!("{NOT_YET}{why}"),
        }
    }
}

fn cell(setting: &Setting, paths: &[Path], mode: ProxyMode) -> String {
    if setting.refused_by(mode).is_some() {
        return "-".to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    for seen in paths.iter().filter_map(|path| path.seen(mode)) {
        if !words.contains(&seen.words()) {
            words.push(seen.words());
        }
    }
    words.join("; ")
}
