//! The addresses that clients are told to send media to.

use std::io;
use std::net::IpAddr;

use crate::config::Config;
use crate::limits::ANNOUNCED_ADDRESSES_MAX;

/// The addresses to announce: those named by `announce`, else the one that media sockets are bound to,
/// else every usable one of the machine.
///
/// # Errors
/// When the machine does not tell its addresses.
pub fn host_addresses(config: &Config) -> io::Result<Vec<IpAddr>> {
    if !config.announce.is_empty() {
        return Ok(config.announce.clone());
    }
    if !config.media_ip.is_unspecified() {
        return Ok(vec![config.media_ip]);
    }
    let interfaces = if_addrs::get_if_addrs()?;
    let addresses = interfaces.iter().map(if_addrs::Interface::ip);
    Ok(usable(addresses, config.media_ip.is_ipv4()))
}

/// Those that a client can use, each once, preferred first: IPv4, IPv6, then loopback. Link-local IPv6
/// addresses need a scope, which a candidate cannot carry.
fn usable(addresses: impl Iterator<Item = IpAddr>, only_ipv4: bool) -> Vec<IpAddr> {
    let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut usable: Vec<IpAddr> = addresses
        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast() && !link_local(ip))
        .filter(|ip| ip.is_ipv4() || !only_ipv4)
        .collect();
    usable.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6(), *ip));
    usable.dedup();
    // Loopback is last, but a machine with many bridges keeps it.
    let loopback = usable
        .iter()
        .position(IpAddr::is_loopback)
        .map(|first| usable.split_off(first));
    let loopback = loopback.unwrap_or_default();
    usable.truncate(ANNOUNCED_ADDRESSES_MAX.saturating_sub(loopback.len()));
    usable.extend(loopback.into_iter().take(ANNOUNCED_ADDRESSES_MAX));
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn loopback_comes_last_and_what_no_client_can_use_is_left_out() {
        let all = ips(&[
            "127.0.0.1",
            "::1",
            "fe80::1",
            "0.0.0.0",
            "2001:db8::5",
            "192.0.2.7",
            "192.0.2.7",
        ]);
        let expected = ips(&["192.0.2.7", "2001:db8::5", "127.0.0.1", "::1"]);
        assert_eq!(usable(all.iter().copied(), false), expected);
        assert_eq!(
            usable(all.into_iter(), true),
            ips(&["192.0.2.7", "127.0.0.1"])
        );
    }

    #[test]
    fn a_machine_of_many_bridges_is_cut_but_keeps_loopback() {
        let bridges = (0..100).map(|n| IpAddr::from([172, 17, n, 1]));
        let found = usable(bridges.chain(ips(&["127.0.0.1"])), false);
        assert_eq!(found.len(), ANNOUNCED_ADDRESSES_MAX);
        assert_eq!(found.last(), ips(&["127.0.0.1"]).last());
    }

    #[test]
    fn what_the_operator_names_is_taken_as_it_is() {
        let text = "announce = [\"203.0.113.9\"]\nmedia_ip = \"127.0.0.1\"";
        let config = Config::from_toml(text).unwrap();
        assert_eq!(host_addresses(&config).unwrap(), ips(&["203.0.113.9"]));
        let config = Config::from_toml("media_ip = \"127.0.0.1\"").unwrap();
        assert_eq!(host_addresses(&config).unwrap(), ips(&["127.0.0.1"]));
    }
}
