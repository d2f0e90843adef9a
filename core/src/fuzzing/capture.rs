//! Capture files: others', and our own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arbitrary::Arbitrary;

use super::ops::ops;
use crate::replay::pcapng::{self, Packet};
use crate::replay::{CaptureError, CaptureReader, Item, Replay, Report, Settings};

/// A file of either format.
pub fn pcap(file: &[u8]) {
    let (report, ended) = read(file);
    assert_eq!((&report, ended), (&read(file).0, ended), "the same file");
    let totals = &report.totals;
    // A record has a header of eight bytes at least, in whichever format.
    assert!(totals.frames <= file.len() as u64 / 8);
    assert!(totals.udp <= totals.frames);
    for stream in &report.streams {
        assert!(stream.packets <= totals.udp);
        assert_eq!(
            stream.unique + stream.duplicates + stream.strays,
            stream.packets
        );
        assert!(stream.late <= stream.packets);
        let kinds: u64 = stream.payload_types.values().sum();
        assert_eq!(kinds, stream.packets);
    }
}

/// A datagram to write.
#[derive(Arbitrary, Debug)]
struct Written<'a> {
    second: u16,
    nanos: u32,
    source: SocketAddr,
    destination: (IpAddr, u16),
    outbound: bool,
    dropped_before: u8,
    payload: &'a [u8],
}

/// A file of ours with these datagrams in it, and the file cut short: what was written is read, and what is cut
/// is an error after as much as is whole.
pub fn pcapng(data: &[u8]) {
    let mut file = Vec::new();
    pcapng::section_header(&mut file, "fuzzing");
    let mut ends = vec![file.len()];
    pcapng::interface(&mut file, "shard-0");
    ends.push(file.len());
    let (mut payload_bytes, mut dropped) = (0, 0);
    for written in ops::<Written<'_>>(data) {
        let destination = SocketAddr::from(written.destination);
        if destination.is_ipv4() != written.source.is_ipv4() {
            continue;
        }
        pcapng::packet(&mut file, &written.packet(destination));
        payload_bytes += written.payload.len();
        dropped += u64::from(written.dropped_before);
        ends.push(file.len());
    }
    let (report, ended) = read(&file);
    let frames = ends.len() as u64 - 2;
    assert_eq!(ended, Ok(()));
    assert_eq!(report.totals.frames, frames);
    assert_eq!(report.totals.udp, frames, "each is a datagram");
    assert_eq!(report.totals.capture_dropped, dropped);
    assert!(file.len() > payload_bytes);
    // Where the input says, as it is as long as anything in it.
    let cut = file.len() - data.len() % file.len();
    let (report, ended) = read(&file[..cut]);
    let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
    assert_eq!(report.totals.frames, whole.saturating_sub(2));
    assert_eq!(
        ended.is_ok(),
        ends.contains(&cut),
        "cut at {cut}: {ended:?}"
    );
    // Whatever follows a file of ours.
    file.extend_from_slice(data);
    pcap(&file);
}

impl<'a> Written<'a> {
    fn packet(&self, destination: SocketAddr) -> Packet<'a> {
        Packet {
            interface: 0,
            unix: Duration::new(self.second.into(), self.nanos % 1_000_000_000),
            source: self.source,
            destination,
            ecn: None,
            outbound: self.outbound,
            dropped_before: self.dropped_before.into(),
            payload: self.payload,
        }
    }
}

fn read(file: &[u8]) -> (Report, Result<(), CaptureError>) {
    let mut replay = Replay::new(Settings::default());
    let ended = CaptureReader::new(file).and_then(|mut reader| {
        while reader.step(&mut |item: Item<'_>| replay.handle(item))? {}
        Ok(())
    });
    (replay.finish(), ended)
}
