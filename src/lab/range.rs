//! The networks that traffic is routed to by their prefixes: each of a good size, none over another.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

use super::{
    address::{overlap, reserved},
    model::Span,
    said::At,
    value::invalid,
};
use crate::diag::{Diagnostic, Problems};

/// A network and what it is to the lab.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) what: String,
    pub(super) net: Ipv4Net,
    /// `None` for a default.
    pub(super) at: Option<Span>,
    /// How to choose another.
    pub(super) key: &'static str,
}

/// What a pod range is called that was derived from the pod subnets.
pub(super) const COVER: &str = "the smallest range that covers all pod subnets";

/// The prefix length is in range, and the network is for ordinary machines.
pub(super) fn sized(
    net: Ipv4Net,
    lengths: RangeInclusive<u8>,
    key: &str,
    said: Option<&At<Ipv4Net>>,
    problems: &mut Problems,
) -> bool {
    // A default, or what covers subnets that were checked each for itself.
    let Some(said) = said else { return true };
    let at = said.at.clone();
    if net.prefix_len() > *lengths.end() {
        let why = format!("is too small; its prefix length may be at most {}", lengths.end());
        problems.push(invalid(key, net, at, why).hint("choose a larger network"));
        return false;
    }
    if net.prefix_len() < *lengths.start() {
        let why = format!("is too large; its prefix length must be at least {}", lengths.start());
        problems.push(invalid(key, net, at, why).hint("choose a smaller network"));
        return false;
    }
    if let Some((what, range)) = reserved(net) {
        let hint = "choose a private network, such as one of 10.0.0.0/8 or 192.168.0.0/16";
        problems.push(invalid(key, net, at, format!("overlaps {what}, {range}")).hint(hint));
        return false;
    }
    true
}

/// No two networks of the lab may have an address in common.
pub(super) fn apart(ranges: &[Range], problems: &mut Problems) {
    let mut sorted: Vec<&Range> = ranges.iter().collect();
    sorted.sort_by_key(|range| (range.net.network(), range.net.prefix_len()));
    // Prefixes are nested or disjoint: what overlaps any before it overlaps the one that reaches
    // farthest.
    let mut farthest: Option<&Range> = None;
    for range in sorted {
        match farthest {
            Some(wide) if overlap(wide.net, range.net) => clash(wide, range, problems),
            _ => farthest = Some(range),
        }
    }
}

fn clash(a: &Range, b: &Range, problems: &mut Problems) {
    let start = |range: &Range| range.at.as_ref().map_or(0, |at| at.start);
    let (earlier, later) = if start(a) <= start(b) { (a, b) } else { (b, a) };
    // Two defaults never clash, so the later one has a place.
    let Some(at) = &later.at else { return };
    let message = format!("{} overlaps {}", later.what, earlier.what);
    let problem = Diagnostic::new(at.clone(), message);
    problems.push(match &earlier.at {
        Some(place) => {
            problem.also(place.clone(), earlier.what.clone()).hint(if earlier.is_cover() || later.is_cover() {
                "choose pod subnets nearer to each other, or leave them out"
            } else {
                "give every network of the lab addresses of its own"
            })
        }
        None if later.is_cover() => problem.hint("choose pod subnets nearer to each other, or leave them out"),
        None => problem.hint(format!("choose another network, or set `{}` in `[cluster]`", earlier.key)),
    });
}

/// Pod subnets lie in the cluster's range and have no address in common.
pub(super) fn subnets_apart(given: &[&At<Ipv4Net>], cluster: Option<&At<Ipv4Net>>, problems: &mut Problems) {
    if let Some(cluster) = cluster {
        for subnet in given.iter().filter(|subnet| !cluster.value.contains(&subnet.value)) {
            let message =
                format!("the pod subnet {} is not in the cluster's pod range {}", subnet.value, cluster.value);
            let problem = Diagnostic::new(subnet.at.clone(), message).also(cluster.at.clone(), "the range");
            problems.push(problem.hint("choose a subnet of `cluster_cidr`, or leave one of the two out"));
        }
    }
    let mut sorted = given.to_vec();
    sorted.sort_by_key(|said| (said.value.network(), said.value.prefix_len()));
    let mut farthest: Option<&At<Ipv4Net>> = None;
    for said in sorted {
        let Some(wide) = farthest.filter(|wide| overlap(wide.value, said.value)) else {
            farthest = Some(said);
            continue;
        };
        let (earlier, later) = if wide.at.start < said.at.start { (wide, said) } else { (said, wide) };
        let message = format!("the pod subnet {} overlaps the pod subnet {}", later.value, earlier.value);
        let problem = Diagnostic::new(later.at.clone(), message).also(earlier.at.clone(), "of this node");
        problems.push(problem.hint("give every node a pod subnet of its own, or leave `pod_subnet` out"));
    }
}

impl Range {
    /// It was derived from several pod subnets.
    fn is_cover(&self) -> bool {
        self.what.starts_with(COVER)
    }

    /// It is a range inside the cluster: of ClusterIPs or of pods.
    pub(super) fn is_internal(&self) -> bool {
        matches!(self.key, "service_cidr" | "cluster_cidr")
    }
}
