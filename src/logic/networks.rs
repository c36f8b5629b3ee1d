//! Sets of IP networks, and whether an address is in one.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

/// Networks, as ranges of addresses that neither touch nor overlap, in ascending order.
///
/// IPv4 addresses that are mapped into IPv6 (`::ffff:10.0.0.1`) are IPv4 addresses, so no IPv6 network holds them; a
/// network of them is an IPv4 network.
#[derive(Clone, Debug)]
pub(super) struct Networks {
    v4: Box<[Range]>,
    v6: Box<[Range]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u128,
    last: u128,
}

/// Reads a network, `10.0.0.0/8`, or an address, which is a network of one. Bits beyond the prefix do not count.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    if !text.contains('/') {
        return parse_address(text).map(IpNet::from);
    }
    match text.parse::<IpNet>().ok()? {
        IpNet::V6(network) => Some(unmapped(network)),
        network @ IpNet::V4(_) => Some(network),
    }
}

/// Reads an address.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

impl Networks {
    pub(super) fn new(networks: &[IpNet]) -> Networks {
        let ranges = |v4: bool| {
            let ranges = networks.iter().filter(|network| network.addr().is_ipv4() == v4);
            merge(ranges.map(|n| Range { first: bits(n.network()), last: bits(n.broadcast()) }).collect())
        };
        Networks { v4: ranges(true), v6: ranges(false) }
    }

    /// Whether one of them holds `address`.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let address = bits(address);
        let after = ranges.partition_point(|range| range.first <= address);
        after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|range| address <= range.last)
    }
}

fn unmapped(network: Ipv6Net) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let v4 = network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(MAPPED_BITS));
    v4.and_then(|(address, prefix)| IpNet::new(IpAddr::V4(address), prefix).ok())
        .unwrap_or(IpNet::V6(network))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn merge(mut ranges: Vec<Range>) -> Box<[Range]> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_in_a_network_or_not() {
        for (address, network, expected) in [
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.0.0.0", "10.0.0.0/8", false),
            ("10.1.2.3", "10.9.9.9/8", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.4", "10.1.2.3", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("255.255.255.255", "0.0.0.0/0", true),
            ("::ffff:10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "::ffff:10.0.0.0/104", true),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("10.1.2.3", "::/0", false),
            ("::ffff:10.1.2.3", "::/0", false),
            ("2001:db8::1", "0.0.0.0/0", false),
            ("2001:db8::1", "2001:db8::/32", true),
            ("2001:db9::1", "2001:db8::/32", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0", true),
            ("::1", "::1", true),
        ] {
            let networks = Networks::new(&[parse_network(network).unwrap()]);
            assert_eq!(networks.contain(parse_address(address).unwrap()), expected, "{address} {network}");
        }
    }

    #[test]
    fn what_is_neither_network_nor_address_is_not_read() {
        for text in
            ["", "10", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.1:80", "[::1]", "fe80::1%eth0", " ::1"]
        {
            assert_eq!(parse_network(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn many_networks_hold_what_any_of_them_holds(
            networks in prop::collection::vec((0_u32..64, 24_u8..=32), 0..20),
            address in 0_u32..80,
        ) {
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(bits, prefix)| IpNet::new(IpAddr::V4(bits.into()), prefix).unwrap())
                .collect();
            let address = IpAddr::V4(address.into());
            let any = networks.iter().any(|network| network.contains(&address));
            prop_assert_eq!(Networks::new(&networks).contain(address), any);
        }
    }
}
