//! A journal: everything that changed a shard, in order, so that the run can be had again.
//!
//! ```text
//! recording   driver's Port ◄─► Tap ◄─► Pump ─► Shard          replay   Reader ─► Player ─► Pump ─► Shard
//!                                │                                                  │
//!                             Recorder ─► chunks ─► Sink                         what came of it, and
//!                                                                                whether it was the same
//! ```
//!
//! The layout of a file is in `docs/journal.md`. Nothing here does I/O: the writer makes bytes, the reader takes them.

mod birth;
mod bisect;
mod player;
mod reader;
mod record;
mod recorder;
mod redact;
mod ring;
mod standing;
mod turns;
mod writer;

pub use birth::{Birth, Counts};
pub use bisect::{BisectError, Found, LastInput, Shown, bisect};
pub use player::{Difference, Differs, Player, Step, Witness};
pub use reader::{ReadError, Reader};
pub use record::{EndReason, Header, Lost, Payloads, Record, Rest, Retention, Slot};
pub(crate) use recorder::Tap;
pub use recorder::{Chunk, Kept, Recorder, Sink, Taken};
pub use redact::redact;
pub use ring::Ring;
pub use standing::{Known, Standing};
pub use turns::{Entry, RecordedTurn, Turns};
pub use writer::{MAGIC, VERSION, begin, put};
#[cfg(any(test, feature = "sim"))]
pub(crate) use writer::{body, resound};

#[cfg(test)]
mod tests;
