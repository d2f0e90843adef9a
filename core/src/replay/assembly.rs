//! Things that come in pieces: fragmented IP packets, and handshake messages of DTLS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::layers::{Fragment, IpPacket};
use super::report::Skip;
use crate::limits::{REPLAY_FRAGMENTED_MAX, REPLAY_PIECES_MAX};
use crate::time::Timestamp;

/// An IP packet not whole after this long never will be: RFC 8200 §4.5 gives up after 60 s, hosts before.
const FRAGMENT_AGE: Duration = Duration::from_secs(30);

/// Bytes that arrive in pieces, in any order, some of them more than once.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// Ranges that are there: disjoint, in order.
    present: Vec<(usize, usize)>,
    whole_len: Option<usize>,
}

impl Assembly {
    /// Adds a piece. `false`: it lies beyond `bytes_max`, or there are too many holes already; nothing changed.
    pub(super) fn add(&mut self, offset: usize, piece: &[u8], bytes_max: usize) -> bool {
        let end = offset.saturating_add(piece.len());
        if end > bytes_max || self.present.len() >= REPLAY_PIECES_MAX {
            return false;
        }
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(offset..end) {
            place.copy_from_slice(piece);
        }
        // Those it touches become one with it.
        let (mut start, mut end) = (offset, end);
        self.present.retain(|&(from, to)| {
            let apart = to < start || from > end;
            if !apart {
                (start, end) = (start.min(from), end.max(to));
            }
            apart
        });
        let place = self.present.partition_point(|&(from, _)| from < start);
        self.present.insert(place, (start, end));
        true
    }

    /// The length is known now.
    pub(super) const fn set_len(&mut self, len: usize) {
        self.whole_len = Some(len);
    }

    /// All bytes, once they are there.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        let len = self.whole_len?;
        let is_whole = match self.present.first() {
            Some(&(start, end)) => start == 0 && end >= len,
            None => len == 0,
        };
        is_whole.then(|| self.bytes.get(..len)).flatten()
    }
}

/// IP packets that wait for the rest of their pieces.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    waiting: BTreeMap<(IpAddr, IpAddr, u32), Waiting>,
    /// Frames given up on: their packets never became whole.
    lost: u64,
}

#[derive(Debug)]
struct Waiting {
    since: Timestamp,
    pieces: u64,
    assembly: Assembly,
}

impl Fragments {
    /// Adds a piece at `now`; the whole payload when it was the last one missing.
    pub(super) fn add(
        &mut self,
        now: Timestamp,
        packet: &IpPacket<'_>,
        fragment: Fragment,
    ) -> Result<Option<Vec<u8>>, Skip> {
        if packet.payload.len() < packet.wire_len {
            return Err(Skip::FragmentCut);
        }
        let key = (packet.source, packet.destination, fragment.id);
        self.expire(now, key);
        let waiting = self.waiting.entry(key).or_insert_with(|| Waiting {
            since: now,
            pieces: 0,
            assembly: Assembly::default(),
        });
        let added = waiting
            .assembly
            .add(fragment.offset, packet.payload, usize::from(u16::MAX));
        if !added {
            return Err(Skip::FragmentUnusable);
        }
        waiting.pieces = waiting.pieces.saturating_add(1);
        if !fragment.more {
            let len = fragment.offset.saturating_add(packet.payload.len());
            waiting.assembly.set_len(len);
        }
        let whole = waiting.assembly.whole().map(<[u8]>::to_vec);
        if whole.is_some() {
            self.waiting.remove(&key);
        }
        Ok(whole)
    }

    /// Frames whose packets never became whole.
    pub(super) fn into_lost(self) -> u64 {
        let waiting = self.waiting.values().map(|waiting| waiting.pieces);
        waiting.fold(self.lost, u64::saturating_add)
    }

    /// Makes room for `key`: its number may have come round again, and the oldest gives way.
    fn expire(&mut self, now: Timestamp, key: (IpAddr, IpAddr, u32)) {
        let is_old = |waiting: &Waiting| now.since(waiting.since) > FRAGMENT_AGE;
        let given_up = match self.waiting.get(&key) {
            Some(waiting) if is_old(waiting) => Some(key),
            None if self.waiting.len() >= REPLAY_FRAGMENTED_MAX => {
                let oldest = self.waiting.iter().min_by_key(|(_, waiting)| waiting.since);
                oldest.map(|(key, _)| *key)
            }
            _ => None,
        };
        if let Some(waiting) = given_up.and_then(|key| self.waiting.remove(&key)) {
            self.lost = self.lost.saturating_add(waiting.pieces);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    const BYTES_MAX: usize = 1 << 16;

    #[test]
    fn pieces_in_any_order_overlapping_and_repeated_make_the_whole() {
        let whole: Vec<u8> = (0..1_000_u32).map(|i| (i * 7) as u8).collect();
        let mut rng = Seed::new([5; 32]).rng();
        for _ in 0..200 {
            let mut assembly = Assembly::default();
            let mut seen = vec![false; whole.len()];
            assembly.set_len(whole.len());
            loop {
                let from = rng.below(1_000) as usize;
                let to = (from + 1 + rng.below(300) as usize).min(whole.len());
                assert!(assembly.add(from, &whole[from..to], BYTES_MAX));
                seen[from..to].fill(true);
                let complete = seen.iter().all(|seen| *seen);
                assert_eq!(assembly.whole(), complete.then_some(&whole[..]));
                if complete {
                    break;
                }
            }
        }
    }

    #[test]
    fn pieces_beyond_the_limits_are_refused_and_change_nothing() {
        let mut assembly = Assembly::default();
        assert!(!assembly.add(BYTES_MAX, b"x", BYTES_MAX));
        assert!(!assembly.add(usize::MAX, b"x", BYTES_MAX));
        for number in 0..REPLAY_PIECES_MAX {
            assert!(assembly.add(number * 2, b"x", BYTES_MAX));
        }
        assert!(!assembly.add(1_000, b"x", BYTES_MAX), "too many holes");
        assembly.set_len(1);
        assert_eq!(assembly.whole(), Some(&b"x"[..]));
    }

    fn piece(id: u32, payload: &[u8]) -> (IpPacket<'_>, Fragment) {
        let address = IpAddr::from([192, 0, 2, 1]);
        let packet = IpPacket {
            source: address,
            destination: address,
            payload,
            wire_len: payload.len(),
            fragment: None,
        };
        let fragment = Fragment {
            id,
            offset: 0,
            more: true,
        };
        (packet, fragment)
    }

    #[test]
    fn the_oldest_gives_way_and_every_lost_piece_is_counted_once() {
        let mut fragments = Fragments::default();
        let count = REPLAY_FRAGMENTED_MAX as u32 + 10;
        for id in 0..count {
            let (packet, fragment) = piece(id, b"head");
            let now = Timestamp::from_millis(id.into());
            assert_eq!(fragments.add(now, &packet, fragment), Ok(None));
        }
        assert_eq!(fragments.waiting.len(), REPLAY_FRAGMENTED_MAX);
        assert_eq!(fragments.lost, 10);
        assert_eq!(fragments.into_lost(), u64::from(count));
    }

    #[test]
    fn an_old_piece_does_not_meet_a_new_one_of_the_same_number() {
        let mut fragments = Fragments::default();
        let (packet, first) = piece(7, b"old head");
        assert_eq!(fragments.add(Timestamp::ZERO, &packet, first), Ok(None));
        let tail = Fragment {
            offset: 8,
            more: false,
            ..first
        };
        let late = Timestamp::ZERO + FRAGMENT_AGE + Duration::from_millis(1);
        assert_eq!(fragments.add(late, &packet, tail), Ok(None));
        assert_eq!(fragments.into_lost(), 2);
    }
}
