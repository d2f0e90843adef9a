//! A client outside of any world: whoever drives it carries its datagrams, over real sockets say.

use std::net::SocketAddr;

use super::{Outbox, ScriptedPeer};
use crate::sim::queue::Pool;

/// A scripted client, and where it puts what it sends.
#[derive(Debug)]
pub struct Alone {
    /// The client, to look at.
    pub peer: ScriptedPeer,
    pool: Pool,
    sent: Vec<u32>,
    ends: (SocketAddr, SocketAddr),
}

impl Alone {
    /// A client at the first of these addresses that calls the second.
    #[must_use]
    pub fn new(peer: ScriptedPeer, ends: (SocketAddr, SocketAddr)) -> Self {
        Self {
            peer,
            pool: Pool::default(),
            sent: Vec::new(),
            ends,
        }
    }

    /// Calls the client, and gives what it sends to `send`.
    pub fn call(
        &mut self,
        act: impl FnOnce(&mut ScriptedPeer, &mut Outbox<'_>),
        mut send: impl FnMut(&[u8]),
    ) {
        let mut out = Outbox {
            pool: &mut self.pool,
            sent: &mut self.sent,
            ends: self.ends,
        };
        act(&mut self.peer, &mut out);
        for place in self.sent.drain(..) {
            send(&self.pool.at(place).contents);
            self.pool.free(place);
        }
    }
}
