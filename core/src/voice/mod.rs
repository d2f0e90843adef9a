//! Who speaks, and when a turn ends: pure decisions over frames of features.
//!
//! ```text
//!   decoded sound, 10 ms                  the agent's playout    a recogniser's hints
//!            |                                     |                     |
//!        Analyser  ---- Features (integers) --> TurnDetector <-----------+
//!                                                  |
//!                                              VoiceEvent
//! ```
//!
//! The [`Analyser`](features::Analyser) hears; the [`TurnDetector`](turns::TurnDetector) decides. A decision depends on
//! nothing but the features, hints, playout and times that were given, all of them integers.

pub mod config;
pub mod echo;
mod evidence;
pub mod features;
mod interruption;
mod level;
pub mod message;
mod nearness;
mod pitch;
pub mod turns;
mod vad;
