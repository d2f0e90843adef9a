//! Queues: nothing appears, nothing vanishes uncounted, order is kept.

use std::collections::VecDeque;
use std::net::SocketAddr;

use antiphon_core::drive::{Full, Lane, Mailbox, TransmitBatch, TransmitMeta};
use antiphon_core::limits::{TRANSMIT_ARENA_BYTES_MAX, TRANSMITS_MAX};
use proptest::prelude::*;

use crate::config;

#[derive(Clone, Debug)]
enum Op {
    /// So many transmits of so many bytes.
    Push(Lane, usize, usize),
    /// The socket took so many.
    Consume(usize),
}

fn op() -> impl Strategy<Value = Op> {
    // Bursts fill the batch by number and, with large datagrams, by bytes.
    let media = (
        1_usize..6_000,
        prop_oneof![4 => 1_usize..40, 1 => 1_200_usize..1_500],
    );
    prop_oneof![
        4 => media.prop_map(|(count, size)| Op::Push(Lane::Media, count, size)),
        2 => (1_usize..50, 1_usize..200).prop_map(|(count, size)| Op::Push(Lane::Control, count, size)),
        2 => (1_usize..8_000).prop_map(Op::Consume),
    ]
}

fn meta(lane: Lane) -> TransmitMeta {
    TransmitMeta {
        source: None,
        destination: SocketAddr::from(([10, 0, 0, 2], 5_000)),
        ecn: None,
        lane,
        received: None,
    }
}

/// Numbered contents, as long as asked but long enough for the number.
fn contents(number: u32, size: usize) -> Vec<u8> {
    let mut contents = number.to_be_bytes().to_vec();
    contents.resize(size.max(4), 0xaa);
    contents
}

fn number(contents: &[u8]) -> u32 {
    u32::from_be_bytes(contents[..4].try_into().expect("four bytes"))
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn a_batch_loses_nothing_but_media_it_counted(ops in prop::collection::vec(op(), 1..24)) {
        let mut batch = TransmitBatch::default();
        let (mut next, mut refused) = (0_u32, 0_u64);
        let mut control = VecDeque::new();
        let mut sent = Vec::new();
        for op in ops {
            match op {
                Op::Push(lane, count, size) => {
                    for _ in 0..count {
                        let pushed = batch.push(meta(lane), &contents(next, size));
                        prop_assert!(pushed || lane == Lane::Media, "control is never refused");
                        refused += u64::from(!pushed);
                        if lane == Lane::Control {
                            control.push_back(next);
                        }
                        next += 1;
                    }
                }
                Op::Consume(count) => {
                    let count = count.min(batch.len());
                    sent.extend(batch.iter().take(count).map(|(_, contents)| number(contents)));
                    batch.consume(count);
                }
            }
            let media = batch.iter().filter(|(meta, _)| meta.lane == Lane::Media).count();
            let bytes: usize = batch.iter().map(|(_, contents)| contents.len()).sum();
            prop_assert!(media <= TRANSMITS_MAX && bytes <= TRANSMIT_ARENA_BYTES_MAX + 200 * 50);
        }
        let kept: Vec<_> = batch.iter().map(|(_, contents)| number(contents)).collect();
        let total = sent.len() as u64 + kept.len() as u64 + batch.dropped() + refused;
        prop_assert_eq!(total, u64::from(next), "pushed = sent + kept + dropped");
        let all = [sent, kept].concat();
        prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "in the order they were pushed");
        let mut arrived = all.iter();
        prop_assert!(control.iter().all(|number| arrived.any(|other| other == number)));
    }

    #[test]
    fn a_mailbox_is_a_bounded_queue(
        capacity in 1_usize..40,
        ops in prop::collection::vec(prop::option::weighted(0.6, any::<u32>()), 0..200),
    ) {
        let mailbox = Mailbox::new(capacity, || ());
        let mut model = VecDeque::new();
        for op in ops {
            match op {
                Some(value) if model.len() < capacity => {
                    prop_assert_eq!(mailbox.try_push(value), Ok(()));
                    model.push_back(value);
                }
                Some(value) => prop_assert_eq!(mailbox.try_push(value), Err(Full(value))),
                None => prop_assert_eq!(mailbox.pop(), model.pop_front()),
            }
            prop_assert_eq!(mailbox.is_empty(), model.is_empty());
        }
    }
}
