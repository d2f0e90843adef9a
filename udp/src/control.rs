//! Control messages (`cmsg(3)`) written and read as bytes, without unsafe code.
//!
//! Each is a header (length including the header, level, type), its payload, and padding to a word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use antiphon_core::net::Ecn;

const WORD: usize = size_of::<usize>();
const HEADER: usize = size_of::<libc::cmsghdr>();
const LEVEL_AT: usize = std::mem::offset_of!(libc::cmsghdr, cmsg_level);
const TYPE_AT: usize = std::mem::offset_of!(libc::cmsghdr, cmsg_type);
/// More than all messages we ask for take together: 40 + 24 + 24 + 32 + 24 + 24 bytes.
const CONTROL_BYTES: usize = 256;

/// The control messages of one datagram or message.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Control {
    bytes: [u8; CONTROL_BYTES],
}

/// What control messages told about a received datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Our address it was sent to.
    pub(crate) destination: Option<IpAddr>,
    /// The two congestion bits.
    pub(crate) ecn: Option<Ecn>,
    /// Kernel's stamp, wall time since 1970.
    pub(crate) stamp: Option<Duration>,
    /// Size of each coalesced datagram but the last.
    pub(crate) stride: Option<usize>,
    /// Datagrams the socket's queue dropped so far; wraps.
    pub(crate) overflow: Option<u32>,
}

impl Control {
    pub(crate) const BYTES: usize = CONTROL_BYTES;

    /// Reads the first `len` bytes, as the kernel filled them. Unknown messages are skipped.
    pub(crate) fn decode(&self, len: usize) -> Received {
        let mut received = Received::default();
        let mut rest = &self.bytes[..len.min(CONTROL_BYTES)];
        while let Some((level, kind, payload, next)) = split_first(rest) {
            rest = next;
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // `in_pktinfo`: interface, local address, destination of the header.
                    received.destination =
                        array::<4>(payload, 8).map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.destination =
                        array::<16>(payload, 0).map(|ip| Ipv6Addr::from(ip).to_canonical());
                }
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    // One byte for IPv4, an `int` of the host's order for IPv6.
                    received.ecn = int(payload)
                        .map(|class| class as u8)
                        .or_else(|| payload.first().copied())
                        .and_then(Ecn::from_bits);
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => received.stamp = timespec(payload),
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => received.overflow = int(payload),
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    received.stride = int(payload).map(|bytes| bytes as usize);
                }
                _ => {}
            }
        }
        received
    }

    /// Writes what accompanies a message to a destination of IPv4 (`to_v4`, mapped or not) or IPv6,
    /// and returns the length to tell the kernel.
    pub(crate) fn encode(
        &mut self,
        to_v4: bool,
        source: Option<IpAddr>,
        ecn: Option<Ecn>,
        segment_bytes: Option<u16>,
    ) -> usize {
        let mut end = 0;
        match source {
            Some(IpAddr::V4(ip)) => {
                let mut info = [0; size_of::<libc::in_pktinfo>()];
                info[4..8].copy_from_slice(&ip.octets());
                self.push(&mut end, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some(IpAddr::V6(ip)) => {
                let mut info = [0; size_of::<libc::in6_pktinfo>()];
                info[..16].copy_from_slice(&ip.octets());
                self.push(&mut end, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if let Some(ecn) = ecn {
            let class = (ecn as libc::c_int).to_ne_bytes();
            let (level, kind) = if to_v4 {
                (libc::IPPROTO_IP, libc::IP_TOS)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            };
            self.push(&mut end, level, kind, &class);
        }
        if let Some(bytes) = segment_bytes {
            self.push(
                &mut end,
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                &bytes.to_ne_bytes(),
            );
        }
        end
    }

    /// The three messages of `encode` take at most 40 + 24 + 24 bytes, so they always fit.
    fn push(&mut self, end: &mut usize, level: i32, kind: i32, payload: &[u8]) {
        let len = HEADER + payload.len();
        let space = len.next_multiple_of(WORD);
        let message = &mut self.bytes[*end..*end + space];
        message.fill(0);
        message[..WORD].copy_from_slice(&len.to_ne_bytes());
        message[LEVEL_AT..LEVEL_AT + 4].copy_from_slice(&level.to_ne_bytes());
        message[TYPE_AT..TYPE_AT + 4].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..len].copy_from_slice(payload);
        *end += space;
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            bytes: [0; CONTROL_BYTES],
        }
    }
}

/// Level, type and payload of the first message, and what follows it.
fn split_first(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(array(bytes, 0)?);
    let level = int(bytes.get(LEVEL_AT..)?)? as i32;
    let kind = int(bytes.get(TYPE_AT..)?)? as i32;
    let payload = bytes.get(HEADER..len)?;
    let next = bytes
        .get(len.checked_next_multiple_of(WORD)?..)
        .unwrap_or_default();
    Some((level, kind, payload, next))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn int(bytes: &[u8]) -> Option<u32> {
    array(bytes, 0).map(u32::from_ne_bytes)
}

fn timespec(bytes: &[u8]) -> Option<Duration> {
    let seconds = u64::try_from(i64::from_ne_bytes(array(bytes, 0)?)).ok()?;
    let nanos = u32::try_from(i64::from_ne_bytes(array(bytes, 8)?)).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut control = Control::default();
        let source: IpAddr = "2001:db8::9".parse().unwrap();
        let len = control.encode(false, Some(source), Some(Ecn::Ce), Some(1_200));
        assert_eq!(len, 40 + 24 + 24);
        let read = control.decode(len);
        assert_eq!((read.destination, read.ecn), (Some(source), Some(Ecn::Ce)));
        assert_eq!(control.encode(true, None, None, None), 0);
    }

    #[test]
    fn every_cut_and_every_length_field_is_survived() {
        let mut control = Control::default();
        let len = control.encode(
            true,
            Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(Ecn::Ect0),
            Some(9),
        );
        for cut in 0..=len {
            let _: Received = control.decode(cut);
        }
        for claimed in (0..64).chain([usize::MAX - 7, usize::MAX]) {
            control.bytes[..WORD].copy_from_slice(&claimed.to_ne_bytes());
            let _: Received = control.decode(len);
        }
    }
}
