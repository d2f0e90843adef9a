//! Socket addresses as the kernel lays them out (`sockaddr_in`, `sockaddr_in6`), without unsafe code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

const FAMILY_V4: u16 = libc::AF_INET as u16;
const FAMILY_V6: u16 = libc::AF_INET6 as u16;
const BYTES_V4: usize = size_of::<libc::sockaddr_in>();
const BYTES_V6: usize = size_of::<libc::sockaddr_in6>();

/// Room for either kind of address: family, port, then by family
/// v4: address at 4; v6: flow label at 4, address at 8, scope at 24.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(4))]
pub(crate) struct RawAddress {
    bytes: [u8; BYTES_V6],
}

impl RawAddress {
    pub(crate) const BYTES: usize = BYTES_V6;

    /// Encodes `address` for a socket of IPv4, or (`dual_stack`) for one of IPv6 that maps IPv4.
    /// The second value is the length to tell the kernel.
    pub(crate) fn encode(address: SocketAddr, dual_stack: bool) -> (Self, usize) {
        let address = match address {
            SocketAddr::V4(v4) if dual_stack => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            other => other,
        };
        let mut raw = Self::default();
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                raw.bytes[..2].copy_from_slice(&FAMILY_V4.to_ne_bytes());
                raw.bytes[4..8].copy_from_slice(&v4.ip().octets());
                (raw, BYTES_V4)
            }
            SocketAddr::V6(v6) => {
                raw.bytes[..2].copy_from_slice(&FAMILY_V6.to_ne_bytes());
                raw.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                raw.bytes[8..24].copy_from_slice(&v6.ip().octets());
                raw.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (raw, BYTES_V6)
            }
        }
    }

    /// Decodes what the kernel wrote, mapped IPv4 back in its plain form. `None` for another family.
    pub(crate) fn decode(&self, len: usize) -> Option<SocketAddr> {
        let array = |at: usize| self.bytes[at..].first_chunk::<4>().copied();
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        match u16::from_ne_bytes([self.bytes[0], self.bytes[1]]) {
            FAMILY_V4 if len >= BYTES_V4 => {
                Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(array(4)?)), port))
            }
            FAMILY_V6 if len >= BYTES_V6 => {
                let ip = Ipv6Addr::from(*self.bytes[8..].first_chunk::<16>()?);
                Some(match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
                    None => {
                        // The flow label is the sender's whim and no part of who it is.
                        let scope = u32::from_ne_bytes(array(24)?);
                        SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
                    }
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_encoding_and_mapped_ones_come_back_plain() {
        for (text, dual_stack, bytes) in [
            ("192.0.2.7:40000", false, BYTES_V4),
            ("192.0.2.7:40000", true, BYTES_V6),
            ("[2001:db8::7]:1", true, BYTES_V6),
            ("[fe80::1%3]:65535", true, BYTES_V6),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let (raw, len) = RawAddress::encode(address, dual_stack);
            assert_eq!(len, bytes, "{text}");
            assert_eq!(raw.decode(len), Some(address), "{text}");
        }
    }

    #[test]
    fn an_unknown_family_or_a_short_address_is_none() {
        let (raw, len) = RawAddress::encode("[::1]:5".parse().unwrap(), true);
        assert_eq!(raw.decode(len - 1), None);
        assert_eq!(RawAddress::default().decode(BYTES_V6), None);
    }
}
