//! Dialogues made of espeak-ng's voices, and noise, echo and loss: what turn detection is measured on.
//!
//! ```text
//! texts -> espeak-ng -> clauses -> turns with pauses -> room (noise, babble) -> Opus with loss -> Features
//! ```
//!
//! All that is random comes from a seed. Nobody's recording is used, and no sound is kept.

pub mod overlap;
pub mod scene;
pub mod speech;
pub mod texts;
