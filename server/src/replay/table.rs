//! The report as a table that a person reads at a glance.

use antiphon_core::replay::{Report, StreamReport, Totals};

use super::columns::{self, line};
use super::{json, warnings};

const HEAD: [&str; 15] = [
    "SSRC", "from", "to", "types", "clock", "packets", "unique", "copies", "late", "missing",
    "lost", "jitter", "kbit/s", "seconds", "spurts",
];
/// Columns of text, which stand at the left.
const TEXT_COLUMNS: usize = 4;

/// Streams, totals and warnings.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    if report.streams.is_empty() {
        text.push_str("no RTP streams\n");
    } else {
        let rows: Vec<_> = report.streams.iter().map(row).collect();
        columns::write(&mut text, HEAD, TEXT_COLUMNS, &rows);
    }
    text.push('\n');
    totals(&mut text, report);
    for warning in warnings::of(report) {
        line(&mut text, &format!("  ! {warning}"));
    }
    text
}

fn totals(text: &mut String, report: &Report) {
    let Totals {
        frames,
        udp,
        rtp,
        rtcp,
        stun,
        dtls,
        fragments,
        reassembled,
        ..
    } = report.totals;
    let streams = report.streams.len();
    let pace = json::pace(report.pace);
    let seconds = report.totals.duration.as_secs_f64();
    line(
        text,
        &format!("Streams {streams}, frames {frames} over {seconds:.3} s; arrival times: {pace}"),
    );
    line(
        text,
        &format!("UDP {udp}: RTP {rtp}, RTCP {rtcp}, STUN {stun}, DTLS {dtls}"),
    );
    if fragments > 0 {
        line(
            text,
            &format!("IP fragments {fragments}: {reassembled} datagrams put together"),
        );
    }
    let srtp = &report.totals.srtp;
    if srtp.keys > 0 {
        let opened = srtp.rtp_opened + srtp.rtcp_opened;
        let tried = opened + srtp.replayed + srtp.refused + srtp.unkeyed + srtp.truncated;
        let (rtp, rtcp) = (srtp.rtp_opened, srtp.rtcp_opened);
        line(
            text,
            &format!(
                "SRTP: {opened} of {tried} opened ({rtp} RTP, {rtcp} RTCP) with {} keys",
                srtp.keys
            ),
        );
    }
}

fn row(stream: &StreamReport) -> [String; 15] {
    let types: Vec<_> = stream.payload_types.keys().map(u8::to_string).collect();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        format!("{:08x}", stream.ssrc),
        stream.flow.source.to_string(),
        stream.flow.destination.to_string(),
        types.join(","),
        or_dash(stream.clock_rate.map(|rate| rate.to_string())),
        stream.packets.to_string(),
        stream.unique.to_string(),
        stream.duplicates.to_string(),
        stream.late.to_string(),
        stream.missing.to_string(),
        stream.lost.to_string(),
        or_dash(stream.jitter.map(|jitter| format!("{jitter:.2}"))),
        or_dash(
            stream
                .bitrate
                .map(|bitrate| format!("{:.1}", bitrate as f64 / 1e3)),
        ),
        or_dash(
            stream
                .duration
                .map(|duration| format!("{:.3}", duration.as_secs_f64())),
        ),
        or_dash(stream.talk_spurts.map(|spurts| spurts.to_string())),
    ]
}
