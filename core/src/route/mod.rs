//! Which packets go where: rooms, who follows whom, and how a stream is rewritten for each follower.

pub(crate) mod desk;
pub mod rewrite;
pub(crate) mod rooms;
pub(crate) mod speaker;
