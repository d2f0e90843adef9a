//! The end of a run, in memory until there is a reason to write it.

use std::io::{self, Write as _};
use std::sync::atomic::Ordering;

use antiphon_core::journal::{Chunk, EndReason, Header, Ring};
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;
use tracing::{error, warn};

use super::{JournalFigures, Place, create};
use crate::limits::{JOURNAL_FAULT_DUMPS_MAX, JOURNAL_FAULT_DUMPS_PAUSE};

/// A ring for each shard.
pub(super) struct Rings {
    rings: Vec<Ring>,
    /// Files written because of a fault, and when the last was.
    fault_dumps: u32,
    last: Option<Timestamp>,
    clock: Clock,
}

impl Rings {
    /// Shares `bytes` out among the shards.
    pub(super) fn new(shards: u16, bytes: u64) -> Self {
        let each = bytes / u64::from(shards);
        Self {
            rings: (0..shards).map(|_| Ring::new(each as usize)).collect(),
            fault_dumps: 0,
            last: None,
            clock: Clock::start(),
        }
    }

    /// Keeps a chunk; if a session faulted in it, writes the ring.
    pub(super) fn keep(
        &mut self,
        shard: usize,
        chunk: &Chunk,
        header: &Header,
        place: &Place,
        figures: &JournalFigures,
    ) {
        let Some(ring) = self.rings.get_mut(shard) else {
            return;
        };
        ring.push(chunk);
        if chunk.faulted() && self.may_dump(self.clock.now()) {
            let number = figures.note_dump();
            self.dump((shard, number), header, EndReason::Fault, place, figures);
        }
    }

    /// Writes what a shard's ring holds to a file of its own, which is named by this number.
    pub(super) fn dump(
        &self,
        (shard, number): (usize, u64),
        header: &Header,
        reason: EndReason,
        place: &Place,
        figures: &JournalFigures,
    ) {
        let Some(ring) = self.rings.get(shard) else {
            return;
        };
        let path = place.path(shard, &format!("-dump-{number}"));
        let written = create(&path)
            .map_err(io::Error::other)
            .and_then(|mut file| {
                let written = ring.dump(header, reason, |bytes| {
                    file.write_all(bytes)?;
                    figures.note_written(bytes.len());
                    Ok(())
                });
                // The beginning of a ring is of no use, and what is written first may be the header alone.
                if written.is_err() {
                    std::fs::remove_file(&path).ok();
                }
                written
            });
        let path = path.display();
        match written {
            Ok(()) => warn!(shard, %path, ?reason, "the last of the journal was written"),
            Err(error) => {
                figures.dumps_failed.fetch_add(1, Ordering::Relaxed);
                error!(shard, %path, %error, "the last of the journal could not be written");
            }
        }
    }

    /// Whether a fault may have one more file: a session that faults in a loop must not fill the disk.
    fn may_dump(&mut self, now: Timestamp) -> bool {
        let is_soon = self
            .last
            .is_some_and(|last| now.since(last) < JOURNAL_FAULT_DUMPS_PAUSE);
        if is_soon || self.fault_dumps == JOURNAL_FAULT_DUMPS_MAX {
            return false;
        }
        self.last = Some(now);
        self.fault_dumps += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn faults_in_a_loop_write_a_file_in_ten_seconds_and_sixteen_in_all() {
        let mut rings = Rings::new(1, 1 << 20);
        let second = |number| Timestamp::from_millis(1_000 * number);
        let dumps: Vec<u64> = (0..1_000)
            .filter(|number| rings.may_dump(second(*number)))
            .collect();
        let expected: Vec<u64> = (0..u64::from(JOURNAL_FAULT_DUMPS_MAX))
            .map(|number| JOURNAL_FAULT_DUMPS_PAUSE.as_secs() * number)
            .collect();
        assert_eq!(dumps, expected);
        assert!(!rings.may_dump(second(1_000) + Duration::from_hours(24)));
    }
}
