//! DTLS handshakes, watched from beside: who said hello to whom, and what they agreed on.
//!
//! Only the two hellos are read. They are in the clear, and with the master secret of a key log they give the
//! SRTP keys; the rest of a handshake adds nothing. DTLS 1.2 alone: 1.0 derives keys by another function, and
//! 1.3 keeps the agreed profile encrypted.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::assembly::Assembly;
use super::report::Flow;
use crate::limits::{REPLAY_ASSOCIATIONS_MAX, REPLAY_HELLO_BYTES_MAX};
use crate::wire::ParseError;
use crate::wire::bytes::Reader;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const DTLS_1_2: u16 = 0xfefd;
const DTLS_1_3: u16 = 0xfefc;
const USE_SRTP: u16 = 14;
const SUPPORTED_VERSIONS: u16 = 43;

/// What two ends said in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    /// From the client to the server.
    pub(super) path: Flow,
    pub(super) client_random: [u8; 32],
    pub(super) server_random: [u8; 32],
    pub(super) cipher_suite: u16,
    /// Number of the SRTP profile (RFC 5764 §4.1.2); `None`: they agreed on none.
    pub(super) srtp_profile: Option<u16>,
    /// A version whose keys we can derive.
    pub(super) is_supported: bool,
}

/// Handshakes under way, by the two addresses.
#[derive(Debug, Default)]
pub(super) struct Hellos {
    pairs: BTreeMap<(SocketAddr, SocketAddr), Pair>,
}

#[derive(Debug, Default)]
struct Pair {
    /// Of the lower address and the higher: the message that comes in pieces now.
    messages: [Message; 2],
    client: Option<(Flow, [u8; 32])>,
    server: Option<ServerHello>,
    /// What was told last, so that a flight sent again tells nothing.
    told: Option<([u8; 32], [u8; 32])>,
}

#[derive(Debug, Default)]
struct Message {
    kind: u8,
    sequence: u16,
    len: usize,
    assembly: Assembly,
}

#[derive(Clone, Copy, Debug)]
struct ServerHello {
    flow: Flow,
    random: [u8; 32],
    cipher_suite: u16,
    srtp_profile: Option<u16>,
    version: u16,
}

impl Hellos {
    /// Reads a datagram; the handshake, when its second hello is complete.
    pub(super) fn handle(&mut self, flow: Flow, datagram: &[u8]) -> Option<Handshake> {
        let key = flow.pair();
        if !self.pairs.contains_key(&key) {
            if self.pairs.len() >= REPLAY_ASSOCIATIONS_MAX || !begins_handshake(datagram) {
                return None;
            }
            self.pairs.insert(key, Pair::default());
        }
        let pair = self.pairs.get_mut(&key)?;
        // What is malformed ends the datagram; what came before it counts.
        pair.records(flow, Reader::new(datagram)).ok();
        pair.tell()
    }
}

/// A handshake record in the clear.
fn begins_handshake(datagram: &[u8]) -> bool {
    matches!(datagram, [HANDSHAKE, 0xfe, _, 0, 0, ..])
}

impl Pair {
    fn records(&mut self, flow: Flow, mut datagram: Reader<'_>) -> Result<(), ParseError> {
        while !datagram.is_empty() {
            let kind = datagram.u8()?;
            let [_, _, epoch @ ..] = datagram.array::<4>()?;
            let _sequence = datagram.array::<6>()?;
            let len = datagram.u16()?.into();
            let record = datagram.bytes(len)?;
            if kind == HANDSHAKE && epoch == [0, 0] {
                self.messages(flow, Reader::new(record))?;
            }
        }
        Ok(())
    }

    fn messages(&mut self, flow: Flow, mut record: Reader<'_>) -> Result<(), ParseError> {
        while !record.is_empty() {
            let kind = record.u8()?;
            let len = record.u24()? as usize;
            let sequence = record.u16()?;
            let offset = record.u24()? as usize;
            let piece_len = record.u24()? as usize;
            let piece = record.bytes(piece_len)?;
            if !matches!(kind, CLIENT_HELLO | SERVER_HELLO) || len > REPLAY_HELLO_BYTES_MAX {
                continue;
            }
            let [low, high] = &mut self.messages;
            let message = if flow.is_upward() { low } else { high };
            if (message.kind, message.sequence, message.len) != (kind, sequence, len) {
                *message = Message {
                    kind,
                    sequence,
                    len,
                    assembly: Assembly::default(),
                };
                message.assembly.set_len(len);
            }
            message.assembly.add(offset, piece, len);
            let Some(whole) = message.assembly.whole() else {
                continue;
            };
            if kind == CLIENT_HELLO {
                let random = client_random(whole)?;
                self.client = Some((flow, random));
            } else {
                self.server = Some(server_hello(flow, whole)?);
            }
        }
        Ok(())
    }

    fn tell(&mut self) -> Option<Handshake> {
        let ((path, client_random), server) = (self.client?, self.server?);
        let randoms = (client_random, server.random);
        // A server hello of the same direction belongs to an earlier client on the other side.
        if server.flow != path.reversed() || self.told == Some(randoms) {
            return None;
        }
        self.told = Some(randoms);
        Some(Handshake {
            path,
            client_random,
            server_random: server.random,
            cipher_suite: server.cipher_suite,
            srtp_profile: server.srtp_profile,
            is_supported: server.version == DTLS_1_2,
        })
    }
}

fn client_random(hello: &[u8]) -> Result<[u8; 32], ParseError> {
    let mut reader = Reader::new(hello);
    let _version = reader.u16()?;
    reader.array()
}

/// RFC 5246 §7.4.1.3.
fn server_hello(flow: Flow, hello: &[u8]) -> Result<ServerHello, ParseError> {
    let mut reader = Reader::new(hello);
    let mut version = reader.u16()?;
    let random = reader.array()?;
    let session_id_len = reader.u8()?.into();
    reader.bytes(session_id_len)?;
    let cipher_suite = reader.u16()?;
    let _compression = reader.u8()?;
    let mut srtp_profile = None;
    if !reader.is_empty() {
        let extensions_len = reader.u16()?.into();
        let mut extensions = Reader::new(reader.bytes(extensions_len)?);
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let len = extensions.u16()?.into();
            let mut extension = Reader::new(extensions.bytes(len)?);
            match kind {
                USE_SRTP => {
                    let _profiles_len = extension.u16()?;
                    srtp_profile = Some(extension.u16()?);
                }
                SUPPORTED_VERSIONS if extension.u16()? == DTLS_1_3 => version = DTLS_1_3,
                _ => {}
            }
        }
    }
    Ok(ServerHello {
        flow,
        random,
        cipher_suite,
        srtp_profile,
        version,
    })
}
