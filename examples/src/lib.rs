//! What the example programs share: a native WHIP client that calls any server many times over.
//!
//! ```text
//! Offered -> http::request (POST) -> Caller -> Engine (one thread, one socket, an address a call)
//! ```
//!
//! The protocol is str0m's, so that a figure or a failure is judged by code that is not the server's.
#![forbid(unsafe_code)]

pub mod caller;
pub mod dialogues;
pub mod dtls;
pub mod engine;
pub mod figures;
pub mod hostile;
pub mod http;
pub mod process;
