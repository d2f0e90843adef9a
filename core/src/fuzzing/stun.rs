//! Connectivity checks as a peer sends them, written without the ICE crate.

use aws_lc_rs::hmac;

const HEADER_BYTES: usize = 20;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;

/// A binding request (RFC 8445 §7.2) for the agent named by the part of `username` before the colon, with its
/// `password`. `number` sets the transaction.
#[must_use]
pub fn binding_request(username: &str, password: &str, number: u32, nominate: bool) -> Vec<u8> {
    // Those bytes of a transaction's number by which a shard knows it again.
    let mut transaction = [0; 12];
    transaction[..4].copy_from_slice(&number.to_be_bytes());
    check(username, password, transaction, 0x6e7f_00ff, nominate)
}

/// The same, of any transaction and priority.
pub(crate) fn check(
    username: &str,
    password: &str,
    transaction: [u8; 12],
    priority: u32,
    nominate: bool,
) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend_from_slice(&transaction);
    attribute(&mut message, USERNAME, username.as_bytes());
    attribute(&mut message, PRIORITY, &priority.to_be_bytes());
    attribute(&mut message, ICE_CONTROLLING, &1_u64.to_be_bytes());
    if nominate {
        attribute(&mut message, USE_CANDIDATE, &[]);
    }
    sign(&mut message, password);
    message
}

/// The answer to a check, by the agent with this `password`; `None` if the bytes are no check. The address in it is
/// none: a lite agent that asks whether anybody is there knows its own.
pub(crate) fn answer(check: &[u8], password: &str) -> Option<Vec<u8>> {
    let transaction = check.get(4..HEADER_BYTES)?;
    if !check.starts_with(&[0, 1]) {
        return None;
    }
    let mut message = vec![1, 1, 0, 0];
    message.extend_from_slice(transaction);
    attribute(&mut message, XOR_MAPPED_ADDRESS, &[0, 1, 0, 0, 0, 0, 0, 0]);
    sign(&mut message, password);
    Some(message)
}

/// Both sums cover a header whose length already counts them (RFC 8489 §14.5, §14.7).
fn sign(message: &mut Vec<u8>, password: &str) {
    set_length(message, 4 + 20);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let integrity = hmac::sign(&key, message);
    attribute(message, MESSAGE_INTEGRITY, integrity.as_ref());
    set_length(message, 4 + 4);
    let fingerprint = crc32(message) ^ 0x5354_554e;
    attribute(message, FINGERPRINT, &fingerprint.to_be_bytes());
}

/// Whether bytes are the answer to a check of this transaction by the agent with this `password`, and a good one.
pub(crate) fn is_answer(bytes: &[u8], password: &str, transaction: [u8; 12]) -> bool {
    const INTEGRITY_BYTES: usize = 4 + 20;
    const FINGERPRINT_BYTES: usize = 8;
    let Some(signed) = bytes.len().checked_sub(INTEGRITY_BYTES + FINGERPRINT_BYTES) else {
        return false;
    };
    if signed < HEADER_BYTES || bytes[..2] != [1, 1] || bytes[8..20] != transaction {
        return false;
    }
    let mut message = bytes[..signed].to_vec();
    set_length(&mut message, INTEGRITY_BYTES);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let integrity = hmac::sign(&key, &message);
    bytes[signed + 4..][..20] == *integrity.as_ref()
}

fn attribute(message: &mut Vec<u8>, attribute_type: u16, value: &[u8]) {
    message.extend_from_slice(&attribute_type.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
    set_length(message, 0);
}

fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() - HEADER_BYTES + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// As Ethernet and ISO 3309 have it: reflected, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    };
    !bytes.iter().fold(!0, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value every description of CRC-32 gives.
    #[test]
    fn the_sum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
