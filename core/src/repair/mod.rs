//! Repair of loss: asking for what is missing, and keeping what others may ask for.
//!
//! Plain state machines over sequence numbers and time. They read no packet and send none.

mod budget;
mod cache;
mod nack;
pub mod rtx;

pub use budget::RetransmitBudget;
pub use cache::{CachedHeader, PacketCache};
pub use nack::{Arrival, NackGenerator};
