//! From a lab and a place in it to the `/etc/resolv.conf` there.

use std::{fmt, net::IpAddr};

use crate::{
    lab::model::{DnsOption, DnsPolicy, Lab, Place, PodId},
    plan::{addressing, knows_names},
};

/// Whom a place asks for names, and how: what its `/etc/resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolver {
    /// The name servers, best first. Without one a resolver asks 127.0.0.1, where nobody listens: it
    /// fails at once.
    pub nameservers: Vec<IpAddr>,
    /// What is appended to names that are not complete.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<DnsOption>,
}

/// The most name servers that a resolver has (`MAXNS` of `resolv.h`).
const MOST_NAMESERVERS: usize = 3;
/// The most search domains, and the most characters of them all (KEP-2595).
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARACTERS: usize = 2048;
/// Some versions of glibc abort on a longer search domain, so the kubelet leaves it out.
const LONGEST_SEARCH: usize = 253;

/// As the kubelet has it: a name with fewer dots than this is tried with every search domain first.
const NDOTS: (&str, &str) = ("ndots", "5");

impl Resolver {
    /// That of a place.
    pub fn of(lab: &Lab, place: Place) -> Self {
        match place {
            Place::Pod(id) => Self::of_pod(lab, id),
            place => Self::of_machine(lab, place),
        }
    }

    /// That of a pod, on the host network or not, as the kubelet and the container runtime make it.
    pub fn of_pod(lab: &Lab, id: PodId) -> Self {
        let pod = lab.pod(id);
        let node = || Self::of_machine(lab, Place::Node(pod.node));
        let cluster = || Self::of_cluster(lab, pod.namespace.as_str());
        let mut resolver = match pod.dns.policy {
            DnsPolicy::None => Resolver::default(),
            DnsPolicy::Default => node(),
            // The kubelet's words for this are: falling back to the policy Default.
            DnsPolicy::ClusterFirst if pod.host_network => node(),
            DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet => cluster().unwrap_or_else(node),
        };
        for ip in &pod.dns.nameservers {
            add(&mut resolver.nameservers, *ip);
        }
        for search in &pod.dns.searches {
            add(&mut resolver.searches, search.clone());
        }
        for option in &pod.dns.options {
            match resolver.options.iter_mut().find(|it| it.name == option.name) {
                Some(it) => it.value.clone_from(&option.value),
                None => resolver.options.push(option.clone()),
            }
        }
        resolver.within_limits()
    }

    /// That of a pod that asks the cluster's DNS; `None` if the lab has none.
    fn of_cluster(lab: &Lab, namespace: &str) -> Option<Self> {
        let domain = &lab.cluster.domain;
        let (name, value) = NDOTS;
        Some(Resolver {
            nameservers: vec![lab.dns.as_ref()?.ip],
            searches: vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_string()],
            options: vec![DnsOption { name: name.to_owned(), value: Some(value.to_owned()) }],
        })
    }

    /// That of a machine: it asks the lab's own outer namespace, by the address that it knows that by.
    fn of_machine(lab: &Lab, place: Place) -> Self {
        let host = match place {
            Place::Client(id) => addressing::first_of(lab.client(id).ip),
            _ => lab.cluster.gateway,
        };
        let nameservers = if knows_names(lab) { vec![host] } else { Vec::new() };
        Resolver { nameservers, ..Resolver::default() }
    }

    fn within_limits(mut self) -> Self {
        self.nameservers.truncate(MOST_NAMESERVERS);
        self.searches.truncate(MOST_SEARCHES);
        self.searches.retain(|search| search.len() <= LONGEST_SEARCH);
        while self.searches.join(" ").len() > MOST_SEARCH_CHARACTERS {
            self.searches.pop();
        }
        self
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The text of the file, its lines in containerd's order.
impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nameservers.is_empty() {
            writeln!(f, "# This lab has no DNS.")?;
        }
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for ip in &self.nameservers {
            writeln!(f, "nameserver {ip}")?;
        }
        if !self.options.is_empty() {
            let options: Vec<String> = self.options.iter().map(option).collect();
            writeln!(f, "options {}", options.join(" "))?;
        }
        Ok(())
    }
}

fn option(option: &DnsOption) -> String {
    match option.value.as_deref() {
        Some(value) if !value.is_empty() => format!("{}:{value}", option.name),
        _ => option.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{load, model::Lab};

    fn lab(text: &str) -> Lab {
        load(text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn of_pod(text: &str) -> String {
        let lab = lab(text);
        Resolver::of_pod(&lab, PodId(0)).to_string()
    }

    const CLUSTER: &str = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
        nameserver 10.96.0.10\n\
        options ndots:5\n";
    const NODE: &str = "nameserver 10.30.45.1\n";
    const DNS: &str = "[dns]\nengine = \"coredns\"\n";

    #[test]
    fn the_cluster_comes_first() {
        assert_eq!(of_pod(&format!("{DNS}[[pod]]\nname = \"web\"\n")), CLUSTER);
        let other = format!(
            "[cluster]\ndomain = \"lab.test\"\nservice_cidr = \"10.97.0.0/16\"\n{DNS}[[pod]]\nname = \"web\"\nnamespace = \"shop\"\n"
        );
        assert_eq!(
            of_pod(&other),
            "search shop.svc.lab.test svc.lab.test lab.test\nnameserver 10.97.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn policies() {
        let pod = |rest: &str| of_pod(&format!("{DNS}[[pod]]\nname = \"web\"\n{rest}"));
        assert_eq!(pod("dns_policy = \"Default\""), NODE);
        assert_eq!(pod("host_network = true"), NODE);
        assert_eq!(pod("host_network = true\ndns_policy = \"ClusterFirstWithHostNet\""), CLUSTER);
        assert_eq!(pod("dns_policy = \"ClusterFirstWithHostNet\""), CLUSTER);
        let none = "dns_policy = \"None\"\ndns_config = { nameservers = [\"192.0.2.53\"] }";
        assert_eq!(pod(none), "nameserver 192.0.2.53\n");
    }

    #[test]
    fn a_lab_without_dns() {
        let without = "[dns]\nengine = \"none\"\n[[pod]]\nname = \"web\"\n";
        assert_eq!(of_pod(without), "# This lab has no DNS.\n");
        let external = "[[external]]\nname = \"example.org\"\nip = \"198.51.100.7\"\n";
        assert_eq!(of_pod(&format!("{without}{external}")), NODE, "the node's own file");
        assert_eq!(
            of_pod(&format!("{without}dns_config = {{ searches = [\"a.test\"] }}")),
            "# This lab has no DNS.\nsearch a.test\n"
        );
    }

    #[test]
    fn a_pods_own_words_are_added() {
        let config = r#"dns_config = { nameservers = ["192.0.2.1", "10.96.0.10", "192.0.2.2", "192.0.2.3"], searches = ["a.test", "cluster.local", "."], options = [{ name = "edns0" }, { name = "ndots", value = "2" }] }"#;
        let lab = lab(&format!("{DNS}[[pod]]\nname = \"web\"\n{}", config.replace(", \"192.0.2.3\"", "")));
        assert_eq!(
            Resolver::of_pod(&lab, PodId(0)).to_string(),
            "search default.svc.cluster.local svc.cluster.local cluster.local a.test .\n\
             nameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n\
             options ndots:2 edns0\n"
        );
    }

    #[test]
    fn there_are_limits() {
        let mut lab = lab(&format!("{DNS}[[pod]]\nname = \"web\"\n"));
        let pod = &mut lab.pods[0].dns;
        pod.nameservers = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse().unwrap()).into();
        pod.searches = (0..32).map(|n| format!("s{n}.test")).collect();
        let resolver = Resolver::of_pod(&lab, PodId(0));
        assert_eq!(resolver.nameservers.len(), 3);
        assert_eq!(resolver.searches.len(), 32);
        assert_eq!(resolver.searches.last().unwrap(), "s28.test");
        lab.pods[0].dns.searches = vec!["a".repeat(254), "b".repeat(253)];
        let resolver = Resolver::of_pod(&lab, PodId(0));
        assert_eq!(resolver.searches[3], "b".repeat(253), "the one that is too long is left out");
        lab.pods[0].dns.searches = (b'a'..b'l').map(|letter| char::from(letter).to_string().repeat(250)).collect();
        let line = Resolver::of_pod(&lab, PodId(0)).searches.join(" ");
        assert!(line.len() <= 2048 && line.len() > 2048 - 251, "{}", line.len());
    }

    #[test]
    fn machines_ask_the_host() {
        let mut lab = lab(&format!(
            "{DNS}[[pod]]\nname = \"web\"\n[[client]]\nname = \"laptop\"\nip = \"192.0.2.10/24\"\n[[external]]\nname = \"example.org\"\nip = \"198.51.100.7\"\n"
        ));
        let of = |lab: &Lab, name: &str| Resolver::of(lab, lab.find(name).unwrap()).to_string();
        for place in ["host", "node1", "example.org"] {
            assert_eq!(of(&lab, place), NODE, "{place}");
        }
        assert_eq!(of(&lab, "laptop"), "nameserver 192.0.2.1\n");
        (lab.dns, lab.externals) = (None, Vec::new());
        assert_eq!(of(&lab, "laptop"), "# This lab has no DNS.\n");
    }
}
