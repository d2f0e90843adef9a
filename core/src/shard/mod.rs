//! wip
#![allow(dead_code, reason = "wip")]
mod slab;
mod ufrag;
mod wheel;
