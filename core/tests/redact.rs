//! Nothing that identifies anybody, and no secret, is left in a redacted journal: every one of them is a marker
//! here, and none is found again, whole or in halves.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use antiphon_core::ids::{ParticipantId, RequestId, RoomId, SessionId, SessionKey, ShardId};
use antiphon_core::journal::{
    Entry, Header, Payloads, ReadError, Reader, Record, Rest, Retention, Slot, Turns, begin, put,
    redact,
};
use antiphon_core::message::{Command, Event, ProfileName, Role, SessionStats, TrackStats};
use antiphon_core::plan::{
    AnnouncedSsrc, Codec, CodecPlan, DtlsRole, ExtensionIds, Feedback, Fingerprint, IceCredentials,
    LocalDescription, LocalSource, MediaKind, MediaPlan, Mid, Rid, SessionPlan,
};
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::{HandshakeResult, KeyingMaterial, Outcome};
use antiphon_core::shard::Tuning;
use antiphon_core::time::Timestamp;
use antiphon_core::voice::message::{AgentAsk, CallTime, Heard};

const SALT: [u8; 32] = [0x5a; 32];
const V4: &str = "203.0.113.77:51234";
const V6: &str = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:9999]:51235";
const HERE: &str = "198.51.100.9:40000";
/// Of a video source and its retransmissions, and of ours.
const SSRCS: [u32; 4] = [0xa1b2_c3d4, 0x91e2_f3a4, 0xb1c2_d3e4, 0xc1a2_b3f4];

/// What an agent dials, and what a person presses: a PIN, say.
const DIALLED: &str = "8675309*#A";
const PRESSED: &str = "4711#D";
/// Microseconds that a key was held: how the entry of one is known, as a digit alone occurs anywhere.
const HELD: u64 = 123_457;

/// Bytes that occur nowhere by chance.
fn marker(number: u8, len: usize) -> Vec<u8> {
    let bytes =
        (0..len as u8).map(|at| 0x80 | number.wrapping_mul(37).wrapping_add(at.wrapping_mul(11)));
    bytes.collect()
}

fn words(name: &str) -> String {
    format!("{name}-marker")
}

fn ice(who: &str) -> IceCredentials {
    IceCredentials {
        ufrag: words(&format!("{who}-ufrag")),
        password: words(&format!("{who}-password-of-22-characters")),
    }
}

fn mid() -> Mid {
    Mid::new(b"alices-camera").expect("printable")
}

fn session() -> SessionId {
    SessionId {
        shard: ShardId(0),
        key: SessionKey {
            index: 0,
            generation: 0,
        },
    }
}

fn header() -> Header {
    let mut seed = [0; 32];
    seed.copy_from_slice(&marker(1, 32));
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(&marker(2, 32));
    Header {
        software: words("software"),
        shard: ShardId(0),
        sessions_max: 10,
        fingerprint: Fingerprint(fingerprint),
        unix: Duration::from_nanos(1_769_876_543_210_987_654),
        seed: Seed::new(seed),
        payloads: Payloads::Full,
        retention: Retention::Whole { budget: 0 },
        tuning: Tuning::default(),
        redacted: false,
    }
}

fn open() -> Command {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(&marker(3, 32));
    let media = MediaPlan {
        mid: mid(),
        kind: MediaKind::Video,
        receive: true,
        send: true,
        codecs: vec![CodecPlan {
            payload_type: 96,
            codec: Codec::Vp8,
            rtx_payload_type: None,
            feedback: Feedback::default(),
        }],
        extensions: ExtensionIds::default(),
        ssrcs: vec![AnnouncedSsrc {
            ssrc: SSRCS[0],
            rtx: Some(SSRCS[1]),
        }],
        rids: vec![Rid::new(b"alices-layer").expect("printable")],
    };
    Command::Open {
        request: RequestId(1),
        plan: Box::new(SessionPlan {
            remote_ice: ice("remote"),
            remote_fingerprint: Fingerprint(fingerprint),
            dtls_role: DtlsRole::Server,
            reduced_size_rtcp: true,
            media: vec![media],
        }),
        role: Role::Publish {
            room: RoomId(1),
            participant: ParticipantId(2),
        },
    }
}

fn dial() -> Command {
    Command::Agent {
        session: session(),
        ask: AgentAsk::Dtmf {
            digits: DIALLED.to_owned(),
        },
    }
}

fn pressed(digit: char) -> Event {
    Event::Heard {
        session: session(),
        heard: Heard::Dtmf {
            at: CallTime(1),
            digit,
            duration: HELD,
        },
    }
}

fn events() -> Vec<Event> {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(&marker(2, 32));
    let track = TrackStats {
        mid: mid(),
        kind: MediaKind::Video,
        codec: None,
        inbound: true,
        ssrc: SSRCS[0],
        packets: 1,
        bytes: 1,
        bitrate: 1,
        lost: 0,
        jitter: Duration::ZERO,
        nacks: 0,
        retransmissions: 0,
        keyframe_requests: 0,
    };
    let session = session();
    let mut events = vec![
        Event::Opened {
            request: RequestId(1),
            session,
            local: Box::new(LocalDescription {
                ice: ice("local"),
                fingerprint: Fingerprint(fingerprint),
                sources: vec![Some(LocalSource {
                    ssrc: SSRCS[2],
                    rtx: Some(SSRCS[3]),
                })],
            }),
        },
        Event::Restarted {
            request: RequestId(2),
            ice: ice("restarted"),
        },
        Event::TrackAdded {
            session,
            mid: mid(),
            kind: MediaKind::Video,
            codec: Codec::Vp8,
        },
        Event::TrackRemoved {
            session,
            mid: mid(),
        },
        Event::SessionStats {
            request: RequestId(3),
            stats: Box::new(SessionStats {
                jitter_buffer: None,
                at: Timestamp::ZERO,
                age: Duration::ZERO,
                connected: true,
                round_trip: None,
                profile: None,
                packets_received: 0,
                packets_sent: 0,
                tracks: vec![track],
            }),
        },
    ];
    events.extend(PRESSED.chars().map(pressed));
    events
}

fn media_header(ssrc: u32) -> Vec<u8> {
    let mut header = vec![0x90, 96, 0, 1, 0, 0, 0, 2];
    header.extend_from_slice(&ssrc.to_be_bytes());
    header
}

fn report_header(ssrc: u32) -> Vec<u8> {
    let mut header = vec![0x80, 201, 0, 1];
    header.extend_from_slice(&ssrc.to_be_bytes());
    header
}

/// A datagram of each class, behind its header nothing but a marker.
fn datagrams() -> Vec<Vec<u8>> {
    let behind = |header: &[u8], number| [header, &marker(number, 40)].concat();
    vec![
        behind(&[0, 1, 0, 40, 0x21, 0x12, 0xa4, 0x42], 10),
        behind(&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 40], 11),
        behind(&media_header(SSRCS[0]), 12),
        behind(&media_header(SSRCS[1]), 18),
        behind(&report_header(SSRCS[0]), 13),
        // Cut within the source.
        media_header(SSRCS[0])[..11].to_vec(),
        report_header(SSRCS[0])[..7].to_vec(),
        marker(14, 40),
        // As STUN and as RTP begin, and nothing of the kind.
        behind(&[0, 1, 0, 40], 19),
        behind(&[0x80, 96], 20)[..11].to_vec(),
    ]
}

fn slot<'a>(source: &str, contents: Vec<u8>, stride: usize) -> Slot<'a> {
    Slot {
        is_first: true,
        received: Timestamp::ZERO,
        source: source.parse().expect("an address"),
        destination: HERE.parse().expect("an address"),
        ecn: None,
        stride: stride as u32,
        contents: Cow::Owned(contents),
        cuts: Vec::new(),
    }
}

fn journal() -> Vec<u8> {
    let mut journal = begin(header());
    let mut add = |record: Record<'_>| put(&mut journal, &record);
    add(Record::Turn(Timestamp::ZERO));
    add(Record::Command(Cow::Owned(open())));
    add(Record::Command(Cow::Owned(Command::Restart {
        request: RequestId(2),
        session: session(),
        remote_ice: ice("renewed"),
    })));
    add(Record::Command(Cow::Owned(dial())));
    for datagram in datagrams() {
        let len = datagram.len();
        add(Record::Received(slot(V4, datagram.clone(), len)));
        // Coalesced, of which the last is shorter.
        let twice = [&datagram[..], &datagram[..len - 1]].concat();
        add(Record::Received(slot(V6, twice, len)));
    }
    for event in events() {
        add(Record::Event(Cow::Owned(event)));
    }
    add(Record::Handshake(
        session(),
        Outcome {
            datagrams: vec![marker(15, 60)],
            result: HandshakeResult::Connected(
                ProfileName::AeadAes128Gcm,
                KeyingMaterial::new(&marker(16, 56)).expect("short enough"),
            ),
            deadline: None,
        },
    ));
    add(Record::Rest(Rest {
        deadline: None,
        outputs: u64::from_be_bytes(marker(17, 8).try_into().expect("eight")),
    }));
    journal
}

/// As entries hold numbers.
fn coded(mut number: u64) -> Vec<u8> {
    let bytes = std::iter::from_fn(|| {
        let (now, after) = (number, number >> 7);
        number = after;
        (now > 0).then_some((now & 0x7f) as u8 | u8::from(after > 0) << 7)
    });
    bytes.collect()
}

/// Everything that must be gone, and its name.
fn secrets() -> Vec<(String, Vec<u8>)> {
    let mut secrets = Vec::new();
    for who in ["remote", "local", "restarted", "renewed"] {
        let IceCredentials { ufrag, password } = &ice(who);
        secrets.push((format!("{who} ufrag"), ufrag.as_bytes().to_vec()));
        secrets.push((format!("{who} password"), password.as_bytes().to_vec()));
    }
    for (name, text) in [
        ("mid", "alices-camera"),
        ("rid", "alices-layer"),
        ("software", "software-marker"),
        ("digits that were dialled", DIALLED),
    ] {
        secrets.push((name.to_owned(), text.as_bytes().to_vec()));
    }
    for (name, number, len) in [
        ("seed", 1, 32),
        ("our fingerprint", 2, 32),
        ("their fingerprint", 3, 32),
        ("STUN attributes", 10, 40),
        ("DTLS contents", 11, 40),
        ("RTP payload", 12, 40),
        ("RTX payload", 18, 40),
        ("RTCP contents", 13, 40),
        ("unknown contents", 14, 40),
        ("what is no STUN", 19, 40),
        ("what is too short for RTP", 20, 9),
        ("handshake", 15, 60),
        ("keys", 16, 56),
        ("hash of outputs", 17, 8),
    ] {
        secrets.push((name.to_owned(), marker(number, len)));
    }
    for ssrc in SSRCS {
        secrets.push((format!("SSRC {ssrc:x} coded"), coded(ssrc.into())));
    }
    for digit in PRESSED.chars() {
        let entry = [&[1, digit as u8], &coded(HELD)[..]].concat();
        secrets.push((format!("key {digit}"), entry));
    }
    for ssrc in [SSRCS[0], SSRCS[1]] {
        secrets.push((format!("SSRC {ssrc:x}"), ssrc.to_be_bytes().to_vec()));
    }
    for address in [V4, V6, HERE] {
        let socket: SocketAddr = address.parse().expect("an address");
        secrets.push((address.to_owned(), address.as_bytes().to_vec()));
        secrets.push((address.to_owned(), socket.ip().to_string().into_bytes()));
        match socket {
            SocketAddr::V4(v4) => secrets.push((address.to_owned(), v4.ip().octets().to_vec())),
            SocketAddr::V6(v6) => secrets.push((address.to_owned(), v6.ip().octets().to_vec())),
        }
    }
    secrets
}

fn has(bytes: &[u8], sought: &[u8]) -> bool {
    bytes.windows(sought.len()).any(|window| window == sought)
}

#[test]
fn no_secret_is_left_nor_half_of_one() {
    let journal = journal();
    let (redacted, error) = redact(&journal, &Seed::new(SALT)).expect("it begins well");
    assert_eq!(error, None);
    for (name, secret) in secrets() {
        let is_text_of_address = secret.contains(&b'.') || secret.contains(&b':');
        assert!(
            has(&journal, &secret) || is_text_of_address,
            "{name} was never there"
        );
        assert!(!has(&redacted, &secret), "{name} is left");
        // Two bytes occur by chance.
        for half in secret
            .chunks(secret.len().div_ceil(2))
            .filter(|half| half.len() >= 4)
        {
            assert!(!has(&redacted, half), "half of {name} is left");
        }
    }
    // Nor the salt, from which pseudonyms could be tried.
    assert!(!has(&redacted, &SALT[..16]));
}

#[test]
fn what_is_left_is_sound_and_says_what_kind_of_thing_came_from_whom() {
    let (redacted, _) = redact(&journal(), &Seed::new(SALT)).expect("it begins well");
    let (header, reader) = Reader::new(&redacted).expect("it begins well");
    assert!(header.redacted);
    assert_eq!(header.payloads, Payloads::Headers);
    let entries: Vec<_> = Turns::new(reader).collect();
    let [Ok(Entry::Turn(turn))] = &entries[..] else {
        panic!("one turn: {entries:?}");
    };
    let keys = PRESSED.len();
    assert_eq!((turn.commands.len(), turn.events.len()), (3, 5 + keys));
    assert_eq!(turn.inputs(), 3 + 3 * datagrams().len());
    let Some(Command::Agent {
        ask: AgentAsk::Dtmf { digits },
        ..
    }) = turn.commands.back()
    else {
        panic!("it dials: {:?}", turn.commands);
    };
    assert_eq!(*digits, "0".repeat(DIALLED.len()), "how many is kept");
    let told = turn.events.iter().filter(|it| **it == pressed('0'));
    assert_eq!(told.count(), keys, "and for how long");
    let slots: Vec<_> = turn.batches.iter().flatten().collect();
    let sources = |is_ipv4: bool| {
        let slots = slots
            .iter()
            .filter(move |slot| slot.source.is_ipv4() == is_ipv4);
        slots.map(|slot| slot.source).collect::<Vec<_>>()
    };
    for is_ipv4 in [true, false] {
        let sources = sources(is_ipv4);
        assert_eq!(sources.len(), datagrams().len(), "families are kept");
        assert!(
            sources.iter().all(|source| *source == sources[0]),
            "one pseudonym each"
        );
    }
    let slot_of = |datagram: usize| slots[2 * datagram];
    let (media, retransmission, report) = (slot_of(2), slot_of(3), slot_of(4));
    let datagram = &datagrams()[2];
    assert_eq!(media.contents[..8], datagram[..8]);
    assert_eq!(media.cuts, [(12, datagram.len() as u32)]);
    // One name for a source wherever it is named, and another for another.
    let name = |slot: &Slot<'_>, at: usize| {
        let name = slot.contents[at..].first_chunk().expect("it is there");
        u32::from_be_bytes(*name)
    };
    let (source, rtx) = (name(media, 8), name(retransmission, 8));
    assert_ne!(source, rtx);
    assert_eq!(name(report, 4), source);
    let Some(Command::Open { plan, .. }) = turn.commands.front() else {
        panic!("it opens: {:?}", turn.commands);
    };
    let rtx = Some(rtx);
    assert_eq!(plan.media[0].ssrcs, [AnnouncedSsrc { ssrc: source, rtx }]);
    let told = turn.events.iter().find_map(|event| match event {
        Event::SessionStats { stats, .. } => Some(stats.tracks[0].ssrc),
        _ => None,
    });
    assert_eq!(told, Some(source));
    for (cut, len) in [(5, 2), (6, 4), (8, 4), (9, 2)] {
        assert_eq!(slot_of(cut).contents.len(), len, "no half of a source");
    }
    // Another salt, other pseudonyms.
    let (other, _) = redact(&journal(), &Seed::new([1; 32])).expect("it begins well");
    assert_ne!(redacted, other);
}

#[test]
fn what_only_sorts_as_dtls_keeps_nothing() {
    for first in [[20, 1, 2], [22, 3, 3], [26, 0xfe, 0xfd], [63, 0xfe, 0xfd]] {
        let noise = [&first[..], &marker(18, 40)].concat();
        let mut journal = begin(header());
        put(&mut journal, &Record::Turn(Timestamp::ZERO));
        put(
            &mut journal,
            &Record::Received(slot(V4, noise.clone(), noise.len())),
        );
        put(&mut journal, &Record::Rest(Rest::default()));
        let (redacted, _) = redact(&journal, &Seed::new(SALT)).expect("it begins well");
        assert!(!has(&redacted, &marker(18, 10)), "{first:?}");
        assert!(!has(&redacted, &first), "{first:?}");
    }
}

/// No server writes such an entry: short names of which there are more than there can be.
#[test]
fn an_entry_that_grows_beyond_what_a_reader_takes_is_told_as_lost() {
    let Command::Open {
        request,
        mut plan,
        role,
    } = open()
    else {
        panic!("it opens");
    };
    plan.media[0].rids = vec![Rid::new(b"r").expect("printable"); 20_000];
    let open = Command::Open {
        request,
        plan,
        role,
    };
    let mut journal = begin(header());
    put(&mut journal, &Record::Turn(Timestamp::ZERO));
    put(&mut journal, &Record::Command(Cow::Owned(open)));
    put(&mut journal, &Record::Rest(Rest::default()));
    let (redacted, error) = redact(&journal, &Seed::new(SALT)).expect("it begins well");
    assert_eq!(error, None);
    let (_, reader) = Reader::new(&redacted).expect("it begins well");
    let entries: Vec<_> = Turns::new(reader).collect();
    let [Ok(Entry::Turn(turn)), Ok(Entry::Lost(lost))] = &entries[..] else {
        panic!("a turn, and what is missing: {} entries", entries.len());
    };
    assert_eq!((turn.inputs(), lost.records), (0, 1));
}

#[test]
fn a_damaged_journal_is_redacted_as_far_as_it_goes() {
    let journal = journal();
    let (part, error) = redact(&journal[..journal.len() - 3], &Seed::new(SALT)).expect("it begins");
    assert!(matches!(error, Some(ReadError::CutOff { .. })));
    assert!(Reader::new(&part).is_ok());
    assert!(redact(b"something else", &Seed::new(SALT)).is_err());
}
