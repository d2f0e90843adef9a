//! Wire formats: what is read and can be written reads the same again.

use std::collections::BTreeSet;

use crate::plan::{Codec, MediaKind};
use crate::wire::payload::reassemble::Reassembler;
use crate::wire::payload::{is_keyframe, vp8, vp9};
use crate::wire::rtcp::{
    CompoundWriter, ExtendedBlock, ExtendedReport, Nack, Packet, SourceDescription,
    TransportFeedback, packets,
};
use crate::wire::rtp::{
    AudioLevel, FIXED_HEADER_BYTES, Header, HeaderFields, abs_send_time, transport_sequence,
    write_header,
};
use crate::wire::stun::{has_wrong_fingerprint, local_ufrag};
use crate::wire::{Class, classify as class_of};

const CODECS: [Codec; 7] = [
    Codec::Opus,
    Codec::Pcmu,
    Codec::Pcma,
    Codec::Vp8,
    Codec::Vp9 { profile: 0 },
    Codec::H264 {
        packetization_mode: 1,
        profile: 0x42e0,
    },
    Codec::Av1 { profile: 0 },
];

/// What a datagram is by its first bytes, and that no reader takes what is another's.
pub fn classify(datagram: &[u8]) {
    let class = class_of(datagram);
    // RFC 7983 §7 and RFC 5761 §4, as a table.
    let expected = match (datagram.first(), datagram.get(1)) {
        (Some(0..=3), _) => Class::Stun,
        (Some(20..=63), _) => Class::Dtls,
        (Some(128..=191), Some(192..=223)) => Class::Rtcp,
        (Some(128..=191), Some(_)) => Class::Rtp,
        _ => Class::Unknown,
    };
    assert_eq!(class, expected);
    assert!(class == Class::Stun || local_ufrag(datagram).is_err());
    let version_2 = matches!(class, Class::Rtp | Class::Rtcp);
    assert!(version_2 || Header::parse(datagram).is_err());
    assert!(version_2 || !matches!(packets(datagram).next(), Some(Ok(_))));
}

/// An RTP packet.
pub fn rtp(packet: &[u8]) {
    let Ok(header) = Header::parse(packet) else {
        return;
    };
    assert!((FIXED_HEADER_BYTES..=packet.len()).contains(&header.len));
    if let Ok(payload) = header.payload(packet) {
        assert!(header.len + payload.len() <= packet.len());
    }
    let extensions: Vec<_> = header.extensions(packet).collect();
    for &(id, value) in &extensions {
        let first = extensions.iter().find(|(other, _)| *other == id);
        assert_eq!(header.extension(packet, id), first.map(|(_, value)| *value));
        if let Some(level) = AudioLevel::from_extension(value) {
            assert_eq!(level.to_extension(), value[..1]);
        }
        assert_eq!(transport_sequence(value).is_some(), value.len() == 2);
        assert_eq!(abs_send_time(value).is_some(), value.len() == 3);
    }
    let fields = HeaderFields {
        payload_type: header.payload_type,
        marker: header.marker,
        sequence_number: header.sequence_number,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    // Contributing sources, padding and unknown profiles are left out: never longer than it was.
    let mut out = vec![0xff; header.len];
    let len = write_header(&mut out, &fields, &extensions).expect("it fitted before");
    let written = Header::parse(&out[..len]).expect("we read what we write");
    let again = HeaderFields {
        payload_type: written.payload_type,
        marker: written.marker,
        sequence_number: written.sequence_number,
        timestamp: written.timestamp,
        ssrc: written.ssrc,
    };
    assert_eq!((written.len, written.csrc_count, again), (len, 0, fields));
    assert!(written.extensions(&out).eq(extensions));
}

/// An opened RTCP datagram.
pub fn rtcp(datagram: &[u8]) {
    let read: Vec<_> = packets(datagram).collect();
    assert!(read.len() <= datagram.len() / 4 + 1);
    for packet in read.into_iter().flatten() {
        rewrite_packet(&packet, datagram.len());
    }
}

fn rewrite_packet(packet: &Packet<'_>, size: usize) {
    let mut out = vec![0xff; size + 4];
    let mut writer = CompoundWriter::new(&mut out);
    match packet {
        Packet::SenderReport(report) => {
            let blocks: Vec<_> = report.blocks().collect();
            assert!(writer.sender_report(&report.sender, &blocks));
        }
        Packet::ReceiverReport(report) => {
            let blocks: Vec<_> = report.blocks().collect();
            assert!(writer.receiver_report(report.sender_ssrc, &blocks));
        }
        Packet::PictureLossIndication(loss) => {
            assert!(writer.picture_loss_indication(loss.sender_ssrc, loss.media_ssrc));
        }
        Packet::Goodbye(goodbye) => {
            let ssrcs: Vec<_> = goodbye.ssrcs().collect();
            assert!(writer.goodbye(&ssrcs));
            let Packet::Goodbye(again) = only(&out) else {
                panic!("a goodbye was written");
            };
            assert!(again.ssrcs().eq(ssrcs) && again.reason.is_none());
            return;
        }
        Packet::FullIntraRequest(request) => {
            for entry in request.entries() {
                let mut out = [0; 20];
                let mut writer = CompoundWriter::new(&mut out);
                assert!(writer.full_intra_request(request.sender_ssrc, entry));
                let Packet::FullIntraRequest(again) = only(&out) else {
                    panic!("a request was written");
                };
                assert!(again.entries().eq([entry]));
            }
            return;
        }
        Packet::SourceDescription(description) => return rewrite_description(description),
        Packet::Nack(nack) => return rewrite_nack(nack, size),
        Packet::TransportFeedback(feedback) => return rewrite_transport_feedback(feedback),
        Packet::ExtendedReport(report) => return rewrite_extended(report, size),
        Packet::Remb(remb) => {
            // Not ours to send.
            assert!(remb.ssrcs().len() <= size / 4);
            return;
        }
        Packet::Unknown { .. } => return,
    }
    assert_eq!(only(&out), *packet);
}

/// The first packet of what was written; the rest of the buffer is noise.
fn only(written: &[u8]) -> Packet<'_> {
    let first = packets(written).next().expect("something was written");
    first.expect("we read what we write")
}

fn rewrite_description(description: &SourceDescription<'_>) {
    for chunk in description.chunks() {
        let Some(cname) = chunk.cname else { continue };
        let mut out = vec![0xff; cname.len() + 16];
        let mut writer = CompoundWriter::new(&mut out);
        assert!(writer.source_description(chunk.ssrc, cname));
        let Packet::SourceDescription(again) = only(&out) else {
            panic!("a description was written");
        };
        assert!(again.chunks().eq([chunk]));
    }
}

fn rewrite_nack(nack: &Nack<'_>, size: usize) {
    let lost: Vec<_> = nack.lost().collect();
    assert!(lost.len() <= size / 4 * 17);
    let mut out = vec![0xff; size];
    let mut writer = CompoundWriter::new(&mut out);
    assert!(
        writer.nack(nack.sender_ssrc, nack.media_ssrc, &lost),
        "no longer than it was"
    );
    if lost.is_empty() {
        assert!(writer.is_empty());
        return;
    }
    let Packet::Nack(again) = only(&out) else {
        panic!("a NACK was written");
    };
    let set = |nack: &Nack<'_>| nack.lost().collect::<BTreeSet<_>>();
    assert_eq!(set(&again), set(nack));
}

fn rewrite_transport_feedback(feedback: &TransportFeedback<'_>) {
    let statuses: Vec<_> = feedback.statuses().collect();
    assert_eq!(statuses.len(), usize::from(feedback.status_count));
    let deltas: Vec<_> = statuses.iter().map(|(_, delta)| *delta).collect();
    let received = deltas.iter().flatten().count();
    let mut out = vec![0xff; 32 + 2 * received + (deltas.len() / 7 + 2) * 2];
    let mut writer = CompoundWriter::new(&mut out);
    assert!(writer.transport_feedback(
        feedback.sender_ssrc,
        feedback.media_ssrc,
        feedback.base_sequence,
        feedback.feedback_count,
        feedback.reference_time_64ms,
        &deltas,
    ));
    let Packet::TransportFeedback(again) = only(&out) else {
        panic!("a feedback was written");
    };
    assert!(again.statuses().eq(statuses));
    let head = |feedback: &TransportFeedback<'_>| {
        let numbers = (feedback.base_sequence, feedback.feedback_count);
        (numbers, feedback.reference_time_64ms, feedback.sender_ssrc)
    };
    assert_eq!(head(&again), head(feedback));
}

fn rewrite_extended(report: &ExtendedReport<'_>, size: usize) {
    for block in report.blocks() {
        let ExtendedBlock::ReceiverDelays(delays) = block else {
            continue;
        };
        let delays: Vec<_> = delays.iter().collect();
        let mut out = vec![0xff; size];
        let mut writer = CompoundWriter::new(&mut out);
        assert!(writer.receiver_delays(report.sender_ssrc, &delays));
        if delays.is_empty() {
            continue;
        }
        let Packet::ExtendedReport(again) = only(&out) else {
            panic!("a report was written");
        };
        let Some(ExtendedBlock::ReceiverDelays(read)) = again.blocks().next() else {
            panic!("a block was written");
        };
        assert!(read.iter().eq(delays));
    }
}

/// A STUN message.
pub fn stun(datagram: &[u8]) {
    fingerprint(datagram);
    let Ok(Some(ufrag)) = local_ufrag(datagram) else {
        return;
    };
    assert_eq!(class_of(datagram), Class::Stun);
    assert_eq!(datagram[..2], [0, 1], "only requests name an agent");
    assert_eq!(datagram[4..8], [0x21, 0x12, 0xa4, 0x42]);
    assert!(!ufrag.contains(':') && ufrag.len() < datagram.len());
    let name = [ufrag.as_bytes(), b":"].concat();
    assert!(
        datagram.windows(name.len()).any(|window| window == name),
        "the name is part of the message"
    );
    for cut in [1, 4, 8] {
        let shorter = &datagram[..datagram.len() - cut];
        assert!(
            local_ufrag(shorter).is_err(),
            "a message is all of its datagram"
        );
    }
}

/// RFC 8489 §14.7: whoever changes a byte that a FINGERPRINT covers breaks it; a message without one has no wrong one.
fn fingerprint(datagram: &[u8]) {
    let is_last = |at: &usize| datagram[*at..].starts_with(&[0x80, 0x28, 0, 4]);
    let Some(at) = datagram.len().checked_sub(8).filter(is_last) else {
        assert!(!has_wrong_fingerprint(datagram));
        return;
    };
    let mut changed = datagram.to_vec();
    if let Some(byte) = changed[..at].get_mut(at / 2) {
        *byte ^= 1;
        assert!(has_wrong_fingerprint(datagram) || has_wrong_fingerprint(&changed));
    }
}

/// An RTP payload, for every codec.
pub fn payload(payload: &[u8]) {
    for codec in CODECS {
        let keyframe = is_keyframe(codec, payload);
        assert!(!(keyframe && codec.kind() == MediaKind::Audio));
        assert!(!(keyframe && payload.is_empty()));
        reassemble(codec, payload);
    }
    if let Ok(descriptor) = vp9::Descriptor::parse(payload) {
        assert!((1..=payload.len()).contains(&descriptor.len));
    }
    let Ok(descriptor) = vp8::Descriptor::parse(payload) else {
        return;
    };
    assert!((1..=vp8::DESCRIPTOR_BYTES_MAX.min(payload.len())).contains(&descriptor.len()));
    let mut out = [0xff; vp8::DESCRIPTOR_BYTES_MAX];
    assert_eq!(descriptor.write(&mut out), Some(descriptor.len()));
    assert_eq!(vp8::Descriptor::parse(&out), Ok(descriptor));
    let mut short = [0xff; vp8::DESCRIPTOR_BYTES_MAX];
    let short = &mut short[..descriptor.len() - 1];
    assert_eq!(descriptor.write(short), None);
    assert!(short.iter().all(|byte| *byte == 0xff));
    if let Some(picture_id) = descriptor.picture_id {
        let moved = vp8::Descriptor {
            picture_id: Some(picture_id.with_value(picture_id.value().wrapping_add(1))),
            ..descriptor
        };
        assert_eq!(moved.write(&mut out), Some(descriptor.len()), "same length");
        assert_eq!(vp8::Descriptor::parse(&out), Ok(moved));
    }
}

/// The payload in two packets of one picture, as other tests put pictures together again.
fn reassemble(codec: Codec, payload: &[u8]) {
    let mut reassembler = Reassembler::new(codec);
    let mut packet = [0; FIXED_HEADER_BYTES];
    let (front, back) = payload.split_at(payload.len() / 2);
    for (part, sequence_number) in [(front, 0), (back, 1)] {
        let fields = HeaderFields {
            payload_type: 96,
            marker: sequence_number == 1,
            sequence_number,
            timestamp: 0,
            ssrc: 1,
        };
        write_header(&mut packet, &fields, &[]).expect("it fits");
        let header = Header::parse(&packet).expect("we read what we write");
        if let Some(frame) = reassembler.push(&header, part) {
            // An aggregate of empty units grows: two bytes of length become a start code of four.
            assert!(frame.bytes.len() <= 3 * payload.len() + 8);
        }
    }
}
