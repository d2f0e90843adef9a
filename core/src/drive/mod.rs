//! What a driver needs: the [`Port`] it lends the pump, the batches that cross it, and the mailbox.
//!
//! A driver owns sockets, a clock and a way to wait. It never looks inside a datagram.

mod batch;
mod mailbox;

pub use batch::{Lane, RecvBatch, RecvMeta, TransmitBatch, TransmitMeta};
pub use mailbox::{Full, Mailbox};

use crate::ids::ShardId;
use crate::message::{Command, Event, Relay};
use crate::time::Timestamp;

/// What a runtime lends for one turn. Nothing here blocks or awaits.
pub trait Port {
    /// The driver's clock. The pump reads it once a turn as `now`, and again after each send for the
    /// forwarding-delay statistic, which decides nothing.
    fn now(&self) -> Timestamp;
    /// Fills the batch with what has arrived; leaves it empty when nothing has.
    fn recv(&mut self, batch: &mut RecvBatch);
    /// The next command from the server, if any.
    fn next_command(&mut self) -> Option<Command>;
    /// The next relay from a peer shard, if any.
    fn next_relay(&mut self) -> Option<(ShardId, Relay)>;
    /// Sends from the front of the batch and consumes what was sent or refused for good; what the
    /// socket has no room for stays.
    fn send(&mut self, batch: &mut TransmitBatch);
    /// Hands a relay to a peer shard. May drop; counts it.
    fn relay(&mut self, to: ShardId, relay: Relay);
    /// Hands an event to the server. May not drop.
    fn emit(&mut self, event: Event);
}

/// What to do after a turn of the pump.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The budget is spent and work remains: yield, then turn again.
    Again,
    /// Wait until this deadline (`None`: no timer pending), a datagram, the mailbox, or, while
    /// transmits remain unsent, until the socket is writable.
    Wait {
        /// The earliest deadline.
        deadline: Option<Timestamp>,
        /// Transmits remain: wake on writability too.
        writable: bool,
    },
}
