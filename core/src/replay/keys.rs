//! SRTP keys of a capture, from wherever they are known, and the packets they open.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::hello::Handshake;
use super::report::Flow;
use crate::limits::{
    REPLAY_KEY_TRIES_MAX, REPLAY_KEYS_MAX, REPLAY_SECRETS_MAX, REPLAY_STREAMS_MAX,
};
use crate::message::ProfileName;
use crate::srtp::{Inbound, KeyError, OpenError, ReplayWindow, RtpPosition};

const MASTER_SECRET_BYTES: usize = 48;
const EXPORTER_LABEL: &[u8] = b"EXTRACTOR-dtls_srtp";

/// Cipher suites of TLS 1.2 whose pseudo-random function is SHA-384's, of those that DTLS stacks offer
/// (RFC 5288, 5289, 5487). All others use SHA-256.
const SHA384_SUITES: [u16; 14] = [
    0x009d, 0x009f, 0x00a1, 0x00a3, 0x00a5, 0x00a7, 0x00a9, 0x00ab, 0xc024, 0xc026, 0xc028, 0xc02c,
    0xc02e, 0xc030,
];

/// How SRTP in a capture is protected: what a server of ours agrees to, and one more that it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureProfile {
    /// One of the three we speak.
    Spoken(ProfileName),
    /// `AES128_CM_SHA1_32`: as `_80`, with tags of 4 bytes on RTP. RTCP keeps 10 (RFC 5764 §4.1.2).
    Aes128CmSha1_32,
}

impl CaptureProfile {
    /// The profile by its name in RFC 4568, RFC 5764 or RFC 7714, with `SRTP_` before it or not.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("SRTP_").unwrap_or(name);
        Some(match name {
            "AEAD_AES_256_GCM" => Self::Spoken(ProfileName::AeadAes256Gcm),
            "AEAD_AES_128_GCM" => Self::Spoken(ProfileName::AeadAes128Gcm),
            "AES_CM_128_HMAC_SHA1_80" | "AES128_CM_HMAC_SHA1_80" | "AES128_CM_SHA1_80" => {
                Self::Spoken(ProfileName::Aes128CmSha1_80)
            }
            "AES_CM_128_HMAC_SHA1_32" | "AES128_CM_HMAC_SHA1_32" | "AES128_CM_SHA1_32" => {
                Self::Aes128CmSha1_32
            }
            _ => return None,
        })
    }

    /// By its number in a handshake (RFC 5764 §4.1.2, RFC 7714 §14.2).
    const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Spoken(ProfileName::Aes128CmSha1_80)),
            2 => Some(Self::Aes128CmSha1_32),
            7 => Some(Self::Spoken(ProfileName::AeadAes128Gcm)),
            8 => Some(Self::Spoken(ProfileName::AeadAes256Gcm)),
            _ => None,
        }
    }

    /// Bytes of a master key.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Spoken(ProfileName::AeadAes256Gcm) => 32,
            Self::Spoken(_) | Self::Aes128CmSha1_32 => 16,
        }
    }

    /// Bytes of a master salt.
    #[must_use]
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::Spoken(ProfileName::AeadAes256Gcm | ProfileName::AeadAes128Gcm) => 12,
            Self::Spoken(ProfileName::Aes128CmSha1_80) | Self::Aes128CmSha1_32 => 14,
        }
    }

    /// What opens packets sealed with a master key and salt.
    ///
    /// # Errors
    /// A length is not exactly that of the profile.
    pub fn inbound(self, key: &[u8], salt: &[u8]) -> Result<Inbound, KeyError> {
        match self {
            Self::Spoken(profile) => Inbound::from_master(profile, key, salt),
            Self::Aes128CmSha1_32 => Inbound::from_master_with_short_tags(key, salt),
        }
    }
}

/// Master secrets by the random number of the client's hello, as the key log of any TLS library has them.
#[derive(Default)]
pub struct KeyLog(BTreeMap<[u8; 32], Zeroizing<[u8; MASTER_SECRET_BYTES]>>);

impl KeyLog {
    /// Takes the `CLIENT_RANDOM` lines of a key log and tells how many. Other lines, those of TLS 1.3 among them,
    /// are of no use here.
    pub fn add(&mut self, text: &[u8]) -> usize {
        let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
        let secrets = lines.filter_map(|line| {
            let mut words = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            (words.next()? == b"CLIENT_RANDOM").then_some(())?;
            let client_random = unhex::<32>(words.next()?)?;
            let secret = unhex::<MASTER_SECRET_BYTES>(words.next()?)?;
            Some((client_random, Zeroizing::new(secret)))
        });
        let mut count = 0;
        for (client_random, secret) in secrets {
            if self.0.len() < REPLAY_SECRETS_MAX || self.0.contains_key(&client_random) {
                self.0.insert(client_random, secret);
                count += 1;
            }
        }
        count
    }

    /// Secrets there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// SRTP keys of a handshake, the client's direction first; `None` without its secret.
    fn keys(&self, handshake: &Handshake) -> Option<[Inbound; 2]> {
        let profile = CaptureProfile::from_number(handshake.srtp_profile?)?;
        let secret = self.0.get(&handshake.client_random)?;
        let (key_len, salt_len) = (profile.key_bytes(), profile.salt_bytes());
        let mut exported = Zeroizing::new(vec![0; (key_len + salt_len) * 2]);
        export(handshake, secret, &mut exported);
        // RFC 5764 §4.2: client key, server key, client salt, server salt.
        let (keys, salts) = exported.split_at(key_len * 2);
        let (client_key, server_key) = keys.split_at(key_len);
        let (client_salt, server_salt) = salts.split_at(salt_len);
        let client = profile.inbound(client_key, client_salt).ok()?;
        let server = profile.inbound(server_key, server_salt).ok()?;
        Some([client, server])
    }
}

/// Shows how many there are.
impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyLog({} secrets)", self.0.len())
    }
}

/// RFC 5705 §4 without context, over the pseudo-random function of RFC 5246 §5.
fn export(handshake: &Handshake, secret: &[u8; MASTER_SECRET_BYTES], out: &mut [u8]) {
    let algorithm = if SHA384_SUITES.contains(&handshake.cipher_suite) {
        hmac::HMAC_SHA384
    } else {
        hmac::HMAC_SHA256
    };
    let key = hmac::Key::new(algorithm, secret);
    let seed = [
        EXPORTER_LABEL,
        &handshake.client_random,
        &handshake.server_random,
    ]
    .concat();
    let mut round = hmac::sign(&key, &seed);
    let mut rest = out;
    while !rest.is_empty() {
        let mut block = hmac::Context::with_key(&key);
        block.update(round.as_ref());
        block.update(&seed);
        let block = block.sign();
        let len = rest.len().min(block.as_ref().len());
        let (part, after) = rest.split_at_mut(len);
        part.copy_from_slice(&block.as_ref()[..len]);
        rest = after;
        round = hmac::sign(&key, round.as_ref());
    }
}

fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
    }
    Some(bytes)
}

/// What came of a packet that may be SRTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// There is no key at all: it is taken as plain RTP.
    Plain,
    Opened,
    /// A second copy, or older than the replay window.
    Replayed,
    /// The flow has a key, and the packet is not sealed with it.
    Refused,
    /// No key fits the flow.
    Unkeyed,
}

/// Every key there is, and which flow uses which. That is told by a handshake in the capture, else found by
/// trying.
#[derive(Debug, Default)]
pub(super) struct KeyRing {
    keys: Vec<Inbound>,
    flows: BTreeMap<Flow, FlowKey>,
    /// By the number of the key and the source.
    windows: BTreeMap<(usize, u32), ReplayWindow>,
    /// Handshakes whose secret is not there yet.
    waiting: Vec<Handshake>,
    /// Opening spoils a packet that does not open, so each key gets a copy.
    buffer: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct FlowKey {
    /// Number of the key that opened a packet of the flow, or was agreed for it.
    bound: Option<usize>,
    /// Packets for which every other key was tried, and how many keys there were then.
    tries: u32,
    tried: usize,
}

impl KeyRing {
    pub(super) fn new(keys: Vec<Inbound>) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    /// Keys there are, one a direction.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Handshakes that agreed on SRTP and whose secret never came.
    pub(super) fn secrets_missing(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a handshake, whose keys are its flows' from here on. Without its secret it waits for that.
    pub(super) fn add_handshake(&mut self, log: &KeyLog, handshake: Handshake) {
        if self.keys.len().saturating_add(self.waiting.len()) >= REPLAY_KEYS_MAX {
            return;
        }
        let Some(keys) = log.keys(&handshake) else {
            self.waiting.push(handshake);
            return;
        };
        for (flow, key) in [handshake.path, handshake.path.reversed()]
            .into_iter()
            .zip(keys)
        {
            let bound = FlowKey {
                bound: Some(self.keys.len()),
                ..FlowKey::default()
            };
            self.keys.push(key);
            self.remember(flow, bound);
        }
    }

    /// Secrets were added to the log: looks again for those that were missed.
    pub(super) fn add_secrets(&mut self, log: &KeyLog) {
        for handshake in std::mem::take(&mut self.waiting) {
            self.add_handshake(log, handshake);
        }
    }

    /// Opens an RTP packet that has this position, or else a compound of RTCP.
    pub(super) fn open(&mut self, flow: Flow, rtp: Option<RtpPosition>, packet: &[u8]) -> Opening {
        if self.keys.is_empty() {
            return Opening::Plain;
        }
        let mut key = self.flows.get(&flow).copied().unwrap_or_default();
        if let Some(bound) = key.bound {
            match self.open_with(bound, rtp, packet) {
                Ok(()) => return Opening::Opened,
                Err(OpenError::Replayed) => return Opening::Replayed,
                Err(_) => {}
            }
        }
        if key.tried < self.keys.len() {
            (key.tries, key.tried) = (0, self.keys.len());
        }
        let mut opening = match key.bound {
            Some(_) => Opening::Refused,
            None => Opening::Unkeyed,
        };
        if key.tries < REPLAY_KEY_TRIES_MAX {
            key.tries = key.tries.saturating_add(1);
            let mut others = (0..self.keys.len()).filter(|number| Some(*number) != key.bound);
            if let Some(number) = others.find(|number| self.open_with(*number, rtp, packet).is_ok())
            {
                (key.bound, key.tries) = (Some(number), 0);
                opening = Opening::Opened;
            }
            self.remember(flow, key);
        }
        opening
    }

    /// The packet that was opened last.
    pub(super) fn opened(&self) -> &[u8] {
        &self.buffer
    }

    fn open_with(
        &mut self,
        number: usize,
        rtp: Option<RtpPosition>,
        packet: &[u8],
    ) -> Result<(), OpenError> {
        self.buffer.clear();
        self.buffer.extend_from_slice(packet);
        let key = self.keys.get_mut(number).ok_or(OpenError::Short)?;
        let Some(position) = rtp else {
            return key.open_rtcp(&mut self.buffer).map(drop);
        };
        let place = (number, position.ssrc);
        let opened = match self.windows.get_mut(&place) {
            Some(window) => key.open_rtp(window, position, &mut self.buffer)?,
            None => {
                let mut window = ReplayWindow::default();
                let opened = key.open_rtp(&mut window, position, &mut self.buffer)?;
                if self.windows.len() < REPLAY_STREAMS_MAX {
                    self.windows.insert(place, window);
                }
                opened
            }
        };
        self.buffer.truncate(opened.length);
        Ok(())
    }

    fn remember(&mut self, flow: Flow, key: FlowKey) {
        if self.flows.len() < REPLAY_STREAMS_MAX || self.flows.contains_key(&flow) {
            self.flows.insert(flow, key);
        }
    }
}
