//! A journal for others' eyes: when what happened, how long it was and what kind of thing, and nothing of who it was.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::hmac;

use super::reader::{ReadError, Reader};
use super::record::{Header, Lost, Payloads, Record, Rest, Slot, header_bytes};
use super::writer::{begin, put, put_if_it_fits};
use crate::message::{Command, Event};
use crate::plan::{AnnouncedSsrc, Fingerprint, IceCredentials, LocalSource, SessionPlan, Token};
use crate::relay::Relay;
use crate::rng::Seed;
use crate::session::transport::Outcome;
use crate::voice::message::Heard;
use crate::wire::rtp::FIXED_HEADER_BYTES;
use crate::wire::stun::MAGIC_COOKIE;
use crate::wire::{Class, classify};

/// Bytes of a STUN message that say its kind and length; what follows its cookie identifies who sent it.
const STUN_KIND_BYTES: usize = 4;
/// Bytes of what is too short for RTP that say that it was taken for that, and by which payload type.
const RTP_KIND_BYTES: usize = 2;
/// Where the source stands in the header of RTP, and in that of RTCP (RFC 3550 §5.1, §6.4), which end with it as far
/// as they are fixed.
const RTP_SSRC_AT: usize = 8;
const RTCP_SSRC_AT: usize = 4;
/// Pseudonyms tried for one that nobody has: only a journal made for it needs more, and gets one that somebody has.
const PSEUDONYM_TRIES: u32 = 64;

/// The same journal without secrets and without what identifies anybody, and why it ends where it does, if it is not
/// whole.
///
/// Addresses, ports, ICE credentials, SSRCs and names of media sections become pseudonyms under `salt`, which must be
/// fresh and is to be forgotten: the same is the same throughout the file, and nowhere else. Of each datagram as much
/// of the header stays as says its kind, its source and its place in a stream; the seed, keys, certificates' hashes,
/// wall time, hashes of outputs and how sessions of a ring stood are gone. Such a journal cannot be played, only
/// shown.
///
/// # Errors
/// [`ReadError`]: it cannot be read at all.
pub fn redact(journal: &[u8], salt: &Seed) -> Result<(Vec<u8>, Option<ReadError>), ReadError> {
    let (header, reader) = Reader::new(journal)?;
    let mut pseudonyms = Pseudonyms::new(salt);
    let mut out = begin(pseudonyms.header(header));
    let mut lost = Lost::default();
    for record in reader {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Ok((out, Some(error))),
        };
        let Some(record) = pseudonyms.record(record) else {
            continue;
        };
        // Names may be longer than what they stand for; not of a journal that a server wrote.
        lost.records += u64::from(!put_if_it_fits(&mut out, &record));
        // Between turns, where a reader looks for it.
        if matches!(record, Record::Rest(_)) && lost.records > 0 {
            put(&mut out, &Record::Lost(std::mem::take(&mut lost)));
        }
    }
    Ok((out, None))
}

struct Pseudonyms {
    key: hmac::Key,
    addresses: BTreeMap<IpAddr, IpAddr>,
    ports: BTreeMap<SocketAddr, u16>,
    ssrcs: BTreeMap<u32, u32>,
    /// Those given out.
    used_addresses: BTreeSet<IpAddr>,
    used_ports: BTreeSet<(IpAddr, u16)>,
    used_ssrcs: BTreeSet<u32>,
}

impl Pseudonyms {
    fn new(salt: &Seed) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes()),
            addresses: BTreeMap::new(),
            ports: BTreeMap::new(),
            ssrcs: BTreeMap::new(),
            used_addresses: BTreeSet::new(),
            used_ports: BTreeSet::new(),
            used_ssrcs: BTreeSet::new(),
        }
    }

    fn header(&self, header: Header) -> Header {
        Header {
            software: String::new(),
            fingerprint: self.fingerprint(header.fingerprint),
            unix: Duration::ZERO,
            seed: Seed::new([0; 32]),
            payloads: Payloads::Headers,
            redacted: true,
            ..header
        }
    }

    /// `None`: nothing of it may stay.
    fn record<'a>(&mut self, record: Record<'a>) -> Option<Record<'a>> {
        Some(match record {
            Record::Header(header) => Record::Header(Box::new(self.header(*header))),
            Record::Command(command) => {
                Record::Command(Cow::Owned(self.command(command.into_owned())))
            }
            Record::Relay(from, relay) => Record::Relay(from, Cow::Owned(self.relay(&relay))),
            Record::Received(slot) => Record::Received(self.slot(&slot)),
            Record::Event(event) => Record::Event(Cow::Owned(self.event(event.into_owned()))),
            Record::Handshake(session, outcome) => {
                Record::Handshake(session, blank(outcome.without_keys()))
            }
            Record::Rest(rest) => Record::Rest(Rest { outputs: 0, ..rest }),
            // How a session stood is its passwords, keys and addresses.
            Record::Birth(_) | Record::Counts(_) => return None,
            Record::Turn(_)
            | Record::Sent { .. }
            | Record::Idle(_)
            | Record::Lost(_)
            | Record::End(_) => record,
        })
    }

    fn command(&mut self, command: Command) -> Command {
        match command {
            Command::Open {
                request,
                plan,
                role,
            } => Command::Open {
                request,
                plan: Box::new(self.plan(*plan)),
                role,
            },
            Command::Restart {
                request,
                session,
                remote_ice,
            } => Command::Restart {
                request,
                session,
                remote_ice: self.credentials(&remote_ice),
            },
            // The mark of an utterance or a turn is a number; words do not get here, sound and digits must not.
            Command::Agent { .. } => command.with_silence().into_owned(),
            Command::Close { .. } | Command::SessionStats { .. } | Command::ShardStats { .. } => {
                command
            }
        }
    }

    fn relay(&mut self, relay: &Relay) -> Relay {
        let mut relay = relay.without_media();
        if let Relay::Packet(packet) = &mut relay {
            packet.ssrc = self.ssrc(packet.ssrc);
            // It is wall time.
            packet.clock = None;
        }
        relay
    }

    fn plan(&mut self, mut plan: SessionPlan) -> SessionPlan {
        plan.remote_ice = self.credentials(&plan.remote_ice);
        plan.remote_fingerprint = self.fingerprint(plan.remote_fingerprint);
        for media in &mut plan.media {
            media.mid = self.token(media.mid);
            media.rids = media.rids.iter().map(|rid| self.token(*rid)).collect();
            for AnnouncedSsrc { ssrc, rtx } in &mut media.ssrcs {
                (*ssrc, *rtx) = (self.ssrc(*ssrc), rtx.map(|rtx| self.ssrc(rtx)));
            }
        }
        plan
    }

    fn event(&mut self, mut event: Event) -> Event {
        match &mut event {
            Event::Opened { local, .. } => {
                local.ice = self.credentials(&local.ice);
                local.fingerprint = self.fingerprint(local.fingerprint);
                for LocalSource { ssrc, rtx } in local.sources.iter_mut().flatten() {
                    (*ssrc, *rtx) = (self.ssrc(*ssrc), rtx.map(|rtx| self.ssrc(rtx)));
                }
            }
            Event::Restarted { ice, .. } => *ice = self.credentials(ice),
            Event::TrackAdded { mid, .. } | Event::TrackRemoved { mid, .. } => {
                *mid = self.token(*mid);
            }
            Event::SessionStats { stats, .. } => {
                for track in &mut stats.tracks {
                    track.mid = self.token(track.mid);
                    track.ssrc = self.ssrc(track.ssrc);
                }
            }
            Event::Heard {
                heard: Heard::Audio { pcm, .. },
                ..
            } => pcm.fill(0),
            // A number that was dialled, or a PIN.
            Event::Heard {
                heard: Heard::Dtmf { digit, .. },
                ..
            } => *digit = '0',
            Event::Heard { .. }
            | Event::Rejected { .. }
            | Event::Connected { .. }
            | Event::ActiveSpeaker { .. }
            | Event::Closed { .. }
            | Event::ShardStats { .. } => {}
        }
        event
    }

    fn slot(&mut self, slot: &Slot<'_>) -> Slot<'static> {
        let (mut kept, mut cuts) = (Vec::new(), Vec::new());
        for (datagram, len) in slot.datagrams() {
            let start = kept.len();
            match classify(datagram) {
                Class::Stun => {
                    let cookie = &MAGIC_COOKIE.to_be_bytes()[..];
                    let kind = &datagram[..datagram.len().min(STUN_KIND_BYTES)];
                    kept.extend_from_slice(kind);
                    if datagram[kind.len()..].starts_with(cookie) {
                        kept.extend_from_slice(cookie);
                    }
                }
                Class::Rtp if datagram.len() < FIXED_HEADER_BYTES => {
                    kept.extend_from_slice(&datagram[..datagram.len().min(RTP_KIND_BYTES)]);
                }
                Class::Dtls if !is_dtls_record(datagram) => {}
                Class::Rtp => self.keep_header(&mut kept, datagram, RTP_SSRC_AT),
                Class::Rtcp => self.keep_header(&mut kept, datagram, RTCP_SSRC_AT),
                _ => kept.extend_from_slice(&datagram[..header_bytes(datagram)]),
            }
            cuts.push(((kept.len() - start) as u32, len as u32));
        }
        Slot {
            source: self.socket(slot.source),
            destination: self.socket(slot.destination),
            contents: Cow::Owned(kept),
            cuts,
            ..*slot
        }
    }

    /// Keeps a header that ends in a source, by that source's other name; without it where it is not all there.
    fn keep_header(&mut self, kept: &mut Vec<u8>, datagram: &[u8], ssrc_at: usize) {
        let header = &datagram[..datagram.len().min(ssrc_at)];
        kept.extend_from_slice(header);
        if let Some(ssrc) = datagram[header.len()..].first_chunk() {
            let ssrc = self.ssrc(u32::from_be_bytes(*ssrc));
            kept.extend_from_slice(&ssrc.to_be_bytes());
        }
    }

    fn ssrc(&mut self, ssrc: u32) -> u32 {
        if let Some(pseudonym) = self.ssrcs.get(&ssrc) {
            return *pseudonym;
        }
        let pseudonym = |round| {
            let [a, b, c, d, ..] = self.hash(b"ssrc", &ssrc.to_be_bytes(), round);
            u32::from_be_bytes([a, b, c, d])
        };
        let mut pseudonyms = (0..PSEUDONYM_TRIES).map(pseudonym);
        let free = pseudonyms.find(|ssrc| !self.used_ssrcs.contains(ssrc));
        let pseudonym = free.unwrap_or_else(|| pseudonym(0));
        self.used_ssrcs.insert(pseudonym);
        self.ssrcs.insert(ssrc, pseudonym);
        pseudonym
    }

    fn socket(&mut self, socket: SocketAddr) -> SocketAddr {
        let ip = self.ip(socket.ip());
        if let Some(port) = self.ports.get(&socket) {
            return SocketAddr::new(ip, *port);
        }
        let port = |round| {
            let [a, b, ..] = self.hash(b"port", socket.to_string().as_bytes(), round);
            // Ports below 1024 would say what they are not.
            u16::from_be_bytes([a, b]) | 0x400
        };
        let mut ports = (0..PSEUDONYM_TRIES).map(port);
        let free = ports.find(|port| !self.used_ports.contains(&(ip, *port)));
        let port = free.unwrap_or_else(|| port(0));
        self.used_ports.insert((ip, port));
        self.ports.insert(socket, port);
        SocketAddr::new(ip, port)
    }

    /// Of the same family: in 10.0.0.0/8, or in fd00::/8.
    fn ip(&mut self, ip: IpAddr) -> IpAddr {
        if let Some(pseudonym) = self.addresses.get(&ip) {
            return *pseudonym;
        }
        let pseudonym = |round| {
            let hash = self.hash(b"address", ip.to_string().as_bytes(), round);
            match ip {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, hash[0], hash[1], hash[2])),
                IpAddr::V6(_) => {
                    let mut bytes = [0; 16];
                    bytes.copy_from_slice(&hash[..16]);
                    bytes[0] = 0xfd;
                    IpAddr::V6(Ipv6Addr::from(bytes))
                }
            }
        };
        let mut pseudonyms = (0..PSEUDONYM_TRIES).map(pseudonym);
        let free = pseudonyms.find(|ip| !self.used_addresses.contains(ip));
        let pseudonym = free.unwrap_or_else(|| pseudonym(0));
        self.used_addresses.insert(pseudonym);
        self.addresses.insert(ip, pseudonym);
        pseudonym
    }

    fn credentials(&self, ice: &IceCredentials) -> IceCredentials {
        IceCredentials {
            ufrag: self.text(b"ufrag", ice.ufrag.as_bytes()),
            password: self.text(b"password", ice.password.as_bytes()),
        }
    }

    fn fingerprint(&self, fingerprint: Fingerprint) -> Fingerprint {
        Fingerprint(self.hash(b"fingerprint", &fingerprint.0, 0))
    }

    fn token<const N: usize>(&self, token: Token<N>) -> Token<N> {
        let text = self.text(b"token", token.as_bytes());
        let text = &text.as_bytes()[..text.len().min(N)];
        Token::new(text).expect("digits are printable, and cut to fit")
    }

    /// Sixteen hexadecimal digits.
    fn text(&self, label: &[u8], bytes: &[u8]) -> String {
        let [a, b, c, d, e, f, g, h, ..] = self.hash(label, bytes, 0);
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        format!("{number:016x}")
    }

    fn hash(&self, label: &[u8], bytes: &[u8], round: u32) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(label);
        context.update(&[0]);
        context.update(&round.to_be_bytes());
        context.update(bytes);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

/// Whether it begins as a record of DTLS does: content type (RFC 6347 §4.1, RFC 9146 §4) and version. The byte that
/// sorts datagrams leaves room for anything.
fn is_dtls_record(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=25, 0xfe, 0xfd | 0xff, ..])
}

/// As many datagrams as long, with nothing in them.
fn blank(mut outcome: Outcome) -> Outcome {
    outcome
        .datagrams
        .iter_mut()
        .for_each(|datagram| datagram.fill(0));
    outcome
}
