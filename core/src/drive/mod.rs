//! What a driver needs: the [`Port`] it lends the pump, the batches that cross it, and the mailbox.
//!
//! A driver owns sockets, a clock and a way to wait. It never looks inside a datagram.

mod batch;
mod digest;
mod handle;
mod mailbox;
mod pump;
mod relays;
mod tap;

pub use batch::{Lane, RecvBatch, RecvMeta, TransmitBatch, TransmitMeta};
pub use digest::{Digest, DigestValue};
pub use handle::ShardHandle;
pub use mailbox::{Full, Mailbox};
pub use pump::Pump;
pub use relays::{RelayLane, RelayLanes, RelayStats};
pub use tap::{Sent, Tapped, Watch};

use crate::ids::ShardId;
use crate::limits::LAST_TURNS_MAX;
use crate::message::{Command, Event};
use crate::relay::Relay;
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
    /// The next relay from a peer shard, if any; none, for a shard without peers.
    fn next_relay(&mut self) -> Option<(ShardId, Relay)> {
        None
    }
    /// Sends from the front of the batch and consumes what was sent or refused for good; what the
    /// socket has no room for stays.
    fn send(&mut self, batch: &mut TransmitBatch);
    /// Hands a relay to a peer shard. May drop it, as it does for a shard without peers.
    fn relay(&mut self, _to: ShardId, _relay: Relay) {}
    /// Hands an event to the server. May not drop it, unless it [may be lost](Event::may_be_lost).
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

/// What a driver drives: the pump of a shard in production, a stand-in in conformance tests.
pub trait Turner {
    /// Does a bounded amount of work at time `now` and says how to wait for more.
    ///
    /// [`Turn::Wait`] promises that in this turn `next_command` and `next_relay` gave `None` last,
    /// and that `recv` left the batch empty last: a driver wakes for what arrives after that, and
    /// need not wake for what was left lying.
    fn turn<P: Port>(&mut self, now: Timestamp, port: &mut P) -> Turn;

    /// The last turns of a driver that was told to stop: what was commanded before is still done, and
    /// what can be sent at once is sent. Bounded by [`LAST_TURNS_MAX`], whatever arrives meanwhile.
    fn finish<P: Port>(&mut self, port: &mut P) {
        for _ in 0..LAST_TURNS_MAX {
            if let Turn::Wait { .. } = self.turn(port.now(), port) {
                return;
            }
        }
    }
}
