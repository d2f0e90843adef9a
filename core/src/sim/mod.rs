//! Worlds in simulated time: shards under the real pump, clients, the network between them, and judges.
//!
//! ```text
//! source ─▶ peer ─▶ link up ─▶ SimPort ─▶ Pump ─▶ Shard
//!            ▲                    │          │
//!            └──── link down ◀────┘          └─▶ Digest
//! ```
//!
//! A [`World`](world::World) owns all of it and one clock that jumps from event to event, so that hours pass in
//! seconds. The simulator is one more [`Port`](crate::drive::Port): pump, batches and shard are those of production.
//! Everything random derives from one seed, so a run is a number, and its [`Digest`](crate::drive::Digest) says
//! whether two runs were the same.
//!
//! Sessions make their keys by a scripted handshake (`session::transport::scripted`), not by DTLS, whose bytes come
//! from the operating system. Nothing here is secure, and nothing here is part of a server's packet path.

pub mod churn;
pub mod hostile;
pub mod link;
mod members;
pub mod oracle;
pub mod peer;
mod port;
mod queue;
pub mod queues;
pub mod scenario;
pub mod source;
pub mod world;
