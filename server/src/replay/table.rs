//! The report as a table that a person reads at a glance.

use antiphon_core::replay::{Report, StreamReport, Totals};

use super::capture::Sound;
use super::columns::{self, line};
use super::wav::{AllWritten, Written};
use super::{json, turns, warnings};
use crate::limits::WAV_FILES_MAX;

const HEAD: [&str; 15] = [
    "SSRC", "from", "to", "types", "clock", "packets", "unique", "copies", "late", "missing",
    "lost", "jitter", "kbit/s", "seconds", "spurts",
];
/// Columns of text, which stand at the left.
const TEXT_COLUMNS: usize = 4;

const SOUND_HEAD: [&str; 13] = [
    "SSRC",
    "codec",
    "file",
    "seconds",
    "played",
    "late",
    "refused",
    "FEC",
    "made up ms",
    "faster ms",
    "slower ms",
    "delay ms",
    "aimed at",
];
const SOUND_TEXT_COLUMNS: usize = 3;

/// Streams, sound if some was written, turns if they are wanted, totals and warnings.
pub(super) fn text(report: &Report, heard: &Sound) -> String {
    let mut text = String::new();
    if report.streams.is_empty() {
        text.push_str("no RTP streams\n");
    } else {
        let rows: Vec<_> = report.streams.iter().map(row).collect();
        columns::write(&mut text, HEAD, TEXT_COLUMNS, &rows);
    }
    text.push('\n');
    if let Some(written) = &heard.written {
        sound(&mut text, written);
        text.push('\n');
    }
    if let Some(turns) = &heard.turns {
        turns::write_streams(&mut text, turns);
    }
    totals(&mut text, report);
    for warning in warnings::of(report) {
        line(&mut text, &format!("  ! {warning}"));
    }
    text
}

/// What was heard of each stream.
fn sound(text: &mut String, written: &AllWritten) {
    let rows = written.iter().filter_map(|((_, ssrc), written)| {
        let Written { file, report, .. } = written.as_ref()?;
        let stats = &report.stats;
        let ms = |samples: u64| (samples * 1_000 / u64::from(report.rate.hz())).to_string();
        let heard = stats.jitter_buffer_emitted_count;
        let delay = stats.jitter_buffer_delay.checked_div(heard);
        let delay = delay.map_or("-".to_owned(), |micros| (micros / 1_000).to_string());
        let name = file.file_name().unwrap_or_default();
        Some([
            format!("{ssrc:08x}"),
            report.codec.name().to_owned(),
            name.to_string_lossy().into_owned(),
            format!("{:.3}", report.duration.as_secs_f64()),
            stats.packets_played.to_string(),
            stats.packets_late.to_string(),
            stats.packets_refused.to_string(),
            stats.fec_packets_received.to_string(),
            ms(stats.concealed_samples),
            ms(stats.removed_samples_for_acceleration),
            ms(stats.inserted_samples_for_deceleration),
            delay,
            report.target.as_millis().to_string(),
        ])
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        line(
            text,
            "no sound: no stream of PCMU, PCMA or Opus in the clear (see --map and --keys)",
        );
    } else {
        columns::write(text, SOUND_HEAD, SOUND_TEXT_COLUMNS, &rows);
    }
    let beyond = written.values().filter(|written| written.is_none()).count();
    if beyond > 0 {
        line(
            text,
            &format!("  ! {beyond} more streams have no file: {WAV_FILES_MAX} is the most"),
        );
    }
    for Written {
        file,
        is_cut,
        report,
    } in written.values().flatten()
    {
        let file = file.display();
        if *is_cut {
            line(
                text,
                &format!("  ! {file} is cut: all files together have 4 GiB at most"),
            );
        }
        if !report.skipped.is_zero() {
            let skipped = report.skipped.as_secs_f64();
            line(
                text,
                &format!("  ! {file}: {skipped:.0} s of pauses longer than a minute are left out"),
            );
        }
    }
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
