//! The host's neighbour table: one for all network namespaces, labs' and others', with one limit.
//!
//! When it is full, a namespace cannot learn a link-layer address, and its packets are lost
//! without a word to anybody but the kernel log. A lab cannot raise the limit: the setting is
//! the real host's.

use std::fs;

const STATISTICS: &str = "/proc/net/stat/arp_cache";
const LIMIT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";

/// How often the table was full, since the host was started; `None` where the kernel does not
/// tell, as inside a lab.
pub fn overflows() -> Option<u64> {
    let text = fs::read_to_string(STATISTICS).ok()?;
    let mut lines = text.lines();
    let column = lines.next()?.split_whitespace().position(|name| name == "table_fulls")?;
    let count = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    // One line for each CPU.
    Some(lines.filter_map(count).sum())
}

/// Says so if the table has been full since `before`: what failed then may be the host's fault.
pub fn warn_if_overflowed(before: Option<u64>) {
    let (Some(before), Some(now)) = (before, overflows()) else { return };
    let limit = fs::read_to_string(LIMIT).unwrap_or_default();
    if now > before {
        eprintln!(
            "warning: the host's neighbour table (at most {} entries for all namespaces together) was full {} times \
             while the probes ran: packets were lost for that alone",
            limit.trim(),
            now - before
        );
        eprintln!("hint: as root, on the host: sysctl -w net.ipv4.neigh.default.gc_thresh3=16384");
    }
}
