//! Forwarding: which packets of which source reach which subscriber, and under which numbers.

pub mod rewrite;
