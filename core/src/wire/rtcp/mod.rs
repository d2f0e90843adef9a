//! RTCP (RFC 3550 §6): compounds of packets, read lazily and written in place.
//!
//! [`packets`] walks an opened datagram; [`CompoundWriter`] builds one. Each family of packets is
//! read and written in its own file. What a packet promises (counts, lengths) is checked when the
//! packet is parsed, so the iterators over its parts cannot fail.

use std::iter::FusedIterator;

use super::ParseError;
use super::bytes::Reader;
use super::rtp::without_padding;

mod description;
mod extended;
mod feedback;
mod report;
mod transport_feedback;
mod writer;

pub use description::{Goodbye, SourceDescription, SourceDescriptionChunk};
pub use extended::{ExtendedBlock, ExtendedReport, ReceiverDelay, ReceiverDelays};
pub use feedback::{FullIntraEntry, FullIntraRequest, Nack, PictureLossIndication, Remb};
pub use report::{ReceiverReport, ReportBlock, SenderReport, SenderSummary};
pub use transport_feedback::{Statuses, TransportFeedback};
pub use writer::CompoundWriter;

/// Report blocks, sources or chunks of one packet: the count has five bits.
pub const COUNT_MAX: usize = 31;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
/// Transport layer feedback (RFC 4585 §6.2).
const TRANSPORT_FEEDBACK: u8 = 205;
/// Payload-specific feedback (RFC 4585 §6.3).
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// Bytes of the header every packet begins with.
const HEADER_BYTES: usize = 4;

/// One packet of a compound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// SR (RFC 3550 §6.4.1).
    SenderReport(SenderReport<'a>),
    /// RR (RFC 3550 §6.4.2).
    ReceiverReport(ReceiverReport<'a>),
    /// SDES (RFC 3550 §6.5).
    SourceDescription(SourceDescription<'a>),
    /// BYE (RFC 3550 §6.6).
    Goodbye(Goodbye<'a>),
    /// Generic NACK (RFC 4585 §6.2.1).
    Nack(Nack<'a>),
    /// PLI (RFC 4585 §6.3.1).
    PictureLossIndication(PictureLossIndication),
    /// FIR (RFC 5104 §4.3.1).
    FullIntraRequest(FullIntraRequest<'a>),
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    Remb(Remb<'a>),
    /// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportFeedback(TransportFeedback<'a>),
    /// XR (RFC 3611).
    ExtendedReport(ExtendedReport<'a>),
    /// Well framed, and nothing we read.
    Unknown {
        /// Packet type of the header.
        packet_type: u8,
        /// Count or format of the header, 0 to 31.
        format: u8,
    },
}

impl<'a> Packet<'a> {
    fn parse(frame: &Frame<'a>) -> Result<Self, ParseError> {
        let Frame {
            format,
            packet_type,
            body,
        } = *frame;
        let count = usize::from(format);
        Ok(match (packet_type, format) {
            (SENDER_REPORT, _) => Self::SenderReport(SenderReport::parse(count, body)?),
            (RECEIVER_REPORT, _) => Self::ReceiverReport(ReceiverReport::parse(count, body)?),
            (SOURCE_DESCRIPTION, _) => {
                Self::SourceDescription(SourceDescription::parse(count, body)?)
            }
            (GOODBYE, _) => Self::Goodbye(Goodbye::parse(count, body)?),
            (TRANSPORT_FEEDBACK, feedback::NACK) => Self::Nack(Nack::parse(body)?),
            (TRANSPORT_FEEDBACK, transport_feedback::FORMAT) => {
                Self::TransportFeedback(TransportFeedback::parse(body)?)
            }
            (PAYLOAD_FEEDBACK, feedback::PICTURE_LOSS_INDICATION) => {
                Self::PictureLossIndication(PictureLossIndication::parse(body)?)
            }
            (PAYLOAD_FEEDBACK, feedback::FULL_INTRA_REQUEST) => {
                Self::FullIntraRequest(FullIntraRequest::parse(body)?)
            }
            (PAYLOAD_FEEDBACK, feedback::APPLICATION) if feedback::is_remb(body) => {
                Self::Remb(Remb::parse(body)?)
            }
            (EXTENDED_REPORT, _) => Self::ExtendedReport(ExtendedReport::parse(body)?),
            _ => Self::Unknown {
                packet_type,
                format,
            },
        })
    }
}

/// Walks the packets of an opened RTCP datagram. Reduced-size compounds (RFC 5506) are accepted:
/// any packet may come first.
///
/// A packet whose inside is wrong is an error, and the walk goes on; after an error of framing
/// (version, length, padding) it ends. Each step consumes at least four bytes.
#[must_use]
pub const fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

/// See [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Frame::split(self.rest) {
            Ok((frame, rest)) => {
                self.rest = rest;
                Some(Packet::parse(&frame))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for Packets<'_> {}

/// One packet by its header alone.
#[derive(Debug)]
struct Frame<'a> {
    /// Count of blocks, sources or chunks; or the format of a feedback message.
    format: u8,
    packet_type: u8,
    /// What follows the header, without padding.
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let mut reader = Reader::new(bytes);
        let [first, packet_type] = reader.array()?;
        let words = reader.u16()?;
        if first >> 6 != 2 {
            return Err(ParseError::Version);
        }
        let body = reader
            .bytes(usize::from(words) << 2)
            .map_err(|_| ParseError::Length)?;
        // RFC 3550 §6.4.1 wants padding on the last packet only and in multiples of four, but
        // libwebrtc pads the deltas of each transport feedback to a word and flags it as padding,
        // wherever in the compound it stands. So any packet may have any sound padding.
        let body = if first & 0x20 == 0 {
            body
        } else {
            without_padding(body)?
        };
        Ok((
            Self {
                format: first & 0x1f,
                packet_type,
                body,
            },
            reader.rest(),
        ))
    }
}

#[cfg(test)]
mod tests;
