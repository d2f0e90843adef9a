//! Batched UDP for the drivers: one socket a shard, read with `recvmmsg`, written with `sendmmsg` and
//! segmentation offload. Knows no runtime; Linux only.
//!
//! ```text
//! RecvBatch     <- Socket::recv <- headers <- recvmmsg   (addresses, ECN, kernel stamp, GRO stride)
//! TransmitBatch -> Socket::send -> runs    -> sendmmsg   (source address, ECN, segment size)
//! ```
//!
//! [`Clock`] is the one reader of the operating system's clocks. Unsafe code lives in `sys` only.
#![deny(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("antiphon-udp speaks the system calls of 64-bit Linux");

mod address;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
mod runs;
mod socket;
mod stats;
#[expect(unsafe_code, reason = "recvmmsg and sendmmsg take raw pointers")]
mod sys;

pub use clock::Clock;
pub use socket::{RECV_BUFFER_BYTES_WANTED, SendOutcome, Socket};
pub use stats::{SocketCounters, SocketStats};
#[cfg(any(test, feature = "conformance"))]
pub use sys::Fault;
