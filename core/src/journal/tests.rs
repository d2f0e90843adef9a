use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::ids::{ParticipantId, RequestId, RoomId, SessionId, SessionKey, ShardId, TrackId};
use crate::limits::{JOURNAL_CHUNK_BYTES, JOURNAL_RECORD_BYTES_MAX};
use crate::message::{
    CloseReason, Command, CommandError, DropReason, Event, PlanFlaw, ProfileName, Role,
    SessionStats, ShardStats, Target, TrackStats,
};
use crate::net::Ecn;
use crate::plan::{
    AnnouncedSsrc, Codec, CodecPlan, DtlsRole, ExtensionIds, Feedback, Fingerprint, IceCredentials,
    LocalDescription, LocalSource, MediaKind, MediaPlan, Mid, Rid, SessionPlan,
};
use crate::relay::{Buffers, Publisher, Relay, RelayedPacket};
use crate::rng::Seed;
use crate::session::media::Incoming;
use crate::session::transport::{HandshakeResult, KeyingMaterial, Outcome};
use crate::shard::Tuning;
use crate::time::Timestamp;

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_nanos)
}

fn request() -> impl Strategy<Value = RequestId> {
    any::<u64>().prop_map(RequestId)
}

fn session() -> impl Strategy<Value = SessionId> {
    (any::<u16>(), any::<u32>(), any::<u32>()).prop_map(|(shard, index, generation)| SessionId {
        shard: ShardId(shard),
        key: SessionKey { index, generation },
    })
}

fn credentials() -> impl Strategy<Value = IceCredentials> {
    ("[ -~]{0,40}", "\\PC{0,30}").prop_map(|(ufrag, password)| IceCredentials { ufrag, password })
}

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![
        Just(Codec::Opus),
        Just(Codec::Vp8),
        any::<u8>().prop_map(|profile| Codec::Vp9 { profile }),
        (any::<u8>(), any::<u16>()).prop_map(|(packetization_mode, profile)| Codec::H264 {
            packetization_mode,
            profile
        }),
    ]
}

fn mid() -> impl Strategy<Value = Mid> {
    "[!-~]{1,16}".prop_map(|text| Mid::new(text.as_bytes()).expect("printable and short"))
}

fn kind() -> impl Strategy<Value = MediaKind> {
    select(&[MediaKind::Audio, MediaKind::Video][..])
}

fn media() -> impl Strategy<Value = MediaPlan> {
    let codecs = vec((any::<u8>(), codec(), option::of(any::<u8>())), 0..4);
    let ssrcs = vec((any::<u32>(), option::of(any::<u32>())), 0..4);
    let rids = vec("[a-z]{1,16}", 0..4);
    (mid(), kind(), any::<(bool, bool)>(), codecs, ssrcs, rids).prop_map(
        |(mid, kind, (receive, send), codecs, ssrcs, rids)| MediaPlan {
            mid,
            kind,
            receive,
            send,
            codecs: codecs
                .into_iter()
                .map(|(payload_type, codec, rtx_payload_type)| CodecPlan {
                    payload_type,
                    codec,
                    rtx_payload_type,
                    feedback: Feedback {
                        nack: receive,
                        ..Feedback::default()
                    },
                })
                .collect(),
            extensions: ExtensionIds {
                mid: Some(3),
                ..ExtensionIds::default()
            },
            ssrcs: ssrcs
                .into_iter()
                .map(|(ssrc, rtx)| AnnouncedSsrc { ssrc, rtx })
                .collect(),
            rids: rids
                .iter()
                .filter_map(|rid| Rid::new(rid.as_bytes()))
                .collect(),
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    let (room, participant) = (any::<u32>(), any::<u32>());
    prop_oneof![
        Just(Role::Echo),
        (room, participant).prop_map(|(room, participant)| Role::Publish {
            room: RoomId(room),
            participant: ParticipantId(participant)
        }),
        any::<u32>().prop_map(|room| Role::Subscribe {
            room: RoomId(room),
            target: Target::Newest
        }),
        any::<(u32, u16)>().prop_map(|(room, home)| Role::SubscribeRemote {
            room: RoomId(room),
            target: Target::Newest,
            home: ShardId(home),
        }),
    ]
}

fn plan() -> impl Strategy<Value = Box<SessionPlan>> {
    let role = select(&[DtlsRole::Client, DtlsRole::Server][..]);
    (
        credentials(),
        any::<[u8; 32]>(),
        role,
        any::<bool>(),
        vec(media(), 0..4),
    )
        .prop_map(
            |(remote_ice, fingerprint, dtls_role, reduced_size_rtcp, media)| {
                Box::new(SessionPlan {
                    remote_ice,
                    remote_fingerprint: Fingerprint(fingerprint),
                    dtls_role,
                    reduced_size_rtcp,
                    media,
                })
            },
        )
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (request(), plan(), role()).prop_map(|(request, plan, role)| Command::Open {
            request,
            plan,
            role
        }),
        (request(), session(), credentials()).prop_map(|(request, session, remote_ice)| {
            Command::Restart {
                request,
                session,
                remote_ice,
            }
        }),
        (session(), close_reason())
            .prop_map(|(session, reason)| Command::Close { session, reason }),
        (request(), session())
            .prop_map(|(request, session)| Command::SessionStats { request, session }),
        request().prop_map(|request| Command::ShardStats { request }),
    ]
}

fn close_reason() -> impl Strategy<Value = CloseReason> {
    select(
        &[
            CloseReason::Requested,
            CloseReason::KeyExhausted,
            CloseReason::Fault,
        ][..],
    )
}

fn track_stats() -> impl Strategy<Value = TrackStats> {
    (
        mid(),
        kind(),
        option::of(codec()),
        any::<(bool, u32, u64, i64)>(),
    )
        .prop_map(
            |(mid, kind, codec, (inbound, ssrc, packets, lost))| TrackStats {
                mid,
                kind,
                codec,
                inbound,
                ssrc,
                packets,
                bytes: packets,
                bitrate: packets,
                lost,
                jitter: Duration::from_nanos(packets),
                nacks: 1,
                retransmissions: 2,
                keyframe_requests: 3,
            },
        )
}

fn answer() -> impl Strategy<Value = Event> {
    let errors = [
        CommandError::UnknownSession,
        CommandError::SessionsExhausted { max: 7 },
        CommandError::InvalidPlan(PlanFlaw::NoCodec),
    ];
    let local = (
        credentials(),
        any::<[u8; 32]>(),
        any::<(u32, Option<u32>)>(),
    );
    prop_oneof![
        (request(), session(), local).prop_map(|(request, session, (ice, hash, (ssrc, rtx)))| {
            let local = Box::new(LocalDescription {
                ice,
                fingerprint: Fingerprint(hash),
                sources: vec![Some(LocalSource { ssrc, rtx }), None],
            });
            Event::Opened {
                request,
                session,
                local,
            }
        }),
        (request(), select(errors.to_vec()))
            .prop_map(|(request, error)| Event::Rejected { request, error }),
        (request(), credentials()).prop_map(|(request, ice)| Event::Restarted { request, ice }),
        (request(), timestamp(), vec(track_stats(), 0..3)).prop_map(|(request, at, tracks)| {
            let stats = Box::new(SessionStats {
                jitter_buffer: None,
                at,
                age: Duration::from_millis(5),
                connected: true,
                round_trip: None,
                profile: Some(ProfileName::Aes128CmSha1_80),
                packets_received: 1,
                packets_sent: 2,
                tracks,
            });
            Event::SessionStats { request, stats }
        }),
        (request(), any::<u64>()).prop_map(|(request, faults)| {
            let stats = Box::new(ShardStats {
                faults,
                ..ShardStats::default()
            });
            Event::ShardStats { request, stats }
        }),
    ]
}

fn news() -> impl Strategy<Value = Event> {
    prop_oneof![
        (session(), any::<u32>()).prop_map(|(session, millis)| Event::Connected {
            session,
            profile: ProfileName::AeadAes256Gcm,
            setup: Duration::from_millis(millis.into()),
        }),
        (session(), mid(), kind(), codec()).prop_map(|(session, mid, kind, codec)| {
            Event::TrackAdded {
                session,
                mid,
                kind,
                codec,
            }
        }),
        (session(), mid()).prop_map(|(session, mid)| Event::TrackRemoved { session, mid }),
        (any::<u32>(), option::of(any::<u32>())).prop_map(|(room, participant)| {
            Event::ActiveSpeaker {
                room: RoomId(room),
                participant: participant.map(ParticipantId),
            }
        }),
        (session(), close_reason()).prop_map(|(session, reason)| Event::Closed { session, reason }),
    ]
}

fn result() -> impl Strategy<Value = HandshakeResult> {
    prop_oneof![
        select(DropReason::ALL.to_vec()).prop_map(HandshakeResult::Refused),
        Just(()).prop_map(|()| HandshakeResult::Pending),
        vec(any::<u8>(), 0..=88).prop_map(|keys| {
            let keys = KeyingMaterial::new(&keys).expect("short enough");
            HandshakeResult::Connected(ProfileName::AeadAes128Gcm, keys)
        }),
        close_reason().prop_map(HandshakeResult::Closed),
        Just(()).prop_map(|()| HandshakeResult::Panicked),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let datagrams = vec(vec(any::<u8>(), 0..100), 0..3);
    (datagrams, result(), option::of(timestamp())).prop_map(|(datagrams, result, deadline)| {
        Outcome {
            datagrams,
            result,
            deadline,
        }
    })
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}

fn slot() -> impl Strategy<Value = Slot<'static>> {
    let ecn = (0_u8..4).prop_map(Ecn::from_bits);
    let whole = vec(any::<u8>(), 0..2_000).prop_map(|contents| (contents, Vec::new()));
    let kept = vec((vec(any::<u8>(), 0..90), 0_u32..1_000), 1..4);
    let cut = kept.prop_map(|datagrams| {
        let cuts = datagrams.iter();
        let cuts = cuts.map(|(kept, more)| (kept.len() as u32, kept.len() as u32 + more));
        let cuts = cuts.collect();
        (
            datagrams.into_iter().flat_map(|(kept, _)| kept).collect(),
            cuts,
        )
    });
    (
        any::<(bool, u32)>(),
        timestamp(),
        address(),
        address(),
        ecn,
        prop_oneof![whole, cut],
    )
        .prop_map(
            |((is_first, stride), received, source, destination, ecn, (contents, cuts))| Slot {
                is_first,
                received,
                source,
                destination,
                ecn,
                stride,
                contents: Cow::Owned(contents),
                cuts,
            },
        )
}

fn header() -> impl Strategy<Value = Header> {
    (
        any::<[u8; 32]>(),
        any::<(u16, u32)>(),
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(seed, (shard, sessions_max), budget, whole)| Header {
            software: "0.1.0".to_owned(),
            shard: ShardId(shard),
            sessions_max,
            fingerprint: Fingerprint(seed),
            unix: Duration::from_nanos(budget),
            seed: Seed::new(seed),
            payloads: if whole {
                Payloads::Full
            } else {
                Payloads::Headers
            },
            retention: if whole {
                Retention::Whole { budget }
            } else {
                Retention::Ring { bytes: budget }
            },
            tuning: Tuning::default(),
            redacted: !whole,
        })
}

fn relay() -> impl Strategy<Value = Relay> {
    let track = || (session(), any::<u8>()).prop_map(|(session, media)| TrackId { session, media });
    let publisher = (any::<u32>(), session(), vec((any::<u8>(), kind()), 0..3));
    let publisher = publisher.prop_map(|(participant, session, sections)| Publisher {
        participant: ParticipantId(participant),
        session: session.key,
        sections,
    });
    let bytes = vec(any::<u8>(), 0..1_500);
    prop_oneof![
        any::<u32>().prop_map(|room| Relay::Attend { room: RoomId(room) }),
        any::<u32>().prop_map(|room| Relay::Quit { room: RoomId(room) }),
        track().prop_map(Relay::Follow),
        track().prop_map(Relay::Unfollow),
        track().prop_map(Relay::Keyframe),
        (any::<u32>(), vec(publisher, 0..4)).prop_map(|(room, publishers)| Relay::Publishers {
            room: RoomId(room),
            publishers
        }),
        (track(), codec(), any::<(u32, u64)>(), bytes).prop_map(
            |(track, codec, (number, sequence), payload)| {
                let incoming = Incoming {
                    media: track.media,
                    ssrc: number,
                    codec,
                    sequence,
                    timestamp: number,
                    marker: sequence % 2 == 0,
                    keyframe: sequence % 3 == 0,
                    payload: &payload,
                    audio_level: Some(number as u8),
                    video_orientation: None,
                    vp8: None,
                    clock: None,
                    received: Timestamp::from_nanos(sequence),
                    first: false,
                };
                let payload = Buffers::default().fill(&payload);
                Relay::Packet(RelayedPacket::new(track, &incoming, payload))
            }
        ),
    ]
}

fn record() -> impl Strategy<Value = Record<'static>> {
    let ends = [EndReason::Stopped, EndReason::BudgetSpent, EndReason::Fault];
    prop_oneof![
        header().prop_map(|header| Record::Header(Box::new(header))),
        timestamp().prop_map(Record::Turn),
        command().prop_map(|command| Record::Command(Cow::Owned(command))),
        slot().prop_map(Record::Received),
        (timestamp(), any::<u32>()).prop_map(|(at, count)| Record::Sent { at, count }),
        answer().prop_map(|event| Record::Event(Cow::Owned(event))),
        news().prop_map(|event| Record::Event(Cow::Owned(event))),
        (session(), outcome()).prop_map(|(session, outcome)| Record::Handshake(session, outcome)),
        (option::of(timestamp()), any::<u64>())
            .prop_map(|(deadline, outputs)| Record::Rest(Rest { deadline, outputs })),
        timestamp().prop_map(Record::Idle),
        any::<(u64, u64)>().prop_map(|(records, bytes)| Record::Lost(Lost { records, bytes })),
        select(ends.to_vec()).prop_map(Record::End),
        (any::<u16>(), relay())
            .prop_map(|(from, relay)| Record::Relay(ShardId(from), Cow::Owned(relay))),
    ]
}

/// A journal of these entries, and where each of them ends.
fn journal(header: Header, records: &[Record<'_>]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = begin(header);
    let mut ends = vec![bytes.len()];
    for record in records {
        put(&mut bytes, record);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn coded(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, record);
    bytes
}

proptest! {
    /// Entries hide their secrets from `Debug`, so that it is their bytes which are compared as well.
    #[test]
    fn every_entry_is_read_as_it_was_written(header in header(), records in vec(record(), 0..20)) {
        let (bytes, _) = journal(header.clone(), &records);
        let (read, reader) = Reader::new(&bytes).expect("it is a journal");
        prop_assert_eq!(coded(&Record::Header(Box::new(read))), coded(&Record::Header(Box::new(header))));
        let read: Vec<_> = reader.map(|record| record.expect("it is whole")).collect();
        prop_assert_eq!(read.len(), records.len());
        for (read, written) in read.iter().zip(&records) {
            prop_assert_eq!(format!("{read:?}"), format!("{written:?}"));
            prop_assert_eq!(coded(read), coded(written));
        }
    }

    #[test]
    fn a_journal_that_is_cut_off_gives_what_was_whole(
        records in vec(record(), 1..6),
        header in header(),
        place in any::<proptest::sample::Index>(),
    ) {
        let (bytes, ends) = journal(header, &records);
        let cut = place.index(bytes.len() - ends[0]) + ends[0];
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let (_, reader) = Reader::new(&bytes[..cut]).expect("the header is whole");
        let read: Vec<_> = reader.collect();
        if cut == ends[whole] {
            prop_assert_eq!(read.len(), whole);
        } else {
            let error = ReadError::CutOff { at: ends[whole] };
            prop_assert_eq!(read.len(), whole + 1);
            prop_assert_eq!(read.last().and_then(|last| last.as_ref().err()), Some(&error));
        }
    }

    #[test]
    fn a_journal_with_a_changed_byte_gives_what_stands_before_it(
        records in vec(record(), 1..6),
        header in header(),
        place in any::<proptest::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let (mut bytes, ends) = journal(header, &records);
        let changed = place.index(bytes.len());
        bytes[changed] ^= change;
        let before = ends.iter().filter(|end| **end <= changed).count();
        match Reader::new(&bytes) {
            Err(_) => prop_assert_eq!(before, 0),
            Ok((_, reader)) => {
                let read: Vec<_> = reader.collect();
                prop_assert_eq!(read.len(), before);
                prop_assert!(read.iter().take(before - 1).all(Result::is_ok));
                prop_assert!(read[before - 1].is_err());
            }
        }
    }

    #[test]
    fn any_bytes_end_in_an_error_and_nothing_worse(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(Reader::new(&bytes).is_err());
        let (mut journal, _) = journal(small_header(), &[]);
        journal.extend_from_slice(&bytes);
        let (_, reader) = Reader::new(&journal).expect("the header is whole");
        let entries = Turns::new(reader).count();
        prop_assert!(entries <= 1, "random bytes pass no checksum");
    }

    /// A checksum is no protection from who means ill: whatever the body says, it costs no more than it is long.
    #[test]
    fn a_sound_checksum_over_anything_ends_well(body in vec(any::<u8>(), 0..400)) {
        let (mut journal, _) = journal(small_header(), &[]);
        let length = (body.len() as u32).to_le_bytes();
        journal.extend_from_slice(&length);
        journal.extend_from_slice(&writer::checksum(length, &body).to_le_bytes());
        journal.extend_from_slice(&body);
        let (_, reader) = Reader::new(&journal).expect("the header is whole");
        prop_assert!(Turns::new(reader).count() <= 1);
    }

    #[test]
    fn a_cut_slot_keeps_headers_and_lengths_and_no_payload(
        payloads in vec(vec(1..=255_u8, 0..60), 1..5),
    ) {
        let stride = 12 + payloads[0].len();
        let mut contents = Vec::new();
        for payload in &payloads {
            let mut packet = [0x80; 12].to_vec();
            packet.extend_from_slice(payload);
            packet.resize(stride, 9);
            contents.extend_from_slice(&packet);
        }
        let meta = crate::drive::RecvMeta {
            received: Timestamp::ZERO,
            source: SocketAddr::from(([10, 0, 0, 1], 1)),
            destination: SocketAddr::from(([10, 0, 0, 2], 2)),
            ecn: None,
            len: contents.len(),
            stride,
        };
        let slot = Slot::new(&meta, &contents, Payloads::Headers, true);
        prop_assert_eq!(slot.contents.len(), 12 * payloads.len());
        let mut filled = vec![0xff; contents.len() + 10];
        prop_assert_eq!(slot.fill(&mut filled), contents.len());
        for (packet, original) in filled.chunks(stride).zip(contents.chunks(stride)) {
            prop_assert_eq!(&packet[..12], &original[..12]);
            prop_assert!(packet[12..].iter().all(|byte| *byte == 0));
        }
    }
}

fn small_header() -> Header {
    Header {
        software: String::new(),
        shard: ShardId(0),
        sessions_max: 1,
        fingerprint: Fingerprint([0; 32]),
        unix: Duration::ZERO,
        seed: Seed::new([0; 32]),
        payloads: Payloads::Full,
        retention: Retention::Whole { budget: 0 },
        tuning: Tuning::default(),
        redacted: false,
    }
}

#[test]
fn a_header_does_not_move_while_it_is_written() {
    let header = Header {
        software: "x".repeat(200),
        shard: ShardId(u16::MAX),
        sessions_max: u32::MAX,
        unix: Duration::MAX,
        retention: Retention::Whole { budget: u64::MAX },
        ..small_header()
    };
    let journal = begin(header);
    assert_eq!(journal.capacity(), 512 + 200, "it did not grow");
}

#[test]
fn a_chunk_does_not_move_while_it_fills() {
    let mut chunk = Chunk::default();
    chunk.put(&Record::Idle(Timestamp::ZERO));
    let place = chunk.bytes().as_ptr();
    while chunk.bytes().len() < 2 * JOURNAL_CHUNK_BYTES {
        chunk.put(&Record::Idle(Timestamp::ZERO));
    }
    assert_eq!(chunk.bytes().as_ptr(), place);
    // A turn of more moves it, entries and all.
    while chunk.bytes().len() < 4 * JOURNAL_CHUNK_BYTES {
        chunk.put(&Record::Idle(Timestamp::ZERO));
    }
    let mut journal = begin(small_header());
    journal.extend_from_slice(chunk.bytes());
    let (_, reader) = Reader::new(&journal).expect("it is a journal");
    let read = reader.filter_map(Result::ok).count();
    assert_eq!(read as u64, chunk.records());
}

#[test]
fn other_formats_and_other_layouts_are_told_apart() {
    let (mut journal, _) = journal(small_header(), &[]);
    assert_eq!(
        Reader::new(b"\x0a\x0d\x0d\x0a").err(),
        Some(ReadError::NotAJournal)
    );
    assert_eq!(Reader::new(&[]).err(), Some(ReadError::NotAJournal));
    journal[MAGIC.len()] ^= 0xff;
    let found = VERSION ^ 0xff;
    assert_eq!(
        Reader::new(&journal).err(),
        Some(ReadError::Version { found })
    );
    let mut headless = journal[..MAGIC.len()].to_vec();
    headless.extend_from_slice(&VERSION.to_le_bytes());
    put(&mut headless, &Record::Turn(Timestamp::ZERO));
    assert_eq!(Reader::new(&headless).err(), Some(ReadError::NoHeader));
}

#[test]
fn a_slot_that_no_socket_can_have_filled_is_damage() {
    let full = crate::limits::RECV_SLOT_BYTES as u32;
    let read = |contents: usize, cuts: &[(u32, u32)]| {
        let slot = Slot {
            is_first: true,
            received: Timestamp::ZERO,
            source: SocketAddr::from(([10, 0, 0, 1], 1)),
            destination: SocketAddr::from(([10, 0, 0, 2], 2)),
            ecn: None,
            stride: 100,
            contents: Cow::Owned(vec![7; contents]),
            cuts: cuts.to_vec(),
        };
        let (journal, _) = journal(small_header(), &[Record::Received(slot)]);
        let (_, mut reader) = Reader::new(&journal).expect("it begins well");
        reader.next().expect("there is one").is_ok()
    };
    assert!(read(full as usize, &[]));
    assert!(read(3, &[(2, 100), (1, full - 100)]));
    for (contents, cuts) in [
        (full as usize + 1, &[][..]),
        (3, &[(2, 100), (1, full - 99)]),
        (3, &[(0, u32::MAX), (3, u32::MAX)]),
        (3, &[(2, 1), (1, 1)]),
        (3, &[(2, 2)]),
        (3, &[(3, 3), (1, 1)]),
    ] {
        assert!(!read(contents, cuts), "{contents} bytes, {cuts:?}");
    }
}

#[test]
fn an_entry_out_of_place_ends_the_turns() {
    let turn = || Record::Turn(Timestamp::ZERO);
    let rest = || Record::Rest(Rest::default());
    for records in [
        vec![turn(), rest(), rest(), turn(), rest()],
        vec![turn(), rest(), turn(), turn(), rest()],
    ] {
        let (bytes, ends) = journal(small_header(), &records);
        let (_, reader) = Reader::new(&bytes).expect("it is a journal");
        let read: Vec<_> = Turns::new(reader).collect();
        assert!(matches!(
            read[..],
            [Ok(Entry::Turn(_)), Err(ReadError::OutOfPlace { .. })]
        ));
        assert!(ends.len() == 6);
    }
}

/// The largest that there can be: a slot the kernel filled, and a plan of all that an offer may name.
#[test]
fn the_longest_entries_fit() {
    let contents = vec![7; crate::limits::RECV_SLOT_BYTES];
    let meta = crate::drive::RecvMeta {
        received: Timestamp::ZERO,
        source: SocketAddr::from(([1; 16], 1)),
        destination: SocketAddr::from(([2; 16], 2)),
        ecn: None,
        len: contents.len(),
        stride: 1,
    };
    for payloads in [Payloads::Full, Payloads::Headers] {
        let meta = crate::drive::RecvMeta {
            stride: if payloads == Payloads::Full { 1 } else { 100 },
            ..meta
        };
        let slot = Slot::new(&meta, &contents, payloads, true);
        assert!(coded(&Record::Received(slot)).len() < JOURNAL_RECORD_BYTES_MAX);
    }
    let media = MediaPlan {
        mid: Mid::new(&[b'm'; 16]).expect("printable"),
        kind: MediaKind::Video,
        receive: true,
        send: true,
        codecs: vec![
            CodecPlan {
                payload_type: 127,
                codec: Codec::H264 {
                    packetization_mode: 255,
                    profile: u16::MAX
                },
                rtx_payload_type: Some(127),
                feedback: Feedback::default(),
            };
            crate::limits::CODECS_MAX
        ],
        extensions: ExtensionIds {
            mid: Some(255),
            rid: Some(255),
            ..ExtensionIds::default()
        },
        ssrcs: vec![
            AnnouncedSsrc {
                ssrc: u32::MAX,
                rtx: Some(u32::MAX)
            };
            crate::limits::SDP_SSRC_LINES_MAX
        ],
        rids: vec![Rid::new(&[b'r'; 16]).expect("printable"); crate::limits::RIDS_MAX],
    };
    let text = "x".repeat(crate::limits::SDP_LINE_BYTES_MAX);
    let plan = Box::new(SessionPlan {
        remote_ice: IceCredentials {
            ufrag: text.clone(),
            password: text,
        },
        remote_fingerprint: Fingerprint([255; 32]),
        dtls_role: DtlsRole::Server,
        reduced_size_rtcp: true,
        media: vec![media; crate::limits::SESSION_MEDIA_MAX],
    });
    let command = Command::Open {
        request: RequestId(u64::MAX),
        plan,
        role: Role::Echo,
    };
    let bytes = coded(&Record::Command(Cow::Owned(command)));
    assert!(bytes.len() < JOURNAL_RECORD_BYTES_MAX, "{}", bytes.len());
}

/// Of what a ring forgot a file may claim any number.
#[test]
fn numbers_at_their_end_are_played() {
    let header = Header {
        unix: Duration::MAX,
        retention: Retention::Ring { bytes: 1 },
        ..small_header()
    };
    let request = RequestId(1);
    let remote_ice = IceCredentials {
        ufrag: "abcd".to_owned(),
        password: "0123456789012345678901".to_owned(),
    };
    let media = MediaPlan {
        mid: Mid::new(b"0").expect("printable"),
        kind: MediaKind::Audio,
        receive: true,
        send: true,
        codecs: vec![CodecPlan {
            payload_type: 111,
            codec: Codec::Opus,
            rtx_payload_type: None,
            feedback: Feedback::default(),
        }],
        extensions: ExtensionIds::default(),
        ssrcs: Vec::new(),
        rids: Vec::new(),
    };
    let session = SessionId {
        shard: ShardId(0),
        key: SessionKey {
            index: 0,
            generation: 0,
        },
    };
    let open = Command::Open {
        request,
        plan: Box::new(SessionPlan {
            remote_ice: remote_ice.clone(),
            remote_fingerprint: Fingerprint([1; 32]),
            dtls_role: DtlsRole::Server,
            reduced_size_rtcp: true,
            media: vec![media],
        }),
        role: Role::Echo,
    };
    let restart = Command::Restart {
        request,
        session,
        remote_ice,
    };
    let counts = Counts {
        opened: u64::MAX,
        restarts: u64::MAX,
    };
    let records = [
        Record::Counts(counts),
        Record::Turn(Timestamp::ZERO),
        Record::Command(Cow::Owned(open)),
        Record::Command(Cow::Owned(restart)),
        Record::Rest(Rest::default()),
    ];
    let (bytes, _) = journal(header, &records);
    let (header, reader) = Reader::new(&bytes).expect("it is a journal");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    while let Some(step) = player.step(&mut ()) {
        step.expect("it is whole");
    }
    assert_eq!(player.played(), 1);
    assert_eq!(player.shard().stats().sessions, 1);
    assert_eq!(player.shard().counts(), Counts::default(), "they wrap");
}
