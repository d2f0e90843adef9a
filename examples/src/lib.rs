//! What the example programs and their tests share.
//!
//! [`caller`] is a native WHIP client whose protocol is str0m's, so that a failure is judged by code that is not the
//! server's. Who wants many calls takes `antiphon load`.
#![forbid(unsafe_code)]

pub mod caller;
pub mod dialogues;
pub mod dtls;
pub mod figures;
pub mod hostile;
pub mod http;
