//! Datagrams as the core sees them.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Explicit congestion notification bits of the IP header (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Ecn {
    /// ECN-capable transport, codepoint 1 (L4S).
    Ect1 = 1,
    /// ECN-capable transport, codepoint 0.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// The codepoint in the low two bits of the traffic class; `None` for not-ECT.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 3 {
            1 => Some(Self::Ect1),
            2 => Some(Self::Ect0),
            3 => Some(Self::Ce),
            _ => None,
        }
    }
}

/// One received UDP payload, lent for the length of a call.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// When the kernel received it, if known, else when the driver did; never later than `now`.
    pub received: Timestamp,
    /// Who sent it. IPv4 addresses are never in their IPv6-mapped form.
    pub source: SocketAddr,
    /// Our address it was sent to: concrete, never the unspecified address.
    pub destination: SocketAddr,
    /// Congestion mark, if any.
    pub ecn: Option<Ecn>,
    /// The payload; SRTP is opened in place, so a journal copies first.
    pub contents: &'a mut [u8],
}

/// One UDP payload to send, lent until the next call.
#[derive(Debug)]
pub struct Transmit<'a> {
    /// Our address to send from; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Congestion capability to mark it with.
    pub ecn: Option<Ecn>,
    /// The payload.
    pub contents: &'a [u8],
}

/// The two ends of a flow. IPv4 addresses are never in their IPv6-mapped form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

/// Each packet's path is hashed: an IPv4 path in one step, where the derived form takes a dozen.
impl Hash for Path {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u32::from(self.local.port()) << 16 | u32::from(self.remote.port());
        match (self.local.ip(), self.remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let addresses = u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits());
                state.write_u128(u128::from(addresses) << 64 | u128::from(ports));
            }
            (local, remote) => {
                (local, remote).hash(state);
                state.write_u32(ports);
            }
        }
    }
}
