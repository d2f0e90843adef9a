//! The promises that every driver keeps, kept by this one, however long it may nap.

use std::io;
use std::time::Duration;

use antiphon_core::drive::{RelayLanes, ShardHandle, Turner};
use antiphon_core::ids::ShardId;
use antiphon_core::message::Event;
use antiphon_runtime_glommio::{Settings, probe, spawn};
use antiphon_udp::conformance::{Driver, Rig, Sockets};
use antiphon_udp::{Clock, Socket};

/// Naps of at most so many microseconds while it is busy.
struct Glommio<const MAX_COALESCE_MICROS: u64>;

impl<const MAX_COALESCE_MICROS: u64> Driver for Glommio<MAX_COALESCE_MICROS> {
    const LATENESS_MAX: Duration = Duration::from_millis(1);
    /// Measured: four to six, all of them its executor's and its timer's own.
    const ALLOCATIONS_A_WAIT_MAX: u64 = 10;

    fn missing() -> Option<String> {
        probe().err().map(|why| why.to_string())
    }

    fn spawn<T: Turner + 'static>(
        id: ShardId,
        make: impl FnOnce(&Clock) -> T + Send + 'static,
        socket: Socket,
        clock: Clock,
        relays: &RelayLanes,
        emit: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<ShardHandle> {
        let settings = Settings {
            max_coalesce: Duration::from_micros(MAX_COALESCE_MICROS),
            cpu: None,
        };
        spawn(id, settings, make, socket, clock, relays, emit)
    }
}

antiphon_udp::conformance_tests!(Glommio<500>);

mod latency_first {
    use super::*;

    antiphon_udp::rig_tests!(Sockets<Glommio<0>>);
    antiphon_udp::conformance_bodies!(Glommio<0>:
        a_datagram_allocates_nothing,
        a_command_beside_datagrams_is_answered_promptly,
    );
}

/// Naps of about 100 ms, which only commands and deadlines end.
mod drowsy {
    use super::*;

    antiphon_udp::conformance_bodies!(Sockets<Glommio<1_000_000>>: deadlines_are_kept);
    antiphon_udp::conformance_bodies!(Glommio<1_000_000>:
        a_command_beside_datagrams_is_answered_promptly,
    );
}

mod placing {
    use antiphon_runtime_glommio::cpus_for;

    use super::*;

    #[test]
    fn each_shard_gets_a_processor_to_itself_or_none_does() {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let cpus = cpus_for(all);
        assert_eq!(cpus.len(), all);
        assert!(cpus.is_sorted_by(|one, next| one < next), "{cpus:?}");
        assert_eq!(cpus_for(1), cpus[..1]);
        assert_eq!(cpus_for(100_000), []);
    }

    /// Reports the processors its thread may run on, as `sessions`, in the place of a shard.
    #[test]
    fn a_shard_stays_on_its_processor() {
        if let Some(why) = Glommio::<0>::missing() {
            eprintln!("SKIPPED: {why}");
            return;
        }
        let cpu = *cpus_for(1).first().expect("this thread runs somewhere");
        let socket = Socket::bind(([127, 0, 0, 1], 0).into(), 0).expect("loopback has free ports");
        let (sender, placed) = std::sync::mpsc::channel();
        let settings = Settings {
            max_coalesce: Duration::ZERO,
            cpu: Some(cpu),
        };
        let make = move |_: &Clock| {
            sender.send(cpus_for(1)).expect("the test waits");
            assert_eq!(cpus_for(2), [], "one is all it has");
            antiphon_udp::conformance::StandIn::new()
        };
        let shard = spawn(
            ShardId(0),
            settings,
            make,
            socket,
            Clock::start(),
            &RelayLanes::default(),
            drop,
        );
        let shard = shard.expect("it starts");
        assert_eq!(placed.recv(), Ok(vec![cpu]));
        shard.stop();
        shard.join().expect("it ends");
    }

    #[test]
    fn a_processor_that_is_not_there_is_an_error() {
        let socket = Socket::bind(([127, 0, 0, 1], 0).into(), 0).expect("loopback has free ports");
        let settings = Settings {
            max_coalesce: Duration::ZERO,
            cpu: Some(1_023),
        };
        let make = |_: &Clock| antiphon_udp::conformance::StandIn::new();
        spawn(
            ShardId(0),
            settings,
            make,
            socket,
            Clock::start(),
            &RelayLanes::default(),
            drop,
        )
        .unwrap_err();
    }
}
