//! The promises that every driver keeps, kept by this one.

use std::io;

use antiphon_core::drive::ShardHandle;
use antiphon_udp::conformance::Setup;

fn spawn(setup: Setup) -> io::Result<ShardHandle> {
    let Setup {
        id,
        turner,
        socket,
        clock,
        emit,
    } = setup;
    antiphon_runtime_tokio::spawn(id, move |_| turner, socket, clock, emit)
}

antiphon_udp::conformance_tests!(spawn:
    ten_thousand_datagrams_come_back,
    shards_run_side_by_side,
    an_idle_driver_wakes_for_each_command_and_does_not_spin,
    a_burst_of_commands_is_answered_in_order,
    deadlines_are_kept,
    a_writable_socket_wakes_a_driver_that_has_transmits_left,
    a_stopped_driver_finishes_its_commands_and_ends,
    a_panic_comes_out_of_join,
);
