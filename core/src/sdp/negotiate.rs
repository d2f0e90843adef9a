//! The decision: which sections, codecs, feedback and extensions of an offer we agree to.

use crate::limits::CODECS_MAX;
use crate::plan::{
    Codec, CodecPlan, DtlsRole, ExtensionIds, Feedback, Fingerprint, IceCredentials, MediaKind,
    MediaPlan, Mid, Rid, SessionPlan,
};

use super::answer::{AcceptedSection, AnswerFormat, AnswerSection, Negotiated, Verdict};
use super::attributes::{Direction, Setup, parameter};
use super::error::{Fault, SdpError};
use super::formats::Format;
use super::offer::{Extension, Offer, OfferedExtension, Section};

/// What the peer asked for, by the URL it posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Its own media comes back to it, at most one audio and one video.
    Echo,
    /// WHIP: it sends, at most one audio and one video.
    Publish {
        /// Encoding name to take if the offer has it; the peer's first otherwise. Case does not
        /// matter.
        prefer: Option<String>,
    },
    /// It talks with a program: one audio section in both directions. Video is rejected.
    Agent,
    /// WHEP: it receives.
    Subscribe {
        /// Codecs of the tracks there are now. They go first, so that the peer needs no other
        /// payload type; an empty list keeps the peer's order.
        tracks: Vec<Codec>,
    },
}

/// A section that is audio or video and not stopped by the peer.
#[derive(Clone, Copy)]
struct InUse<'o, 'a> {
    index: usize,
    section: &'o Section<'a>,
    kind: MediaKind,
    /// Seen from us.
    direction: Direction,
}

impl<'a> Offer<'a> {
    /// Decides the answer. Refuses the whole offer rather than part of it when what it is for could
    /// not work; only sections that are neither audio nor video are rejected one by one.
    ///
    /// Of a section without `a=mid` (SIP gateways) only the plan gets a tag, its position; the
    /// answer has none, as the offer had none, and a second section in use is refused because it
    /// cannot be bundled.
    ///
    /// # Errors
    /// [`SdpErrorKind::Unsupported`](super::SdpErrorKind::Unsupported), naming section and remedy.
    pub fn negotiate(&self, purpose: Purpose) -> Result<Negotiated, SdpError> {
        if let Some(line) = self.session.ice_lite {
            return Err(SdpError::at(line, Fault::IceLite));
        }
        let in_use = self.sections_in_use(&purpose)?;
        // One section needs no BUNDLE; several need one group over all of them.
        if let Some(alone) = in_use.iter().find(|used| !used.section.bundled)
            && in_use.len() > 1
        {
            return Err(alone.refusal(Fault::NotBundled));
        }
        let (remote_ice, remote_fingerprint, dtls_role) = self.decide_transport(&in_use)?;

        let mut media = Vec::with_capacity(in_use.len());
        let mut sections: Vec<_> = self.sections.iter().map(AnswerSection::rejected).collect();
        for used in &in_use {
            let Some((mut accepted, plan)) = self.decide_section(used, &purpose)? else {
                continue;
            };
            if used.direction != Direction::Inactive {
                accepted.media_index = Some(media.len());
                media.push(plan);
            }
            if let Some(answer) = sections.get_mut(used.index) {
                answer.verdict = Verdict::Accepted(Box::new(accepted));
            }
        }
        if media.is_empty() {
            let active = in_use
                .iter()
                .find(|used| used.direction != Direction::Inactive);
            let refusal = active.map(|used| used.refusal(Fault::NoCodec(used.kind)));
            return Err(refusal.unwrap_or(SdpError::whole(Fault::NothingActive)));
        }
        // One transport carries all sections, so reduced-size RTCP needs the consent of each.
        let reduced_size_rtcp = in_use.iter().all(|used| used.section.rtcp_rsize);
        Ok(Negotiated {
            plan: SessionPlan {
                remote_ice,
                remote_fingerprint,
                dtls_role,
                reduced_size_rtcp,
                media,
            },
            sections,
            bundle: self.bundle.clone(),
            allow_mixed: self.session.allow_mixed,
        })
    }

    fn sections_in_use(&self, purpose: &Purpose) -> Result<Vec<InUse<'_, 'a>>, SdpError> {
        let mut in_use: Vec<InUse<'_, 'a>> = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            // Port 0 with `a=bundle-only` is an offer, without it a stopped section (RFC 9143 §6).
            let stopped = section.port == 0 && !section.bundle_only;
            let Some(kind) = section.kind.filter(|_| !stopped) else {
                continue;
            };
            // A program has no eyes: the section is rejected, the call goes on (RFC 3264 §6).
            if *purpose == Purpose::Agent && kind == MediaKind::Video {
                continue;
            }
            let offered = section
                .direction
                .or(self.session.direction)
                .unwrap_or(Direction::SendRecv);
            let mut used = InUse {
                index,
                section,
                kind,
                direction: offered,
            };
            match section.protocol {
                "UDP/TLS/RTP/SAVPF" | "UDP/TLS/RTP/SAVP" | "RTP/SAVPF" => {}
                _ => return Err(used.refusal(Fault::Protocol)),
            }
            used.direction =
                decide_direction(purpose, offered).map_err(|fault| used.refusal(fault))?;
            // Of what the peer sends, the whole offer is refused rather than a part (RFC 9725 §4.4).
            let earlier = match purpose {
                Purpose::Subscribe { .. } => &[][..],
                Purpose::Echo | Purpose::Agent | Purpose::Publish { .. } => &in_use[..],
            };
            if earlier.iter().any(|earlier| earlier.kind == kind) {
                return Err(used.refusal(Fault::SecondOfKind(kind)));
            }
            let mut streams = earlier.iter().filter_map(|earlier| earlier.section.stream);
            if section
                .stream
                .is_some_and(|stream| streams.any(|earlier| earlier != stream))
            {
                return Err(used.refusal(Fault::SecondStream));
            }
            in_use.push(used);
        }
        if in_use.is_empty() {
            return Err(SdpError::whole(match purpose {
                Purpose::Agent => Fault::NoAudio,
                _ => Fault::NoMedia,
            }));
        }
        if in_use
            .iter()
            .all(|used| used.direction == Direction::Inactive)
        {
            return Err(SdpError::whole(Fault::NothingActive));
        }
        Ok(in_use)
    }

    /// ICE and DTLS of the section that carries the transport, session-level values behind it.
    fn decide_transport(
        &self,
        in_use: &[InUse<'_, 'a>],
    ) -> Result<(IceCredentials, Fingerprint, DtlsRole), SdpError> {
        let Some(section) = self.transport_section(in_use) else {
            return Err(SdpError::whole(Fault::NoMedia));
        };
        let refuse = |fault| Err(SdpError::section(section.line, section.mid, fault));
        let (own, all) = (&section.transport, &self.session.transport);
        let Some(fingerprint) = own.fingerprint.or(all.fingerprint) else {
            let sdes = own.crypto || all.crypto;
            return refuse(if sdes {
                Fault::Sdes
            } else {
                Fault::NoFingerprint
            });
        };
        let (ufrag, password) = match (own.ufrag.or(all.ufrag), own.password.or(all.password)) {
            (Some(ufrag), Some(password)) => (ufrag, password),
            (None, None) => return refuse(Fault::NoIce),
            _ => return refuse(Fault::HalfCredentials),
        };
        if !section.rtcp_mux {
            return refuse(Fault::NoRtcpMux);
        }
        let dtls_role = match own.setup.or(all.setup) {
            // Without a=setup the offerer is active (RFC 4145 §4).
            None => DtlsRole::Server,
            Some(Setup::Connect(role)) => role,
            Some(Setup::Hold) => return refuse(Fault::HoldConnection),
        };
        let ice = IceCredentials {
            ufrag: ufrag.to_owned(),
            password: password.to_owned(),
        };
        Ok((ice, fingerprint, dtls_role))
    }

    /// The first section in BUNDLE order that we use and that has a transport of its own; if all
    /// that we use are bundle-only, the group's first, which has it for them (RFC 9143 §7.2.1).
    fn transport_section(&self, in_use: &[InUse<'_, 'a>]) -> Option<&Section<'a>> {
        let first = in_use.first()?;
        let bundle = self.bundle.as_deref().filter(|_| first.section.bundled);
        let Some(order) = bundle else {
            return self.sections.get(first.index);
        };
        // Both are capped at the number of sections, and `in_use` is sorted.
        let has_own = |index: &usize| {
            let place = in_use.binary_search_by_key(index, |used| used.index).ok();
            let used = place.and_then(|place| in_use.get(place));
            used.is_some_and(|used| !used.section.bundle_only)
        };
        let own = order.iter().copied().find(has_own);
        self.sections.get(own.or_else(|| order.first().copied())?)
    }

    /// Codecs, feedback, extensions and simulcast of one section. `None`: no codec in common where
    /// we only send, which rejects this section alone (RFC 3264 §6): the others may still play.
    fn decide_section(
        &self,
        used: &InUse<'_, 'a>,
        purpose: &Purpose,
    ) -> Result<Option<(AcceptedSection, MediaPlan)>, SdpError> {
        let &InUse {
            index,
            section,
            kind,
            direction,
        } = used;
        let mixed = self.session.allow_mixed || section.allow_mixed;
        let (extensions, extension_lines) = decide_extensions(section, kind, direction, mixed);
        let formats = decide_formats(section, kind, extensions.transport_cc.is_some(), purpose);
        if formats.is_empty() {
            return match purpose {
                Purpose::Subscribe { .. } => Ok(None),
                _ => Err(used.refusal(Fault::NoCodec(kind))),
            };
        }
        let codecs: Vec<_> = formats.iter().map(|format| format.plan).collect();
        let takes_rid = direction.receives() && extensions.rid.is_some();
        let rid = takes_rid.then(|| decide_rid(section, &codecs)).flatten();
        let position = index.to_string();
        let Some(mid) = section.mid.or_else(|| Mid::new(position.as_bytes())) else {
            return Ok(None);
        };
        let plan = MediaPlan {
            mid,
            kind,
            receive: direction.receives(),
            send: direction.sends(),
            codecs,
            extensions,
            ssrcs: if direction.receives() {
                section.announced()
            } else {
                Vec::new()
            },
            rids: rid.iter().map(|(rid, _)| *rid).collect(),
        };
        let answer = AcceptedSection {
            kind,
            direction,
            formats,
            extensions: extension_lines,
            rtcp_rsize: section.rtcp_rsize,
            allow_mixed: section.allow_mixed,
            rid,
            media_index: None,
        };
        Ok(Some((answer, plan)))
    }
}

impl InUse<'_, '_> {
    fn refusal(&self, fault: Fault) -> SdpError {
        SdpError::section(self.section.line, self.section.mid, fault)
    }
}

fn decide_direction(purpose: &Purpose, offered: Direction) -> Result<Direction, Fault> {
    match (purpose, offered) {
        (Purpose::Echo | Purpose::Agent, Direction::SendRecv) => Ok(Direction::SendRecv),
        (Purpose::Agent, _) => Err(Fault::OneWay {
            offered: offered.name(),
        }),
        (Purpose::Echo, Direction::SendOnly)
        | (Purpose::Publish { .. }, Direction::SendRecv | Direction::SendOnly) => {
            Ok(Direction::RecvOnly)
        }
        (Purpose::Echo | Purpose::Publish { .. }, Direction::RecvOnly | Direction::Inactive) => {
            Err(Fault::NothingSent {
                offered: offered.name(),
            })
        }
        (Purpose::Subscribe { .. }, Direction::SendRecv | Direction::RecvOnly) => {
            Ok(Direction::SendOnly)
        }
        (Purpose::Subscribe { .. }, Direction::SendOnly) => Err(Fault::NothingReceived),
        (Purpose::Subscribe { .. }, Direction::Inactive) => Ok(Direction::Inactive),
    }
}

/// What we receive gets exactly one codec, so that a track has one known codec for all its
/// subscribers, and telephone events beside it. What we only send gets every common one, so that
/// another publisher needs no renegotiation.
fn decide_codecs<'s, 'a>(
    section: &'s Section<'a>,
    kind: MediaKind,
    purpose: &Purpose,
) -> Vec<(&'s Format<'a>, Codec)> {
    let (events, mut common): (Vec<_>, Vec<_>) = section
        .formats
        .iter()
        .filter_map(|format| format.codec(kind).map(|codec| (format, codec)))
        .partition(|(_, codec)| codec.is_event());
    match purpose {
        Purpose::Echo | Purpose::Agent => common.truncate(1),
        Purpose::Publish { prefer } => {
            if let Some(name) = prefer {
                // A stable sort: among equals the peer's order stands.
                common.sort_by_key(|(_, codec)| !codec.name().eq_ignore_ascii_case(name));
            }
            common.truncate(1);
        }
        Purpose::Subscribe { tracks } => {
            common.sort_by_key(|(_, codec)| {
                !tracks.iter().any(|track| track.is_compatible_with(*codec))
            });
            common.truncate(CODECS_MAX);
        }
    }
    common.extend(decide_events(events, &common));
    common
}

/// Keys that are pressed go on the clock of the sound that they are pressed in (RFC 4733 §2.1): of
/// each codec's clock the first format. From a peer that has none such (Firefox, with Opus) those
/// of 8 kHz are better than none.
fn decide_events<'s, 'a>(
    events: Vec<(&'s Format<'a>, Codec)>,
    codecs: &[(&Format<'_>, Codec)],
) -> Vec<(&'s Format<'a>, Codec)> {
    let mut agreed: Vec<(&Format<'_>, Codec)> = Vec::new();
    for (_, codec) in codecs {
        let clock = codec.clock_rate();
        let fits = |(_, event): &&(&Format<'_>, Codec)| event.clock_rate() == clock;
        if agreed.iter().any(|event| fits(&event)) {
            continue;
        }
        agreed.extend(events.iter().find(fits));
    }
    if agreed.is_empty() && !codecs.is_empty() {
        let telephony = |(_, event): &&(&Format<'_>, Codec)| event.clock_rate() == 8_000;
        agreed.extend(events.iter().find(telephony));
    }
    agreed
}

fn decide_formats(
    section: &Section<'_>,
    kind: MediaKind,
    transport_cc: bool,
    purpose: &Purpose,
) -> Vec<AnswerFormat> {
    let retransmissions = section.formats.retransmissions();
    let codecs = decide_codecs(section, kind, purpose).into_iter();
    let formats = codecs.map(|(format, codec)| {
        let rtx = retransmissions
            .get(usize::from(format.payload_type))
            .copied()
            .flatten();
        let plan = CodecPlan {
            payload_type: format.payload_type,
            codec,
            rtx_payload_type: rtx.map(|rtx| rtx.payload_type),
            feedback: decide_feedback(section.formats.feedback(format), kind, transport_cc),
        };
        AnswerFormat::new(plan, format, rtx)
    });
    formats.collect()
}

/// Audio gets no NACK, because a resent voice packet comes too late to play, and no transport-cc,
/// because nothing adapts. We send no REMB.
fn decide_feedback(offered: Feedback, kind: MediaKind, transport_cc: bool) -> Feedback {
    match kind {
        MediaKind::Audio => Feedback::default(),
        MediaKind::Video => Feedback {
            nack: offered.nack,
            pli: offered.pli,
            fir: offered.fir,
            remb: false,
            transport_cc: offered.transport_cc && transport_cc,
        },
    }
}

/// The dependency descriptor is left out: we choose no layers, and forwarding it means rewriting
/// it.
fn decide_extensions(
    section: &Section<'_>,
    kind: MediaKind,
    direction: Direction,
    mixed: bool,
) -> (ExtensionIds, Vec<OfferedExtension>) {
    let (mut ids, mut agreed) = (ExtensionIds::default(), Vec::new());
    for offered in &section.extensions {
        // Ids above 14 exist only in the two-byte form (RFC 8285 §4.3), which may be mixed with the
        // one-byte form only if so agreed (§6).
        let flows = offered.direction.unwrap_or(Direction::SendRecv).reversed();
        let useful =
            (flows.receives() && direction.receives()) || (flows.sends() && direction.sends());
        if (offered.id > 14 && !mixed) || !useful {
            continue;
        }
        let video = kind == MediaKind::Video;
        let slot = match offered.extension {
            Extension::Mid => &mut ids.mid,
            Extension::Rid if video && direction.receives() => &mut ids.rid,
            Extension::RepairedRid if video && direction.receives() => &mut ids.repaired_rid,
            Extension::AudioLevel if !video => &mut ids.audio_level,
            Extension::TransportCc if video && direction.receives() => &mut ids.transport_cc,
            Extension::AbsSendTime if video => &mut ids.abs_send_time,
            Extension::VideoOrientation if video => &mut ids.video_orientation,
            _ => continue,
        };
        *slot = Some(offered.id);
        agreed.push(*offered);
    }
    (ids, agreed)
}

/// The one rendition we take of a simulcast offer: the first that may use our codec, because the
/// offerer lists them by preference (RFC 8853 §5.2). `pt=` is dropped from its restrictions,
/// because the answer has one codec; the others are repeated (RFC 8851 §6.3).
fn decide_rid(section: &Section<'_>, codecs: &[CodecPlan]) -> Option<(Rid, String)> {
    let mut words = section.simulcast?.split_ascii_whitespace();
    let send = loop {
        match words.next()? {
            "send" => break words.next()?,
            // The other direction's list.
            _ => words.next()?,
        };
    };
    // The form of the early drafts, `rid=1;2`, which no current peer sends.
    if send.contains('=') {
        return None;
    }
    // `;` between renditions, `,` between alternatives of one, `~` before one that starts paused.
    send.split([';', ',']).find_map(|name| {
        let name = name.strip_prefix('~').unwrap_or(name);
        let offered = section
            .rids
            .iter()
            .find(|rid| rid.rid.as_bytes() == name.as_bytes())?;
        let allowed = parameter(offered.restrictions, "pt").is_none_or(|list| {
            let mut allowed = list
                .split(',')
                .filter_map(|number| number.parse::<u8>().ok());
            allowed.any(|number| codecs.iter().any(|codec| codec.payload_type == number))
        });
        let others = offered
            .restrictions
            .split(';')
            .filter(|part| !part.starts_with("pt="));
        allowed.then(|| (offered.rid, others.collect::<Vec<_>>().join(";")))
    })
}
