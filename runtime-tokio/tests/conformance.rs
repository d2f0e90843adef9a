//! The promises that every driver keeps, kept by this one.

use std::io;
use std::time::Duration;

use antiphon_core::drive::{RelayLanes, ShardHandle, Turner};
use antiphon_core::ids::ShardId;
use antiphon_core::message::Event;
use antiphon_udp::conformance::{Driver, Rig};
use antiphon_udp::{Clock, Socket};

struct Tokio;

impl Driver for Tokio {
    /// Its timers have a grain of 1 ms, on top of which comes the wake-up.
    const LATENESS_MAX: Duration = Duration::from_millis(3);
    const ALLOCATIONS_A_WAIT_MAX: u64 = 0;

    fn spawn<T: Turner + 'static>(
        id: ShardId,
        make: impl FnOnce(&Clock) -> T + Send + 'static,
        socket: Socket,
        clock: Clock,
        relays: &RelayLanes,
        emit: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<ShardHandle> {
        antiphon_runtime_tokio::spawn(id, make, socket, clock, relays, emit)
    }
}

antiphon_udp::conformance_tests!(Tokio);
