//! A room's sound in one track for each listener: everybody but the listener itself.
//!
//! ```text
//!  packets of each publisher -> jitter buffer -> decoder -> mixer -+-> bus: all but Ann -> encoder -> Ann's listeners
//!                               (every 10 ms)                      +-> bus: all         -> encoder -> the others
//! ```

use std::fmt;
use std::time::Duration;

use crate::audio::{AudioFrame, Channels, FRAME_SAMPLES_MAX, Mixer, Rate, SourceIndex, VOICES};
use crate::codec::{AnyEncoder, Encoder as _, EncoderSettings};
use crate::ids::{ParticipantId, SessionKey};
use crate::jitter::Config;
use crate::limits::{MIXED_SOURCES_MAX, SPOKEN_BYTES_MAX};
use crate::plan::Codec;
use crate::session::media::{Incoming, SourceDecoder};
use crate::time::Timestamp;

const RATE: Rate = Rate::Hz48000;
const FRAME: Duration = Duration::from_millis(10);
/// A thread that was kept from running for longer does not catch up.
const LATE_MAX: Duration = Duration::from_millis(100);
/// A source without a packet for this long gives its place to another.
const SOURCE_QUIET: Duration = Duration::from_secs(10);
/// Music is as likely as speech where several play.
const SETTINGS: EncoderSettings = EncoderSettings {
    bitrate: 40_000,
    ..EncoderSettings::STANDARD
};
/// Names a bus among the sources that a sender may follow; a listener has no other.
const MIXED_SOURCE: u32 = 0;

/// One publisher's sound.
struct Source {
    session: SessionKey,
    participant: ParticipantId,
    sound: SourceDecoder,
    place: SourceIndex,
}

/// One mix, and who hears it.
struct Bus {
    /// Whom it leaves out.
    own: Option<ParticipantId>,
    /// Sessions, and the media section of each that it is sent in.
    listeners: Vec<(SessionKey, u8)>,
    encoder: AnyEncoder,
    /// 20 ms, of which the first half is there when `half` is.
    sound: Box<[f32; 2 * FRAME_SAMPLES_MAX]>,
    packet: [u8; SPOKEN_BYTES_MAX],
    /// Bytes of the packet that is ready.
    ready: Option<usize>,
    sequence: u64,
}

/// The mixing desk of one room. Exists while somebody listens to it.
pub(crate) struct Desk {
    mixer: Mixer,
    sources: Vec<Source>,
    buses: Vec<Bus>,
    /// When the next frame is due.
    next: Timestamp,
    /// Frames since it was made; a packet has two.
    frames: u64,
}

impl Desk {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            mixer: Mixer::new(RATE, MIXED_SOURCES_MAX, VOICES),
            sources: Vec::new(),
            buses: Vec::new(),
            next: now + FRAME,
            frames: 0,
        }
    }

    /// When [`Self::mix`] is due.
    pub(crate) const fn deadline(&self) -> Timestamp {
        self.next
    }

    /// Whether nobody listens.
    pub(crate) fn is_idle(&self) -> bool {
        self.buses.is_empty()
    }

    /// Who listens.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = SessionKey> {
        let listeners = self.buses.iter().flat_map(|bus| &bus.listeners);
        listeners.map(|(session, _)| *session)
    }

    /// Somebody listens, to all but `own`.
    pub(crate) fn add_listener(
        &mut self,
        session: SessionKey,
        media: u8,
        own: Option<ParticipantId>,
    ) {
        let listener = (session, media);
        if let Some(bus) = self.buses.iter_mut().find(|bus| bus.own == own) {
            bus.listeners.push(listener);
            return;
        }
        let Ok(encoder) = AnyEncoder::new(Codec::Opus, RATE, SETTINGS) else {
            return;
        };
        self.buses.push(Bus {
            own,
            listeners: vec![listener],
            encoder,
            sound: Box::new([0.0; 2 * FRAME_SAMPLES_MAX]),
            packet: [0; SPOKEN_BYTES_MAX],
            ready: None,
            sequence: 0,
        });
    }

    /// A session is gone, as a listener and as a source.
    pub(crate) fn remove(&mut self, session: SessionKey) {
        for bus in &mut self.buses {
            bus.listeners.retain(|(other, _)| *other != session);
        }
        self.buses.retain(|bus| !bus.listeners.is_empty());
        self.forget(|source| source.session == session);
    }

    /// Takes in a packet of a publisher.
    pub(crate) fn handle_packet(
        &mut self,
        now: Timestamp,
        session: SessionKey,
        participant: ParticipantId,
        packet: &Incoming<'_>,
    ) {
        let Some(source) = self.source(now, session, participant, packet) else {
            return;
        };
        source.sound.insert(now, packet);
    }

    /// Mixes the frame that is due; whether packets are ready for [`Self::packets`].
    pub(crate) fn mix(&mut self, now: Timestamp) -> bool {
        if now < self.next {
            return false;
        }
        let tick = if now.since(self.next) > LATE_MAX {
            now
        } else {
            self.next
        };
        self.next = tick + FRAME;
        self.forget(|source| now.since(source.sound.last_packet()) > SOURCE_QUIET);
        let mut frame = AudioFrame::new(RATE, Channels::Mono);
        for source in &mut self.sources {
            source.sound.poll(tick, frame.channel_mut(0));
            self.mixer.push(source.place, &frame);
        }
        self.mixer.mix();
        let half = (self.frames % 2) as usize;
        self.frames += 1;
        let mut all = AudioFrame::new(RATE, Channels::Mono);
        self.mixer.output(None, &mut all);
        for bus in &mut self.buses {
            let mut sources = self.sources.iter();
            let own = sources.find(|source| Some(source.participant) == bus.own);
            if let Some(source) = own {
                self.mixer.output(Some(source.place), &mut frame);
            }
            let sound = if own.is_some() { &frame } else { &all };
            bus.sound[half * FRAME_SAMPLES_MAX..][..FRAME_SAMPLES_MAX]
                .copy_from_slice(sound.channel(0));
            if half == 1 {
                bus.encode();
            }
        }
        half == 1
    }

    /// The packets that [`Self::mix`] made, each with who hears it.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (Incoming<'_>, &[(SessionKey, u8)])> {
        // 48 kHz, whatever the shard's clock says: the frames are what was played.
        let timestamp = (self.frames * FRAME_SAMPLES_MAX as u64) as u32;
        let received = self.next.before(FRAME);
        self.buses.iter().filter_map(move |bus| {
            let packet = Incoming {
                media: 0,
                ssrc: MIXED_SOURCE,
                codec: Codec::Opus,
                sequence: bus.sequence,
                timestamp,
                marker: false,
                keyframe: false,
                payload: bus.packet.get(..bus.ready?)?,
                audio_level: None,
                video_orientation: None,
                vp8: None,
                clock: None,
                received,
                first: false,
            };
            Some((packet, bus.listeners.as_slice()))
        })
    }

    /// The source of a packet, made if there is a decoder and a place for it.
    fn source(
        &mut self,
        now: Timestamp,
        session: SessionKey,
        participant: ParticipantId,
        packet: &Incoming<'_>,
    ) -> Option<&mut Source> {
        let mut sources = self.sources.iter();
        if let Some(index) = sources.position(|source| source.session == session) {
            let source = &self.sources[index];
            if source.sound.decodes(packet.codec) {
                return self.sources.get_mut(index);
            }
            if !source.sound.may_be_replaced(now) {
                return None;
            }
        }
        let sound = SourceDecoder::new(now, Config::HUMAN, RATE, packet)?;
        self.forget(|source| source.session == session || source.participant == participant);
        let source = Source {
            session,
            participant,
            sound,
            place: self.mixer.add()?,
        };
        self.sources.push(source);
        self.sources.last_mut()
    }

    fn forget(&mut self, is_gone: impl Fn(&Source) -> bool) {
        let mixer = &mut self.mixer;
        self.sources.retain(|source| {
            let gone = is_gone(source);
            if gone {
                mixer.remove(source.place);
            }
            !gone
        });
    }
}

impl Bus {
    fn encode(&mut self) {
        self.ready = self.encoder.encode(&self.sound[..], &mut self.packet).ok();
        self.sequence += 1;
    }
}

/// Sound and its state say nothing to a reader.
impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("sources", &self.sources.len())
            .field("buses", &self.buses.len())
            .finish_non_exhaustive()
    }
}
