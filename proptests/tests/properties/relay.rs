//! What other shards say, in any order and whether it makes sense or not: nothing panics, rooms that are attended are
//! quit, nothing is left behind, and whoever listens still hears the next stream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::ids::{ParticipantId, RequestId, RoomId, SessionId, ShardId};
use antiphon_core::limits::REFUSED_TRACKS_MAX;
use antiphon_core::message::{CloseReason, Command, Event, Role, ShardStats, Target};
use antiphon_core::relay::Relay;
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{Shard, ShardConfig, TableSizes, Tuning};
use antiphon_core::sim::peer::{PeerSpec, ScriptedPeer, Trust};
use antiphon_core::sim::world::{Join, Options, World};
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
    let numbers = (0_u32..2, any::<u32>(), any::<u64>());
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
    /// Where, and which.
    attended: BTreeSet<(ShardId, RoomId)>,
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
                // Each subscriber says so.
                Relay::Attend { room } => {
                    self.attended.insert((to, room));
                    let homes = self.attended.iter().filter(|(_, other)| *other == room);
                    assert_eq!(homes.count(), 1, "{room:?} has two homes");
                }
                // A list is answered by it too, of a room that is not attended there.
                Relay::Quit { room } => {
                    self.attended.remove(&(to, room));
                }
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

fn hear_packets(run: &mut Run, tracks: u8, each: u32) -> usize {
    let session = json!({ "shard": 1, "key": { "index": 0, "generation": 0 } });
    for _ in 0..each {
        for media in 0..tracks {
            let track = json!({ "session": session, "media": media });
            let relay = serde_json::from_value(sound(&track, 7, 1, 1)).expect("a relay");
            run.shard.handle_relay(run.now, ShardId(1), relay);
        }
    }
    let mut unfollowed = 0;
    while let Some((_, relay)) = run.shard.poll_relay() {
        assert!(matches!(relay, Relay::Unfollow(_)), "{relay:?}");
        unfollowed += 1;
    }
    unfollowed
}

/// As many as wait in a lane when the last follower of sound and picture leaves.
#[test]
fn packets_that_nobody_follows_are_answered_once_a_track_and_interval() {
    let mut run = Run::new();
    assert_eq!(hear_packets(&mut run, 2, 2_048), 2);
    run.now = run.now + Duration::from_millis(499);
    assert_eq!(hear_packets(&mut run, 2, 1), 0);
    run.now = run.now + Duration::from_millis(1);
    assert_eq!(hear_packets(&mut run, 2, 1), 2);
    // However many tracks there are; the first two are answered already.
    assert_eq!(hear_packets(&mut run, 200, 2), REFUSED_TRACKS_MAX - 2);
}

/// A packet of Opus.
fn sound(track: &Value, ssrc: u32, sequence: u64, timestamp: u32) -> Value {
    json!({ "Packet": {
        "track": track, "ssrc": ssrc, "codec": "Opus", "sequence": sequence, "timestamp": timestamp,
        "marker": false, "keyframe": false, "audio_level": null, "video_orientation": null, "clock": null,
        "received": 1, "payload": [1, 2, 3, 4],
    } })
}

/// A connected listener on shard 1, told by shard 0 of somebody who publishes sound and pictures.
struct Listening {
    world: World,
    session: Value,
}

impl Listening {
    const HOME: u16 = 0;
    const ELSEWHERE: u16 = 1;

    fn new() -> Self {
        let mut world = World::new(Options {
            shards: 2,
            ..Options::new(1)
        });
        let mut spec = PeerSpec::new(0);
        (spec.hears, spec.sees, spec.trust) = (true, true, Trust::Nothing);
        let seed = world.seed().derive("peers", 0);
        world.join(Join {
            peer: Box::new(ScriptedPeer::new(spec, &seed)),
            role: Role::SubscribeRemote {
                room: RoomId(0),
                target: Target::Newest,
                home: ShardId(Self::HOME),
            },
            shard: Self::ELSEWHERE,
            up: Vec::new(),
            down: Vec::new(),
            ipv6: false,
        });
        world.run_for(Duration::from_secs(1));
        let key = json!({ "index": 0, "generation": 0 });
        let publisher =
            json!({ "participant": 0, "session": key, "sections": [[0, "Audio"], [1, "Video"]] });
        let session = json!({ "shard": Self::HOME, "key": key });
        let mut listening = Self { world, session };
        listening.hear(json!({ "Publishers": { "room": 0, "publishers": [publisher] } }));
        listening
    }

    fn track(&self, media: u8) -> Value {
        json!({ "session": self.session, "media": media })
    }

    fn hear(&mut self, relay: Value) {
        let relay = serde_json::from_value(relay).expect("a relay");
        self.world.relay(Self::HOME, Self::ELSEWHERE, relay);
        self.world.run_for(Duration::from_millis(5));
    }

    fn stats(&self) -> ShardStats {
        let mut stats = self.world.stats();
        stats.nth(Self::ELSEWHERE.into()).expect("it is there")
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn whatever_packets_came_the_next_stream_is_sealed_to_who_listens(
        packets in prop::collection::vec((packet(), 0_u8..2), 0..40),
        (first, timestamp) in (0..u64::MAX - 10, any::<u32>()),
    ) {
        let mut listening = Listening::new();
        prop_assert_eq!(listening.stats().sessions_connected, 1);
        for (mut packet, media) in packets {
            packet["Packet"]["track"] = listening.track(media);
            listening.hear(packet);
        }
        let (track, before) = (listening.track(0), listening.stats().rtp_sent);
        for number in 0..10_u32 {
            let timestamp = timestamp.wrapping_add(number * 960);
            listening.hear(sound(&track, 7, first + u64::from(number), timestamp));
        }
        prop_assert_eq!(listening.stats().rtp_sent - before, 10);
        prop_assert_eq!(listening.world.stats().map(|stats| stats.faults).sum::<u64>(), 0);
        prop_assert_eq!(listening.world.findings(), [] as [String; 0]);
    }
}
