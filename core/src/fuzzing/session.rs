//! Behind the encryption: whatever a peer that holds the keys may say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;

use super::ops::ops;
use super::world::{OPUS, Peer, RTX, VP8, World, address, sound, vp8};
use crate::ids::{ParticipantId, RoomId, SessionId};
use crate::limits::{
    ASKS_PER_DATAGRAM_MAX, DATAGRAM_BYTES_MAX, KEYFRAME_REQUEST_INTERVAL, RETRANSMIT_BURST,
    RETRANSMIT_BYTES_PER_SECOND, SOURCE_SILENCE, SPEAKER_EVENT_INTERVAL, TRACK_EVENT_INTERVAL,
};
use crate::message::{CloseReason, Command, DropReason, Event, Role, Target, TrackStats};
use crate::plan::{MediaKind, Mid};
use crate::time::{NtpTime, Timestamp};
use crate::wire::rtcp::{
    CompoundWriter, FullIntraEntry, Packet, ReceiverDelay, ReportBlock, SenderSummary, packets,
};
use crate::wire::rtp::{Header, HeaderFields, write_header};
use crate::wire::{Class, classify};

/// A check keeps a session this long and longer.
const CONSENT_STEP: Duration = Duration::from_secs(5);
/// Datagrams that one may cause beside those it asks for: the packet forwarded, and for each of two sessions reports,
/// feedback and a request for a keyframe.
const OTHERS_MAX: usize = 1 + 2 * 3;
/// Of a source that no script has, but by chance in the bytes of a whole packet.
const GOOD: u32 = 0x600d_0000;
/// Sources of each end that count on.
const SOURCES: u8 = 5;
/// Ids of its extensions.
const LEVEL: u8 = 1;
const TRANSPORT: u8 = 2;

#[derive(Arbitrary, Clone, Copy)]
enum End {
    Publisher,
    Subscriber,
}

#[derive(Arbitrary)]
enum Op<'a> {
    /// A packet of a source that counts on: by `step`, mostly one.
    Media {
        from: End,
        source: u8,
        step: i8,
        far: u8,
        marker: bool,
        /// Level and voice, a number of transport-wide feedback, or whatever.
        extensions: (Option<u8>, Option<u16>, Option<(u8, u8)>),
        contents: Contents<'a>,
    },
    Report {
        from: End,
        said: Said,
    },
    /// Anything at all as a packet; its first two bytes make it one.
    Packet {
        from: End,
        plain: &'a [u8],
    },
    /// Anything at all as a compound; its first two bytes make it one.
    Compound {
        from: End,
        plain: &'a [u8],
    },
    Pass {
        millis: u16,
    },
    Stats(End),
}

/// A payload and its type: those of the offer, and some of nobody.
#[derive(Arbitrary)]
enum Contents<'a> {
    Opus(&'a [u8]),
    Vp8 {
        key: bool,
        picture: u16,
        rest: u8,
    },
    /// The packet of the same source so many before, again.
    Retransmission {
        back: u8,
        rest: u8,
    },
    Vp8Whatever(&'a [u8]),
    RetransmissionWhatever(&'a [u8]),
    Whatever(u8, &'a [u8]),
}

impl Contents<'_> {
    /// Payload type and payload in a packet of this number.
    fn write(&self, number: u16) -> (u8, Vec<u8>) {
        match *self {
            Self::Opus(payload) => (OPUS, payload.to_vec()),
            Self::Vp8 { key, picture, rest } => (VP8, vp8(key, picture, rest)),
            Self::Retransmission { back, rest } => {
                let original = number.wrapping_sub(u16::from(back));
                let payload = vp8(false, original, rest);
                (RTX, [&original.to_be_bytes()[..], &payload].concat())
            }
            Self::Vp8Whatever(payload) => (VP8, payload.to_vec()),
            Self::RetransmissionWhatever(payload) => (RTX, payload.to_vec()),
            Self::Whatever(payload_type, payload) => (payload_type & 0x7f, payload.to_vec()),
        }
    }
}

/// A header with the extensions asked for.
fn header(
    fields: &HeaderFields,
    (level, transport, other): (Option<u8>, Option<u16>, Option<(u8, u8)>),
) -> Vec<u8> {
    let level = level.map(|level| [level]);
    let transport = transport.map(u16::to_be_bytes);
    let other = other.map(|(id, value)| (1 + id % 14, vec![value; 1 + usize::from(value % 16)]));
    let all = [
        level.as_ref().map(|value| (LEVEL, &value[..])),
        transport.as_ref().map(|value| (TRANSPORT, &value[..])),
        other.as_ref().map(|(id, value)| (*id, &value[..])),
    ];
    let extensions: Vec<_> = all.into_iter().flatten().collect();
    let mut out = vec![0; 100];
    let len = write_header(&mut out, fields, &extensions).expect("there is room");
    out.truncate(len);
    out
}

/// What RTCP says.
#[derive(Arbitrary, Clone, Copy)]
enum Said {
    /// Of one of the last packets heard, and of those after it.
    Nack {
        back: u8,
        after: u16,
    },
    Picture,
    Intra(u8),
    Receiver {
        fraction: u8,
        lost: i16,
        delay: u16,
    },
    Sender {
        ntp: u64,
        source: u8,
    },
    Goodbye {
        source: u8,
    },
    Delays(u16),
}

/// A publisher and its subscriber, connected; either says whatever the bytes say, under its own key. Afterwards both
/// live, a packet as it should be crosses, and so it did all the time between two others. Figures add up, and a session
/// that is closed says so.
pub fn session_datagrams(data: &[u8]) {
    let mut call = Call::new();
    call.assert_sound_crosses();
    for op in ops(data) {
        call.step(&op);
    }
    call.pass(SOURCE_SILENCE.max(TRACK_EVENT_INTERVAL));
    call.assert_sound_crosses();
    for end in [End::Publisher, End::Subscriber] {
        call.judge_figures(end);
        call.close(end);
    }
}

/// Two peers of a room.
struct Pair {
    publisher: Peer,
    subscriber: Peer,
    addresses: [SocketAddr; 2],
    next: u16,
}

struct Call {
    world: World,
    /// Who says what the bytes say.
    loud: Pair,
    /// Who must not notice.
    quiet: Pair,
    /// The next number of each source, of each end.
    numbers: BTreeMap<(bool, u8), u16>,
    /// Tracks of the loud publisher, and when that was told last.
    tracks: BTreeMap<Mid, (bool, Timestamp)>,
    spoke: BTreeMap<RoomId, Timestamp>,
    begun: Timestamp,
    /// Bytes sent again to the loud subscriber.
    repeated: u64,
    /// When the loud publisher was last asked for a keyframe of each source.
    asked: BTreeMap<u32, Timestamp>,
    /// What the loud subscriber heard last: source and number.
    heard: (u32, u16),
    /// Packets that each end sealed, and of them those that were not refused.
    said: [(u64, u64); 2],
}

impl Pair {
    fn new(world: &mut World, number: u16) -> Self {
        let (room, participant) = (RoomId(number.into()), ParticipantId(1));
        let roles = [
            Role::Publish { room, participant },
            Role::Subscribe {
                room,
                target: Target::Newest,
            },
        ];
        let first = 2 * number;
        let addresses = [address(first), address(first + 1)];
        let mut join = |place: usize| {
            let (id, local) = world.open(roles[place]).expect("there is room");
            let number = u64::from(first) + place as u64;
            let mut peer = Peer::new(id, &local, number);
            peer.connect(world, addresses[place]);
            peer
        };
        Self {
            publisher: join(0),
            subscriber: join(1),
            addresses,
            next: 0,
        }
    }

    fn ids(&self) -> [SessionId; 2] {
        [self.publisher.id, self.subscriber.id]
    }

    fn peer(&mut self, end: End) -> &mut Peer {
        match end {
            End::Publisher => &mut self.publisher,
            End::Subscriber => &mut self.subscriber,
        }
    }

    /// The session of an end, and where that is.
    fn end(&mut self, end: End) -> (SessionId, SocketAddr) {
        (self.peer(end).id, self.addresses[end as usize])
    }

    fn check(&mut self, world: &mut World) {
        for (peer, address) in [&mut self.publisher, &mut self.subscriber]
            .into_iter()
            .zip(self.addresses)
        {
            assert_eq!(peer.check(world, address), None, "a sound check is taken");
        }
    }

    /// One good packet from the publisher, heard by the subscriber as it was said.
    fn assert_sound_crosses(&mut self, world: &mut World) {
        self.next += 1;
        let payload = [&GOOD.to_be_bytes()[..], &self.next.to_be_bytes()].concat();
        let packet = sound(GOOD, self.next, &payload);
        let sealed = self.publisher.seal_rtp(&packet).expect("a fresh number");
        world.sent.clear();
        let dropped = world.deliver(self.addresses[0], &sealed);
        assert_eq!(dropped, None, "a good packet is taken");
        let mut heard = 0;
        for (to, contents) in std::mem::take(&mut world.sent) {
            let opened = (to == self.addresses[1])
                .then(|| self.subscriber.open(&contents))
                .flatten();
            heard += usize::from(opened.is_some_and(|packet| packet.ends_with(&payload)));
        }
        assert_eq!(heard, 1, "a good packet crosses");
    }
}

impl Call {
    fn new() -> Self {
        let mut world = World::new(4);
        let (loud, quiet) = (Pair::new(&mut world, 1), Pair::new(&mut world, 2));
        world.events.clear();
        let begun = world.now;
        Self {
            world,
            loud,
            quiet,
            numbers: BTreeMap::new(),
            tracks: BTreeMap::new(),
            spoke: BTreeMap::new(),
            begun,
            repeated: 0,
            asked: BTreeMap::new(),
            heard: (0, 0),
            said: [(0, 0); 2],
        }
    }

    fn assert_sound_crosses(&mut self) {
        self.loud.assert_sound_crosses(&mut self.world);
        self.quiet.assert_sound_crosses(&mut self.world);
        self.note_events();
    }

    fn step(&mut self, op: &Op<'_>) {
        match *op {
            Op::Pass { millis } => self.pass(Duration::from_millis(u64::from(millis))),
            Op::Stats(end) => self.judge_figures(end),
            Op::Media {
                from,
                source,
                step,
                far,
                marker,
                extensions,
                ref contents,
            } => {
                // Far is beyond what loss explains.
                let far = if far == 0 { 100 } else { 1 };
                let source = source % SOURCES;
                let number = self.numbers.entry((matches!(from, End::Publisher), source));
                let number = number.or_default();
                *number = number.wrapping_add_signed(i16::from(step) * far);
                let (payload_type, payload) = contents.write(*number);
                let fields = HeaderFields {
                    payload_type,
                    marker,
                    sequence_number: *number,
                    timestamp: u32::from(*number) * 960,
                    ssrc: u32::from(source),
                };
                let header = header(&fields, extensions);
                self.say(from, &[header, payload].concat());
            }
            Op::Report { from, said } => {
                let mut compound = [0; 1_500];
                let mut writer = CompoundWriter::new(&mut compound);
                assert!(self.write_report(said, &mut writer), "it fits");
                let len = writer.len();
                self.say(from, &compound[..len]);
            }
            Op::Packet { from, plain } => {
                let mut plain = plain.to_vec();
                if let [first, second, ..] = &mut plain[..] {
                    *first = 0x80 | *first & 0x3f;
                    // RTCP begins with these (RFC 5761 §4).
                    if (192..=223).contains(second) {
                        *second -= 128;
                    }
                    self.say(from, &plain);
                }
            }
            Op::Compound { from, plain } => {
                let mut plain = plain.to_vec();
                if let [first, second, ..] = &mut plain[..] {
                    *first = 0x80 | *first & 0x3f;
                    *second = 192 | *second & 0x1f;
                    self.say(from, &plain);
                }
            }
        }
    }

    /// RTCP about what was heard last.
    fn write_report(&self, said: Said, writer: &mut CompoundWriter<'_>) -> bool {
        const SENDER: u32 = 1;
        let (media, number) = self.heard;
        match said {
            Said::Nack { back, after } => {
                let first = number.wrapping_sub(u16::from(back));
                let rest = (0..16).filter(|bit| after >> bit & 1 == 1);
                let lost: Vec<_> = [first]
                    .into_iter()
                    .chain(rest.map(|bit| first.wrapping_add(1 + bit)))
                    .collect();
                writer.nack(SENDER, media, &lost)
            }
            Said::Picture => writer.picture_loss_indication(SENDER, media),
            Said::Intra(sequence_number) => writer.full_intra_request(
                SENDER,
                FullIntraEntry {
                    media_ssrc: media,
                    sequence_number,
                },
            ),
            Said::Receiver {
                fraction,
                lost,
                delay,
            } => {
                let block = ReportBlock {
                    ssrc: media,
                    fraction_lost: fraction,
                    cumulative_lost: i32::from(lost),
                    highest_sequence: u32::from(number),
                    jitter: u32::from(delay),
                    last_sender_report: u32::from(delay) << 8,
                    delay_since_last: u32::from(delay),
                };
                writer.receiver_report(SENDER, &[block])
            }
            Said::Sender { ntp, source } => {
                let summary = SenderSummary {
                    ssrc: u32::from(source % SOURCES),
                    ntp: NtpTime(ntp),
                    rtp_timestamp: ntp as u32,
                    packets: 1,
                    bytes: 1,
                };
                writer.sender_report(&summary, &[])
            }
            Said::Goodbye { source } => writer.goodbye(&[u32::from(source % SOURCES)]),
            Said::Delays(delay) => {
                let delay = ReceiverDelay {
                    ssrc: media,
                    last_receiver_report: u32::from(delay) << 8,
                    delay_since_last: u32::from(delay),
                };
                writer.receiver_delays(SENDER, &[delay])
            }
        }
    }

    /// Seals and delivers a plain packet or compound.
    fn say(&mut self, from: End, plain: &[u8]) {
        let (_, source) = self.loud.end(from);
        let peer = self.loud.peer(from);
        let report = classify(plain) == Class::Rtcp;
        if plain.get(8..12) == Some(&GOOD.to_be_bytes()) && !report {
            return;
        }
        let sealed = if report {
            peer.seal_rtcp(plain)
        } else {
            peer.seal_rtp(plain)
        };
        let Some(sealed) = sealed else { return };
        let dropped = self.world.deliver(source, &sealed);
        let (sealed, taken) = &mut self.said[from as usize];
        (*sealed, *taken) = (*sealed + 1, *taken + u64::from(dropped.is_none()));
        // It was authentic: what is refused is what it says.
        let unheard = [
            DropReason::Unclassified,
            DropReason::UnknownSource,
            DropReason::NoKeysYet,
        ];
        assert!(dropped.is_none_or(|reason| !unheard.contains(&reason)));
        if dropped.is_some() {
            assert!(self.world.sent.is_empty() || report, "{dropped:?} answered");
        }
        let (mut repeats, mut others) = (0, 0);
        for (to, contents) in std::mem::take(&mut self.world.sent) {
            let repeat = self.note_sent(to, &contents, plain.len());
            *(if repeat { &mut repeats } else { &mut others }) += 1;
        }
        let asks = if report { ASKS_PER_DATAGRAM_MAX } else { 0 };
        assert!(
            repeats <= asks && others <= OTHERS_MAX,
            "{repeats} and {others}"
        );
        self.note_events();
        self.quiet.assert_sound_crosses(&mut self.world);
        self.note_events();
    }

    fn pass(&mut self, by: Duration) {
        let end = self.world.now + by;
        while self.world.now < end {
            let left = end.since(self.world.now);
            self.world.now = self.world.now + left.min(CONSENT_STEP);
            self.world.turn();
            for (to, contents) in std::mem::take(&mut self.world.sent) {
                let repeat = self.note_sent(to, &contents, 0);
                assert!(!repeat, "nobody asked");
            }
            self.loud.check(&mut self.world);
            self.quiet.check(&mut self.world);
            self.world.sent.clear();
        }
        self.note_events();
    }

    /// Judges one datagram of ours; whether it is a retransmission.
    fn note_sent(&mut self, to: SocketAddr, contents: &[u8], cause: usize) -> bool {
        // An extension of ours and a tag may make a large packet larger.
        assert!(contents.len() <= DATAGRAM_BYTES_MAX.max(cause + 64));
        let pair = if self.loud.addresses.contains(&to) {
            &mut self.loud
        } else {
            &mut self.quiet
        };
        assert!(pair.addresses.contains(&to), "{to} is nobody's");
        let to_publisher = to == pair.addresses[0];
        let peer = if to_publisher {
            &mut pair.publisher
        } else {
            &mut pair.subscriber
        };
        let opened = peer.open(contents).expect("sealed for its session");
        if classify(contents) == Class::Rtp {
            assert!(!to_publisher, "a publisher hears nothing");
            let header = Header::parse(&opened).expect("we write what can be read");
            let repeat = header.payload_type == RTX;
            if repeat {
                self.note_repeat(contents.len());
            } else {
                self.heard = (header.ssrc, header.sequence_number);
            }
            return repeat;
        }
        for packet in packets(&opened) {
            let packet = packet.expect("we write what can be read");
            if let Packet::PictureLossIndication(loss) = packet {
                self.note_keyframe_request(loss.media_ssrc);
            }
        }
        false
    }

    fn note_repeat(&mut self, bytes: usize) {
        self.repeated += bytes as u64;
        let passed = self.world.now.since(self.begun) + RETRANSMIT_BURST;
        let allowed = u128::from(RETRANSMIT_BYTES_PER_SECOND) * passed.as_millis() / 1_000;
        assert!(u128::from(self.repeated) <= allowed, "N3");
    }

    fn note_keyframe_request(&mut self, source: u32) {
        let now = self.world.now;
        if let Some(before) = self.asked.insert(source, now) {
            assert!(
                now.since(before) >= KEYFRAME_REQUEST_INTERVAL,
                "of {source} too soon"
            );
        }
    }

    /// Figures say no more than there was, and parts add up to the whole.
    fn judge_figures(&mut self, end: End) {
        let request = self.world.request();
        let (session, _) = self.loud.end(end);
        self.world
            .command(Command::SessionStats { request, session });
        let stats = match self.world.events.pop() {
            Some(Event::SessionStats { stats, .. }) => *stats,
            other => panic!("{other:?} answers nothing"),
        };
        assert!(stats.connected && stats.profile.is_some());
        let (sealed, taken) = self.said[end as usize];
        // The packets that must cross are the publisher's too.
        let good = if matches!(end, End::Publisher) {
            u64::from(self.loud.next)
        } else {
            0
        };
        let received = stats.packets_received;
        assert!((taken + good..=sealed + good).contains(&received));
        let sum = |inbound, figure: fn(&TrackStats) -> u64| -> u64 {
            let tracks = stats.tracks.iter();
            tracks.filter(|it| it.inbound == inbound).map(figure).sum()
        };
        assert!(sum(true, |track| track.packets) <= received);
        let again = sum(false, |track| track.retransmissions);
        let sent = sum(false, |track| track.packets) + again;
        assert_eq!(
            stats.packets_sent, sent,
            "what is sent is new or sent again"
        );
        assert!(
            stats
                .tracks
                .iter()
                .all(|it| it.inbound || it.lost.abs() <= 1 << 23)
        );
    }

    /// Ends a session by BYE, told once.
    fn close(&mut self, end: End) {
        let (session, to) = self.loud.end(end);
        let reason = CloseReason::Requested;
        self.world.command(Command::Close { session, reason });
        let mut farewells = 0;
        for (destination, contents) in std::mem::take(&mut self.world.sent) {
            assert_eq!(destination, to, "nobody else is concerned");
            if classify(&contents) == Class::Rtcp {
                let opened = self.loud.peer(end).open(&contents);
                let opened = opened.expect("sealed for its session");
                let goodbyes = packets(&opened).map(|packet| packet.expect("ours"));
                farewells += goodbyes
                    .filter(|packet| matches!(packet, Packet::Goodbye(_)))
                    .count();
            }
        }
        assert_eq!(farewells, 1, "one BYE");
        let events = std::mem::take(&mut self.world.events);
        let closed = Event::Closed { session, reason };
        assert_eq!(events.iter().filter(|event| **event == closed).count(), 1);
    }

    /// No event but these, none out of turn, and none more often than is promised.
    fn note_events(&mut self) {
        let now = self.world.now;
        let quiet = self.quiet.ids();
        for event in std::mem::take(&mut self.world.events) {
            let (mid, added) = match event {
                Event::TrackAdded { session, kind, .. } if quiet.contains(&session) => {
                    assert_eq!(kind, MediaKind::Audio);
                    continue;
                }
                Event::TrackAdded { session, mid, .. } => {
                    assert_eq!(session, self.loud.publisher.id);
                    (mid, true)
                }
                Event::TrackRemoved { session, mid } => {
                    assert_eq!(session, self.loud.publisher.id);
                    (mid, false)
                }
                Event::ActiveSpeaker { room, .. } => {
                    // Room 1 is the loud pair's, 2 the quiet one's.
                    let before = self.spoke.insert(room, now);
                    let since = before.map(|before| now.since(before));
                    assert!(since.is_none_or(|since| since >= SPEAKER_EVENT_INTERVAL));
                    continue;
                }
                other => panic!("{other:?} by what a peer says"),
            };
            let before = self.tracks.insert(mid, (added, now));
            assert_eq!(before.is_some_and(|(there, _)| there), !added);
            let since = before.map(|(_, at)| now.since(at));
            assert!(since.is_none_or(|since| since >= TRACK_EVENT_INTERVAL));
        }
    }
}
