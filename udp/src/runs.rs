//! Plans which transmits share one message: equal-sized neighbours to one place become one run, which
//! the kernel cuts apart again (`UDP_SEGMENT`) and walks through the network stack once.

use std::net::{IpAddr, SocketAddr};

use antiphon_core::drive::TransmitMeta;
use antiphon_core::net::Ecn;

use crate::sys::{MESSAGES_MAX, SLICES_MAX};

/// Segments of one message: what every kernel with the option allows (newer ones take 128).
const SEGMENTS_MAX: usize = 64;
/// Bytes of one run: the largest payload of an IPv4 datagram (65,507) with room for IP options.
const RUN_BYTES_MAX: usize = 65_000;

/// Neighbouring transmits sent as one message. All are `segment_bytes` long but the last, which may be
/// shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: SocketAddr,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) segment_bytes: usize,
    pub(crate) bytes: usize,
    pub(crate) count: usize,
}

impl Run {
    fn new(meta: &TransmitMeta, len: usize) -> Self {
        let TransmitMeta {
            source,
            destination,
            ecn,
            ..
        } = *meta;
        Self {
            source,
            destination,
            ecn,
            segment_bytes: len,
            bytes: len,
            count: 1,
        }
    }

    /// The size to tell the kernel to cut at; `None` for a single datagram.
    pub(crate) fn segmentation(&self) -> Option<u16> {
        // A run of several is at most `RUN_BYTES_MAX` long, so its segments fit 16 bits.
        if self.count > 1 {
            u16::try_from(self.segment_bytes).ok()
        } else {
            None
        }
    }

    fn takes(&self, meta: &TransmitMeta, len: usize) -> bool {
        let all_equal = self.bytes == self.segment_bytes * self.count;
        all_equal
            && len <= self.segment_bytes
            && self.count < SEGMENTS_MAX
            && self.bytes + len <= RUN_BYTES_MAX
            && self.destination == meta.destination
            && self.source == meta.source
            && self.ecn == meta.ecn
    }
}

/// Fills `runs` with the longest front of `transmits` that fits one system call, in their order. The
/// first `plain` of them stay alone.
pub(crate) fn plan<'a>(
    runs: &mut Vec<Run>,
    transmits: impl Iterator<Item = (TransmitMeta, &'a [u8])>,
    plain: usize,
) {
    runs.clear();
    for (index, (meta, contents)) in transmits.take(SLICES_MAX).enumerate() {
        if index > plain
            && let Some(run) = runs.last_mut()
            && run.takes(&meta, contents.len())
        {
            run.bytes += contents.len();
            run.count += 1;
        } else if runs.len() < MESSAGES_MAX {
            runs.push(Run::new(&meta, contents.len()));
        } else {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use antiphon_core::drive::Lane;

    use super::*;

    fn meta(port: u16) -> TransmitMeta {
        TransmitMeta {
            source: None,
            destination: SocketAddr::from(([192, 0, 2, 1], port)),
            ecn: None,
            lane: Lane::Media,
            received: None,
        }
    }

    /// The runs of transmits given as port and length, as port, count and bytes.
    fn planned(transmits: &[(u16, usize)], plain: usize) -> Vec<(u16, usize, usize)> {
        static CONTENTS: [u8; 65_507] = [0; 65_507];
        let mut runs = Vec::new();
        let transmits = transmits
            .iter()
            .map(|&(port, len)| (meta(port), &CONTENTS[..len]));
        plan(&mut runs, transmits, plain);
        runs.iter()
            .map(|run| (run.destination.port(), run.count, run.bytes))
            .collect()
    }

    #[test]
    fn equal_neighbours_to_one_place_make_a_run_that_a_shorter_one_ends() {
        assert_eq!(
            planned(&[(1, 100), (1, 100), (1, 40), (1, 40), (2, 40), (1, 40)], 0),
            [(1, 3, 240), (1, 1, 40), (2, 1, 40), (1, 1, 40)]
        );
        assert_eq!(planned(&[(1, 40), (1, 100)], 0), [(1, 1, 40), (1, 1, 100)]);
    }

    #[test]
    fn another_source_or_mark_starts_another_run() {
        let source = Some(IpAddr::from([127, 0, 0, 2]));
        let metas = [
            meta(1),
            TransmitMeta { source, ..meta(1) },
            TransmitMeta {
                ecn: Some(Ecn::Ect1),
                ..meta(1)
            },
        ];
        let mut runs = Vec::new();
        plan(
            &mut runs,
            metas.into_iter().map(|meta| (meta, &b"same"[..])),
            0,
        );
        assert_eq!(runs.len(), 3);
        assert!(runs.iter().all(|run| run.segmentation().is_none()));
    }

    #[test]
    fn runs_keep_to_the_kernels_limits() {
        assert_eq!(planned(&[(1, 10); 65], 0), [(1, 64, 640), (1, 1, 10)]);
        assert_eq!(
            planned(&[(1, 30_000); 3], 0),
            [(1, 2, 60_000), (1, 1, 30_000)]
        );
        let spread: Vec<_> = (0..70).map(|port| (port, 10)).collect();
        assert_eq!(planned(&spread, 0).len(), MESSAGES_MAX);
        let all: usize = planned(&[(1, 1_000); 2_000], 0)
            .iter()
            .map(|run| run.1)
            .sum();
        assert_eq!(all, SLICES_MAX);
    }

    #[test]
    fn the_plain_front_stays_apart_and_the_rest_still_joins() {
        assert_eq!(planned(&[(1, 9); 4], 4), [(1, 1, 9); 4]);
        assert_eq!(planned(&[(1, 9); 4], 2), [(1, 1, 9), (1, 1, 9), (1, 2, 18)]);
        assert_eq!(planned(&[(1, 9); 4], usize::MAX), [(1, 1, 9); 4]);
    }
}
