//! SRTP and SRTCP (RFC 3711, RFC 7714): what turns RTP into the bytes on the wire, and back.
//!
//! ```text
//! DTLS exporter ── KeyingMaterial ──┬── Inbound  + a ReplayWindow per source
//!                                   └── Outbound + a SendSource per source
//! ```
//!
//! Keys are expanded once a session. A packet is opened where it lies and sealed into the caller's
//! buffer; neither allocates. Nothing an attacker without the keys can send changes any state here.
//!
//! Nonces are the one thing that must never go wrong: a nonce used twice under one key gives the
//! key stream away, and with AES-GCM the authentication key too. So RTP is sealed only through a
//! [`SendSource`]. There is one per synchronisation source and key, it cannot be cloned, and it
//! refuses every number it has seen or forgotten. To send a packet again, send the same sealed
//! bytes again, or wrap it in a retransmission with a number of its own (RFC 4588).
//!
//! This module never looks into payloads, never parses an RTP header, and never chooses keys.

mod cm;
mod gcm;
mod inbound;
mod keys;
mod outbound;
mod suite;
mod window;

pub use inbound::{Inbound, OpenError, Opened, RtpPosition};
pub use keys::{KeyError, KeyingMaterial};
pub use outbound::{Outbound, SealError, SendSource};
pub use window::ReplayWindow;

/// Bytes of an RTCP packet that stay in the clear: the first header and the sender's source.
pub(crate) const RTCP_CLEAR_BYTES: usize = 8;
/// Packet indices of SRTP are 48 bits: rollover counter and sequence number.
pub(crate) const RTP_INDEX_END: u64 = 1 << 48;
/// Packet indices of SRTCP are 31 bits.
const RTCP_INDEX_END: u32 = 1 << 31;
/// Set in the index word of an SRTCP packet that is encrypted, as all are here.
const RTCP_ENCRYPTED: u32 = 1 << 31;

#[cfg(test)]
mod tests;
