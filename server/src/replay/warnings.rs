//! What a person should know of a report beside its figures.

use std::time::Duration;

use antiphon_core::replay::{Pace, Report, Skip, SrtpReport};

/// Interfaces and directions that are stamped apart step back by less all the time.
const STEP_BACK: Duration = Duration::from_millis(10);

/// A sentence each; none when all is well.
pub(super) fn of(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    let totals = &report.totals;
    for (reason, count) in &totals.skipped {
        sentences.push(format!("{count} {}", skipped(*reason)));
    }
    if totals.capture_dropped > 0 {
        let count = totals.capture_dropped;
        sentences.push(format!(
            "{count} frames were lost while capturing: loss below may be the capture's"
        ));
    }
    if totals.truncated_udp > 0 {
        let count = totals.truncated_udp;
        sentences.push(format!(
            "{count} datagrams are cut short in the capture: counted, not opened"
        ));
    }
    if totals.turn_channel > 0 {
        let count = totals.turn_channel;
        sentences.push(format!(
            "{count} datagrams look like TURN channel messages, which are not looked into"
        ));
    }
    if totals.stamp_back_max >= STEP_BACK {
        let (count, by) = (totals.stamps_back, totals.stamp_back_max);
        sentences.push(format!(
            "{count} frames are stamped before an earlier one, by up to {by:?}: jitter shows it, time stood still"
        ));
    }
    srtp(&totals.srtp, &mut sentences);
    let restarts: u64 = report.streams.iter().map(|stream| stream.restarts).sum();
    if restarts > 0 {
        sentences.push(format!(
            "sequence numbers began anew {restarts} times: what lies between is not counted as lost"
        ));
    }
    let clockless = report
        .streams
        .iter()
        .filter(|stream| stream.clock_rate.is_none())
        .count();
    if clockless > 0 {
        let instead = if report.pace == Pace::Rtp {
            " and they go by the capture's clock"
        } else {
            ""
        };
        sentences.push(format!(
            "{clockless} streams have no known clock{instead}: name it with --map or --sdp to get jitter"
        ));
    }
    sentences
}

fn srtp(srtp: &SrtpReport, sentences: &mut Vec<String>) {
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            sentences.push(format!("{count} {what}"));
        }
    };
    add(
        srtp.refused,
        "SRTP or SRTCP packets do not open with the key of their flow",
    );
    add(
        srtp.unkeyed,
        "RTP or RTCP packets open with none of the keys",
    );
    add(
        srtp.replayed,
        "SRTP or SRTCP packets came again, or too late to tell",
    );
    add(
        srtp.truncated,
        "RTP or RTCP packets are cut short and cannot be opened",
    );
    add(
        srtp.handshakes_unusable,
        "DTLS handshakes are of another version than 1.2, or agreed on no SRTP",
    );
    if srtp.secrets > 0 {
        add(
            srtp.secrets_missing,
            "DTLS handshakes have no secret in the key log",
        );
    }
    if srtp.handshakes == 0 {
        add(
            srtp.secrets,
            "secrets of the key log are of no use: the capture has no whole DTLS handshake",
        );
    }
}

const fn skipped(reason: Skip) -> &'static str {
    match reason {
        Skip::UnusableRecord => {
            "records are of an undescribed interface, or secrets of an unknown kind"
        }
        Skip::LinkType => "frames have a link type that is not read",
        Skip::NotIp => "frames are not IP",
        Skip::MalformedIp => "frames have a broken IP header",
        Skip::Tcp => "frames are TCP",
        Skip::Icmp => "frames are ICMP",
        Skip::OtherTransport => "frames are neither UDP, TCP nor ICMP",
        Skip::MalformedUdp => "frames have a broken UDP header",
        Skip::FragmentCut => "IP fragments are cut short in the capture",
        Skip::FragmentUnusable => "IP fragments fit nothing",
        Skip::FragmentAlone => "IP fragments lack the rest of their packet",
        Skip::MalformedRtp => "datagrams begin like RTP and are broken",
        Skip::RtpAlone => "datagrams look like RTP, but nothing confirms it",
        Skip::RtpBeyondLimit => "RTP packets belong to more sources than are followed",
        _ => "frames tell nothing of media",
    }
}
