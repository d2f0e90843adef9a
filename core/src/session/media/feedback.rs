//! RTCP of a session: reading what the peer says, and saying what it must hear.
//!
//! Reports ride on media: they go out with the first packet a second or more after the last report, so a quiet
//! session needs no timer for them. NACK, held-back keyframe requests and transport-wide feedback have deadlines.

use std::time::Duration;

use crate::limits::{ASKS_PER_DATAGRAM_MAX, DATAGRAM_BYTES_MAX, NACKS_PER_DATAGRAM_MAX};
use crate::message::DropReason;
use crate::net::Path;
use crate::plan::MediaKind;
use crate::session::Context;
use crate::session::media::receiver::{Carries, Receiver, SenderClock};
use crate::session::media::sender::PeerReport;
use crate::session::media::{Keys, Media};
use crate::time::{Timestamp, earliest};
use crate::wire::rtcp::{
    self, COUNT_MAX, CompoundWriter, ExtendedBlock, Packet, ReportBlock, SenderSummary,
};

/// Our canonical name: one per peer connection suffices, and it must tell nothing (RFC 7022).
pub(crate) const CNAME: &str = "antiphon";

/// What a peer's RTCP asks of the tracks it follows or publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Our packet of this number in this section, again.
    Retransmit {
        /// Section of the asking session.
        media: u8,
        /// The track's own sequence number.
        sequence: u64,
    },
    /// A keyframe of the track this section follows.
    Keyframe {
        /// Section of the asking session.
        media: u8,
    },
    /// The track it publishes in this section ended.
    Ended {
        /// Section of the publishing session.
        media: u8,
    },
}

impl Media {
    /// Opens an SRTCP packet in place and takes it in; what concerns others is added to `asks`.
    pub(crate) fn receive_rtcp(
        &mut self,
        cx: &mut Context<'_>,
        packet: &mut [u8],
        asks: &mut Vec<Ask>,
    ) -> Result<(), DropReason> {
        let keys = self.keys.as_mut().ok_or(DropReason::NoKeysYet)?;
        let len = keys.inbound.open_rtcp(packet).map_err(super::refused)?;
        self.packets_received += 1;
        let plain = packet.get(..len).ok_or(DropReason::MalformedRtcp)?;
        for packet in rtcp::packets(plain) {
            let packet = packet.map_err(|_| DropReason::MalformedRtcp)?;
            self.on_rtcp(cx, &packet, asks);
        }
        Ok(())
    }

    /// Sends the reports that are due, if media flowed since the last.
    pub(crate) fn send_due_reports(&mut self, cx: &mut Context<'_>, path: Path) {
        if cx.now < self.next_report {
            return;
        }
        let Some(keys) = &mut self.keys else { return };
        self.next_report = cx.now + self.tuning.report_interval;
        let ntp = cx.epoch.ntp(cx.now);
        let mut blocks = [ReportBlock::default(); COUNT_MAX];
        let mut count = 0;
        let media = self
            .receivers
            .iter_mut()
            .filter(|r| r.carries == Carries::Media && r.alive);
        let reports = media.filter_map(|receiver| receiver.statistics.report_block(cx.now));
        for (block, report) in blocks.iter_mut().zip(reports) {
            *block = report;
            count += 1;
        }
        let mut blocks = &blocks[..count];
        let senders = &mut self.senders;
        let report_ssrc = self.report_ssrc;
        transmit_rtcp(cx, keys, path, |writer, now| {
            let mut named = [report_ssrc; COUNT_MAX];
            let mut reported = 0;
            for sender in senders.iter_mut().filter_map(Option::as_deref_mut) {
                if reported == COUNT_MAX {
                    break;
                }
                let Some(clock) = sender.report_clock(now, ntp) else {
                    continue;
                };
                let summary = SenderSummary {
                    ssrc: sender.ssrc,
                    ntp,
                    rtp_timestamp: clock.rtp_timestamp,
                    packets: sender.packets as u32,
                    bytes: sender.bytes as u32,
                };
                // The blocks go with the first report only.
                if writer.sender_report(&summary, blocks) {
                    blocks = &[];
                    named[reported] = sender.ssrc;
                    reported += 1;
                }
            }
            if reported == 0 {
                if blocks.is_empty() {
                    return;
                }
                let _fits = writer.receiver_report(report_ssrc, blocks);
            }
            // Each source that reports is named (RFC 3550 §6.5.1): receivers pair audio and video by it.
            for ssrc in &named[..reported.max(1)] {
                let _fits = writer.source_description(*ssrc, CNAME.as_bytes());
            }
            // To who only sends to us no report of ours brings back a round trip. libwebrtc, and with it every
            // browser, answers with the delays of RFC 3611 §4.5, whether or not `rrtr` was negotiated.
            if reported == 0 {
                let _fits = writer.receiver_reference_time(report_ssrc, ntp);
            }
        });
    }

    /// Whether there are reports or feedback to send, as far as can be told without a look at each track.
    #[inline]
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.next_report || self.feedback_due.is_some_and(|due| due <= now)
    }

    /// Sends the NACKs, keyframe requests and transport-wide feedback that are due.
    pub(crate) fn send_due_feedback(&mut self, cx: &mut Context<'_>, path: Path) {
        if self.feedback_due.is_none_or(|due| due > cx.now) {
            return;
        }
        let Some(keys) = &mut self.keys else { return };
        let round_trip = self.round_trip.unwrap_or(Duration::from_millis(100));
        let (sender_ssrc, reduced) = (self.report_ssrc, self.plan.reduced_size_rtcp);
        for receiver in &mut self.receivers {
            if receiver.deadline().is_none_or(|deadline| deadline > cx.now) {
                continue;
            }
            send_requests(cx, keys, path, receiver, (sender_ssrc, reduced), round_trip);
        }
        self.send_transport_feedback(cx, path);
        self.feedback_due = self.next_feedback();
    }

    fn send_transport_feedback(&mut self, cx: &mut Context<'_>, path: Path) {
        let (sender_ssrc, reduced) = (self.report_ssrc, self.plan.reduced_size_rtcp);
        let (Some(keys), Some(recorder)) = (&mut self.keys, &mut self.recorder) else {
            return;
        };
        let video = self
            .receivers
            .iter()
            .find(|receiver| receiver.codec.kind() == MediaKind::Video)
            .map_or(0, |receiver| receiver.ssrc);
        while let Some(report) = recorder.poll(cx.now) {
            transmit_rtcp(cx, keys, path, |writer, _| {
                begin(writer, sender_ssrc, reduced);
                let _fits = writer.transport_feedback(
                    sender_ssrc,
                    video,
                    report.base_sequence,
                    report.feedback_count,
                    report.reference_time as i32,
                    report.deltas,
                );
            });
        }
    }

    /// When feedback is due next, or earlier: what was to be asked for may have come meanwhile.
    pub(crate) const fn deadline(&self) -> Option<Timestamp> {
        self.feedback_due
    }

    fn next_feedback(&self) -> Option<Timestamp> {
        let recorder = self
            .recorder
            .as_ref()
            .and_then(|recorder| recorder.deadline());
        let receivers = self.receivers.iter().filter_map(Receiver::deadline);
        receivers.chain(recorder).min()
    }

    /// Someone who follows the track of a section needs a keyframe.
    pub(crate) fn want_keyframe(&mut self, media: u8) {
        let Some(source) = self
            .tracks
            .get(usize::from(media))
            .and_then(|track| track.source)
        else {
            return;
        };
        let receivers = &mut self.receivers.iter_mut();
        if let Some(receiver) = receivers.find(|receiver| receiver.ssrc == source) {
            receiver.want_keyframe();
            self.feedback_due = earliest(self.feedback_due, receiver.deadline());
        }
    }

    /// As if no keyframe was ever asked for: the next request is not held back.
    #[cfg(feature = "mutations")]
    pub(crate) fn forget_keyframe_requests(&mut self) {
        for receiver in &mut self.receivers {
            receiver.keyframes =
                super::receiver::KeyframeThrottle::new(self.tuning.keyframe_request_interval);
        }
    }

    /// Says goodbye for all we send.
    pub(crate) fn send_goodbye(&mut self, cx: &mut Context<'_>, path: Path) {
        let Some(keys) = &mut self.keys else { return };
        let mut sources = [0; COUNT_MAX];
        let mut count = 0;
        for (source, sender) in sources.iter_mut().zip(self.senders.iter().flatten()) {
            *source = sender.ssrc;
            count += 1;
        }
        let report_ssrc = self.report_ssrc;
        if count == 0 {
            (sources[0], count) = (report_ssrc, 1);
        }
        transmit_rtcp(cx, keys, path, |writer, _| {
            let _fits = writer.receiver_report(report_ssrc, &[])
                && writer.source_description(report_ssrc, CNAME.as_bytes())
                && writer.goodbye(&sources[..count]);
        });
    }

    fn on_rtcp(&mut self, cx: &Context<'_>, packet: &Packet<'_>, asks: &mut Vec<Ask>) {
        match packet {
            Packet::SenderReport(report) => {
                self.on_sender_report(cx, &report.sender);
                report
                    .blocks()
                    .for_each(|block| self.on_report_block(cx, &block));
            }
            Packet::ReceiverReport(report) => {
                report
                    .blocks()
                    .for_each(|block| self.on_report_block(cx, &block));
            }
            Packet::ExtendedReport(report) => self.on_extended_report(cx, report),
            Packet::Nack(nack) => self.on_nack(cx.now, nack, asks),
            Packet::PictureLossIndication(pli) => self.on_keyframe_request(pli.media_ssrc, asks),
            Packet::FullIntraRequest(fir) => {
                fir.entries()
                    .for_each(|entry| self.on_keyframe_request(entry.media_ssrc, asks));
            }
            Packet::Goodbye(goodbye) => {
                goodbye
                    .ssrcs()
                    .for_each(|ssrc| self.on_goodbye(cx.now, ssrc, asks));
            }
            // What the peer can receive matters once we adapt to it; the rest says nothing we need.
            _ => {}
        }
    }

    fn on_sender_report(&mut self, cx: &Context<'_>, sender: &SenderSummary) {
        let Some(receiver) = self
            .receivers
            .iter_mut()
            .find(|other| other.ssrc == sender.ssrc)
        else {
            return;
        };
        receiver.statistics.note_sender_report(cx.now, sender.ntp);
        let ntp = self
            .clock_offset
            .translate(sender.ntp, cx.epoch.ntp(cx.now));
        receiver.clock = Some(SenderClock {
            ntp,
            rtp_timestamp: sender.rtp_timestamp,
        });
    }

    fn on_extended_report(&mut self, cx: &Context<'_>, report: &rtcp::ExtendedReport<'_>) {
        for block in report.blocks() {
            let ExtendedBlock::ReceiverDelays(delays) = block else {
                continue;
            };
            for delay in delays.iter() {
                if delay.ssrc == self.report_ssrc {
                    self.note_round_trip(cx, delay.last_receiver_report, delay.delay_since_last);
                }
            }
        }
    }

    fn on_report_block(&mut self, cx: &Context<'_>, block: &ReportBlock) {
        let senders = self.senders.iter_mut().flatten();
        let Some(sender) = senders.into_iter().find(|sender| sender.ssrc == block.ssrc) else {
            return;
        };
        sender.peer = PeerReport {
            lost: block.cumulative_lost,
            jitter: block.jitter,
        };
        self.note_round_trip(cx, block.last_sender_report, block.delay_since_last);
    }

    /// RFC 3550 §6.4.1: round trip = now - last report - delay since it, all in the middle 32 bits. `last_report`
    /// is zero when none came.
    fn note_round_trip(&mut self, cx: &Context<'_>, last_report: u32, delay: u32) {
        if last_report == 0 {
            return;
        }
        let now = cx.epoch.ntp(cx.now).middle();
        let passed = now.wrapping_sub(last_report).wrapping_sub(delay);
        // A lie or a wrapped clock gives a negative or absurd time: believe up to a minute.
        if passed < 60 << 16 {
            let micros = (u64::from(passed) * 1_000_000) >> 16;
            self.round_trip = Some(Duration::from_micros(micros));
        }
    }

    fn on_nack(&mut self, now: Timestamp, nack: &rtcp::Nack<'_>, asks: &mut Vec<Ask>) {
        let Some((media, sender)) = self.sender_by_ssrc(nack.media_ssrc) else {
            return;
        };
        sender.nacks_received += 1;
        for sequence_number in nack.lost() {
            // The budget first: to find a packet and to copy it are work as well.
            if asks.len() >= ASKS_PER_DATAGRAM_MAX || !sender.allow_ask(now) {
                return;
            }
            if let Some(sequence) = sender.source_of(sequence_number) {
                asks.push(Ask::Retransmit { media, sequence });
            }
        }
    }

    fn on_keyframe_request(&mut self, ssrc: u32, asks: &mut Vec<Ask>) {
        let Some((media, sender)) = self.sender_by_ssrc(ssrc) else {
            return;
        };
        sender.keyframe_requests += 1;
        let ask = Ask::Keyframe { media };
        if asks.len() < ASKS_PER_DATAGRAM_MAX && !asks.contains(&ask) {
            asks.push(ask);
        }
    }

    /// Ends only what the peer itself sent.
    fn on_goodbye(&mut self, now: Timestamp, ssrc: u32, asks: &mut Vec<Ask>) {
        let Some(receiver) = self
            .receivers
            .iter_mut()
            .find(|receiver| receiver.ssrc == ssrc)
        else {
            return;
        };
        receiver.alive = false;
        let media = receiver.media;
        let track = self.tracks.get_mut(usize::from(media));
        if let Some(track) = track.filter(|track| track.source == Some(ssrc))
            && asks.len() < ASKS_PER_DATAGRAM_MAX
        {
            track.source = None;
            if track.tell(now, false) {
                asks.push(Ask::Ended { media });
            }
        }
    }

    fn sender_by_ssrc(&mut self, ssrc: u32) -> Option<(u8, &mut super::Sender)> {
        let senders = self.senders.iter_mut().enumerate();
        senders
            .filter_map(|(media, sender)| Some((media as u8, sender.as_deref_mut()?)))
            .find(|(_, sender)| sender.ssrc == ssrc)
    }
}

fn send_requests(
    cx: &mut Context<'_>,
    keys: &mut Keys,
    path: Path,
    receiver: &mut Receiver,
    (sender_ssrc, reduced): (u32, bool),
    round_trip: Duration,
) {
    let mut missing = [0; NACKS_PER_DATAGRAM_MAX];
    let count = match &mut receiver.nack {
        Some(nack) => {
            let count = nack.poll(cx.now, round_trip, &mut missing);
            if nack.needs_keyframe() {
                receiver.want_keyframe();
            }
            count
        }
        None => 0,
    };
    let keyframe = receiver.keyframes.poll(cx.now);
    let ssrc = receiver.ssrc;
    if count > 0 {
        receiver.nacks_sent += 1;
        cx.stats.nacks_sent += 1;
    }
    if keyframe {
        cx.stats.keyframe_requests_sent += 1;
    }
    if count == 0 && !keyframe {
        return;
    }
    transmit_rtcp(cx, keys, path, |writer, _| {
        begin(writer, sender_ssrc, reduced);
        if count > 0 {
            let _fits = writer.nack(sender_ssrc, ssrc, &missing[..count]);
        }
        if keyframe {
            let _fits = writer.picture_loss_indication(sender_ssrc, ssrc);
        }
    });
}

/// A compound that is not reduced-size begins with a report and names its sender (RFC 3550 §6.1).
fn begin(writer: &mut CompoundWriter<'_>, sender_ssrc: u32, reduced: bool) {
    if !reduced {
        let _fits = writer.receiver_report(sender_ssrc, &[])
            && writer.source_description(sender_ssrc, CNAME.as_bytes());
    }
}

fn transmit_rtcp(
    cx: &mut Context<'_>,
    keys: &mut Keys,
    path: Path,
    write: impl FnOnce(&mut CompoundWriter<'_>, Timestamp),
) {
    let now = cx.now;
    cx.transmit_control(path, DATAGRAM_BYTES_MAX, |out| {
        let room = out
            .len()
            .saturating_sub(crate::limits::SRTCP_OVERHEAD_BYTES_MAX);
        let mut writer = CompoundWriter::new(out.get_mut(..room)?);
        write(&mut writer, now);
        let len = writer.len();
        if len == 0 {
            None
        } else {
            keys.outbound.seal_rtcp(out, len).ok()
        }
    });
}
