mod codecs;

use super::tone::{ToneDecoder, TonePacket};
use super::*;

/// A stream of the tone into a buffer, in virtual time.
struct Stream {
    buffer: JitterBuffer,
    decoder: ToneDecoder,
    now: Timestamp,
    frames: u8,
    kinds: Vec<FrameKind>,
    sound: Vec<f32>,
}

const START: u64 = 0x1_fff8;

impl Stream {
    fn new(config: Config) -> Self {
        Self {
            buffer: JitterBuffer::new(config, Rate::Hz16000, 48_000),
            decoder: ToneDecoder::new(Rate::Hz16000),
            now: Timestamp::from_millis(1_000),
            frames: 2,
            kinds: Vec::new(),
            sound: Vec::new(),
        }
    }

    fn packet(&self, index: u64) -> TonePacket {
        TonePacket {
            at: index as u32 * u32::from(self.frames),
            frames: self.frames,
            ..TonePacket::default()
        }
    }

    fn insert(&mut self, index: u64) {
        self.insert_as(index, self.packet(index));
    }

    /// Timestamps cross their end early.
    fn insert_as(&mut self, index: u64, packet: TonePacket) {
        self.buffer.insert(
            self.now,
            Packet {
                sequence: START + index,
                timestamp: (packet.at * 480).wrapping_sub(4_000),
                payload: &packet.payload(),
                marker: false,
            },
        );
    }

    fn poll(&mut self) -> FrameKind {
        let mut out = [f32::NAN; 160];
        let kind = self.buffer.poll(self.now, &mut self.decoder, &mut out);
        if kind != FrameKind::Empty {
            self.sound.extend(out);
        }
        self.kinds.push(kind);
        kind
    }

    /// Lets 10 ms pass.
    fn tick(&mut self) -> FrameKind {
        let kind = self.poll();
        self.now = self.now + Duration::from_millis(10);
        kind
    }

    /// Packets that come evenly, but for those that do not come.
    fn run(&mut self, packets: std::ops::Range<u64>, lost: &[u64]) {
        for index in packets {
            if !lost.contains(&index) {
                self.insert(index);
            }
            for _ in 0..self.frames {
                self.tick();
            }
        }
    }

    fn count(&self, kind: FrameKind) -> usize {
        self.kinds.iter().filter(|each| **each == kind).count()
    }

    fn conserved(&self) {
        let stats = self.buffer.stats();
        assert_eq!(
            stats.packets_received,
            stats.packets_played
                + stats.packets_late
                + stats.packets_duplicated
                + stats.packets_overflowed
                + stats.packets_refused
                + self.buffer.held() as u64
        );
    }
}

#[test]
fn an_even_stream_is_played_as_it_was_sent() {
    for frames in [1, 2, 4, 6, 12] {
        let mut stream = Stream::new(Config::AGENT);
        stream.frames = frames;
        stream.run(0..600 / u64::from(frames), &[]);
        let stats = stream.buffer.stats();
        assert_eq!(stats.concealed_samples, 0, "{frames}");
        let waited = stream
            .kinds
            .iter()
            .take_while(|kind| **kind == FrameKind::Silence);
        assert_eq!(waited.count(), 4);
        let silent = 4 * 160;
        let mut tone = vec![0.0; 10 * 160];
        let mut decoder = ToneDecoder::new(Rate::Hz16000);
        for packet in 0..10 / u64::from(frames).min(10) {
            let part = stream.packet(packet);
            let samples = usize::from(frames) * 160;
            let at = packet as usize * samples;
            if at + samples <= tone.len() {
                decoder
                    .decode(&part.payload(), &mut tone[at..])
                    .expect("a packet");
                let heard = &stream.sound[silent + at..][..samples];
                // It fades in.
                let skipped = if packet == 0 { 80 } else { 0 };
                assert_eq!(heard[skipped..], tone[at..][skipped..samples]);
            }
        }
        stream.conserved();
    }
}

#[test]
fn a_lost_packet_is_concealed_and_costs_no_delay() {
    let mut stream = Stream::new(Config::HUMAN);
    stream.run(0..200, &[]);
    let delay = stream.buffer.delay();
    stream.run(200..300, &[210, 230, 231, 250]);
    let stats = stream.buffer.stats();
    assert_eq!(stats.concealed_samples, 8 * 160);
    assert_eq!(stats.concealment_events, 3);
    assert_eq!(stats.underruns, 0);
    assert_eq!(stream.buffer.delay(), delay);
    stream.conserved();
}

#[test]
fn a_lost_packet_is_decoded_from_the_copy_in_the_next() {
    let mut stream = Stream::new(Config::HUMAN);
    stream.run(0..200, &[]);
    for index in 200..260 {
        if index % 10 != 5 {
            let packet = TonePacket {
                has_fec: true,
                ..stream.packet(index)
            };
            stream.insert_as(index, packet);
        }
        stream.tick();
        stream.tick();
    }
    let stats = stream.buffer.stats();
    assert_eq!(
        (stats.fec_packets_received, stats.concealed_samples),
        (6, 0)
    );
    assert_eq!(stream.count(FrameKind::Fec), 12);
    // The tone goes on as if nothing had been lost.
    let heard = &stream.sound[stream.sound.len() - 100 * 160..];
    let period = 128;
    for index in 0..heard.len() - period {
        assert!(
            (heard[index] - heard[index + period]).abs() < 1e-5,
            "{index}"
        );
    }
    stream.conserved();
}

#[test]
fn a_late_packet_is_played_and_the_delay_grows_by_what_was_needed() {
    let mut stream = Stream::new(Config::AGENT);
    stream.run(0..100, &[]);
    let before = stream.buffer.delay();
    let removed = stream.buffer.stats().removed_samples_for_acceleration;
    // Eight frames long nothing comes, then all at once.
    for _ in 0..12 {
        stream.tick();
    }
    (100..106).for_each(|index| stream.insert(index));
    stream.tick();
    let stats = stream.buffer.stats();
    assert_eq!(stats.packets_late, 0);
    assert_eq!(stats.underruns, 1);
    let grown = (stream.buffer.delay() - before).as_micros() as u64 * 16 / 1_000;
    let removed = stats.removed_samples_for_acceleration - removed;
    assert!(grown.abs_diff(stats.concealed_samples - removed) <= 1);
    assert!(grown > 1_400);
    stream.run(106..120, &[]);
    assert!(stream.buffer.stats().packets_played >= 115);
    stream.conserved();
}

#[test]
fn the_delay_comes_back_to_its_target_and_no_packet_is_lost_by_it() {
    for config in [Config::AGENT, Config::HUMAN] {
        let mut stream = Stream::new(config);
        stream.run(0..1_500, &[]);
        for _ in 0..40 {
            stream.tick();
        }
        (1_500..1_520).for_each(|index| stream.insert(index));
        stream.run(1_520..1_770, &[]);
        let stats = stream.buffer.stats();
        assert!(stats.removed_samples_for_acceleration > 3_000, "{stats:?}");
        let limit = stream.buffer.target() + Duration::from_millis(20);
        assert!(
            stream.buffer.delay() <= limit,
            "{:?}",
            stream.buffer.delay()
        );
        assert_eq!(stats.packets_overflowed, 0);
    }
}

#[test]
fn a_pause_is_no_loss_and_speech_after_it_has_the_delay_aimed_at() {
    let mut stream = Stream::new(Config::HUMAN);
    stream.run(0..200, &[]);
    let dtx = TonePacket {
        is_dtx: true,
        ..stream.packet(200)
    };
    stream.insert_as(200, dtx);
    for _ in 0..6_000 {
        stream.tick();
    }
    assert_eq!(stream.buffer.stats().concealed_samples, 0);
    for index in 0..100 {
        let packet = stream.packet(3_200 + index);
        stream.insert_as(201 + index, packet);
        stream.tick();
        stream.tick();
    }
    let stats = stream.buffer.stats();
    assert_eq!(stats.concealed_samples, 0);
    assert_eq!(stats.restarts, 0);
    assert_eq!(stream.buffer.delay().as_millis() / 10, 4);
    stream.conserved();
}

#[test]
fn what_comes_twice_late_or_malformed_is_counted_and_not_played() {
    let mut stream = Stream::new(Config::HUMAN);
    stream.run(0..100, &[50]);
    stream.insert(99);
    stream.insert(50);
    stream.insert(50);
    let packet = |sequence, payload| Packet {
        sequence,
        timestamp: 100 * 960 - 4_000,
        payload,
        marker: false,
    };
    let now = stream.now;
    stream.buffer.insert(now, packet(START + 100, &[]));
    stream.buffer.insert(now, packet(START + 100, &[0; 2_000]));
    stream.buffer.insert(now, packet(u64::MAX, &[1]));
    stream.buffer.insert(now, packet(START + 100, &[9; 3]));
    for _ in 0..10 {
        stream.tick();
    }
    let stats = stream.buffer.stats();
    assert_eq!((stats.packets_duplicated, stats.packets_late), (2, 1));
    assert_eq!(stats.packets_refused, 4);
    stream.conserved();
}

#[test]
fn a_stream_that_begins_anew_is_followed() {
    type Change = fn(u64) -> (u64, u32);
    // By its timestamps, by its numbers, by both; forward and back.
    let changes: [Change; 4] = [
        |index| (START + index, (index as u32 * 960).wrapping_add(1 << 30)),
        |index| (START + index, (index as u32 * 960).wrapping_sub(1 << 30)),
        |index| (START + 20_000 + index, index as u32 * 960),
        |index| (index, (index as u32 * 960).wrapping_add(77_777)),
    ];
    for change in changes {
        let mut stream = Stream::new(Config::HUMAN);
        stream.run(0..100, &[]);
        for index in 100..200 {
            let (sequence, timestamp) = change(index);
            let payload = stream.packet(index).payload();
            stream.buffer.insert(
                stream.now,
                Packet {
                    sequence,
                    timestamp,
                    payload: &payload,
                    marker: false,
                },
            );
            stream.tick();
            stream.tick();
        }
        let stats = stream.buffer.stats();
        assert_eq!(stats.restarts, 1);
        assert!(
            stats.packets_refused <= 1 && stats.packets_overflowed <= 4,
            "{stats:?}"
        );
        assert!(stats.packets_played > 190, "{stats:?}");
        stream.conserved();
    }
}

#[test]
fn driven_by_arrival_frames_come_at_once_and_gaps_are_waited_for() {
    let wait = Duration::from_millis(60);
    let mut stream = Stream::new(Config::arrival_driven(wait));
    assert_eq!(stream.poll(), FrameKind::Empty);
    assert_eq!(stream.buffer.next_deadline(), None);
    for index in 0..10 {
        stream.insert(index);
        assert_eq!(stream.poll(), FrameKind::Normal);
        assert_eq!(stream.poll(), FrameKind::Normal);
        assert_eq!(stream.poll(), FrameKind::Empty);
        stream.now = stream.now + Duration::from_millis(20);
    }
    // The eleventh is missing. Those after it wait until it is 60 ms overdue.
    let due = stream.now + wait;
    assert!(
        stream.buffer.next_deadline() > Some(due),
        "nothing is held up"
    );
    for index in 11..14 {
        stream.now = stream.now + Duration::from_millis(20);
        stream.insert(index);
        assert_eq!(stream.buffer.next_deadline(), Some(due));
        if stream.now < due {
            assert_eq!(stream.poll(), FrameKind::Empty);
        }
    }
    assert_eq!(stream.now, due);
    for _ in 0..2 {
        assert_eq!(stream.poll(), FrameKind::Concealed);
    }
    for _ in 0..6 {
        assert_eq!(stream.poll(), FrameKind::Normal);
    }
    assert_eq!(stream.poll(), FrameKind::Empty);
    stream.conserved();
}

/// Packets of 200 ms come together as after a stall of Wi-Fi: late, but nothing is made up for them.
#[test]
fn driven_by_arrival_a_stall_adds_nothing_to_what_was_said() {
    let mut stream = Stream::new(Config::arrival_driven(Duration::from_millis(40)));
    for index in 0..10 {
        stream.insert(index);
        assert_eq!(stream.poll(), FrameKind::Normal);
        assert_eq!(stream.poll(), FrameKind::Normal);
        stream.now = stream.now + Duration::from_millis(20);
    }
    for _ in 0..20 {
        assert_eq!(stream.poll(), FrameKind::Empty);
        stream.now = stream.now + Duration::from_millis(10);
    }
    for index in 10..20 {
        stream.insert(index);
    }
    for _ in 0..20 {
        assert_eq!(stream.poll(), FrameKind::Normal);
    }
    assert_eq!(stream.poll(), FrameKind::Empty);
    assert_eq!(stream.buffer.stats().concealed_samples, 0);
    stream.conserved();
}
