//! Behaviours that this table cannot show, and why; none is left out without a word.

use super::{Proof, Row};

const APPLIED: &str = "no row of this table changes a lab that is up; a live test of `netlab apply` shows it";
const IPV6: &str = "IPv6 is not supported yet";

const fn not_yet(id: &'static str, behaviour: &'static str, source: &'static str, why: &'static str) -> Row {
    Row { id, behaviour, source, proof: Proof::NotYet(why) }
}

pub(super) const ROWS: &[Row] = &[
    not_yet(
        "B20",
        "5000 connections are spread evenly over five endpoints",
        "ladder of 1/n and numgen",
        "`netlab verify` measures it, with the statistics that it needs",
    ),
    not_yet("C7-ipv6", "a NodePort on ::1", "pf TestNodePorts", IPV6),
    not_yet(
        "D6-source",
        "a node in the source ranges may send from the load balancer's address",
        "pf TestLoadBalancer",
        "no node holds such an address; the rule is asserted in the rendered rules",
    ),
    not_yet("E2", "the name of an ExternalName Service may change", "e2e dns", APPLIED),
    not_yet("K11", "a connection is never moved to another endpoint", "derived", APPLIED),
    not_yet("K12", "nothing fails while all pods are replaced one by one", "e2e loadbalancer, rolling update", APPLIED),
    not_yet(
        "K16",
        "nothing fails while the proxy is restarted",
        "e2e service, restarting kube-proxy",
        "there is no proxy that runs: a node's rules are loaded once, when the lab comes up",
    ),
    not_yet(
        "L12",
        "packets that belong to no connection do not break one",
        "e2e conntrack, drop INVALID; #74839",
        "no client here forges packets; the rule is asserted in the rendered rules",
    ),
    not_yet(
        "L13",
        "a half-closed connection is forgotten in time",
        "e2e kube_proxy, CLOSE_WAIT timeout",
        "it would have to wait an hour; the plan sets kube-proxy's 3600 seconds on every node",
    ),
    not_yet("L14", "one change among 100,000 UDP connections is cheap", "#129982", "it is a measurement, not a path"),
    not_yet(
        "M6",
        "32 search domains with 2048 characters are legal",
        "e2e dns, more than 6 search paths",
        "unit tests hold the files of pods to it; not every resolver takes so many",
    ),
    not_yet("M20", "a client with one port finds another DNS pod when its own is gone", "conntrack", APPLIED),
    not_yet("M21", "pods have variables for the Services there were before them", "envvars", "live tests look at them"),
    not_yet("M22", "a new Service has its name at once", "CoreDNS SLI", APPLIED),
    not_yet(
        "N6",
        "odd EndpointSlices are ignored",
        "slice cache",
        "a lab file has no EndpointSlices: endpoints are always complete",
    ),
    not_yet(
        "N17",
        "a bridge that detectLocal names need not be there yet",
        "#134024",
        "the bridge is always there; the rendered rules use iifname",
    ),
    not_yet("N19", "a flood of random names does not slow the others down", "derived", "a live test floods a server"),
    not_yet("N21", "two netlabs do not disturb each other", "derived", "the live tests run labs in parallel"),
    not_yet("O1-O8", "scale", "blog, issues", "the benchmarks measure it"),
];
