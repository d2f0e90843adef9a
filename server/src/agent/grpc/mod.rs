//! Programs at the other end of a gRPC stream: those the server dials, and those that connect and wait for calls.

mod flow;
mod program;
mod serve;
mod stream;
mod wire;

/// The protocol, as the build makes it of `proto/antiphon/voice/v1/voice.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "it is generated"
)]
pub mod proto {
    tonic::include_proto!("antiphon.voice.v1");
}

pub(super) use program::converse;
pub use program::{Absence, AgentUrl, Programs};
pub use serve::{Listening, serve};
