//! From a Service port to the names that kube-proxy gives its chains, sets and maps.
//!
//! Both modes shorten a SHA-256 in base32; they differ in what they hash and how much they keep.

use std::net::SocketAddr;

use data_encoding::BASE32;
use sha2::{Digest, Sha256};

use crate::lab::model::Protocol;

/// The longest name an nftables object may have in kube-proxy's eyes, less its longest prefix.
const NFT_BASE_LIMIT: usize = 240;

/// The suffix that the KUBE-SVC-, KUBE-SVL-, KUBE-EXT- and KUBE-FW- chains of a Service port
/// share; `service_port` is `ns/name:port`, or `ns/name` for an unnamed port.
pub fn service_chain(service_port: &str, protocol: Protocol) -> String {
    digest(&format!("{service_port}{}", protocol.lower()), 16)
}

/// The suffix of the KUBE-SEP- chain of one endpoint of a Service port.
pub fn endpoint_chain(service_port: &str, protocol: Protocol, endpoint: SocketAddr) -> String {
    digest(&format!("{service_port}{}{endpoint}", protocol.lower()), 16)
}

/// The part of an nftables object name that follows its prefix: a hash, and then in clear what
/// was hashed, cut where it would be too long.
pub fn nft_name(base: &str) -> String {
    let name = format!("{}-{base}", digest(base, 8));
    if name.len() <= NFT_BASE_LIMIT { name } else { format!("{}...", &name[..NFT_BASE_LIMIT - 3]) }
}

/// What nftables names say of a Service port: `ns/name/proto/port`; an unnamed port leaves a
/// trailing slash.
pub fn nft_service(namespace: &str, name: &str, protocol: Protocol, port_name: &str) -> String {
    format!("{namespace}/{name}/{}/{port_name}", protocol.lower())
}

/// What nftables names say of an endpoint; a colon cannot stand in a name, so those of an IPv6
/// address become dots.
pub fn nft_endpoint(service: &str, endpoint: SocketAddr) -> String {
    format!("{service}__{}/{}", endpoint.ip().to_string().replace(':', "."), endpoint.port())
}

/// The first characters of the base32 of a SHA-256; 52 characters are there, so both lengths
/// in use stop before the padding.
fn digest(text: &str, length: usize) -> String {
    let mut encoded = BASE32.encode(&Sha256::digest(text.as_bytes()));
    encoded.truncate(length);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        assert_eq!(service_chain("ns1/svc1:p80", Protocol::Tcp), "XPGD46QRK7WJZT7O");
        assert_eq!(service_chain("default/kubernetes:https", Protocol::Tcp), "NPX46M4PTMTKRN6Y");
        let service = nft_service("ns1", "svc1", Protocol::Tcp, "p80");
        assert_eq!(nft_name(&service), "ULMVA6XW-ns1/svc1/tcp/p80");
        let endpoint = nft_endpoint(&service, SocketAddr::from(([10, 180, 0, 1], 80)));
        assert_eq!(nft_name(&endpoint), "5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80");
    }

    #[test]
    fn nft_names_stay_below_the_limit() {
        let name = nft_name(&"x".repeat(300));
        assert_eq!(name.len(), 240);
        assert!(name.ends_with("x..."));
        let endpoint = nft_endpoint("a/b/tcp/", "[fd00::1]:80".parse().expect("an address"));
        assert_eq!(endpoint, "a/b/tcp/__fd00..1/80");
    }
}
