//! An offer as read: slices of its text, sorted by media section.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::limits::{RIDS_MAX, SDP_CANDIDATES_MAX, SDP_MEDIA_MAX, SDP_SSRC_LINES_MAX};
use crate::plan::{AnnouncedSsrc, Fingerprint, MediaKind, Mid, Rid};

use super::attributes::{self, Direction, Setup};
use super::error::{Fault, SdpError};
use super::formats::Formats;
use super::lines::{Line, Lines};

/// A peer's offer, borrowed from the text it came in.
pub struct Offer<'a> {
    pub(super) session: Session<'a>,
    /// Every media section, in order.
    pub(super) sections: Vec<Section<'a>>,
    /// Members of the BUNDLE group in its order, as positions in `sections`; `None` without a
    /// group.
    pub(super) bundle: Option<Vec<usize>>,
    lines: u32,
}

/// What the lines before the first m-line say, for all sections.
#[derive(Default)]
pub(super) struct Session<'a> {
    pub(super) transport: Transport<'a>,
    pub(super) direction: Option<Direction>,
    /// Line of `a=ice-lite`.
    pub(super) ice_lite: Option<u32>,
    pub(super) allow_mixed: bool,
    /// Line and members of `a=group:BUNDLE`.
    bundle: Option<(u32, &'a str)>,
}

/// ICE and DTLS attributes, which a section inherits from the session where it has none.
#[derive(Clone, Copy, Default)]
pub(super) struct Transport<'a> {
    pub(super) ufrag: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) setup: Option<Setup>,
    /// `a=crypto` was there: if there is no fingerprint, the peer wants SDES.
    pub(super) crypto: bool,
}

/// One media section.
pub(super) struct Section<'a> {
    /// Of its m-line.
    pub(super) line: u32,
    /// `None` for data channels, text and whatever else is not audio or video.
    pub(super) kind: Option<MediaKind>,
    pub(super) media: &'a str,
    pub(super) port: u16,
    pub(super) protocol: &'a str,
    pub(super) formats_text: &'a str,
    pub(super) mid: Option<Mid>,
    pub(super) direction: Option<Direction>,
    pub(super) bundle_only: bool,
    /// Named by the BUNDLE group.
    pub(super) bundled: bool,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    pub(super) transport: Transport<'a>,
    pub(super) formats: Formats<'a>,
    pub(super) extensions: Vec<OfferedExtension>,
    pub(super) rids: Vec<OfferedRid<'a>>,
    /// Value of the first `a=simulcast`.
    pub(super) simulcast: Option<&'a str>,
    /// MediaStream of the first `a=msid` (RFC 8830 §2); `None`: it belongs to none.
    pub(super) stream: Option<&'a str>,
    ssrcs: Vec<u32>,
    ssrcs_seen: BTreeSet<u32>,
    retransmissions: BTreeMap<u32, u32>,
}

/// An `a=rid` the peer would send (RFC 8851).
#[derive(Clone, Copy)]
pub(super) struct OfferedRid<'a> {
    pub(super) rid: Rid,
    /// What follows the direction, e.g. `pt=97;max-width=1280`.
    pub(super) restrictions: &'a str,
}

/// An `a=extmap` of a header extension we know.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfferedExtension {
    pub(super) id: u8,
    pub(super) extension: Extension,
    /// The direction after the id, if any (RFC 8285 §5).
    pub(super) direction: Option<Direction>,
}

/// A header extension we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    Mid,
    Rid,
    RepairedRid,
    AudioLevel,
    TransportCc,
    AbsSendTime,
    VideoOrientation,
}

/// The state of a parse, with the sums that are limited over all sections.
#[derive(Default)]
struct Reader<'a> {
    session: Session<'a>,
    sections: Vec<Section<'a>>,
    candidates: usize,
    ssrc_lines: usize,
}

impl<'a> Offer<'a> {
    /// Reads an offer in one pass.
    ///
    /// # Errors
    /// What is not a session description, or is beyond a limit. Whether we can serve it is decided
    /// by [`Offer::negotiate`].
    pub fn parse(text: &'a [u8]) -> Result<Self, SdpError> {
        let mut lines = Lines::new(text)?;
        match lines.next()? {
            None => return Err(SdpError::whole(Fault::Empty)),
            Some(Line {
                letter: b'v',
                value: "0",
                ..
            }) => {}
            Some(line) => return Err(SdpError::at(line.number, Fault::Version)),
        }
        let mut reader = Reader::default();
        while let Some(line) = lines.next()? {
            reader
                .note(&line)
                .map_err(|fault| SdpError::at(line.number, fault))?;
        }
        let Reader {
            session, sections, ..
        } = reader;
        let mut offer = Self {
            session,
            sections,
            bundle: None,
            lines: lines.count(),
        };
        offer.resolve_bundle()?;
        Ok(offer)
    }

    /// Lines read, blank ones included.
    #[must_use]
    pub fn line_count(&self) -> u32 {
        self.lines
    }

    /// Ties the mids of the BUNDLE group to sections.
    fn resolve_bundle(&mut self) -> Result<(), SdpError> {
        let mut by_mid = BTreeMap::new();
        for (index, section) in self.sections.iter().enumerate() {
            let Some(mid) = section.mid else { continue };
            if by_mid.insert(mid, index).is_some() {
                return Err(SdpError::section(section.line, Some(mid), Fault::MidTwice));
            }
        }
        let Some((line, members)) = self.session.bundle else {
            return Ok(());
        };
        let mut bundle = Vec::new();
        for word in members.split_ascii_whitespace() {
            let index = Mid::new(word.as_bytes()).and_then(|mid| by_mid.get(&mid).copied());
            let section = index.and_then(|index| self.sections.get_mut(index));
            let (Some(index), Some(section)) = (index, section) else {
                return Err(SdpError::at(line, Fault::BundleUnknown));
            };
            if !section.bundled {
                section.bundled = true;
                bundle.push(index);
            }
        }
        self.bundle = Some(bundle);
        Ok(())
    }
}

/// Hides the text: it holds the ICE password.
impl fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("lines", &self.lines)
            .field("sections", &self.sections.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    fn note(&mut self, line: &Line<'a>) -> Result<(), Fault> {
        match line.letter {
            b'm' => {
                check_limit("media sections", self.sections.len() + 1, SDP_MEDIA_MAX)?;
                self.sections.push(Section::read(line)?);
            }
            b'a' => {
                match line.attribute().0 {
                    "candidate" => self.candidates += 1,
                    "ssrc" | "ssrc-group" => self.ssrc_lines += 1,
                    _ => {}
                }
                check_limit("a=candidate lines", self.candidates, SDP_CANDIDATES_MAX)?;
                check_limit("a=ssrc lines", self.ssrc_lines, SDP_SSRC_LINES_MAX)?;
                match self.sections.last_mut() {
                    None => self.session.note(line)?,
                    Some(section) => section.note(line)?,
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Session<'a> {
    fn note(&mut self, line: &Line<'a>) -> Result<(), Fault> {
        let (name, value) = line.attribute();
        match name {
            "ice-lite" => self.ice_lite = Some(line.number),
            "extmap-allow-mixed" => self.allow_mixed = true,
            "group" => {
                let (semantics, members) = value.split_once(' ').unwrap_or((value, ""));
                let bundle = (semantics == "BUNDLE").then_some((line.number, members));
                if bundle.is_some() && self.bundle.is_some() {
                    return Err(Fault::SecondBundle);
                }
                self.bundle = self.bundle.or(bundle);
            }
            _ => match Direction::read(name) {
                Some(direction) => self.direction = Some(direction),
                None => self.transport.note(name, value)?,
            },
        }
        Ok(())
    }
}

impl<'a> Transport<'a> {
    fn note(&mut self, name: &str, value: &'a str) -> Result<(), Fault> {
        match name {
            "ice-ufrag" => self.ufrag = Some(attributes::ufrag(value)?),
            "ice-pwd" => self.password = Some(attributes::password(value)?),
            "fingerprint" => {
                // Several hashes of one certificate may be offered (RFC 8122 §5): SHA-256 is ours.
                let fingerprint = attributes::fingerprint(value)?;
                self.fingerprint = self.fingerprint.or(fingerprint);
            }
            "setup" => self.setup = Some(attributes::setup(value)?),
            "crypto" => self.crypto = true,
            "candidate" => {
                attributes::candidate_is_usable(value)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Section<'a> {
    /// From its m-line.
    fn read(line: &Line<'a>) -> Result<Self, Fault> {
        let mut words = line.value.splitn(4, ' ');
        let (Some(media), Some(port), Some(protocol), Some(formats_text)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Fault::MediaLine);
        };
        if media.is_empty() || protocol.is_empty() || formats_text.trim().is_empty() {
            return Err(Fault::MediaLine);
        }
        let kind = match media {
            "audio" => Some(MediaKind::Audio),
            "video" => Some(MediaKind::Video),
            _ => None,
        };
        let over_rtp = kind.is_some() && protocol.contains("RTP/");
        // `port/count` (RFC 8866 §5.14) is a port for several streams; we only look at the port.
        let port = port.split('/').next().unwrap_or(port);
        Ok(Self {
            line: line.number,
            kind,
            media,
            port: port.parse().map_err(|_| Fault::Port)?,
            protocol,
            formats_text,
            mid: None,
            direction: None,
            bundle_only: false,
            bundled: false,
            rtcp_mux: false,
            rtcp_rsize: false,
            allow_mixed: false,
            transport: Transport::default(),
            formats: if over_rtp {
                Formats::read(formats_text)?
            } else {
                Formats::none()
            },
            extensions: Vec::new(),
            rids: Vec::new(),
            simulcast: None,
            stream: None,
            ssrcs: Vec::new(),
            ssrcs_seen: BTreeSet::new(),
            retransmissions: BTreeMap::new(),
        })
    }

    fn note(&mut self, line: &Line<'a>) -> Result<(), Fault> {
        let (name, value) = line.attribute();
        match name {
            "mid" => self.mid = Some(Mid::new(value.as_bytes()).ok_or(Fault::MidForm)?),
            "bundle-only" => self.bundle_only = true,
            "rtcp-mux" => self.rtcp_mux = true,
            "rtcp-rsize" => self.rtcp_rsize = true,
            "extmap-allow-mixed" => self.allow_mixed = true,
            "rtpmap" if self.kind.is_some() => self.formats.note_rtpmap(value)?,
            "fmtp" if self.kind.is_some() => self.formats.note_fmtp(value)?,
            "rtcp-fb" if self.kind.is_some() => self.formats.note_feedback(value)?,
            "extmap" => self.note_extension(value),
            "ssrc" => self.note_ssrc(value)?,
            "ssrc-group" => self.note_ssrc_group(value)?,
            "rid" => self.note_rid(value)?,
            "simulcast" => self.simulcast = self.simulcast.or(Some(value)),
            "msid" => {
                let stream = value.split(' ').next().filter(|stream| *stream != "-");
                self.stream = self.stream.or(stream);
            }
            _ => match Direction::read(name) {
                Some(direction) => self.direction = Some(direction),
                None => self.transport.note(name, value)?,
            },
        }
        Ok(())
    }

    /// Sources announced, each with its retransmissions (RFC 5576 §4.2, `FID`).
    pub(super) fn announced(&self) -> Vec<AnnouncedSsrc> {
        let repairs: BTreeSet<u32> = self.retransmissions.values().copied().collect();
        let media = self.ssrcs.iter().filter(|ssrc| !repairs.contains(ssrc));
        media
            .map(|&ssrc| AnnouncedSsrc {
                ssrc,
                rtx: self.retransmissions.get(&ssrc).copied(),
            })
            .collect()
    }

    /// Keeps the first offer of each extension we know. Ids beyond one byte are provisional
    /// (RFC 8285 §7) and not for us.
    fn note_extension(&mut self, value: &'a str) {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else {
            return;
        };
        let (id, direction) = match id.split_once('/') {
            None => (id, None),
            Some((id, direction)) => match Direction::read(direction) {
                Some(direction) => (id, Some(direction)),
                None => return,
            },
        };
        let Ok(id @ 1..) = id.parse::<u8>() else {
            return;
        };
        let Some(extension) = Extension::from_uri(uri) else {
            return;
        };
        let taken = |other: &OfferedExtension| other.id == id || other.extension == extension;
        if !self.extensions.iter().any(taken) {
            self.extensions.push(OfferedExtension {
                id,
                extension,
                direction,
            });
        }
    }

    fn note_ssrc(&mut self, value: &str) -> Result<(), Fault> {
        let ssrc = read_ssrc(value.split(' ').next())?;
        if self.ssrcs_seen.insert(ssrc) {
            self.ssrcs.push(ssrc);
        }
        Ok(())
    }

    fn note_ssrc_group(&mut self, value: &str) -> Result<(), Fault> {
        let mut words = value.split_ascii_whitespace();
        if words.next() == Some("FID") {
            let media = read_ssrc(words.next())?;
            let retransmission = read_ssrc(words.next())?;
            self.retransmissions.entry(media).or_insert(retransmission);
        }
        Ok(())
    }

    fn note_rid(&mut self, value: &'a str) -> Result<(), Fault> {
        let mut words = value.splitn(3, ' ');
        let (Some(rid), Some("send")) = (words.next(), words.next()) else {
            return Ok(());
        };
        let Some(rid) = Rid::new(rid.as_bytes()) else {
            return Ok(());
        };
        if self.rids.len() >= RIDS_MAX {
            return Err(Fault::Limit {
                what: "a=rid lines in a section",
                limit: RIDS_MAX,
            });
        }
        let restrictions = words.next().unwrap_or("").trim();
        self.rids.push(OfferedRid { rid, restrictions });
        Ok(())
    }
}

impl Extension {
    pub(super) const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
        }
    }

    fn from_uri(uri: &str) -> Option<Self> {
        const KNOWN: [Extension; 7] = [
            Extension::Mid,
            Extension::Rid,
            Extension::RepairedRid,
            Extension::AudioLevel,
            Extension::TransportCc,
            Extension::AbsSendTime,
            Extension::VideoOrientation,
        ];
        KNOWN.into_iter().find(|extension| extension.uri() == uri)
    }
}

fn read_ssrc(word: Option<&str>) -> Result<u32, Fault> {
    word.and_then(|word| word.parse().ok()).ok_or(Fault::Ssrc)
}

fn check_limit(what: &'static str, count: usize, limit: usize) -> Result<(), Fault> {
    if count > limit {
        Err(Fault::Limit { what, limit })
    } else {
        Ok(())
    }
}
