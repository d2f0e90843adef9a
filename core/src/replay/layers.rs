//! From a captured frame to the IP packet in it, and from that to the UDP datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::report::Skip;
use crate::limits::{IPV6_HEADERS_MAX, VLAN_TAGS_MAX};
use crate::wire::bytes::Reader;

/// Link types (tcpdump.org/linktypes.html). The raw one has two older numbers that leak into files.
mod link {
    pub(super) const NULL: u16 = 0;
    pub(super) const ETHERNET: u16 = 1;
    pub(super) const RAW_BSD: u16 = 12;
    pub(super) const RAW_OPENBSD: u16 = 14;
    pub(super) const RAW: u16 = 101;
    pub(super) const LOOP: u16 = 108;
    pub(super) const LINUX_SLL: u16 = 113;
    pub(super) const IPV4: u16 = 228;
    pub(super) const IPV6: u16 = 229;
    pub(super) const LINUX_SLL2: u16 = 276;
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and what came before it.
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const UDP_HEADER_BYTES: usize = 8;

/// An IP packet that carries UDP, or a piece of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpPacket<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// What was captured of its payload.
    pub(super) payload: &'a [u8],
    /// Bytes its payload had on the wire.
    pub(super) wire_len: usize,
    /// It is a piece of a larger one.
    pub(super) fragment: Option<Fragment>,
}

/// Where a piece belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub(super) id: u32,
    pub(super) offset: usize,
    pub(super) more: bool,
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Udp<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// What was captured of its payload.
    pub(super) payload: &'a [u8],
    /// The capture cut it.
    pub(super) truncated: bool,
}

/// The IP packet in a frame of `wire_len` bytes on the wire.
pub(super) fn ip_packet(link: u16, frame: &[u8], wire_len: usize) -> Result<IpPacket<'_>, Skip> {
    let mut reader = Reader::new(frame);
    let protocol = protocol(link, &mut reader)?;
    let header_len = frame.len().saturating_sub(reader.rest().len());
    let wire_len = wire_len.max(frame.len()).saturating_sub(header_len);
    let packet = match protocol {
        IPV4 => ipv4(reader, wire_len),
        IPV6 => ipv6(reader, wire_len),
        _ => return Err(Skip::NotIp),
    };
    packet.unwrap_or(Err(Skip::MalformedIp))
}

/// What comes after the link layer, as an Ethernet type; the reader then stands there.
fn protocol(link: u16, reader: &mut Reader<'_>) -> Result<u16, Skip> {
    match link {
        link::ETHERNET => {
            reader.bytes(12).map_err(|_| Skip::NotIp)?;
            ethernet_type(reader)
        }
        link::LINUX_SLL => {
            reader.bytes(14).map_err(|_| Skip::NotIp)?;
            ethernet_type(reader)
        }
        link::LINUX_SLL2 => {
            // The protocol comes first here, so tags in the payload would follow the whole header.
            let protocol = reader.u16().map_err(|_| Skip::NotIp)?;
            reader.bytes(18).map_err(|_| Skip::NotIp)?;
            if VLAN.contains(&protocol) {
                reader.bytes(2).map_err(|_| Skip::NotIp)?;
                return ethernet_type(reader);
            }
            Ok(protocol)
        }
        // The address family before it has other numbers on each system; the IP version tells as well.
        link::NULL | link::LOOP => {
            reader.bytes(4).map_err(|_| Skip::NotIp)?;
            ip_version(reader)
        }
        link::RAW | link::RAW_BSD | link::RAW_OPENBSD | link::IPV4 | link::IPV6 => {
            ip_version(reader)
        }
        _ => Err(Skip::LinkType),
    }
}

fn ethernet_type(reader: &mut Reader<'_>) -> Result<u16, Skip> {
    for _ in 0..=VLAN_TAGS_MAX {
        let protocol = reader.u16().map_err(|_| Skip::NotIp)?;
        if !VLAN.contains(&protocol) {
            return Ok(protocol);
        }
        reader.bytes(2).map_err(|_| Skip::NotIp)?;
    }
    Err(Skip::NotIp)
}

fn ip_version(reader: &Reader<'_>) -> Result<u16, Skip> {
    match reader.rest().first().map(|first| first >> 4) {
        Some(4) => Ok(IPV4),
        Some(6) => Ok(IPV6),
        _ => Err(Skip::NotIp),
    }
}

/// `None`: it is shorter than its header.
fn ipv4(mut reader: Reader<'_>, frame_len: usize) -> Option<Result<IpPacket<'_>, Skip>> {
    let [version_and_len, _service] = reader.array().ok()?;
    let total_len = usize::from(reader.u16().ok()?);
    let id = reader.u16().ok()?;
    let placed = reader.u16().ok()?;
    let [_hops, protocol] = reader.array().ok()?;
    let _checksum = reader.u16().ok()?;
    let source = Ipv4Addr::from(reader.u32().ok()?);
    let destination = Ipv4Addr::from(reader.u32().ok()?);
    let header_len = usize::from(version_and_len & 0x0f) << 2;
    reader.bytes(header_len.checked_sub(20)?).ok()?;
    if version_and_len >> 4 != 4 {
        return None;
    }
    if let Some(skip) = not_udp(protocol) {
        return Some(Err(skip));
    }
    // Zero: segmentation was left to the network card, and the frame tells the length.
    let total_len = if total_len == 0 { frame_len } else { total_len };
    let (offset, more) = (usize::from(placed & 0x1fff) << 3, placed & 0x2000 != 0);
    let fragment = Fragment {
        id: id.into(),
        offset,
        more,
    };
    Some(Ok(packet(
        source.into(),
        destination.into(),
        reader.rest(),
        total_len.checked_sub(header_len)?,
        (more || offset > 0).then_some(fragment),
    )))
}

/// `None`: it is shorter than its headers.
fn ipv6(mut reader: Reader<'_>, frame_len: usize) -> Option<Result<IpPacket<'_>, Skip>> {
    let version = reader.u32().ok()? >> 28;
    let payload_len = usize::from(reader.u16().ok()?);
    let [mut next, _hops] = reader.array().ok()?;
    let source = Ipv6Addr::from(reader.array().ok()?);
    let destination = Ipv6Addr::from(reader.array().ok()?);
    if version != 6 {
        return None;
    }
    let payload_len = if payload_len == 0 {
        frame_len.checked_sub(40)?
    } else {
        payload_len
    };
    let start = reader.rest().len();
    let mut fragment = None;
    for _ in 0..IPV6_HEADERS_MAX {
        // Their length counts these beside the first 8 bytes (RFC 8200 §4.2, RFC 4302 §2.2).
        let unit = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8,
            AUTHENTICATION => 4,
            FRAGMENT => 0,
            _ => break,
        };
        let [following, len] = reader.array().ok()?;
        if next == FRAGMENT {
            let placed = reader.u16().ok()?;
            let id = reader.u32().ok()?;
            let (offset, more) = (usize::from(placed & 0xfff8), placed & 1 != 0);
            // An atomic fragment is whole (RFC 6946).
            fragment = (more || offset > 0).then_some(Fragment { id, offset, more });
        } else {
            let bytes = usize::from(len).checked_mul(unit)?.checked_add(6)?;
            reader.bytes(bytes).ok()?;
        }
        next = following;
        if fragment.is_some_and(|fragment| fragment.offset > 0) {
            // What follows is the middle of something.
            break;
        }
    }
    if let Some(skip) = not_udp(next) {
        return Some(Err(skip));
    }
    let headers_len = start.saturating_sub(reader.rest().len());
    Some(Ok(packet(
        source.into(),
        destination.into(),
        reader.rest(),
        payload_len.checked_sub(headers_len)?,
        fragment,
    )))
}

/// Cuts off what the link layer added behind the packet.
fn packet(
    source: IpAddr,
    destination: IpAddr,
    rest: &[u8],
    wire_len: usize,
    fragment: Option<Fragment>,
) -> IpPacket<'_> {
    IpPacket {
        source,
        destination,
        payload: rest.get(..wire_len).unwrap_or(rest),
        wire_len,
        fragment,
    }
}

const fn not_udp(protocol: u8) -> Option<Skip> {
    match protocol {
        UDP => None,
        TCP => Some(Skip::Tcp),
        ICMP | ICMP_V6 => Some(Skip::Icmp),
        _ => Some(Skip::OtherTransport),
    }
}

/// The datagram in a whole payload, of `wire_len` bytes on the wire.
pub(super) fn udp<'a>(
    source: IpAddr,
    destination: IpAddr,
    payload: &'a [u8],
    wire_len: usize,
) -> Result<Udp<'a>, Skip> {
    let mut reader = Reader::new(payload);
    let mut word = || reader.u16().map_err(|_| Skip::MalformedUdp);
    let (source_port, destination_port, len, _checksum) = (word()?, word()?, word()?, word()?);
    // Zero as in `ipv4`.
    let len = if len == 0 { wire_len } else { usize::from(len) };
    let data_len = len
        .checked_sub(UDP_HEADER_BYTES)
        .ok_or(Skip::MalformedUdp)?;
    let captured = reader.rest();
    Ok(Udp {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
        payload: captured.get(..data_len).unwrap_or(captured),
        truncated: captured.len() < data_len,
    })
}
