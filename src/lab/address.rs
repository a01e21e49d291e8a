//! Addresses and networks as the lab file writes them, strictly: no leading zeros, no host bits
//! in a network, IPv4 only for now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value as Json, json};
use toml::{Spanned, de::DeValue};

use super::{
    model::Span,
    said::At,
    value::{Value, invalid, text},
};
use crate::diag::{Diagnostic, Problems, quoted};

/// An address together with the network that it is on: `192.0.2.10/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interface(pub(super) Ipv4Net);

/// A network that traffic may come from; spaces around it are tolerated, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceRange(pub(super) Ipv4Net);

/// The addresses of a machine: one, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses(pub(super) Vec<At<Ipv4Addr>>);

/// The key `cluster_ip` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClusterIp {
    /// `"None"`: a headless Service.
    Headless,
    /// This address.
    Is(Ipv4Addr),
}

const ADDRESS: &str = r"^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$";
const NETWORK: &str = r"^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}/(3[0-2]|[12]?\d)$";

impl Value for Ipv4Addr {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        address(text).map_err(|why| problems.push(why.about(key, text, value.span()))).ok()
    }

    fn schema() -> Json {
        json!({ "type": "string", "format": "ipv4", "pattern": ADDRESS })
    }
}

impl Value for Addresses {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        if value.get_ref().as_array().is_none() {
            return At::decode(key, value, problems).map(|address| Addresses(vec![address]));
        }
        let all: Vec<At<Ipv4Addr>> = Vec::decode(key, value, problems)?;
        if all.is_empty() {
            let problem = invalid(key, "[]", value.span(), "must have at least one address");
            problems.push(problem.hint("for example \"198.51.100.7\""));
            return None;
        }
        Some(Addresses(all))
    }

    fn schema() -> Json {
        json!({ "anyOf": [Ipv4Addr::schema(), { "type": "array", "items": Ipv4Addr::schema(), "minItems": 1 }] })
    }
}

impl Value for ClusterIp {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        match value.get_ref().as_str() {
            Some("None") => return Some(ClusterIp::Headless),
            Some(text) if text.eq_ignore_ascii_case("none") || text.is_empty() => {
                let problem =
                    invalid(key, quoted(text), value.span(), "must be an address, or \"None\" for a headless service");
                problems.push(problem.hint("write \"None\", or leave `cluster_ip` out to get an address"));
                return None;
            }
            _ => {}
        }
        Ipv4Addr::decode(key, value, problems).map(ClusterIp::Is)
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "const": "None" }, Ipv4Addr::schema()] })
    }
}

impl Value for Ipv4Net {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        subnet(text).map_err(|why| problems.push(why.about(key, text, value.span()))).ok()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": NETWORK })
    }
}

impl Value for Interface {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        let interface = network(text).map(Interface).map_err(|refusal| match refusal.why {
            NOT_A_NETWORK => Refusal { why: NOT_AN_INTERFACE, ..refusal },
            _ => refusal,
        });
        interface.map_err(|refusal| problems.push(refusal.about(key, text, value.span()))).ok()
    }

    fn schema() -> Json {
        Ipv4Net::schema()
    }
}

impl Value for SourceRange {
    fn decode(key: &str, value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Self> {
        let text = text(key, value, problems)?;
        subnet(text.trim()).map(SourceRange).map_err(|why| problems.push(why.about(key, text, value.span()))).ok()
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// Why a text is not an address or a network, and what to write.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    why: &'static str,
    hint: String,
}

impl Refusal {
    fn hint(why: &'static str, hint: impl Into<String>) -> Self {
        Refusal { why, hint: hint.into() }
    }

    fn about(self, key: &str, text: &str, at: Span) -> Diagnostic {
        invalid(key, quoted(text), at, self.why).hint(self.hint)
    }
}

const NOT_AN_ADDRESS: &str = "must be an IPv4 address: four numbers from 0 to 255 with dots between them";
const NOT_A_NETWORK: &str = "must be a network in CIDR notation: an IPv4 address, a slash and a prefix length";
const NETWORK_EXAMPLE: &str = "for example \"10.30.45.0/24\"";
const NOT_AN_INTERFACE: &str = "must be an IPv4 address with the prefix length of its network";
const NO_IPV6: &str = "IPv6 is not supported yet";

fn address(text: &str) -> Result<Ipv4Addr, Refusal> {
    if let Ok(good) = text.parse() {
        return Ok(good);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Refusal::hint(NO_IPV6, "give an IPv4 address"));
    }
    if let Some(plain) = without_zeros(text) {
        let why = "must not have leading zeros, which some programs read as octal";
        return Err(Refusal::hint(why, format!("write \"{plain}\"")));
    }
    match text.split_once('/') {
        Some((address, _)) if address.parse::<Ipv4Addr>().is_ok() => {
            Err(Refusal::hint("must be an address without a prefix length", format!("write \"{address}\"")))
        }
        _ => Err(Refusal::hint(NOT_AN_ADDRESS, "for example \"10.30.45.11\"")),
    }
}

/// The address as it should be written, if leading zeros are all that is wrong with it.
fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let parts: Option<Vec<u8>> =
        text.split('.').map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))).collect();
    <[u8; 4]>::try_from(parts?).ok().map(Ipv4Addr::from)
}

/// An address with a prefix length, host bits or not.
///
/// The crate's own parser takes leading zeros, which Kubernetes refuses and other programs read as
/// octal; so the two halves are parsed here.
fn network(text: &str) -> Result<Ipv4Net, Refusal> {
    if text.parse::<IpNet>().is_ok_and(|net| net.addr().is_ipv6()) || text.parse::<Ipv6Addr>().is_ok() {
        return Err(Refusal::hint(NO_IPV6, "give an IPv4 network"));
    }
    let Some((ip, length)) = text.split_once('/') else {
        return Err(match address(text) {
            Ok(address) => Refusal::hint(NOT_A_NETWORK, format!("write \"{address}/24\", with its prefix length")),
            Err(_) => Refusal::hint(NOT_A_NETWORK, NETWORK_EXAMPLE),
        });
    };
    let good = length.parse::<u8>().ok().filter(|number| number.to_string() == length);
    match (address(ip), good.and_then(|length| Ipv4Net::new(Ipv4Addr::UNSPECIFIED, length).ok())) {
        (Ok(address), Some(net)) => Ok(Ipv4Net::new_assert(address, net.prefix_len())),
        (Ok(ip), None) => {
            Err(Refusal::hint("must have a prefix length from 0 to 32", format!("for example \"{ip}/24\"")))
        }
        (Err(refusal), _) => Err(match without_zeros(ip) {
            Some(plain) => Refusal { hint: format!("write \"{plain}/{length}\""), ..refusal },
            None => Refusal::hint(NOT_A_NETWORK, NETWORK_EXAMPLE),
        }),
    }
}

/// A network without host bits.
fn subnet(text: &str) -> Result<Ipv4Net, Refusal> {
    let net = network(text)?;
    if net.trunc() == net {
        return Ok(net);
    }
    Err(Refusal::hint("has bits set after its prefix length", format!("write \"{}\"", net.trunc())))
}

/// Why an address cannot be that of an endpoint or an external address, in Kubernetes' words.
pub(super) fn special(ip: Ipv4Addr) -> Option<&'static str> {
    match ip {
        ip if ip.is_unspecified() => Some("may not be unspecified (0.0.0.0 or ::)"),
        ip if ip.is_loopback() => Some("may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ip if ip.is_link_local() => Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ip if ip.is_multicast() => Some("may not be a multicast address (224.0.0.0/4)"),
        ip if ip.octets()[0] >= 240 || ip.octets()[0] == 0 => Some("may not be in a reserved range"),
        _ => None,
    }
}

/// The range that is not for ordinary machines and that a network touches.
pub(super) fn reserved(net: Ipv4Net) -> Option<(&'static str, Ipv4Net)> {
    const RANGES: [(&str, Ipv4Addr, u8); 5] = [
        ("the unspecified addresses", Ipv4Addr::new(0, 0, 0, 0), 8),
        ("the loopback range", Ipv4Addr::new(127, 0, 0, 0), 8),
        ("the link-local range", Ipv4Addr::new(169, 254, 0, 0), 16),
        ("the multicast range", Ipv4Addr::new(224, 0, 0, 0), 4),
        ("a reserved range", Ipv4Addr::new(240, 0, 0, 0), 4),
    ];
    RANGES.iter().map(|(what, ip, len)| (*what, Ipv4Net::new_assert(*ip, *len))).find(|(_, range)| overlap(*range, net))
}

/// Two networks have an address in common.
pub(super) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first address of a network that a machine can have: by convention the gateway's.
pub(super) fn first(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).saturating_add(1))
}

/// Why an address cannot be that of a machine on a network: what it is to the network.
pub(super) fn unusable(net: Ipv4Net, ip: Ipv4Addr) -> Option<&'static str> {
    match ip {
        ip if !net.contains(&ip) => Some("is not in"),
        ip if ip == net.network() => Some("is the network address of"),
        ip if ip == net.broadcast() => Some("is the broadcast address of"),
        ip if ip == first(net) => Some("is the gateway's address, the first of"),
        _ => None,
    }
}

/// As the model has it.
pub(super) fn ip(ip: Ipv4Addr) -> IpAddr {
    IpAddr::V4(ip)
}

/// As the model has it.
pub(super) fn net(net: Ipv4Net) -> IpNet {
    IpNet::V4(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_strict() {
        assert_eq!(address("10.96.0.1"), Ok(Ipv4Addr::new(10, 96, 0, 1)));
        for text in ["", "10.96.0", "10.96.0.256", "1.2.3.4.5", "localhost", "10.96.0.1 ", "0x0a.1.1.1", "+1.2.3.4"] {
            assert_eq!(address(text).map_err(|r| r.why), Err(NOT_AN_ADDRESS), "{text:?}");
        }
        assert_eq!(address("010.096.0.1").map_err(|r| r.hint), Err("write \"10.96.0.1\"".to_owned()));
        assert_eq!(address("fd00::1").map_err(|r| r.why), Err(NO_IPV6));
        assert_eq!(address("10.0.0.1/24").map_err(|r| r.hint), Err("write \"10.0.0.1\"".to_owned()));
    }

    #[test]
    fn networks_are_strict() {
        assert_eq!(subnet("10.96.0.0/16"), Ok(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16)));
        for (text, hint) in [
            ("10.96.0.1/16", "write \"10.96.0.0/16\""),
            ("10.96.0.0", "write \"10.96.0.0/24\", with its prefix length"),
            ("010.96.0.0/16", "write \"10.96.0.0/16\""),
            ("fd00::/64", "give an IPv4 network"),
            ("10.96.0.0/33", "for example \"10.96.0.0/24\""),
            ("10.96.0.0/016", "for example \"10.96.0.0/24\""),
            ("10.96.0.0/", "for example \"10.96.0.0/24\""),
            ("/", NETWORK_EXAMPLE),
        ] {
            assert_eq!(subnet(text).map_err(|r| r.hint), Err(hint.to_owned()), "{text:?}");
        }
    }
}
