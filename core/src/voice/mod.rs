//! Who speaks, and when a turn ends: pure decisions over frames of features.

pub mod message;
