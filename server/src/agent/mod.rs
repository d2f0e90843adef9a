//! Agents: the programs that answer calls, built in or at the other end of a gRPC stream.
//!
//! Nothing here waits for a program. What a call hears goes into a bounded queue ([`Calls::hear`]); a program that does
//! not take it loses sound first, and then its stream. Media flows on in the shard either way.

mod built_in;
mod call;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "grpc")]
mod hint;
mod meters;
mod parrot;
mod registry;
mod tone;
mod voice;

pub use built_in::BuiltIn;
pub use call::{AgentSeat, Call, Calls, Ear, Mouth, Overloaded};
pub use meters::AgentMeters;
pub use parrot::Parrot;
pub use registry::{Agents, Summons, eagerness};
pub use tone::Tone;
pub(crate) use voice::describe_voice;
pub use voice::routes;
