//! Labs that change at random: each step is one of the things that happen to a cluster.

use std::fmt::Write as _;

use netlab::lab::{load, model::Lab};

const APPS: [&str; 3] = ["a", "b", "c"];

/// A lab, and the numbers by which it changes.
#[derive(Debug, Clone)]
pub(crate) struct Changing {
    state: u64,
    nodes: usize,
    pods: Vec<Pod>,
    services: Vec<Option<Service>>,
    detect_local: usize,
    masquerade_all: bool,
    /// So many more pods are alike.
    replicas: usize,
}

#[derive(Debug, Clone)]
struct Pod {
    app: &'static str,
    ready: bool,
    terminating: bool,
    host_port: bool,
}

#[derive(Debug, Clone)]
struct Service {
    kind: &'static str,
    app: &'static str,
    affinity: Option<usize>,
    internal_local: bool,
    external_local: bool,
    ranges: usize,
    external_ip: bool,
    udp: bool,
    node_port: usize,
    port: usize,
}

impl Changing {
    /// A lab of two nodes, six pods and up to five Services; the same for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut lab = Changing {
            state: seed,
            nodes: 2,
            pods: Vec::new(),
            services: vec![None; 5],
            detect_local: 0,
            masquerade_all: false,
            replicas: 1,
        };
        for _ in 0..6 {
            let app = lab.choose(&APPS);
            lab.pods.push(Pod { app, ready: true, terminating: false, host_port: false });
        }
        for at in 0..4 {
            lab.services[at] = Some(lab.service());
        }
        lab
    }

    /// Something happens.
    pub(crate) fn step(&mut self) {
        let pod = self.below(self.pods.len());
        let slot = self.below(self.services.len());
        match self.below(13) {
            0 => self.pods[pod].app = self.choose(&APPS),
            1 | 2 => self.pods[pod].ready ^= true,
            3 => self.pods[pod].terminating ^= true,
            4 => self.pods[pod].host_port ^= true,
            5 => self.nodes = 5 - self.nodes,
            6 if self.below(3) == 0 => self.detect_local += 1,
            6 if self.below(2) == 0 => self.masquerade_all ^= true,
            12 => self.replicas = self.below(4),
            7 | 8 => self.services[slot] = if self.services[slot].is_some() { None } else { Some(self.service()) },
            _ => {
                let other = self.service();
                let part = self.below(9);
                let Some(service) = &mut self.services[slot] else { return };
                match part {
                    0 => service.kind = other.kind,
                    1 => service.app = other.app,
                    2 => service.affinity = other.affinity,
                    3 => service.internal_local ^= true,
                    4 => service.external_local ^= true,
                    5 => service.ranges = other.ranges,
                    6 => service.external_ip ^= true,
                    7 => service.udp ^= true,
                    _ => (service.node_port, service.port) = (other.node_port, other.port),
                }
            }
        }
    }

    /// As it is now.
    pub(crate) fn lab(&self) -> Lab {
        let text = self.text();
        load(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    fn service(&mut self) -> Service {
        Service {
            kind: self.choose(&["ClusterIP", "NodePort", "LoadBalancer"]),
            app: self.choose(&["a", "b", "c", "nobody"]),
            affinity: self.choose(&[None, None, Some(10800), Some(60)]),
            internal_local: self.below(4) == 0,
            external_local: self.below(3) == 0,
            ranges: self.below(3),
            external_ip: self.below(3) == 0,
            udp: self.below(3) == 0,
            node_port: self.below(2),
            port: 80 + self.below(2),
        }
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        let detect = ["cluster-cidr", "node-cidr", "bridge", "none"][self.detect_local % 4];
        let mut text = format!("[dns]\nengine = \"none\"\n[cluster]\ndetect_local = \"{detect}\"\n");
        let mut say = |words: std::fmt::Arguments<'_>| text.write_fmt(words).expect("a string can be written to");
        say(format_args!("masquerade_all = {}\n", self.masquerade_all));
        for node in 1..=self.nodes {
            say(format_args!("[[node]]\nname = \"node{node}\"\nip = \"10.30.45.1{node}\"\n"));
            say(format_args!("pod_subnet = \"10.244.{node}.0/24\"\nzone = \"z{node}\"\n"));
        }
        for (at, pod) in self.pods.iter().enumerate() {
            let Pod { app, ready, terminating, host_port } = pod;
            say(format_args!("[[pod]]\nname = \"p{at}\"\nip = \"10.244.{}.{}\"\n", at % 2 + 1, at + 10));
            say(format_args!("labels = {{ app = \"{app}\" }}\nready = {ready}\nterminating = {terminating}\n"));
            let host_port = if *host_port { format!(", host_port = {}", 8080 + at) } else { String::new() };
            say(format_args!(
                "ports = [{{ container_port = 80{host_port} }}, {{ container_port = 80, protocol = \"UDP\" }}]\n"
            ));
        }
        for at in 0..self.replicas {
            say(format_args!("[[pod]]\nname = \"x{at}\"\nip = \"10.244.{}.{}\"\n", at % 2 + 1, at + 30));
            say(format_args!("labels = {{ app = \"a\" }}\n"));
        }
        for (at, service) in self.services.iter().enumerate() {
            let Some(service) = service else { continue };
            let outer = service.kind != "ClusterIP";
            say(format_args!("[[service]]\nname = \"s{at}\"\ntype = \"{}\"\n", service.kind));
            say(format_args!("cluster_ip = \"10.96.1.{}\"\n", at + 1));
            let replicas = self.replicas > 0 && service.app == "a";
            match replicas || self.pods.iter().any(|pod| pod.app == service.app) {
                true => say(format_args!("selector = {{ app = \"{}\" }}\n", service.app)),
                false => say(format_args!("endpoints = []\n")),
            }
            if let Some(timeout) = service.affinity {
                say(format_args!("session_affinity = \"ClientIP\"\nsession_affinity_timeout = {timeout}\n"));
            }
            if service.internal_local {
                say(format_args!("internal_traffic_policy = \"Local\"\n"));
            }
            if service.external_local && outer {
                say(format_args!("external_traffic_policy = \"Local\"\n"));
                if service.kind == "LoadBalancer" {
                    say(format_args!("health_check_node_port = {}\n", 31000 + at));
                }
            }
            if service.external_ip {
                say(format_args!("external_ips = [\"198.51.100.{}\"]\n", at + 1));
            }
            if service.kind == "LoadBalancer" {
                let ranges = ["", "\"192.0.2.0/24\"", "\"192.0.2.0/24\", \"10.30.45.11/32\""][service.ranges];
                say(format_args!("load_balancer_ips = [\"203.0.113.{}\"]\n", at + 1));
                say(format_args!("load_balancer_source_ranges = [{ranges}]\n"));
            }
            let node_port = |number: usize| match outer {
                true => format!(", node_port = {}", 30000 + 10 * at + number),
                false => String::new(),
            };
            let port = service.port;
            say(format_args!(
                "ports = [{{ name = \"t\", port = {port}, target_port = 80{} }}",
                node_port(service.node_port)
            ));
            if service.udp {
                let node_port = node_port(service.node_port + 5);
                say(format_args!(", {{ name = \"u\", protocol = \"UDP\", port = 53, target_port = 80{node_port} }}"));
            }
            say(format_args!("]\n"));
        }
        text
    }

    /// SplitMix64: small, and good enough to choose by.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits fit") % bound
    }

    fn choose<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}
