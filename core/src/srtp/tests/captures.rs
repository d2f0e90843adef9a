//! Whole calls recorded from other people's software, with their keys.

use std::collections::BTreeMap;

use pcap_parser::pcap::PcapCapture;
use serde_json::Value;

use super::{field, position};
use crate::message::ProfileName;
use crate::plan::DtlsRole;
use crate::srtp::inbound::RtcpSender;
use crate::srtp::{Inbound, KeyingMaterial, OpenError, ReplayWindow};
use crate::testing::{json, unhex, vector};

/// An SRTP or SRTCP datagram.
struct Packet {
    /// Address and port of the sender.
    source: Vec<u8>,
    bytes: Vec<u8>,
}

impl Packet {
    /// RFC 5761 §4.
    fn is_rtcp(&self) -> bool {
        (192..=223).contains(&self.bytes[1])
    }
}

/// All a receiver knows: per direction the RTP windows and the RTCP senders.
type State = Vec<(BTreeMap<u32, ReplayWindow>, Vec<RtcpSender>)>;

/// A receiver of both directions of a call. Which key a sender has is found by trying, once.
struct Receiver {
    inbound: Vec<Inbound>,
    windows: Vec<BTreeMap<u32, ReplayWindow>>,
    key_of_source: BTreeMap<Vec<u8>, usize>,
}

impl Receiver {
    fn new(inbound: Vec<Inbound>) -> Self {
        let windows = inbound.iter().map(|_| BTreeMap::new()).collect();
        Self {
            inbound,
            windows,
            key_of_source: BTreeMap::new(),
        }
    }

    fn handle(&mut self, packet: &Packet) -> Result<usize, OpenError> {
        if let Some(&key) = self.key_of_source.get(&packet.source) {
            return self.open(key, packet);
        }
        let mut result = Err(OpenError::Unauthenticated);
        for key in 0..self.inbound.len() {
            result = self.open(key, packet);
            if result.is_ok() {
                self.key_of_source.insert(packet.source.clone(), key);
                break;
            }
        }
        result
    }

    fn open(&mut self, key: usize, packet: &Packet) -> Result<usize, OpenError> {
        let mut bytes = packet.bytes.clone();
        if packet.is_rtcp() {
            return self.inbound[key].open_rtcp(&mut bytes);
        }
        let at = position(&bytes).ok_or(OpenError::Short)?;
        let mut window = self.windows[key].get(&at.ssrc).cloned().unwrap_or_default();
        let before = window.clone();
        let result = self.inbound[key].open_rtp(&mut window, at, &mut bytes);
        match result {
            Ok(opened) => {
                assert_eq!(opened.index as u16, at.sequence_number);
                assert!(window.highest() >= Some(opened.index));
                self.windows[key].insert(at.ssrc, window);
            }
            Err(_) => assert_eq!(window, before),
        }
        result.map(|opened| opened.length)
    }

    fn state(&self) -> State {
        let senders = self
            .inbound
            .iter()
            .map(|inbound| inbound.rtcp_senders().to_vec());
        self.windows.iter().cloned().zip(senders).collect()
    }
}

/// The SRTP and SRTCP datagrams of a capture.
fn packets(file: &[u8]) -> Vec<Packet> {
    let capture = PcapCapture::from_file(file).unwrap();
    let link_header_len = match capture.header.network.0 {
        1 => 14,
        113 => 16,
        276 => 20,
        other => panic!("no header length known of link type {other}"),
    };
    let mut packets = Vec::new();
    for block in capture.blocks {
        let ip = &block.data[link_header_len..];
        assert_eq!(
            (ip[0] >> 4, ip[9]),
            (4, 17),
            "all of these captures are UDP over IPv4"
        );
        let udp = &ip[usize::from(ip[0] & 15) * 4..];
        let bytes = udp[8..usize::from(u16::from_be_bytes([udp[4], udp[5]]))].to_vec();
        if (128..=191).contains(&bytes[0]) {
            packets.push(Packet {
                source: [&ip[12..16], &udp[..2]].concat(),
                bytes,
            });
        }
    }
    packets
}

/// Plays the capture forward, each packet after a forged copy of itself, then doubled, reversed and
/// forged again: all of the first must open, and nothing else may change anything.
fn assert_call_opens(inbound: Vec<Inbound>, packets: &[Packet], rtp: usize, rtcp: usize) {
    let mut receiver = Receiver::new(inbound);
    let (mut rtp_opened, mut rtcp_opened) = (0, 0);
    for (number, packet) in packets.iter().enumerate() {
        let before = receiver.state();
        assert!(receiver.handle(&forged(packet, number * 37)).is_err());
        assert_eq!(
            receiver.state(),
            before,
            "a forged packet {number} changed state"
        );
        let length = receiver
            .handle(packet)
            .unwrap_or_else(|error| panic!("{number}: {error}"));
        assert!(length < packet.bytes.len());
        assert_eq!(
            receiver.handle(packet),
            Err(OpenError::Replayed),
            "packet {number} again"
        );
        *if packet.is_rtcp() {
            &mut rtcp_opened
        } else {
            &mut rtp_opened
        } += 1;
    }
    assert_eq!((rtp_opened, rtcp_opened), (rtp, rtcp));

    let done = receiver.state();
    for packet in packets.iter().chain(packets.iter().rev()) {
        assert_eq!(receiver.handle(packet), Err(OpenError::Replayed));
    }
    for (number, packet) in packets.iter().enumerate() {
        assert!(receiver.handle(&forged(packet, number * 101 + 5)).is_err());
    }
    assert_eq!(
        receiver.state(),
        done,
        "a replayed or forged packet changed state"
    );
}

/// The packet with one bit flipped: a different one each time, header and tag included.
fn forged(packet: &Packet, bit: usize) -> Packet {
    let mut bytes = packet.bytes.clone();
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    Packet {
        source: packet.source.clone(),
        bytes,
    }
}

/// The two directions of a call, through the order of the DTLS exporter.
fn both_directions(profile: ProfileName, keys: &Value) -> Vec<Inbound> {
    let keys = keys["keys"].as_array().unwrap();
    let of = |role: &str, name: &str| {
        let key = keys
            .iter()
            .find(|key| key["role_of_sender"] == role)
            .unwrap();
        field(key, name)
    };
    let exported = [
        of("client", "master_key"),
        of("server", "master_key"),
        of("client", "master_salt"),
        of("server", "master_salt"),
    ]
    .concat();
    [DtlsRole::Client, DtlsRole::Server]
        .map(|role| {
            KeyingMaterial::new(profile, &exported)
                .unwrap()
                .into_contexts(role)
                .0
        })
        .into()
}

#[test]
fn a_whole_aiortc_call_over_gcm_128_opens() {
    let Some(keys) = json("captures-made/webrtc-gcm128.keys.json") else {
        return;
    };
    let file = vector("captures-made/webrtc-gcm128.pcap").unwrap();
    let inbound = both_directions(ProfileName::AeadAes128Gcm, &keys);
    assert_call_opens(inbound, &packets(&file), 317, 18);
}

#[test]
fn a_whole_aiortc_call_over_counter_mode_opens() {
    let Some(keys) = json("captures-made/webrtc-aescm80.keys.json") else {
        return;
    };
    let file = vector("captures-made/webrtc-aescm80.pcap").unwrap();
    let inbound = both_directions(ProfileName::Aes128CmSha1_80, &keys);
    assert_call_opens(inbound, &packets(&file), 318, 18);
}

#[test]
fn a_gstreamer_stream_over_gcm_256_opens_across_the_sequence_wrap() {
    let Some(keys) = json("captures-made/srtp-keys.json") else {
        return;
    };
    let file = vector("captures-made/srtp-opus-gcm256-wrap.pcap").unwrap();
    let key = field(&keys["srtp-opus-gcm256-wrap.pcap"], "key_hex");
    let inbound =
        || Inbound::from_master(ProfileName::AeadAes256Gcm, &key[..32], &key[32..]).unwrap();
    let packets = packets(&file);
    assert_call_opens(vec![inbound()], &packets, 151, 0);

    let mut receiver = Receiver::new(vec![inbound()]);
    packets
        .iter()
        .for_each(|packet| assert!(receiver.handle(packet).is_ok()));
    let highest = receiver.windows[0]
        .values()
        .next()
        .unwrap()
        .highest()
        .unwrap();
    assert_eq!(highest >> 16, 1, "the rollover counter moved");
}

/// The `_32` capture beside it is left out: its 4-byte tag is not one of our profiles.
#[test]
fn an_ffmpeg_stream_with_keys_from_sdes_opens() {
    let Some(keys) = json("captures-made/srtp-keys.json") else {
        return;
    };
    let file = vector("captures-made/srtp-sdes-pcmu-aescm80.pcap").unwrap();
    // The `inline` parameter, 0102…1e in base 64: 16 bytes of key and 14 of salt.
    assert_eq!(
        keys["srtp-sdes-pcmu-aescm80.pcap"]["inline"],
        "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e"
    );
    let master = unhex("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e");
    let inbound =
        Inbound::from_master(ProfileName::Aes128CmSha1_80, &master[..16], &master[16..]).unwrap();
    assert_call_opens(vec![inbound], &packets(&file), 32, 1);
}
