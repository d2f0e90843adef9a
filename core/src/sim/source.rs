//! What a peer says and shows: packets in the rhythm of real encoders, each with a stamp by which its hearer knows it.

use std::time::Duration;

use crate::plan::MediaKind;
use crate::rng::Rng;
use crate::time::Timestamp;
use crate::wire::payload::vp8;

/// Between two packets of speech.
pub const SPEECH_INTERVAL: Duration = Duration::from_millis(20);
/// Between two packets of an Opus encoder in discontinuous transmission.
pub const DTX_INTERVAL: Duration = Duration::from_millis(400);
/// Between two pictures.
pub const PICTURE_INTERVAL: Duration = Duration::from_micros(33_333);

/// Bytes of a stamp.
const STAMP_BYTES: usize = 16;
/// Bytes of a VP8 descriptor with a 15-bit picture id, and of the frame header's first byte.
const VP8_BYTES: usize = 5;
/// Payload of a packet in silence: too short for a stamp, as real encoders make it.
const DTX_BYTES: usize = 3;

/// Who made a packet, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The member that sent it.
    pub member: u32,
    /// Number of the packet among those of its track, from zero.
    pub number: u32,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Number of the picture; zero for audio.
    pub picture: u16,
    /// Audio or video.
    pub kind: MediaKind,
}

impl Stamp {
    /// Fills `out` with the stamp, and a pattern that follows from it.
    fn write(self, out: &mut [u8]) {
        let word = self.word().to_le_bytes();
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        out[..4].copy_from_slice(&self.member.to_le_bytes());
        out[4..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..12].copy_from_slice(&self.timestamp.to_le_bytes());
        out[12..14].copy_from_slice(&self.picture.to_le_bytes());
        out[14] = matches!(self.kind, MediaKind::Video).into();
    }

    /// Reads a stamp; `None` if a byte of it or behind it is not as it was written.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (stamp, rest) = bytes.split_at_checked(STAMP_BYTES)?;
        let word_at = |at: usize| {
            let bytes = stamp.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let read = Self {
            member: word_at(0)?,
            number: word_at(4)?,
            timestamp: word_at(8)?,
            picture: word_at(12)? as u16,
            kind: match stamp[14] {
                0 => MediaKind::Audio,
                1 => MediaKind::Video,
                _ => return None,
            },
        };
        let word = read.word().to_le_bytes();
        let (words, tail) = rest.as_chunks::<8>();
        let intact = stamp[15] == word[7]
            && words.iter().all(|bytes| *bytes == word)
            && *tail == word[..tail.len()];
        intact.then_some(read)
    }

    fn word(self) -> u64 {
        let numbers = u64::from(self.member) << 32 | u64::from(self.number);
        let others = u64::from(self.timestamp) << 20 ^ u64::from(self.picture) << 48;
        (numbers ^ others).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// One packet, without what the peer adds.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// RTP timestamp, from zero.
    pub timestamp: u32,
    /// See [`Header::marker`](crate::wire::rtp::Header::marker).
    pub marker: bool,
    /// Loudness and voice as RFC 6464 has them; audio only.
    pub level: Option<(u8, bool)>,
    /// Payload bytes.
    pub len: usize,
}

/// A talker: spurts of speech with silences between, in which an Opus encoder nearly stops.
#[derive(Debug)]
pub struct Talker {
    next: Timestamp,
    speaks: bool,
    turns_at: Timestamp,
    timestamp: u32,
    /// Never stops.
    monologue: bool,
    starts_spurt: bool,
    loudness: u8,
}

impl Talker {
    /// Begins at `now`, in speech or silence; a `monologue` is speech without end.
    #[must_use]
    pub fn new(now: Timestamp, rng: &mut Rng, monologue: bool) -> Self {
        Self {
            next: now,
            speaks: monologue || rng.below(2) == 0,
            turns_at: now + span(rng),
            timestamp: 0,
            monologue,
            starts_spurt: true,
            loudness: 10 + rng.below(30) as u8,
        }
    }

    fn make(&mut self, now: Timestamp, rng: &mut Rng, clock: &Clock) -> Made {
        if !self.monologue && now >= self.turns_at {
            self.speaks = !self.speaks;
            self.starts_spurt = self.speaks;
            self.turns_at = now + span(rng);
        }
        let (interval, len, level) = if self.speaks {
            (SPEECH_INTERVAL, 60 + rng.below(40) as usize, self.loudness)
        } else {
            (DTX_INTERVAL, DTX_BYTES, 127)
        };
        let made = Made {
            timestamp: self.timestamp,
            marker: std::mem::take(&mut self.starts_spurt),
            level: Some((level, self.speaks)),
            len,
        };
        // What is said next may begin earlier than the next packet of silence.
        let next = self.next + clock.stretch(interval);
        let cut = if self.monologue {
            next
        } else {
            next.min(self.turns_at.max(now + clock.stretch(SPEECH_INTERVAL)))
        };
        let passed = cut.since(self.next);
        let units = (clock.local(passed).as_nanos() * 48 + 500_000) / 1_000_000;
        self.timestamp = self.timestamp.wrapping_add(units as u32);
        self.next = cut;
        made
    }
}

/// Half a second to three.
fn span(rng: &mut Rng) -> Duration {
    Duration::from_millis(500 + u64::from(rng.below(2_500)))
}

/// A camera: a picture each 33 ms in one to four packets, a key picture of more when asked.
#[derive(Debug)]
pub struct Camera {
    next: Timestamp,
    timestamp: u32,
    /// Packets left of the picture, and of how many.
    left: u32,
    of: u32,
    key: bool,
    key_wanted: bool,
    picture: u16,
    /// Largest payload, in bytes.
    payload_max: u32,
}

impl Camera {
    /// Begins at `now` with a key picture.
    #[must_use]
    pub fn new(now: Timestamp, payload_max: u32) -> Self {
        Self {
            next: now,
            timestamp: 0,
            left: 0,
            of: 0,
            key: false,
            key_wanted: true,
            picture: 0,
            payload_max,
        }
    }

    fn make(&mut self, rng: &mut Rng, clock: &Clock) -> Made {
        if self.left == 0 {
            self.key = std::mem::take(&mut self.key_wanted);
            self.of = if self.key { 5 } else { 1 } + rng.below(4);
            self.left = self.of;
        }
        self.left -= 1;
        let least = (VP8_BYTES + STAMP_BYTES) as u32;
        let made = Made {
            timestamp: self.timestamp,
            marker: self.left == 0,
            level: None,
            len: (least + rng.below(self.payload_max - least)) as usize,
        };
        if self.left == 0 {
            self.next = self.next + clock.stretch(PICTURE_INTERVAL);
            self.timestamp = self.timestamp.wrapping_add(3_000);
        }
        made
    }

    fn descriptor(&self) -> [u8; VP8_BYTES] {
        let starts = self.left + 1 == self.of;
        let id = self.picture & 0x7fff;
        [
            0x80 | u8::from(starts) << 4,
            0x80,
            0x80 | (id >> 8) as u8,
            id as u8,
            u8::from(!(self.key && starts)),
        ]
    }
}

/// A peer's clock: faster or slower than the world's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Parts per million it runs fast.
    pub ppm: i64,
    /// What it shows at the start.
    pub offset: Duration,
}

impl Clock {
    /// How long the world takes for what the peer's clock calls `local`.
    #[must_use]
    pub fn stretch(&self, local: Duration) -> Duration {
        self.scale(local, -self.ppm)
    }

    /// What the peer's clock shows of a span of the world's.
    #[must_use]
    pub fn local(&self, world: Duration) -> Duration {
        self.scale(world, self.ppm)
    }

    fn scale(&self, by: Duration, ppm: i64) -> Duration {
        let nanos = by.as_nanos() as i64;
        Duration::from_nanos((nanos + nanos / 1_000 * ppm / 1_000).max(0) as u64)
    }
}

/// A track's source.
#[derive(Debug)]
pub enum Source {
    /// Opus.
    Talker(Talker),
    /// VP8.
    Camera(Camera),
}

impl Source {
    /// When the next packet is due.
    #[must_use]
    pub const fn next(&self) -> Timestamp {
        match self {
            Self::Talker(talker) => talker.next,
            Self::Camera(camera) => camera.next,
        }
    }

    /// Audio or video.
    #[must_use]
    pub const fn kind(&self) -> MediaKind {
        match self {
            Self::Talker(_) => MediaKind::Audio,
            Self::Camera(_) => MediaKind::Video,
        }
    }

    /// Somebody needs a key picture.
    pub fn want_keyframe(&mut self) {
        if let Self::Camera(camera) = self {
            camera.key_wanted = true;
        }
    }

    /// Makes the next packet: `payload` becomes what goes behind the header.
    pub fn make(
        &mut self,
        now: Timestamp,
        rng: &mut Rng,
        clock: &Clock,
        (member, number): (u32, u32),
        payload: &mut Vec<u8>,
    ) -> Made {
        match self {
            Self::Talker(talker) => {
                let made = talker.make(now, rng, clock);
                payload.resize(made.len, 0);
                // TOC: CELT, 20 ms, mono, one frame.
                payload[0] = 0xe8;
                if made.len == DTX_BYTES {
                    (payload[1], payload[2]) = (member as u8, number as u8);
                } else {
                    let stamp = Stamp {
                        member,
                        number,
                        timestamp: made.timestamp,
                        picture: 0,
                        kind: MediaKind::Audio,
                    };
                    stamp.write(&mut payload[1..]);
                }
                made
            }
            Self::Camera(camera) => {
                let made = camera.make(rng, clock);
                payload.resize(made.len, 0);
                payload[..VP8_BYTES].copy_from_slice(&camera.descriptor());
                let stamp = Stamp {
                    member,
                    number,
                    timestamp: made.timestamp,
                    picture: camera.picture,
                    kind: MediaKind::Video,
                };
                stamp.write(&mut payload[VP8_BYTES..]);
                if made.marker {
                    camera.picture = camera.picture.wrapping_add(1);
                }
                made
            }
        }
    }
}

/// What an opened payload of this kind says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Who made it; and the picture id it came with, if it has one.
    Stamped(Stamp, Option<u16>),
    /// A packet of silence, too short for a stamp: the last byte of its member and of its number.
    Silence(u8, u8),
    /// Not as any source makes it.
    Damaged,
}

/// Reads a payload as it was received.
#[must_use]
pub fn read(kind: MediaKind, payload: &[u8]) -> Said {
    if let (MediaKind::Audio, [_, member, number]) = (kind, payload) {
        return Said::Silence(*member, *number);
    }
    let (skipped, picture) = match kind {
        MediaKind::Audio => (1, None),
        MediaKind::Video => match vp8::Descriptor::parse(payload) {
            Ok(descriptor) => {
                let id = descriptor.picture_id.map(vp8::PictureId::value);
                (descriptor.len() + 1, id)
            }
            Err(_) => return Said::Damaged,
        },
    };
    let stamp = payload.get(skipped..).and_then(Stamp::read);
    match stamp.filter(|stamp| stamp.kind == kind) {
        Some(stamp) => Said::Stamped(stamp, picture),
        None => Said::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    fn packets(source: &mut Source, clock: Clock, seconds: u64) -> Vec<(Timestamp, Made, Vec<u8>)> {
        let mut rng = Seed::new([3; 32]).rng();
        let mut made = Vec::new();
        while source.next() < Timestamp::from_millis(seconds * 1_000) {
            let (at, mut payload) = (source.next(), Vec::new());
            let number = made.len() as u32;
            let packet = source.make(at, &mut rng, &clock, (7, number), &mut payload);
            made.push((at, packet, payload));
        }
        made
    }

    fn talker(monologue: bool) -> Source {
        let mut rng = Seed::new([4; 32]).rng();
        Source::Talker(Talker::new(Timestamp::ZERO, &mut rng, monologue))
    }

    #[test]
    fn a_monologue_is_fifty_packets_a_second() {
        let made = packets(&mut talker(true), Clock::default(), 10);
        assert_eq!(made.len(), 500);
        for (number, (_, packet, payload)) in made.iter().enumerate() {
            assert_eq!(packet.timestamp, number as u32 * 960);
            let said = read(MediaKind::Audio, payload);
            assert!(matches!(said, Said::Stamped(stamp, None) if stamp.number == number as u32));
        }
    }

    #[test]
    fn a_talker_is_silent_at_times_and_its_media_time_is_time() {
        let made = packets(&mut talker(false), Clock::default(), 60);
        let silent = made
            .iter()
            .filter(|(.., payload)| payload.len() == DTX_BYTES);
        assert!((20..200).contains(&silent.count()));
        assert!((1_000..2_500).contains(&made.len()), "{}", made.len());
        for pair in made.windows(2) {
            let (passed, step) = (
                pair[1].0.since(pair[0].0),
                pair[1].1.timestamp - pair[0].1.timestamp,
            );
            assert!(passed >= SPEECH_INTERVAL && passed <= DTX_INTERVAL);
            assert!((passed.as_micros() as i64 * 48 / 1_000 - i64::from(step)).abs() <= 1);
        }
    }

    #[test]
    fn a_fast_clock_sends_more() {
        let clock = Clock {
            ppm: 1_000,
            offset: Duration::ZERO,
        };
        let made = packets(&mut talker(true), clock, 100);
        assert_eq!(made.len(), 5_006);
    }

    #[test]
    fn a_camera_shows_thirty_pictures_a_second_and_key_pictures_when_asked() {
        let mut camera = Source::Camera(Camera::new(Timestamp::ZERO, 1_000));
        let made = packets(&mut camera, Clock::default(), 1);
        camera.want_keyframe();
        let key =
            |payload: &[u8]| crate::wire::payload::is_keyframe(crate::plan::Codec::Vp8, payload);
        assert_eq!(
            made.iter().filter(|(_, packet, _)| packet.marker).count(),
            31
        );
        assert_eq!(made.iter().filter(|(.., payload)| key(payload)).count(), 1);
        for (.., payload) in &made {
            let said = read(MediaKind::Video, payload);
            assert!(matches!(said, Said::Stamped(stamp, Some(id)) if stamp.picture == id));
        }
        let mut rng = Seed::new([3; 32]).rng();
        let mut payload = Vec::new();
        camera.make(
            camera.next(),
            &mut rng,
            &Clock::default(),
            (7, 0),
            &mut payload,
        );
        assert!(key(&payload));
    }

    #[test]
    fn a_damaged_payload_is_told_from_a_sound_one() {
        let made = packets(&mut talker(true), Clock::default(), 1);
        let (.., payload) = &made[9];
        for place in 1..payload.len() {
            let mut damaged = payload.clone();
            damaged[place] ^= 0x10;
            assert_eq!(
                read(MediaKind::Audio, &damaged),
                Said::Damaged,
                "byte {place}"
            );
        }
    }
}
