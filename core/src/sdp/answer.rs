//! The answer as text (RFC 9429 §5.3, RFC 9725 §4).

use std::fmt;
use std::net::SocketAddr;

use crate::plan::{
    CodecPlan, DtlsRole, Fingerprint, IceCredentials, LocalDescription, LocalSource, MediaKind,
    Mid, Rid, SessionPlan,
};

use super::CNAME;
use super::attributes::Direction;
use super::formats::Format;
use super::offer::{OfferedExtension, Section};

/// Options of our ICE agent, the same in answers and restart fragments (RFC 9725 §4.3.3): it takes
/// trickled candidates and follows RFC 8445.
pub(super) const ICE_OPTIONS: &str = "trickle ice2";

/// An offer we agreed to: the plan for the session, and what the answer repeats of the offer.
#[derive(Clone, Debug)]
pub struct Negotiated {
    pub(super) plan: SessionPlan,
    /// Every media section of the offer, in order.
    pub(super) sections: Vec<AnswerSection>,
    /// The offer's BUNDLE group, as positions in `sections`.
    pub(super) bundle: Option<Vec<usize>>,
    pub(super) allow_mixed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct AnswerSection {
    media: String,
    protocol: String,
    mid: Option<Mid>,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Port 0, with the formats of the offer.
    Rejected(String),
    Accepted(Box<AcceptedSection>),
}

#[derive(Clone, Debug)]
pub(super) struct AcceptedSection {
    pub(super) kind: MediaKind,
    pub(super) direction: Direction,
    pub(super) formats: Vec<AnswerFormat>,
    pub(super) extensions: Vec<OfferedExtension>,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    /// The simulcast rendition we take, with its restrictions.
    pub(super) rid: Option<(Rid, String)>,
    /// Position in the plan; `None` when inactive.
    pub(super) media_index: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct AnswerFormat {
    pub(super) plan: CodecPlan,
    rtpmap: String,
    fmtp: Option<String>,
    /// Clock rate and parameters of the retransmission format are those of the offer.
    rtx: Option<(u8, String, String)>,
}

/// What each section repeats.
struct Common<'a> {
    ice: &'a IceCredentials,
    fingerprint: Fingerprint,
    setup: &'static str,
    candidates: &'a [SocketAddr],
}

impl Negotiated {
    /// What the session must know.
    #[must_use]
    pub const fn plan(&self) -> &SessionPlan {
        &self.plan
    }

    /// The answer. `candidates` are our addresses, the preferred first: FFmpeg tries only that one.
    /// `session_number` goes into the origin line; a different one for each session.
    ///
    /// Candidates stand in the first section in use (RFC 9429 §5.3.1): the others share its
    /// transport, and aiortc would pair them twice.
    #[must_use]
    pub fn answer(
        &self,
        local: &LocalDescription,
        candidates: &[SocketAddr],
        session_number: u64,
    ) -> String {
        let mut out = Text(String::with_capacity(1_024 + 1_024 * self.sections.len()));
        // RFC 9429 §5.2.1 wants the number to fit a signed 64-bit integer.
        let number = session_number & i64::MAX.unsigned_abs();
        out.line(format_args!("v=0"));
        out.line(format_args!("o=- {number} 1 IN IP4 127.0.0.1"));
        out.line(format_args!("s=-"));
        out.line(format_args!("t=0 0"));
        out.line(format_args!("a=ice-lite"));
        out.line(format_args!("a=ice-options:{ICE_OPTIONS}"));
        let group = self.group();
        if let Some(group) = &group {
            out.line(format_args!(
                "a=group:BUNDLE{}",
                mids(group, &self.sections)
            ));
        }
        if self.allow_mixed {
            out.line(format_args!("a=extmap-allow-mixed"));
        }
        out.line(format_args!("a=msid-semantic: WMS *"));
        let common = Common {
            ice: &local.ice,
            fingerprint: local.fingerprint,
            setup: match self.plan.dtls_role {
                DtlsRole::Client => "active",
                DtlsRole::Server => "passive",
            },
            candidates,
        };
        let accepted = |index: &usize| {
            self.sections
                .get(*index)
                .is_some_and(|section| section.accepted().is_some())
        };
        let first = match &group {
            Some(group) => group.first().copied(),
            None => (0..self.sections.len()).find(accepted),
        };
        for (index, section) in self.sections.iter().enumerate() {
            match &section.verdict {
                Verdict::Rejected(formats) => section.write_rejected(formats, &mut out),
                Verdict::Accepted(accepted) => {
                    let sources = accepted
                        .media_index
                        .and_then(|media| local.sources.get(media));
                    section.write_head(accepted, &common, &mut out);
                    accepted.write_formats(&mut out);
                    accepted.write_source(sources.copied().flatten(), index, &mut out);
                    if first == Some(index) {
                        write_candidates(candidates, &mut out);
                    }
                }
            }
        }
        out.0
    }

    /// The offer's BUNDLE group without what we reject.
    fn group(&self) -> Option<Vec<usize>> {
        let accepted = |index: &usize| {
            self.sections
                .get(*index)
                .is_some_and(|section| section.accepted().is_some())
        };
        let group: Vec<_> = self
            .bundle
            .as_ref()?
            .iter()
            .copied()
            .filter(accepted)
            .collect();
        (!group.is_empty()).then_some(group)
    }
}

impl AnswerSection {
    pub(super) fn rejected(section: &Section<'_>) -> Self {
        Self {
            media: section.media.to_owned(),
            protocol: section.protocol.to_owned(),
            mid: section.mid,
            verdict: Verdict::Rejected(section.formats_text.to_owned()),
        }
    }

    fn accepted(&self) -> Option<&AcceptedSection> {
        match &self.verdict {
            Verdict::Accepted(accepted) => Some(accepted),
            Verdict::Rejected(_) => None,
        }
    }

    fn write_rejected(&self, formats: &str, out: &mut Text) {
        out.line(format_args!(
            "m={} 0 {} {formats}",
            self.media, self.protocol
        ));
        out.line(format_args!("c=IN IP4 0.0.0.0"));
        if let Some(mid) = self.mid {
            out.line(format_args!("a=mid:{}", mid.as_str()));
        }
        out.line(format_args!("a=inactive"));
    }

    /// From the m-line to the header extensions.
    fn write_head(&self, accepted: &AcceptedSection, common: &Common<'_>, out: &mut Text) {
        let Common {
            ice,
            fingerprint,
            setup,
            candidates,
        } = common;
        let payload_types: String = accepted.formats.iter().map(AnswerFormat::numbers).collect();
        let address = candidates.first();
        let port = address.map_or(9, SocketAddr::port);
        out.line(format_args!(
            "m={} {port} {}{payload_types}",
            self.media, self.protocol
        ));
        match address.map(SocketAddr::ip) {
            Some(ip) if ip.is_ipv6() => out.line(format_args!("c=IN IP6 {ip}")),
            Some(ip) => out.line(format_args!("c=IN IP4 {ip}")),
            None => out.line(format_args!("c=IN IP4 0.0.0.0")),
        }
        out.line(format_args!("a=ice-ufrag:{}", ice.ufrag));
        out.line(format_args!("a=ice-pwd:{}", ice.password));
        out.line(format_args!("a=fingerprint:sha-256 {fingerprint}"));
        out.line(format_args!("a=setup:{setup}"));
        if let Some(mid) = self.mid {
            out.line(format_args!("a=mid:{}", mid.as_str()));
        }
        out.line(format_args!("a={}", accepted.direction.name()));
        out.line(format_args!("a=rtcp-mux"));
        out.line(format_args!("a=rtcp-mux-only"));
        if accepted.rtcp_rsize {
            out.line(format_args!("a=rtcp-rsize"));
        }
        if accepted.allow_mixed {
            out.line(format_args!("a=extmap-allow-mixed"));
        }
        for extension in &accepted.extensions {
            let (id, uri) = (extension.id, extension.extension.uri());
            match extension.direction.map(Direction::reversed) {
                Some(direction) => {
                    out.line(format_args!("a=extmap:{id}/{} {uri}", direction.name()));
                }
                None => out.line(format_args!("a=extmap:{id} {uri}")),
            }
        }
    }
}

impl AcceptedSection {
    fn write_formats(&self, out: &mut Text) {
        for format in &self.formats {
            let number = format.plan.payload_type;
            out.line(format_args!("a=rtpmap:{number} {}", format.rtpmap));
            if let Some(fmtp) = &format.fmtp {
                out.line(format_args!("a=fmtp:{number} {fmtp}"));
            }
            let feedback = format.plan.feedback;
            for (agreed, name) in [
                (feedback.nack, "nack"),
                (feedback.pli, "nack pli"),
                (feedback.fir, "ccm fir"),
                (feedback.transport_cc, "transport-cc"),
            ] {
                if agreed {
                    out.line(format_args!("a=rtcp-fb:{number} {name}"));
                }
            }
            if let Some((number, rtpmap, fmtp)) = &format.rtx {
                out.line(format_args!("a=rtpmap:{number} {rtpmap}"));
                out.line(format_args!("a=fmtp:{number} {fmtp}"));
            }
        }
        if let Some((rid, restrictions)) = &self.rid {
            let space = if restrictions.is_empty() { "" } else { " " };
            out.line(format_args!(
                "a=rid:{} recv{space}{restrictions}",
                rid.as_str()
            ));
            out.line(format_args!("a=simulcast:recv {}", rid.as_str()));
        }
    }

    /// Our source. All tracks are of one stream, so that the peer plays them in step.
    fn write_source(&self, source: Option<LocalSource>, index: usize, out: &mut Text) {
        if !self.direction.sends() {
            return;
        }
        let track = self.kind.name();
        out.line(format_args!("a=msid:{CNAME} {track}{index}"));
        let Some(LocalSource { ssrc, rtx }) = source else {
            return;
        };
        if let Some(rtx) = rtx {
            out.line(format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
        }
        for ssrc in std::iter::once(ssrc).chain(rtx) {
            out.line(format_args!("a=ssrc:{ssrc} cname:{CNAME}"));
            out.line(format_args!("a=ssrc:{ssrc} msid:{CNAME} {track}{index}"));
        }
    }
}

impl AnswerFormat {
    pub(super) fn new(plan: CodecPlan, format: &Format<'_>, rtx: Option<&Format<'_>>) -> Self {
        let own = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let rtpmap = match format.rtpmap {
            Some(rtpmap) => rtpmap.to_owned(),
            None => format!("{}/{}", plan.codec.name(), plan.codec.clock_rate()),
        };
        let rtx = rtx.map(|rtx| (rtx.payload_type, own(rtx.rtpmap), own(rtx.fmtp)));
        Self {
            plan,
            rtpmap,
            fmtp: format.fmtp.map(str::to_owned),
            rtx,
        }
    }

    /// Payload types for the m-line, each after a space.
    fn numbers(&self) -> String {
        match &self.rtx {
            Some((rtx, ..)) => format!(" {} {rtx}", self.plan.payload_type),
            None => format!(" {}", self.plan.payload_type),
        }
    }
}

/// Text with the line ends of RFC 8866 §5.
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        fmt::Write::write_fmt(&mut self.0, line).expect("a String takes any text");
        self.0.push_str("\r\n");
    }
}

/// Host candidates (RFC 8445 §5.1.2.1): type preference 126, local preference falling in the order
/// given, component 1; each with a foundation of its own, because each has another base.
pub(super) fn write_candidates(candidates: &[SocketAddr], out: &mut Text) {
    for (index, address) in candidates.iter().enumerate() {
        let foundation = index + 1;
        let local_preference = u32::from(u16::MAX).saturating_sub(index as u32);
        let priority = (126 << 24) | (local_preference << 8) | 255;
        let (ip, port) = (address.ip(), address.port());
        out.line(format_args!(
            "a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host"
        ));
    }
    out.line(format_args!("a=end-of-candidates"));
}

/// Tags of the given sections, each after a space.
fn mids(group: &[usize], sections: &[AnswerSection]) -> String {
    let tags = group
        .iter()
        .filter_map(|&index| sections.get(index).and_then(|s| s.mid));
    tags.fold(String::new(), |text, mid| text + " " + mid.as_str())
}
