//! The simulator's port without a world, for the suite that every port passes and whoever else drives one turner.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::port::{Cut, SimPort};
use crate::drive::{Full, RelayLanes, Turn, Turner};
use crate::ids::ShardId;
use crate::limits::COMMANDS_MAX;
use crate::message::{Command, Event};
use crate::time::Timestamp;

/// Where the turner listens.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);

/// What waits for a turner, and what it put out.
#[derive(Debug)]
pub struct Queues(SimPort);

impl Queues {
    /// Empty. The sends in these places, counted from 0, find the socket full.
    #[must_use]
    pub fn new(shard: ShardId, full_sends: &'static [u64]) -> Self {
        let relays = RelayLanes::default().open(shard, || ());
        let mut port = SimPort::new(Cut::default(), SERVER.port(), relays);
        port.full_sends = full_sends;
        Self(port)
    }

    /// Puts a command into the lane.
    ///
    /// # Errors
    /// [`Full`] with the command.
    pub fn command(&mut self, command: Command) -> Result<(), Full<Command>> {
        if self.0.commands.len() >= COMMANDS_MAX {
            return Err(Full(command));
        }
        self.0.commands.push_back(command);
        Ok(())
    }

    /// A datagram arrives.
    pub fn deliver(&mut self, now: Timestamp, source: SocketAddr, contents: &[u8]) {
        let pool = &mut self.0.pool;
        let place = pool.put((source, SERVER), contents.len(), |out| {
            out.copy_from_slice(contents);
            Some(contents.len())
        });
        if let Some(place) = place {
            pool.at_mut(place).received = now;
            self.0.inbound.push_back(place);
        }
    }

    /// Turns; for the last time, if so.
    pub fn turn(&mut self, now: Timestamp, turner: &mut impl Turner, last: bool) -> Turn {
        self.0.now = now;
        self.0.left = self.0.cut.per_turn;
        if last {
            turner.finish(&mut self.0);
            self.0.left = self.0.cut.per_turn;
        }
        turner.turn(now, &mut self.0)
    }

    /// Whether commands or datagrams wait to be taken.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.0.commands.is_empty() || !self.0.inbound.is_empty()
    }

    /// The oldest event that nobody has taken.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.0.events.pop_front()
    }

    /// The oldest datagram to anybody that nobody has taken.
    pub fn poll_sent(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let place = self.0.outbound.pop_front()?;
        let flying = self.0.pool.at(place);
        let sent = (flying.destination, flying.contents.clone());
        self.0.pool.free(place);
        Some(sent)
    }

    /// Sends that found the socket full.
    #[must_use]
    pub const fn blocked(&self) -> u64 {
        self.0.blocked
    }
}
