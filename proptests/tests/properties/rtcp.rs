//! Compounds: what was written is read back, packet by packet, in order.

use std::collections::BTreeSet;

use antiphon_core::time::NtpTime;
use antiphon_core::wire::rtcp::{
    CompoundWriter, ExtendedBlock, FullIntraEntry, Packet, ReceiverDelay, ReportBlock,
    SenderSummary, packets,
};
use antiphon_core::wire::{Class, classify};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;

const SENDER: u32 = 0x0102_0304;

/// A packet as we would say it.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    SenderReport(SenderSummary, Vec<ReportBlock>),
    ReceiverReport(Vec<ReportBlock>),
    Description(u32, Vec<u8>),
    Goodbye(Vec<u32>),
    Nack(BTreeSet<u16>),
    Loss(u32),
    Intra(FullIntraEntry),
    Feedback(u16, u8, i32, Vec<Option<i16>>),
    Delays(Vec<ReceiverDelay>),
}

impl Said {
    fn write(&self, writer: &mut CompoundWriter<'_>) -> bool {
        match self {
            Self::SenderReport(summary, blocks) => writer.sender_report(summary, blocks),
            Self::ReceiverReport(blocks) => writer.receiver_report(SENDER, blocks),
            Self::Description(ssrc, cname) => writer.source_description(*ssrc, cname),
            Self::Goodbye(ssrcs) => writer.goodbye(ssrcs),
            Self::Nack(lost) => {
                let lost: Vec<_> = lost.iter().copied().collect();
                writer.nack(SENDER, 7, &lost)
            }
            Self::Loss(ssrc) => writer.picture_loss_indication(SENDER, *ssrc),
            Self::Intra(entry) => writer.full_intra_request(SENDER, *entry),
            Self::Feedback(base, count, time, deltas) => {
                writer.transport_feedback(SENDER, 7, *base, *count, *time, deltas)
            }
            Self::Delays(delays) => writer.receiver_delays(SENDER, delays),
        }
    }

    fn read(packet: &Packet<'_>) -> Self {
        match packet {
            Packet::SenderReport(report) => {
                Self::SenderReport(report.sender, report.blocks().collect())
            }
            Packet::ReceiverReport(report) => Self::ReceiverReport(report.blocks().collect()),
            Packet::SourceDescription(description) => {
                let chunk = description.chunks().next().expect("one chunk");
                Self::Description(chunk.ssrc, chunk.cname.expect("a name").to_vec())
            }
            Packet::Goodbye(goodbye) => Self::Goodbye(goodbye.ssrcs().collect()),
            Packet::Nack(nack) => Self::Nack(nack.lost().collect()),
            Packet::PictureLossIndication(loss) => Self::Loss(loss.media_ssrc),
            Packet::FullIntraRequest(request) => {
                Self::Intra(request.entries().next().expect("one entry"))
            }
            Packet::TransportFeedback(feedback) => Self::Feedback(
                feedback.base_sequence,
                feedback.feedback_count,
                feedback.reference_time_64ms,
                feedback.statuses().map(|(_, delta)| delta).collect(),
            ),
            Packet::ExtendedReport(report) => match report.blocks().next() {
                Some(ExtendedBlock::ReceiverDelays(delays)) => {
                    Self::Delays(delays.iter().collect())
                }
                other => panic!("delays were written, not {other:?}"),
            },
            other => panic!("nobody wrote {other:?}"),
        }
    }
}

fn block() -> impl Strategy<Value = ReportBlock> {
    let lost = -0x80_0000_i32..0x80_0000;
    (any::<[u32; 5]>(), any::<u8>(), lost).prop_map(|(words, fraction_lost, cumulative_lost)| {
        let [
            ssrc,
            highest_sequence,
            jitter,
            last_sender_report,
            delay_since_last,
        ] = words;
        ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost,
            highest_sequence,
            jitter,
            last_sender_report,
            delay_since_last,
        }
    })
}

fn summary() -> impl Strategy<Value = SenderSummary> {
    (any::<u64>(), any::<[u32; 4]>()).prop_map(|(ntp, [ssrc, rtp_timestamp, packets, bytes])| {
        SenderSummary {
            ssrc,
            ntp: NtpTime(ntp),
            rtp_timestamp,
            packets,
            bytes,
        }
    })
}

fn said() -> impl Strategy<Value = Said> {
    let delay = any::<[u32; 3]>().prop_map(|[ssrc, last_receiver_report, delay_since_last]| {
        ReceiverDelay {
            ssrc,
            last_receiver_report,
            delay_since_last,
        }
    });
    // Arrivals as they are: mostly close, at times far or none.
    let delta = prop_oneof![
        6 => (0_i16..256).prop_map(Some),
        1 => any::<i16>().prop_map(Some),
        3 => Just(None),
    ];
    let time = -0x80_0000_i32..0x80_0000;
    let intra = (any::<u32>(), any::<u8>()).prop_map(|(media_ssrc, sequence_number)| {
        Said::Intra(FullIntraEntry {
            media_ssrc,
            sequence_number,
        })
    });
    prop_oneof![
        (summary(), vec(block(), 0..32))
            .prop_map(|(summary, blocks)| Said::SenderReport(summary, blocks)),
        vec(block(), 0..32).prop_map(Said::ReceiverReport),
        (any::<u32>(), vec(any::<u8>(), 0..256))
            .prop_map(|(ssrc, cname)| Said::Description(ssrc, cname)),
        vec(any::<u32>(), 0..32).prop_map(Said::Goodbye),
        prop::collection::btree_set(any::<u16>(), 1..80).prop_map(Said::Nack),
        any::<u32>().prop_map(Said::Loss),
        intra,
        (any::<u16>(), any::<u8>(), time, vec(delta, 1..500))
            .prop_map(|(base, count, time, deltas)| Said::Feedback(base, count, time, deltas)),
        vec(delay, 1..20).prop_map(Said::Delays),
    ]
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_compound_is_read_as_it_was_written(said in vec(said(), 1..8)) {
        let mut out = [0xff; 16_384];
        let mut writer = CompoundWriter::new(&mut out);
        prop_assert!(said.iter().all(|packet| packet.write(&mut writer)));
        let len = writer.len();
        prop_assert_eq!(len % 4, 0);
        prop_assert_eq!(classify(&out[..len]), Class::Rtcp);
        let read: Vec<_> = packets(&out[..len])
            .map(|packet| Said::read(&packet.expect("we read what we write")))
            .collect();
        prop_assert_eq!(read, said);
    }

    #[test]
    fn a_packet_that_does_not_fit_leaves_the_others_whole(said in vec(said(), 1..8), room in 0_usize..600) {
        let mut out = vec![0xff; room];
        let mut writer = CompoundWriter::new(&mut out);
        let fitted: Vec<_> = said.iter().filter(|packet| packet.write(&mut writer)).collect();
        let len = writer.len();
        let read: Vec<_> = packets(&out[..len])
            .map(|packet| Said::read(&packet.expect("we read what we write")))
            .collect();
        prop_assert!(read.iter().eq(fitted));
        prop_assert!(out[len..].iter().all(|byte| *byte == 0xff), "nothing behind the end");
    }
}
