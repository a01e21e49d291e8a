//! From a lab to what the real CoreDNS runs with: its Corefile, and the zone files named there.
//!
//! What kubeadm's file leaves to CoreDNS's plugin `kubernetes` is said here by others, as far as they
//! can; `docs/dns.md` has what they cannot.
//!
//! | what | who says it |
//! | --- | --- |
//! | Services, endpoints, verified pods | `file`, from a zone file |
//! | pointers | `file`, from a zone file, with `fallthrough` |
//! | names that have no records | `template` |
//! | `10-0-0-5.default.pod.cluster.local` under `pods insecure` | `template` |
//! | ExternalName Services | `template`, or `rewrite` |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::records::{Data, Record, names_without_records, namespaces, records};
use crate::{
    lab::model::{Dns, ExternalNames, Lab, PodRecords},
    proxy::endpoints::Conditions,
};

/// The directory of all these files, in the lab's private `/run`.
pub const DIRECTORY: &str = "/run/netlab/coredns";
/// The Corefile's name in it.
pub const COREFILE: &str = "Corefile";

const TEMPLATE: &str = include_str!("../../templates/Corefile");

/// The zones of pointers.
const REVERSE: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];

/// The refresh, retry and expire times of every zone, as CoreDNS's plugin `kubernetes` has them.
const TIMES: &str = "7200 1800 86400";
/// The SOA record of that plugin lives no longer.
const LONGEST_SOA: u32 = 300;

/// A part of a dotted address.
const OCTET: &str = "25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]";

/// The files that CoreDNS runs with: their names in [`DIRECTORY`], and what is in them. CoreDNS looks
/// at the zone files every second, and reads one again whose serial number has changed.
///
/// None for a lab without DNS.
pub fn files(lab: &Lab, conditions: &Conditions, serial: u32) -> BTreeMap<String, String> {
    let Some(dns) = &lab.dns else { return BTreeMap::new() };
    let sheet = Sheet { lab, dns, serial };
    let records = records(lab, conditions);
    let aliases = Aliases::of(dns, &records);
    let domain = lab.cluster.domain.as_str();
    let zones = std::iter::once(domain).chain(REVERSE).filter_map(|zone| {
        let of_zone: Vec<&Record> = records.iter().filter(|it| is_in(&it.name, zone) && !aliases.has(it)).collect();
        (!of_zone.is_empty()).then(|| (zone, sheet.zone(zone, &of_zone)))
    });
    let zones: Vec<(&str, String)> = zones.collect();
    let names: Vec<&str> = zones.iter().map(|(zone, _)| *zone).collect();
    let corefile = (COREFILE.to_owned(), sheet.corefile(&names, &aliases));
    let zones = zones.into_iter().map(|(zone, text)| (file_name(zone), text));
    zones.chain([corefile]).collect()
}

fn file_name(zone: &str) -> String {
    format!("{zone}.zone")
}

fn is_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The names that lead on to others, but for those that lead in circles: asked for these, CoreDNS's
/// `template` would ask itself for ever, where `file` stops after some steps.
struct Aliases<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Aliases<'a> {
    fn of(dns: &Dns, records: &'a [Record]) -> Self {
        let alias = |record: &'a Record| match &record.data {
            Data::Alias(target) => Some((record.name.as_str(), target.as_str())),
            _ => None,
        };
        let mut all: BTreeMap<&str, &str> = records.iter().filter_map(alias).collect();
        if dns.external_names == ExternalNames::Cname {
            let circles: BTreeSet<&str> = all.keys().copied().filter(|name| leads_in_circles(name, &all)).collect();
            all.retain(|name, _| !circles.contains(name));
        }
        Aliases(all)
    }

    fn has(&self, record: &Record) -> bool {
        matches!(record.data, Data::Alias(_)) && self.0.contains_key(record.name.as_str())
    }
}

fn leads_in_circles(name: &str, aliases: &BTreeMap<&str, &str>) -> bool {
    let mut seen = BTreeSet::new();
    let mut at = name;
    while let Some(next) = aliases.get(at) {
        if !seen.insert(at) {
            return true;
        }
        at = next;
    }
    false
}

/// What is written about.
struct Sheet<'a> {
    lab: &'a Lab,
    dns: &'a Dns,
    serial: u32,
}

impl Sheet<'_> {
    fn domain(&self) -> &str {
        self.lab.cluster.domain.as_str()
    }

    /// The SOA record of a zone, which comes with every negative answer.
    fn soa(&self, zone: &str) -> String {
        let ttl = self.dns.ttl;
        let own = ttl.min(LONGEST_SOA);
        format!("{zone}. {own} IN SOA ns.dns.{zone}. hostmaster.{zone}. {} {TIMES} {ttl}", self.serial)
    }

    fn zone(&self, zone: &str, records: &[&Record]) -> String {
        let mut text = self.soa(zone) + "\n";
        for Record { name, ttl, data } in records {
            // Writing to a String cannot fail.
            let _ = match data {
                Data::Address(ip) if ip.is_ipv4() => writeln!(text, "{name}. {ttl} IN A {ip}"),
                Data::Address(ip) => writeln!(text, "{name}. {ttl} IN AAAA {ip}"),
                Data::Alias(target) => writeln!(text, "{name}. {ttl} IN CNAME {target}."),
                Data::Service { priority, weight, port, target } => {
                    writeln!(text, "{name}. {ttl} IN SRV {priority} {weight} {port} {target}.")
                }
                Data::Pointer(target) => writeln!(text, "{name}. {ttl} IN PTR {target}."),
                Data::Text(said) => writeln!(text, "{name}. {ttl} IN TXT \"{said}\""),
            };
        }
        text
    }

    fn corefile(&self, zones: &[&str], aliases: &Aliases<'_>) -> String {
        let mut names = Blocks(String::new());
        for (name, target) in &aliases.0 {
            match self.dns.external_names {
                ExternalNames::Rewrite => names.line(format!("rewrite name exact {name} {target}")),
                ExternalNames::Cname => self.alias(&mut names, name, target),
            }
        }
        self.name_servers(&mut names);
        if self.dns.pod_records == PodRecords::Insecure {
            self.pods(&mut names);
        }
        self.without_records(&mut names);
        for zone in zones {
            let mut lines = vec!["reload 1s".to_owned()];
            if REVERSE.contains(zone) {
                lines.push(format!("fallthrough {zone}"));
            }
            names.block(format!("file {DIRECTORY}/{} {zone}", file_name(zone)), lines);
        }
        let usual = [self.lab.cluster.gateway];
        let upstream = match self.dns.upstream.as_slice() {
            own if own != usual => own.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            _ => "/etc/resolv.conf".to_owned(),
        };
        TEMPLATE.replace("@NAMES@", &names.0).replace("@UPSTREAM@", &upstream).replace("@DOMAIN@", self.domain())
    }

    /// An ExternalName Service: the CNAME, and for addresses what its target has; nothing else.
    fn alias(&self, names: &mut Blocks, name: &str, target: &str) {
        let matched = matching(&escaped(name));
        for kind in ["A", "AAAA", "CNAME"] {
            let answer = format!("answer \"{{{{ .Name }}}} {} IN CNAME {target}.\"", self.dns.ttl);
            names.block(format!("template IN {kind} {name}"), [matched.clone(), answer, FALLTHROUGH.to_owned()]);
        }
        self.nothing(names, name, &escaped(name));
    }

    /// The name server of the zone is the Service. As a record in the zone file it would come along
    /// with every answer, which it does not in a cluster.
    fn name_servers(&self, names: &mut Blocks) {
        let (domain, ttl) = (self.domain(), self.dns.ttl);
        let service = self.lab.service(self.dns.service);
        let server = format!("{}.{}.svc.{domain}", service.name, service.namespace);
        let kind = if self.dns.ip.is_ipv4() { "A" } else { "AAAA" };
        let lines = [
            matching(&escaped(domain)),
            format!("answer \"{{{{ .Name }}}} {ttl} IN NS {server}.\""),
            format!("additional \"{server}. {ttl} IN {kind} {}\"", self.dns.ip),
            FALLTHROUGH.to_owned(),
        ];
        names.block(format!("template IN NS {domain}"), lines);
    }

    /// Every address is a pod's, in every namespace.
    fn pods(&self, names: &mut Blocks) {
        let domain = self.domain();
        let namespaces: Vec<&str> = namespaces(self.lab).into_iter().collect();
        let octets = ["a", "b", "c", "d"].map(|octet| format!("(?P<{octet}>{OCTET})")).join("-");
        let name = format!("{octets}\\.({})\\.pod\\.{}", namespaces.join("|"), escaped(domain));
        let address = ["a", "b", "c", "d"].map(|octet| format!("{{{{ .Group.{octet} }}}}")).join(".");
        let lines = [
            matching(&name),
            format!("answer \"{{{{ .Name }}}} {} IN A {address}\"", self.dns.ttl),
            FALLTHROUGH.to_owned(),
        ];
        names.block(format!("template IN A pod.{domain}"), lines);
        self.nothing(names, &format!("pod.{domain}"), &name);
    }

    /// A zone file has no names without records but those that others are below.
    fn without_records(&self, names: &mut Blocks) {
        let domain = self.domain();
        let below = |name: &String| Some(escaped(name.strip_suffix(domain)?.strip_suffix('.')?));
        let heads: Vec<String> = names_without_records(self.lab).iter().filter_map(below).collect();
        let name = format!("({})\\.{}", heads.join("|"), escaped(domain));
        self.nothing(names, &format!("svc.{domain} pod.{domain}"), &name);
    }

    /// Names that are there, and of which nothing is said that was not said before.
    fn nothing(&self, names: &mut Blocks, zones: &str, name: &str) {
        let authority = format!("authority \"{}\"", self.soa(self.domain()));
        names.block(format!("template IN ANY {zones}"), [matching(name), authority, FALLTHROUGH.to_owned()]);
    }
}

const FALLTHROUGH: &str = "fallthrough";

/// A pattern for exactly these names; CoreDNS asks with names in lower case.
fn matching(name: &str) -> String {
    format!("match \"^{name}\\.$\"")
}

fn escaped(name: &str) -> String {
    name.replace('.', "\\.")
}

/// Lines of a server block.
struct Blocks(String);

impl Blocks {
    fn line(&mut self, line: impl AsRef<str>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "    {}", line.as_ref());
    }

    fn block(&mut self, head: String, lines: impl IntoIterator<Item = String>) {
        self.line(head + " {");
        lines.into_iter().for_each(|line| self.line(format!("    {line}")));
        self.line("}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load;

    const LAB: &str = r#"
        [dns]
        engine = "coredns"
        [[node]]
        name = "n1"
        pod_subnet = "10.244.1.0/24"
        [[pod]]
        name = "web-0"
        ip = "10.244.1.10"
        labels = { app = "web" }
        hostname = "web-0"
        subdomain = "nest"
        [[pod]]
        name = "other"
        ip = "10.244.1.20"
        namespace = "blue"
        labels = { app = "none" }
        [[service]]
        name = "web"
        cluster_ip = "10.96.1.1"
        selector = { app = "web" }
        ports = [{ name = "http", port = 80 }]
        [[service]]
        name = "nest"
        cluster_ip = "None"
        selector = { app = "web" }
        ports = [{ name = "http", port = 80 }]
        [[service]]
        name = "my-ip"
        type = "ExternalName"
        external_name = "api.ipify.org"
        "#;

    fn written(text: &str) -> BTreeMap<String, String> {
        let lab = load(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        files(&lab, &Conditions::new(), 1)
    }

    fn golden(name: &str, text: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dns/golden").join(name);
        if std::env::var_os("NETLAB_BLESS").is_some() {
            std::fs::write(&path, text).expect("the file can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(expected == text, "{} differs; NETLAB_BLESS=1 rewrites it. It would be:\n{text}", path.display());
    }

    #[test]
    fn the_files_of_a_lab() {
        let files = written(LAB);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["Corefile", "cluster.local.zone", "in-addr.arpa.zone"]);
        for (name, text) in files {
            golden(&name, &text);
        }
    }

    #[test]
    fn the_options_of_a_lab() {
        let options = r#"
        engine = "coredns"
        upstream = ["192.0.2.53", "192.0.2.54"]
        ttl = 600
        pods = "verified"
        external_names = "rewrite"
        "#;
        let text =
            LAB.replace("engine = \"coredns\"", options).replace("[dns]", "[cluster]\ndomain = \"lab.test\"\n[dns]");
        let files = written(&text);
        golden("options.Corefile", &files[COREFILE]);
        golden("options.zone", &files["lab.test.zone"]);
    }

    #[test]
    fn names_that_lead_in_circles_are_left_to_file() {
        let circle = |name: &str, target: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\ntype = \"ExternalName\"\nexternal_name = \"{target}.default.svc.cluster.local\"\n"
            )
        };
        let text = [LAB, &circle("a", "b"), &circle("b", "a"), &circle("to-a", "a"), &circle("to-web", "web")].concat();
        let files = written(&text);
        let zone = &files["cluster.local.zone"];
        for name in ["a", "b", "to-a"] {
            let name = format!("{name}.default.svc.cluster.local");
            assert!(zone.contains(&format!("\n{name}. 30 IN CNAME")), "{zone}");
            assert!(!files[COREFILE].contains(&format!(" {name} ")), "{}", files[COREFILE]);
        }
        assert!(files[COREFILE].contains("template IN A to-web.default.svc.cluster.local {"), "{}", files[COREFILE]);
        assert!(!zone.contains("to-web"), "{zone}");
    }

    #[test]
    fn a_lab_without_dns_has_no_files() {
        assert!(written("[dns]\nengine = \"none\"\n[[pod]]\nname = \"web\"\n").is_empty());
    }
}
