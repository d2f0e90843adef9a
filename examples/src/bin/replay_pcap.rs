//! A packet capture through the library: what RTP is in it, and how much of its SRTP opens.
//!
//! ```text
//! replay_pcap CAPTURE.pcap [KEYLOG]
//! ```
//!
//! The library is a machine without I/O here too: `CaptureReader` reads records from anything that implements
//! `Read`, `Replay` takes them one at a time, and the report is plain figures. `antiphon replay` does the same
//! with more ways to give keys, and prints all of the report.

use std::error::Error;
use std::fs::{self, File};

use antiphon_core::replay::{CaptureReader, Replay, Settings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let capture = arguments.next().ok_or("which capture?")?;
    let mut settings = Settings::default();
    // Payload types without a static meaning need one for jitter; both may be given again for more.
    settings.codecs.add_map("111=opus/48000")?;
    if let Some(key_log) = arguments.next() {
        settings.key_log.add(&fs::read(key_log)?);
    }

    let mut replay = Replay::new(settings);
    let mut reader = CaptureReader::new(File::open(capture)?)?;
    // A broken file ends the loop with an error; what was read before it is in the report all the same.
    let ended = loop {
        match reader.step(&mut |item| replay.handle(item)) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };

    let report = replay.finish();
    for stream in &report.streams {
        println!(
            "{:08x} from {}: {} packets, {} missing, {} late, jitter {:.1?}",
            stream.ssrc,
            stream.flow.source,
            stream.packets,
            stream.missing,
            stream.late,
            stream.jitter,
        );
    }
    let srtp = report.totals.srtp;
    println!(
        "{} frames, {} RTP streams, {} SRTP packets opened",
        report.totals.frames,
        report.streams.len(),
        srtp.rtp_opened + srtp.rtcp_opened,
    );
    Ok(ended?)
}
