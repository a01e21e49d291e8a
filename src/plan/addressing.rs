//! Arithmetic on addresses: prefixes, first hosts, link-layer addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::step::{IfIndex, Mac};

/// The address with the prefix length of its subnet.
pub fn with_prefix(ip: IpAddr, subnet: IpNet) -> IpNet {
    IpNet::new(ip, subnet.prefix_len()).unwrap_or_else(|_| host(ip))
}

/// The prefix that holds only this address.
pub fn host(ip: IpAddr) -> IpNet {
    IpNet::from(ip)
}

/// Everything, in the family of this address.
pub fn default_of(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

/// The first usable address of a subnet: `.1`, by convention its router's.
pub fn first_of(subnet: IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
    }
}

/// The link-layer address of the holder of an address: `0a:58` and the four bytes of it, as
/// the CNI bridge plugin does, so that a packet capture can be read without a table.
pub fn mac_of(ip: IpAddr) -> Mac {
    let [a, b, c, d] = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            [bytes[12], bytes[13], bytes[14], bytes[15]]
        }
    };
    Mac([0x0a, 0x58, a, b, c, d])
}

/// The link-layer address of the near end of a veth. Nothing is ever sent to it; it is given
/// only so that the same lab is the same to the last byte every time.
pub fn mac_of_port(index: IfIndex) -> Mac {
    let [a, b, c, d] = index.0.to_be_bytes();
    Mac([0x0e, 0x58, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_is_the_router() {
        assert_eq!(first_of("192.168.1.0/24".parse().unwrap()), "192.168.1.1".parse::<IpAddr>().unwrap());
        assert_eq!(first_of("192.0.2.10/24".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
        assert_eq!(first_of("fd00::/64".parse().unwrap()), "fd00::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn link_layer_addresses_can_be_read() {
        assert_eq!(mac_of("192.168.1.10".parse().unwrap()).to_string(), "0a:58:c0:a8:01:0a");
    }
}
