//! The HTTP face of the server, over real sockets of this machine and shards that are fakes.
//!
//! Tests of protocol rows carry the row's number from the WHIP and WHEP checklist: `w1_…`, `s4_…`.

mod client;
mod fake;
mod offers;
#[cfg(feature = "grpc")]
mod program;
mod rig;

mod agents;
mod api;
mod files;
mod hostile;
mod lifecycle;
#[cfg(feature = "onnx")]
mod models;
#[cfg(feature = "grpc")]
mod programs;
#[cfg(feature = "grpc")]
mod python;
mod resource;
mod rooms;
mod tls;
mod tokens;
mod whep;
mod whip;
