//! Session descriptions: reads a peer's offer, decides what we agree to and writes the answer.
//!
//! ```text
//!  body ─► Offer::parse ─► Offer::negotiate ─► SessionPlan ─► shard ─► LocalDescription
//!                                 └──► Negotiated::answer ◄──────────────────┘
//! ```
//!
//! The reader visits each line once, keeps slices of the text and refuses by naming the line and
//! the limit. It runs on the server's threads, never on a shard's. It is not a general SDP library:
//! it knows what a WebRTC peer offers a server that is ICE-lite, has one port and bundles
//! everything, and ignores the rest. Nothing here resolves a name or looks at a candidate's
//! address: a lite agent sends only to addresses that proved themselves.

mod answer;
mod attributes;
mod error;
mod formats;
mod fragment;
mod lines;
mod negotiate;
mod offer;

pub use answer::Negotiated;
pub use error::{SdpError, SdpErrorKind};
pub use fragment::{Fragment, write_restart_fragment};
pub use negotiate::Purpose;
pub use offer::Offer;

/// Canonical name of everything we send (RFC 3550 §6.5.1). One name for all sources of a session
/// lets a browser play its audio and video in step; it says nothing about who is behind them.
pub const CNAME: &str = "antiphon";

#[cfg(test)]
mod tests;
