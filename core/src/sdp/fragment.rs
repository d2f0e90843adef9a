//! SDP fragments of trickle ICE (RFC 8840), as a WHIP or WHEP `PATCH` carries them (RFC 9725 §4.3).

use std::net::SocketAddr;

use crate::limits::SDP_CANDIDATES_MAX;
use crate::plan::{IceCredentials, MediaPlan};

use super::answer::{ICE_OPTIONS, Text, write_candidates};
use super::attributes;
use super::error::{Fault, SdpError};
use super::lines::Lines;

/// What a peer says after its offer: more candidates, or new credentials.
///
/// Candidates are counted and not kept: we are ICE-lite and answer checks from wherever they come,
/// so a candidate that is a name, of another transport or of unknown form costs nothing and is
/// dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The peer's credentials. When they differ from those it had, it asks for an ICE restart.
    pub ice: Option<IceCredentials>,
    /// Candidates that could reach us.
    pub candidates: usize,
    /// Candidates dropped without a word (RFC 9725 §4.3.2).
    pub candidates_dropped: usize,
    /// The peer has no more.
    pub end_of_candidates: bool,
}

impl Fragment {
    /// Reads a fragment in one pass, under the limits of an offer. Of several credentials, as when
    /// each bundled section repeats them, the first count.
    ///
    /// # Errors
    /// What is not a fragment, or is beyond a limit.
    pub fn parse(text: &[u8]) -> Result<Self, SdpError> {
        let mut lines = Lines::new(text)?;
        let (mut ufrag, mut password) = (None, None);
        let mut fragment = Self {
            ice: None,
            candidates: 0,
            candidates_dropped: 0,
            end_of_candidates: false,
        };
        let mut empty = true;
        while let Some(line) = lines.next()? {
            empty = false;
            if line.letter != b'a' {
                continue;
            }
            let at = |fault| SdpError::at(line.number, fault);
            match line.attribute() {
                ("ice-ufrag", value) => {
                    let value = attributes::ufrag(value).map_err(at)?;
                    ufrag = ufrag.or(Some(value));
                }
                ("ice-pwd", value) => {
                    let value = attributes::password(value).map_err(at)?;
                    password = password.or(Some(value));
                }
                ("candidate", value) => {
                    if attributes::candidate_is_usable(value).map_err(at)? {
                        fragment.candidates += 1;
                    } else {
                        fragment.candidates_dropped += 1;
                    }
                    if fragment.candidates + fragment.candidates_dropped > SDP_CANDIDATES_MAX {
                        let limit = SDP_CANDIDATES_MAX;
                        return Err(at(Fault::Limit {
                            what: "a=candidate lines",
                            limit,
                        }));
                    }
                }
                ("end-of-candidates", _) => fragment.end_of_candidates = true,
                _ => {}
            }
        }
        fragment.ice = match (ufrag, password) {
            _ if empty => return Err(SdpError::whole(Fault::Empty)),
            (None, None) => None,
            (Some(ufrag), Some(password)) => Some(IceCredentials {
                ufrag: ufrag.to_owned(),
                password: password.to_owned(),
            }),
            _ => return Err(SdpError::whole(Fault::HalfCredentials)),
        };
        Ok(fragment)
    }
}

/// The body that answers an ICE restart: our new credentials and, again, all candidates. `media` is
/// the plan's; its first section stands for the transport, as in the answer.
#[must_use]
pub fn write_restart_fragment(
    ice: &IceCredentials,
    media: &[MediaPlan],
    candidates: &[SocketAddr],
) -> String {
    let mut out = Text(String::with_capacity(512));
    out.line(format_args!("a=ice-lite"));
    out.line(format_args!("a=ice-options:{ICE_OPTIONS}"));
    let group = media.iter().fold(String::new(), |text, section| {
        text + " " + section.mid.as_str()
    });
    out.line(format_args!("a=group:BUNDLE{group}"));
    if let Some(first) = media.first() {
        let kind = first.kind.name();
        let payload_type = first.codecs.first().map_or(0, |codec| codec.payload_type);
        // The port means nothing in a fragment and is 9 (RFC 8840).
        out.line(format_args!("m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}"));
        out.line(format_args!("a=mid:{}", first.mid.as_str()));
    }
    out.line(format_args!("a=ice-ufrag:{}", ice.ufrag));
    out.line(format_args!("a=ice-pwd:{}", ice.password));
    write_candidates(candidates, &mut out);
    out.0
}
