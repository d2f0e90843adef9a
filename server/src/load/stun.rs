//! Connectivity checks and their answers (RFC 8445 §7, RFC 8489), in buffers of fixed size.

use std::net::{IpAddr, SocketAddr};

use antiphon_core::plan::IceCredentials;
use antiphon_core::wire::stun::has_wrong_fingerprint;
use aws_lc_rs::hmac;

/// A check has a user name of up to 256 + 1 + 32 bytes, and 80 bytes besides.
const MESSAGE_BYTES_MAX: usize = 384;
const HEADER_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = 4 + 20;
const FINGERPRINT_BYTES: usize = 4 + 4;

const REQUEST: [u8; 2] = [0x00, 0x01];
const SUCCESS: [u8; 2] = [0x01, 0x01];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;

/// PRIORITY of our checks: that of a peer-reflexive candidate (RFC 8445 §7.1.1).
const OUR_PRIORITY: u32 = 110 << 24 | 0xff_ffff;

/// What names one check.
pub(super) type Transaction = [u8; 12];

/// A message that is ready to be sent.
#[derive(Debug)]
pub(super) struct Message {
    bytes: [u8; MESSAGE_BYTES_MAX],
    length: usize,
}

impl Message {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn new(kind: [u8; 2], transaction: Transaction) -> Self {
        let mut message = Self {
            bytes: [0; MESSAGE_BYTES_MAX],
            length: 0,
        };
        message.put(&kind);
        message.put(&[0, 0]);
        message.put(&COOKIE);
        message.put(&transaction);
        message
    }

    /// Takes what fits; the lengths of all that is written here are bounded by whoever gives it.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            room.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    fn attribute(&mut self, kind: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&kind.to_be_bytes());
        self.put(&(length as u16).to_be_bytes());
        parts.iter().for_each(|part| self.put(part));
        self.put(&[0; 3][..length.wrapping_neg() % 4]);
    }

    /// Both sums cover a header whose length already counts them (RFC 8489 §14.5, §14.7).
    fn sign(mut self, password: &str) -> Self {
        let length = self.length - HEADER_BYTES + INTEGRITY_BYTES;
        let integrity = integrity(self.as_bytes(), length as u16, password);
        self.attribute(MESSAGE_INTEGRITY, &[integrity.as_ref()]);
        let length = (self.length - HEADER_BYTES + FINGERPRINT_BYTES) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let sum = crc32fast::hash(self.as_bytes()) ^ 0x5354_554e;
        self.attribute(FINGERPRINT, &[&sum.to_be_bytes()]);
        self
    }
}

/// A check that nominates, as the controlling side sends it.
pub(super) fn check(
    local: &IceCredentials,
    remote: &IceCredentials,
    tie_breaker: u64,
    transaction: Transaction,
) -> Message {
    let mut message = Message::new(REQUEST, transaction);
    let name = [remote.ufrag.as_bytes(), b":", local.ufrag.as_bytes()];
    message.attribute(USERNAME, &name);
    message.attribute(PRIORITY, &[&OUR_PRIORITY.to_be_bytes()]);
    message.attribute(ICE_CONTROLLING, &[&tie_breaker.to_be_bytes()]);
    message.attribute(USE_CANDIDATE, &[]);
    message.sign(&remote.password)
}

/// The transaction of an authentic answer to a check of ours.
pub(super) fn answered(datagram: &[u8], remote: &IceCredentials) -> Option<Transaction> {
    let sound = datagram.starts_with(&SUCCESS) && is_authentic(datagram, &remote.password);
    sound.then(|| transaction(datagram))?
}

/// The answer to an authentic check of the other side's, which came from `source`.
pub(super) fn answer(
    datagram: &[u8],
    local: &IceCredentials,
    source: SocketAddr,
) -> Option<Message> {
    if !datagram.starts_with(&REQUEST) || !is_authentic(datagram, &local.password) {
        return None;
    }
    let (_, name) = attributes(datagram).find(|(kind, _)| *kind == USERNAME)?;
    let ours = name.strip_prefix(local.ufrag.as_bytes())?;
    if !ours.starts_with(b":") {
        return None;
    }
    let mut message = Message::new(SUCCESS, transaction(datagram)?);
    let mask = [&datagram[4..8], &datagram[8..20]].concat();
    let mut address = match source.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let family = if address.len() == 4 { 1 } else { 2 };
    let xor = |(byte, mask): (&mut u8, &u8)| *byte ^= mask;
    address.iter_mut().zip(&mask).for_each(xor);
    let mut port = source.port().to_be_bytes();
    port.iter_mut().zip(&mask).for_each(xor);
    message.attribute(XOR_MAPPED_ADDRESS, &[&[0, family], &port, &address]);
    Some(message.sign(&local.password))
}

fn transaction(datagram: &[u8]) -> Option<Transaction> {
    datagram.get(8..HEADER_BYTES)?.try_into().ok()
}

/// Whether MESSAGE-INTEGRITY is that of this password, and FINGERPRINT, if there is one, right.
fn is_authentic(datagram: &[u8], password: &str) -> bool {
    let mut at = HEADER_BYTES;
    for (kind, value) in attributes(datagram) {
        if kind == MESSAGE_INTEGRITY {
            let length = (at - HEADER_BYTES + INTEGRITY_BYTES) as u16;
            let expected = integrity(&datagram[..at], length, password);
            return value == expected.as_ref() && !has_wrong_fingerprint(datagram);
        }
        at += 4 + value.len().next_multiple_of(4);
    }
    false
}

/// Of a message up to, and without, the attribute; its header shall say `length`.
fn integrity(message: &[u8], length: u16, password: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(&message[..2]);
    context.update(&length.to_be_bytes());
    context.update(&message[4..]);
    context.sign()
}

/// Type and value of each whole attribute of a message that is one.
fn attributes(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let is_stun = |rest: &&[u8]| {
        datagram[4..8] == COOKIE && datagram[2..4] == (rest.len() as u16).to_be_bytes()
    };
    let mut rest = datagram.get(HEADER_BYTES..).filter(is_stun);
    std::iter::from_fn(move || {
        let [k0, k1, l0, l1, after @ ..] = rest? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = after.get(..length)?;
        rest = after.get(length.next_multiple_of(4)..);
        Some((u16::from_be_bytes([*k0, *k1]), value))
    })
}

#[cfg(test)]
mod tests {
    use antiphon_core::fuzzing::binding_request;
    use antiphon_core::rng::Seed;
    use antiphon_core::wire::stun::local_ufrag;

    use super::*;

    fn credentials(name: &str) -> IceCredentials {
        IceCredentials {
            ufrag: name.to_owned(),
            password: format!("the-password-of-{name}-is-long"),
        }
    }

    #[test]
    fn a_check_names_the_other_side_and_is_authentic_to_it_alone() {
        let (ours, theirs) = (credentials("ours"), credentials("theirs"));
        let transaction = *b"twelve bytes";
        let check = check(&ours, &theirs, 7, transaction);
        let bytes = check.as_bytes();
        assert_eq!(local_ufrag(bytes), Ok(Some("theirs")));
        assert!(!has_wrong_fingerprint(bytes));
        assert!(is_authentic(bytes, &theirs.password));
        assert!(!is_authentic(bytes, &ours.password));
        let controlling = (ICE_CONTROLLING, &7_u64.to_be_bytes()[..]);
        assert!(attributes(bytes).any(|attribute| attribute == controlling));
        assert!(attributes(bytes).any(|(kind, _)| kind == USE_CANDIDATE));

        let reply = answer(bytes, &theirs, "127.64.0.1:9".parse().unwrap()).expect("it is a check");
        assert_eq!(answered(reply.as_bytes(), &theirs), Some(transaction));
        assert_eq!(answered(reply.as_bytes(), &ours), None);
        assert_eq!(answered(bytes, &theirs), None);
        // RFC 8489 §14.2: port 9 and 127.64.0.1, each under the magic cookie.
        let mapped = [0, 1, 0x21, 0x1b, 0x5e, 0x52, 0xa4, 0x43];
        assert!(attributes(reply.as_bytes()).any(|found| found == (XOR_MAPPED_ADDRESS, &mapped)));
    }

    #[test]
    fn a_check_written_by_others_is_answered_and_one_for_somebody_else_is_not() {
        let ours = credentials("ours");
        let source = "[::1]:9".parse().unwrap();
        let check = binding_request("ours:theirs", &ours.password, 1, false);
        let reply = answer(&check, &ours, source).expect("it is a check");
        assert!(is_authentic(reply.as_bytes(), &ours.password));
        let other = binding_request("oursel:theirs", &ours.password, 1, false);
        assert!(answer(&other, &ours, source).is_none());
        let forged = binding_request("ours:theirs", "another password, not ours", 1, false);
        assert!(answer(&forged, &ours, source).is_none());
    }

    #[test]
    fn broken_and_random_messages_are_nothing() {
        let (ours, source) = (credentials("ours"), "127.0.0.1:9".parse().unwrap());
        let good = binding_request("ours:theirs", &ours.password, 1, false);
        let mut rng = Seed::new([5; 32]).rng();
        for length in 0..good.len() {
            assert!(answer(&good[..length], &ours, source).is_none());
        }
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            // Another type of the last attribute makes no broken message.
            let at = rng.u32() as usize % (bytes.len() - FINGERPRINT_BYTES);
            let flip = (rng.u32() as u8).max(1);
            bytes[at] ^= flip;
            assert!(
                answer(&bytes, &ours, source).is_none(),
                "byte {at} ^ {flip}"
            );
            answered(&bytes, &ours);
            rng.fill(&mut bytes[20..]);
            answer(&bytes, &ours, source);
        }
    }
}
