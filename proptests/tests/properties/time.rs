//! D4 and D5: clocks that go back, and clocks that jump.

use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::{RequestId, ShardId};
use antiphon_core::limits::SETUP_TIMEOUT;
use antiphon_core::message::{CloseReason, Command, Event, Role};
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, TableSizes, Tuning};
use antiphon_core::time::{Epoch, Timestamp};

use crate::determinism::plan;

const START: Timestamp = Timestamp::from_millis(20_000);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A shard with so many sessions, opened at `START`.
fn shard(sessions: u32) -> Shard {
    let config = ShardConfig {
        identity: Arc::new(Identity::generate().expect("the library works")),
        sessions_max: sessions,
        tuning: Tuning::default(),
    };
    let (epoch, seed) = (Epoch::simulated(), Seed::new([1; 32]));
    let shard = Shard::new(ShardId(0), Arc::new(config), epoch, seed);
    let mut shard = shard.expect("a valid configuration");
    for number in 0..sessions {
        let open = Command::Open {
            request: RequestId(number.into()),
            plan: Box::new(plan(0)),
            role: Role::Echo,
        };
        shard.handle_command(START, open);
        assert!(matches!(shard.poll_event(), Some(Event::Opened { .. })));
    }
    shard
}

/// Sessions that ended, for this reason.
fn ended(shard: &mut Shard, why: CloseReason) -> usize {
    let events = std::iter::from_fn(|| shard.poll_event());
    let closed = |event| matches!(event, Event::Closed { reason, .. } if reason == why);
    events.map(|event| assert!(closed(event))).count()
}

#[test]
fn a_clock_that_goes_back_stands_still_and_is_counted() {
    let mut shard = shard(3);
    let (before, deadline) = (shard.stats(), shard.deadline());
    shard.handle_timeout(START);
    assert_eq!(shard.stats(), before, "the same time again is no step back");
    for back in [Duration::from_nanos(1), Duration::from_secs(19)] {
        shard.handle_timeout(START.before(back));
    }
    assert_eq!(shard.stats().clock_steps_back, 2);
    assert_eq!(shard.deadline(), deadline);
    assert_eq!(ended(&mut shard, CloseReason::SetupTimeout), 0);
    // The time that was seen counts on.
    shard.handle_timeout(START + SETUP_TIMEOUT);
    assert_eq!(ended(&mut shard, CloseReason::SetupTimeout), 3);
}

/// What a jump costs depends on the sessions, not on its length: each is woken once.
#[test]
fn a_jump_of_ten_years_wakes_each_session_once() {
    const SESSIONS: u32 = 1_000;
    let mut shard = shard(SESSIONS);
    shard.handle_timeout(START + TEN_YEARS);
    assert_eq!(
        ended(&mut shard, CloseReason::SetupTimeout),
        SESSIONS as usize
    );
    assert_eq!(shard.stats().timeouts, u64::from(SESSIONS));
    assert_eq!(shard.table_sizes(), TableSizes::default());
    assert_eq!(shard.deadline(), None);
}
