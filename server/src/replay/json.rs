//! The report as one JSON object.

use antiphon_core::replay::{Pace, Report, StreamReport, Totals};
use serde_json::{Map, Value, json};

use super::capture::Sound;
use super::wav::Written;
use super::{turns, warnings};

/// The object and a line feed. Fields stand in the order of their names: the same replay prints the same bytes. If
/// sound was written or heard, each stream says what of it.
pub(super) fn object(report: &Report, error: Option<String>, sound: &Sound) -> String {
    let streams = report.streams.iter().map(|one| {
        let mut object = stream(one);
        let key = (one.flow, one.ssrc);
        if let (Some(written), Some(object)) = (&sound.written, object.as_object_mut()) {
            let written = written.get(&key).map(playout);
            object.insert("playout".to_owned(), written.into());
        }
        if let (Some(turns), Some(object)) = (&sound.turns, object.as_object_mut()) {
            object.extend(turns::of_stream(turns.get(&key)));
        }
        object
    });
    let streams: Vec<Value> = streams.collect();
    let mut totals = totals(&report.totals);
    totals.insert("pace".to_owned(), pace(report.pace).into());
    totals.insert("warnings".to_owned(), warnings::of(report).into());
    totals.insert("error".to_owned(), error.into());
    let object = json!({ "streams": streams, "totals": totals });
    format!("{object:#}\n")
}

pub(super) const fn pace(pace: Pace) -> &'static str {
    match pace {
        Pace::Capture => "capture",
        Pace::Rtp => "rtp",
        Pace::Asap => "asap",
    }
}

fn stream(stream: &StreamReport) -> Value {
    let types = stream.payload_types.iter();
    let types: Map<String, Value> = types
        .map(|(payload_type, packets)| (payload_type.to_string(), (*packets).into()))
        .collect();
    json!({
        "ssrc": format!("{:#010x}", stream.ssrc),
        "src": stream.flow.source.to_string(),
        "dst": stream.flow.destination.to_string(),
        "payload_types": types,
        "clock_rate": stream.clock_rate,
        "packets": stream.packets,
        "unique": stream.unique,
        "duplicates": stream.duplicates,
        "late": stream.late,
        "missing": stream.missing,
        "lost": stream.lost,
        "jitter": stream.jitter.map(hundredths),
        "expected": stream.expected,
        "first_sequence": stream.first_sequence,
        "highest_sequence": stream.highest_sequence,
        "cycles": stream.cycles,
        "restarts": stream.restarts,
        "strays": stream.strays,
        "markers": stream.markers,
        "bytes": stream.bytes,
        "truncated": stream.truncated,
        "duration_ms": stream.duration.map(|duration| duration.as_secs_f64() * 1e3),
        "bitrate": stream.bitrate,
        "talk_spurts": stream.talk_spurts,
        "decrypted": stream.opened,
    })
}

fn playout(written: &Option<Written>) -> Value {
    let Some(Written {
        file,
        is_cut,
        report,
    }) = written
    else {
        return json!({"file": null});
    };
    json!({
        "file": file,
        "cut": is_cut,
        "codec": report.codec.name(),
        "rate": report.rate.hz(),
        "seconds": report.duration.as_secs_f64(),
        "skipped_seconds": report.skipped.as_secs_f64(),
        "target_delay_ms": report.target.as_secs_f64() * 1e3,
        "stats": report.stats,
    })
}

fn totals(totals: &Totals) -> Map<String, Value> {
    let skipped = totals.skipped.iter();
    let skipped: Map<String, Value> = skipped
        .map(|(reason, count)| (reason.name().to_owned(), (*count).into()))
        .collect();
    let srtp = &totals.srtp;
    let object = json!({
        "frames": totals.frames,
        "udp": totals.udp,
        "stun": totals.stun,
        "dtls": totals.dtls,
        "rtp": totals.rtp,
        "rtcp": totals.rtcp,
        "turn_channel": totals.turn_channel,
        "other_udp": totals.other_udp,
        "truncated_udp": totals.truncated_udp,
        "fragments": totals.fragments,
        "reassembled": totals.reassembled,
        "capture_dropped": totals.capture_dropped,
        "skipped": skipped,
        "decrypted": srtp.rtp_opened + srtp.rtcp_opened,
        "srtp": {
            "keys": srtp.keys,
            "rtp_opened": srtp.rtp_opened,
            "rtcp_opened": srtp.rtcp_opened,
            "replayed": srtp.replayed,
            "refused": srtp.refused,
            "unkeyed": srtp.unkeyed,
            "truncated": srtp.truncated,
            "secrets": srtp.secrets,
            "handshakes": srtp.handshakes,
            "secrets_missing": srtp.secrets_missing,
            "handshakes_unusable": srtp.handshakes_unusable,
        },
        "stamps_back": totals.stamps_back,
        "duration_ms": totals.duration.as_secs_f64() * 1e3,
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// Two decimals: a hundredth of a timestamp unit is less than any clock resolves.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
