//! M1 to M6: a datagram reaches the session that proved its source, or none.

use antiphon_core::fuzzing;
use antiphon_core::rng::Seed;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;

proptest! {
    #![proptest_config(config(256))]

    /// Few sessions on few addresses, so that all of it meets: the model is in `core/src/fuzzing/demux.rs`.
    #[test]
    fn churn_on_shared_addresses_agrees_with_plain_tables(bytes in vec(any::<u8>(), 0..2_000)) {
        fuzzing::demux_ops(&bytes);
    }

    /// Sessions, rooms and deadlines likewise: `core/src/fuzzing/shard.rs`.
    #[test]
    fn a_shard_agrees_with_a_plain_model(bytes in vec(any::<u8>(), 0..2_000)) {
        fuzzing::shard_ops(&bytes);
    }
}

#[test]
fn a_thousand_sessions_come_go_and_move_and_none_hears_anothers() {
    fuzzing::demux_crowd(1_000, 20_000, &Seed::new([3; 32]));
}
