//! One session's SRTP: a source of ours, and the few of the other side's.

use antiphon_core::limits::SRTP_OVERHEAD_BYTES_MAX;
use antiphon_core::srtp::{Inbound, Outbound, ReplayWindow, RtpPosition, SendSource};
use antiphon_core::wire::rtp::{
    AudioLevel, FIXED_HEADER_BYTES, Header, HeaderFields, write_header,
};

use super::description::Answer;
use super::handshake::Keys;
use super::limits::SOURCES_MAX;

/// Bytes that are not payload: the header, an extension of one byte in its frame, SRTP's tag.
pub(super) const OVERHEAD_BYTES: usize = FIXED_HEADER_BYTES + 8 + SRTP_OVERHEAD_BYTES_MAX;
/// What a microphone says: somebody talks.
const LEVEL: AudioLevel = AudioLevel {
    level_dbov: 30,
    voice: true,
};

/// Keys and numbers of a connected session.
pub(super) struct Media {
    inbound: Inbound,
    outbound: Outbound,
    source: SendSource,
    sequence_number: u16,
    payload_type: u8,
    audio_level: Option<u8>,
    /// Of each source that sent something authentic.
    windows: Vec<(u32, ReplayWindow)>,
}

/// What stands in a packet's header and is not the session's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// In units of Opus' clock.
    pub(super) timestamp: u32,
    /// The first after a rest.
    pub(super) marker: bool,
}

impl Media {
    pub(super) fn new(keys: Keys, ssrc: u32, answer: &Answer) -> Self {
        let (inbound, mut outbound) = keys;
        let source = outbound.claim(ssrc).expect("the first of a new key");
        Self {
            inbound,
            outbound,
            source,
            sequence_number: 0,
            payload_type: answer.payload_type,
            audio_level: answer.audio_level,
            windows: Vec::new(),
        }
    }

    /// Seals the next packet into `out`; its length. Does not allocate.
    pub(super) fn seal(&mut self, moment: Moment, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        let fields = HeaderFields {
            payload_type: self.payload_type,
            marker: moment.marker,
            sequence_number: self.sequence_number,
            timestamp: moment.timestamp,
            ssrc: self.source.ssrc(),
        };
        let level = LEVEL.to_extension();
        let length = match self.audio_level {
            Some(id) => write_header(out, &fields, &[(id, &level)]),
            None => write_header(out, &fields, &[]),
        }?;
        let (source, number) = (&mut self.source, self.sequence_number);
        let sealed = self
            .outbound
            .seal_rtp(source, number, out, length, &[], payload);
        self.sequence_number = number.wrapping_add(1);
        sealed.ok()
    }

    /// Opens a packet in place, and gives its payload; `None` if it is not authentic or came before. Allocates only
    /// when a source appears.
    pub(super) fn open<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let header = Header::parse(packet).ok()?;
        let position = RtpPosition {
            ssrc: header.ssrc,
            sequence_number: header.sequence_number,
            header_len: header.len,
        };
        let known = self
            .windows
            .iter()
            .position(|(ssrc, _)| *ssrc == header.ssrc);
        let opened = match known {
            Some(known) => {
                let (_, window) = &mut self.windows[known];
                self.inbound.open_rtp(window, position, packet).ok()?
            }
            None if self.windows.len() == SOURCES_MAX => return None,
            None => {
                let mut window = ReplayWindow::default();
                let opened = self.inbound.open_rtp(&mut window, position, packet).ok()?;
                self.windows.push((header.ssrc, window));
                opened
            }
        };
        packet.get(header.len..opened.length)
    }

    /// Whether a packet says it is of a source that sent something authentic.
    pub(super) fn knows(&self, packet: &[u8]) -> bool {
        let ssrc = packet.get(8..12);
        let mut known = self.windows.iter().map(|(ssrc, _)| ssrc.to_be_bytes());
        known.any(|known| ssrc == Some(&known[..]))
    }
}
