//! Numbers handed out in a fixed order: addresses, ports, subnets that the file does not give.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;

use super::address::overlap;

/// Numbers of which each is handed out once: the lowest free one of the first band that is not
/// exhausted.
#[derive(Debug)]
pub(super) struct Pool {
    bands: Vec<RangeInclusive<u32>>,
    taken: BTreeSet<u32>,
}

impl Pool {
    /// A pool of bands, the preferred one first.
    pub(super) fn new(bands: impl IntoIterator<Item = RangeInclusive<u32>>) -> Self {
        Pool { bands: bands.into_iter().collect(), taken: BTreeSet::new() }
    }

    /// The addresses of nodes: from the eleventh on, since lessons and load balancers like the low
    /// ones; then from the second. The first is the gateway's.
    pub(super) fn nodes(net: Ipv4Net) -> Self {
        let (low, high) = hosts(net);
        Pool::new([low.saturating_add(10)..=high, low.saturating_add(1)..=high.min(low.saturating_add(9))])
    }

    /// The addresses of pods: from the second on. The first is the gateway's.
    pub(super) fn pods(net: Ipv4Net) -> Self {
        let (low, high) = hosts(net);
        Pool::new([low.saturating_add(1)..=high])
    }

    /// ClusterIPs in the two bands of Kubernetes (KEP-3070): the dynamic upper one first, then the
    /// static lower one. The first address belongs to the Service `kubernetes`, the tenth to
    /// `kube-dns`.
    pub(super) fn cluster_ips(net: Ipv4Net) -> Self {
        let (low, high) = hosts(net);
        let size = 1u64 << (32 - u32::from(net.prefix_len()));
        let offset = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) as u32 };
        let mut pool = Pool::new([low.saturating_add(offset)..=high, low..=low.saturating_add(offset).min(high)]);
        pool.take(low);
        pool.take(low.saturating_add(9));
        pool
    }

    /// Addresses outside the cluster, network by network.
    pub(super) fn outside(nets: impl IntoIterator<Item = Ipv4Net>) -> Self {
        Pool::new(nets.into_iter().map(|net| {
            let (low, high) = hosts(net);
            low..=high
        }))
    }

    /// Node ports in the two bands of Kubernetes (KEP-3668).
    pub(super) fn node_ports() -> Self {
        Pool::new([30086..=32767, 30000..=30085])
    }

    /// Takes a number out.
    pub(super) fn take(&mut self, number: u32) {
        self.taken.insert(number);
    }

    /// Takes numbers out.
    pub(super) fn take_all(&mut self, numbers: impl IntoIterator<Item = u32>) {
        self.taken.append(&mut numbers.into_iter().collect());
    }

    /// Takes a number that was handed out earlier, if it is one of these and free.
    pub(super) fn keep(&mut self, number: u32) -> bool {
        self.bands.iter().any(|band| band.contains(&number)) && self.taken.insert(number)
    }

    /// The next free number; `None` if there is no more.
    pub(super) fn next(&mut self) -> Option<u32> {
        for band in &mut self.bands {
            for number in band.by_ref() {
                if self.taken.insert(number) {
                    return Some(number);
                }
            }
        }
        None
    }

    /// Takes the highest free number of the first band that is not exhausted, but for those that
    /// must be avoided.
    pub(super) fn last(&mut self, avoid: &BTreeSet<u32>) -> Option<u32> {
        let mut all = self.bands.iter().flat_map(|band| band.clone().rev());
        let last = all.find(|number| !self.taken.contains(number) && !avoid.contains(number))?;
        self.taken.insert(last);
        Some(last)
    }

    /// The next free number as an address.
    pub(super) fn next_ip(&mut self) -> Option<Ipv4Addr> {
        self.next().map(Ipv4Addr::from)
    }
}

/// The first and the last address that a machine can have.
fn hosts(net: Ipv4Net) -> (u32, u32) {
    let (low, high) = (u32::from(net.network()), u32::from(net.broadcast()));
    (low.saturating_add(1), high.saturating_sub(1))
}

/// How many pods a subnet of a prefix length has room for: its own address, the gateway's and the
/// broadcast address are not for them.
pub(super) fn room(length: u8) -> usize {
    (1usize << (32 - u32::from(length.min(32)))).saturating_sub(3)
}

/// The /24 subnets of a network, lowest first, that touch none of those given.
#[derive(Debug)]
pub(super) struct Subnets {
    cluster: Ipv4Net,
    given: Vec<Ipv4Net>,
    /// Where the search goes on; it only moves upward.
    candidate: Option<Ipv4Net>,
}

impl Subnets {
    /// The subnets of `cluster` beside those `given`.
    pub(super) fn new(cluster: Ipv4Net, given: Vec<Ipv4Net>) -> Self {
        let candidate = cluster.subnets(24).ok().and_then(|mut subnets| subnets.next());
        Subnets { cluster, given, candidate }
    }

    /// The next free one; `None` if there is no more.
    pub(super) fn next(&mut self) -> Option<Ipv4Net> {
        loop {
            let candidate = self.candidate.filter(|candidate| self.cluster.contains(candidate))?;
            let blocker = self.given.iter().find(|net| overlap(**net, candidate));
            // A wide blocker covers many candidates; the search goes on behind it.
            let end = u32::from(candidate.broadcast()).max(blocker.map_or(0, |net| u32::from(net.broadcast())));
            self.candidate = end.checked_add(1).and_then(|next| Ipv4Net::new(Ipv4Addr::from(next), 24).ok());
            if blocker.is_none() {
                return Some(candidate);
            }
        }
    }
}

/// The smallest prefix that holds all of `nets`.
pub(super) fn cover(nets: &[Ipv4Net]) -> Option<Ipv4Net> {
    let mut cover = *nets.first()?;
    while !nets.iter().all(|net| cover.contains(net)) {
        cover = cover.supernet()?;
    }
    Some(cover)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    fn ips(mut pool: Pool, n: usize) -> Vec<String> {
        (0..n).map_while(|_| pool.next_ip()).map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn cluster_ips_come_from_the_dynamic_band_first() {
        assert_eq!(ips(Pool::cluster_ips(net("10.96.0.0/16")), 2), ["10.96.1.1", "10.96.1.2"]);
        assert_eq!(ips(Pool::cluster_ips(net("10.96.0.0/24")), 1), ["10.96.0.17"]);
        let all = ips(Pool::cluster_ips(net("10.96.0.0/24")), 1000);
        assert_eq!(all.len(), 252);
        assert_eq!(all[237], "10.96.0.254");
        assert_eq!(all[238], "10.96.0.2");
        assert_eq!(ips(Pool::cluster_ips(net("10.96.0.0/28")), 99).len(), 12);
        assert!(ips(Pool::cluster_ips(net("10.96.0.0/31")), 9).is_empty());
        assert!(ips(Pool::cluster_ips(net("10.96.0.0/32")), 9).is_empty());
    }

    #[test]
    fn node_ports_come_from_the_dynamic_band_first() {
        let mut pool = Pool::node_ports();
        pool.take(30086);
        assert_eq!(pool.next(), Some(30087));
        let rest: Vec<u32> = std::iter::from_fn(|| pool.next()).collect();
        assert_eq!(rest.len(), 2766);
        assert_eq!(rest.last(), Some(&30085));
    }

    #[test]
    fn nodes_start_at_the_eleventh_address() {
        assert_eq!(ips(Pool::nodes(net("10.0.0.0/24")), 1), ["10.0.0.11"]);
        let small = ips(Pool::nodes(net("10.0.0.0/28")), 99);
        assert_eq!(small.len(), 13);
        assert_eq!((small[3].as_str(), small[4].as_str()), ("10.0.0.14", "10.0.0.2"));
        assert_eq!(ips(Pool::nodes(net("10.0.0.0/30")), 9), ["10.0.0.2"]);
    }

    #[test]
    fn the_last_address_is_the_highest_free_one() {
        let mut pool = Pool::nodes(net("10.0.0.0/24"));
        pool.take(u32::from(Ipv4Addr::new(10, 0, 0, 254)));
        let avoid = [u32::from(Ipv4Addr::new(10, 0, 0, 253))].into();
        assert_eq!(pool.next_ip(), Some(Ipv4Addr::new(10, 0, 0, 11)));
        assert_eq!(pool.last(&avoid).map(Ipv4Addr::from), Some(Ipv4Addr::new(10, 0, 0, 252)));
        assert_eq!(pool.last(&avoid).map(Ipv4Addr::from), Some(Ipv4Addr::new(10, 0, 0, 251)));
        let mut tiny = Pool::nodes(net("10.0.0.0/30"));
        assert_eq!(tiny.next_ip(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(tiny.last(&avoid), None);
    }

    #[test]
    fn room_and_pool_agree() {
        for text in ["10.0.0.0/30", "10.0.0.0/29", "10.0.0.0/24", "10.0.0.0/20"] {
            assert_eq!(ips(Pool::pods(net(text)), 100_000).len(), room(net(text).prefix_len()), "{text}");
        }
    }

    #[test]
    fn subnets_avoid_the_given_ones() {
        let free = |cluster, given: &[&str]| -> Vec<String> {
            let mut subnets = Subnets::new(net(cluster), given.iter().map(|text| net(text)).collect());
            std::iter::from_fn(|| subnets.next()).map(|net| net.to_string()).collect()
        };
        let all = ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"];
        assert_eq!(free("10.244.0.0/22", &[]), all);
        assert_eq!(free("10.244.0.0/22", &["10.244.0.0/23"]), all[2..]);
        assert_eq!(free("10.244.0.0/22", &["10.244.0.64/26", "10.244.1.0/24"]), all[2..]);
        assert!(free("10.244.0.0/22", &["10.244.0.0/16"]).is_empty());
        assert!(free("10.244.0.0/25", &[]).is_empty());
        assert!(free("255.255.255.0/24", &["255.255.255.0/24"]).is_empty());
        assert_eq!(free("255.255.255.0/24", &[]), ["255.255.255.0/24"]);
    }

    #[test]
    fn covers() {
        assert_eq!(cover(&[net("192.168.1.0/24"), net("192.168.2.0/24")]), Some(net("192.168.0.0/22")));
        assert_eq!(cover(&[net("10.0.0.0/24")]), Some(net("10.0.0.0/24")));
        assert_eq!(cover(&[net("10.0.0.0/24"), net("192.0.2.0/24")]), Some(net("0.0.0.0/0")));
        assert_eq!(cover(&[]), None);
    }
}
