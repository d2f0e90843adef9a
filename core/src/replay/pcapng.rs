//! pcapng, written: datagrams as raw IP packets, the secrets to open them, and what was lost.
//!
//! Blocks are appended to a buffer; writing that is the caller's. Our sockets never show IP and UDP headers, so
//! those are made up: addresses, ports, lengths, checksums and congestion bits are right, all else is a constant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::net::Ecn;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;

const LINK_RAW_IP: u16 = 101;
const TLS_KEY_LOG: u32 = 0x544c_534b;

const OPTION_END: u16 = 0;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const PACKET_DROPPED: u16 = 4;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;

const UDP: u8 = 17;
const HOPS: u8 = 64;
const DO_NOT_FRAGMENT: u16 = 0x4000;

/// One datagram to write.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of its interface, in the order in which those were written.
    pub interface: u32,
    /// When, since 1970.
    pub unix: Duration,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom; of the family of `source`.
    pub destination: SocketAddr,
    /// Congestion mark.
    pub ecn: Option<Ecn>,
    /// It left us; else it came.
    pub outbound: bool,
    /// Datagrams lost before it.
    pub dropped_before: u64,
    /// The payload; at most 65,507 bytes, as UDP has it over IPv4.
    pub payload: &'a [u8],
}

/// Begins a section, and so a file.
pub fn section_header(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION_HEADER, |out| {
        put_u32(out, BYTE_ORDER_MAGIC);
        put_u16(out, 1);
        put_u16(out, 0);
        // Of unknown length.
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        option(out, SECTION_APPLICATION, application.as_bytes());
        option(out, OPTION_END, &[]);
    });
}

/// Describes the next interface: raw IP, nanoseconds.
pub fn interface(out: &mut Vec<u8>, name: &str) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        put_u16(out, LINK_RAW_IP);
        put_u16(out, 0);
        // No limit to what is captured of a packet.
        put_u32(out, 0);
        option(out, INTERFACE_NAME, name.as_bytes());
        option(out, INTERFACE_RESOLUTION, &[9]);
        option(out, OPTION_END, &[]);
    });
}

/// Lines of a TLS key log, for the packets after them.
pub fn key_log(out: &mut Vec<u8>, lines: &[u8]) {
    block(out, DECRYPTION_SECRETS, |out| {
        put_u32(out, TLS_KEY_LOG);
        put_u32(out, lines.len() as u32);
        out.extend_from_slice(lines);
        pad(out);
    });
}

/// One datagram.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, ENHANCED_PACKET, |out| {
        put_u32(out, packet.interface);
        put_time(out, packet.unix);
        let len_at = out.len();
        put_u32(out, 0);
        put_u32(out, 0);
        let start = out.len();
        ip_packet(out, packet);
        let len = ((out.len() - start) as u32).to_le_bytes();
        out[len_at..len_at + 4].copy_from_slice(&len);
        out[len_at + 4..start].copy_from_slice(&len);
        pad(out);
        let direction: u32 = if packet.outbound { 2 } else { 1 };
        option(out, PACKET_FLAGS, &direction.to_le_bytes());
        if packet.dropped_before > 0 {
            option(out, PACKET_DROPPED, &packet.dropped_before.to_le_bytes());
        }
        option(out, OPTION_END, &[]);
    });
}

/// What an interface counted up to `unix`: datagrams seen, and those of them that are not in the file.
pub fn statistics(out: &mut Vec<u8>, interface: u32, unix: Duration, seen: u64, dropped: u64) {
    block(out, INTERFACE_STATISTICS, |out| {
        put_u32(out, interface);
        put_time(out, unix);
        option(out, STATISTICS_RECEIVED, &seen.to_le_bytes());
        option(out, STATISTICS_DROPPED, &dropped.to_le_bytes());
        option(out, OPTION_END, &[]);
    });
}

fn ip_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let udp_len = 8 + packet.payload.len();
    let marks = packet.ecn.map_or(0, |ecn| ecn as u8);
    let start = out.len();
    let pseudo_header = match (packet.source.ip(), packet.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4_header(out, source, destination, marks, udp_len);
            ones_sum(&out[start + 12..])
        }
        (source, destination) => {
            ipv6_header(out, mapped(source), mapped(destination), marks, udp_len);
            ones_sum(&out[start + 8..])
        }
    };
    let udp_at = out.len();
    put_be16(out, packet.source.port());
    put_be16(out, packet.destination.port());
    put_be16(out, udp_len as u16);
    put_be16(out, 0);
    out.extend_from_slice(packet.payload);
    let sum = pseudo_header + udp_len as u64 + u64::from(UDP) + ones_sum(&out[udp_at..]);
    // Zero would say that there is none.
    let checksum = match folded(sum) {
        0 => u16::MAX,
        sum => sum,
    };
    out[udp_at + 6..udp_at + 8].copy_from_slice(&checksum.to_be_bytes());
}

fn ipv4_header(out: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr, marks: u8, len: usize) {
    let start = out.len();
    out.extend_from_slice(&[0x45, marks]);
    put_be16(out, (20 + len) as u16);
    put_be16(out, 0);
    put_be16(out, DO_NOT_FRAGMENT);
    out.extend_from_slice(&[HOPS, UDP, 0, 0]);
    out.extend_from_slice(&source.octets());
    out.extend_from_slice(&destination.octets());
    let checksum = folded(ones_sum(&out[start..])).to_be_bytes();
    out[start + 10..start + 12].copy_from_slice(&checksum);
}

fn ipv6_header(out: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr, marks: u8, len: usize) {
    out.extend_from_slice(&(6 << 28 | u32::from(marks) << 20).to_be_bytes());
    put_be16(out, len as u16);
    out.extend_from_slice(&[UDP, HOPS]);
    out.extend_from_slice(&source.octets());
    out.extend_from_slice(&destination.octets());
}

const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Sum of 16-bit words for the checksum of RFC 1071, not folded yet.
fn ones_sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)));
    let odd = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    words.sum::<u64>() + odd
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Type, length, body, length; a body is whole words.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_u32(out, kind);
    put_u32(out, 0);
    body(out);
    let len = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    put_u32(out, len);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    put_u16(out, code);
    put_u16(out, value.len() as u16);
    out.extend_from_slice(value);
    pad(out);
}

/// To whole words of the buffer, in which blocks begin at whole words.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn put_time(out: &mut Vec<u8>, unix: Duration) {
    let nanos = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
    put_u32(out, (nanos >> 32) as u32);
    put_u32(out, nanos as u32);
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_be16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}
