//! What other shards say, in any order and whether it makes sense or not: nothing panics, rooms are attended and quit
//! in turn, and nothing is left behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::{ParticipantId, RequestId, RoomId, SessionId, ShardId};
use antiphon_core::message::{CloseReason, Command, Event, Role, Target};
use antiphon_core::relay::Relay;
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, TableSizes, Tuning};
use antiphon_core::time::{Epoch, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config;
use crate::determinism::plan;

const HERE: u16 = 0;
const SHARDS: u16 = 3;
const ROOMS: u32 = 2;

#[derive(Clone, Debug)]
enum Op {
    Open(Role),
    /// One of those opened before.
    Close(usize),
    /// From this shard, as JSON has it: nobody but a shard makes packets.
    Hear(u16, Value),
    Pass(u16),
}

fn room() -> impl Strategy<Value = RoomId> {
    (0..ROOMS).prop_map(RoomId)
}

fn role() -> impl Strategy<Value = Role> {
    let target = prop_oneof![
        Just(Target::Newest),
        (0_u32..2).prop_map(|who| Target::Participant(ParticipantId(who))),
    ];
    prop_oneof![
        1 => (room(), 0_u32..2).prop_map(|(room, participant)| Role::Publish {
            room,
            participant: ParticipantId(participant),
        }),
        4 => (room(), target, 0..SHARDS).prop_map(|(room, target, home)| {
            Role::SubscribeRemote {
                room,
                target,
                home: ShardId(home),
            }
        }),
    ]
}

fn key() -> impl Strategy<Value = Value> {
    (0_u32..4, 0_u32..2)
        .prop_map(|(index, generation)| json!({ "index": index, "generation": generation }))
}

fn track() -> impl Strategy<Value = Value> {
    let media = 0_u8..3;
    (0..SHARDS, key(), media).prop_map(
        |(shard, key, media)| json!({ "session": { "shard": shard, "key": key }, "media": media }),
    )
}

fn packet() -> impl Strategy<Value = Value> {
    let numbers = (0_u32..2, any::<u32>(), 0_u64..10_000);
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    (track(), any::<(bool, bool, bool)>(), numbers, payload).prop_map(
        |(track, (video, marker, keyframe), (ssrc, timestamp, sequence), payload)| {
            json!({ "Packet": {
                "track": track, "ssrc": ssrc, "codec": if video { "Vp8" } else { "Opus" },
                "sequence": sequence, "timestamp": timestamp, "marker": marker, "keyframe": keyframe,
                "audio_level": null, "video_orientation": null, "clock": null, "received": 1,
                "payload": payload,
            } })
        },
    )
}

fn relay() -> impl Strategy<Value = Value> {
    let section = (0_u8..3, any::<bool>());
    let section =
        section.prop_map(|(media, video)| json!([media, if video { "Video" } else { "Audio" }]));
    let publisher = (0_u32..2, key(), prop::collection::vec(section, 0..3));
    let publisher = publisher.prop_map(|(participant, session, sections)| {
        json!({ "participant": participant, "session": session, "sections": sections })
    });
    let publishers = prop::collection::vec(publisher, 0..3);
    prop_oneof![
        1 => (0..ROOMS).prop_map(|room| json!({ "Attend": { "room": room } })),
        1 => (0..ROOMS).prop_map(|room| json!({ "Quit": { "room": room } })),
        1 => track().prop_map(|track| json!({ "Follow": track })),
        1 => track().prop_map(|track| json!({ "Unfollow": track })),
        1 => track().prop_map(|track| json!({ "Keyframe": track })),
        4 => (0..ROOMS, publishers).prop_map(|(room, publishers)| {
            json!({ "Publishers": { "room": room, "publishers": publishers } })
        }),
        4 => packet(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => role().prop_map(Op::Open),
        1 => any::<usize>().prop_map(Op::Close),
        6 => (0..SHARDS, relay()).prop_map(|(from, relay)| Op::Hear(from, relay)),
        1 => (0_u16..1_000).prop_map(Op::Pass),
    ]
}

struct Run {
    shard: Shard,
    now: Timestamp,
    open: Vec<SessionId>,
    attended: BTreeSet<RoomId>,
}

impl Run {
    fn new() -> Self {
        let config = ShardConfig {
            identity: Arc::new(Identity::scripted(&Seed::new([2; 32]))),
            sessions_max: 8,
            tuning: Tuning::default(),
        };
        let (epoch, seed) = (Epoch::simulated(), Seed::new([1; 32]));
        let shard = Shard::new(ShardId(HERE), Arc::new(config), epoch, seed);
        Self {
            shard: shard.expect("a valid configuration"),
            now: Timestamp::from_millis(1),
            open: Vec::new(),
            attended: BTreeSet::new(),
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Open(role) => self.shard.handle_command(
                self.now,
                Command::Open {
                    request: RequestId(0),
                    plan: Box::new(plan(0)),
                    role,
                },
            ),
            Op::Close(which) => {
                if !self.open.is_empty() {
                    let session = self.open.swap_remove(which % self.open.len());
                    self.close(session);
                }
            }
            Op::Hear(from, relay) => {
                let relay: Relay = serde_json::from_value(relay).expect("a relay");
                self.shard.handle_relay(self.now, ShardId(from), relay);
            }
            Op::Pass(millis) => {
                self.now = self.now + Duration::from_millis(millis.into());
                self.shard.handle_timeout(self.now);
            }
        }
        self.look();
    }

    fn close(&mut self, session: SessionId) {
        let reason = CloseReason::Requested;
        self.shard
            .handle_command(self.now, Command::Close { session, reason });
    }

    /// What came of it.
    fn look(&mut self) {
        while let Some((to, relay)) = self.shard.poll_relay() {
            assert!(
                to != ShardId(HERE) && to.0 < SHARDS,
                "it talks to itself: {relay:?}"
            );
            match relay {
                Relay::Attend { room } => assert!(self.attended.insert(room), "{room:?} twice"),
                Relay::Quit { room } => assert!(self.attended.remove(&room), "{room:?} twice"),
                _ => {}
            }
        }
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Opened { session, .. } => self.open.push(session),
                // Expired before it connected.
                Event::Closed { session, .. } => self.open.retain(|open| *open != session),
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn whatever_others_say_nothing_is_left_behind(ops in prop::collection::vec(op(), 1..80)) {
        let mut run = Run::new();
        ops.into_iter().for_each(|op| run.step(op));
        for session in std::mem::take(&mut run.open) {
            run.close(session);
        }
        run.look();
        prop_assert!(run.attended.is_empty());
        for (shard, room) in (1..SHARDS).flat_map(|shard| (0..ROOMS).map(move |room| (shard, room))) {
            run.step(Op::Hear(shard, json!({ "Quit": { "room": room } })));
        }
        run.step(Op::Pass(1_000));
        prop_assert_eq!(run.shard.table_sizes(), TableSizes::default());
        prop_assert_eq!(run.shard.stats().faults, 0);
    }
}
