use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Everything the cache may ever hold of heap: payloads, entries and their index.
const MEMORY_BYTES_MAX: usize =
    CACHE_BYTES_MAX + CACHE_PACKETS_MAX * (size_of::<Entry>() + size_of::<u32>());

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn header(timestamp: u32) -> CachedHeader {
    CachedHeader {
        marker: true,
        timestamp,
        video_orientation: None,
    }
}

/// A payload that names its number, so that a mix-up shows.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    let mut payload = vec![(sequence % 251) as u8; len];
    for (byte, number) in payload.iter_mut().zip(sequence.to_be_bytes()) {
        *byte = number;
    }
    payload
}

fn insert(cache: &mut PacketCache, now: Timestamp, sequence: u64, len: usize) {
    cache.insert(
        now,
        sequence,
        header(sequence as u32),
        &payload(sequence, len),
    );
}

fn holds(cache: &PacketCache, now: Timestamp, sequence: u64, len: usize) -> bool {
    let expected = (&header(sequence as u32), &payload(sequence, len)[..]);
    cache.find(now, sequence) == Some(expected)
}

#[test]
fn an_unused_cache_holds_no_memory() {
    let cache = PacketCache::default();
    assert_eq!(cache.memory_bytes(), 0);
    assert_eq!(cache.find(at(0), 0), None);
}

#[test]
fn a_packet_is_found_until_it_is_a_second_old() {
    let mut cache = PacketCache::default();
    insert(&mut cache, at(0), 70_000, 1_000);
    assert!(holds(&cache, at(1_000), 70_000, 1_000));
    assert_eq!(cache.find(at(1_001), 70_000), None);
    assert_eq!(cache.find(at(0), 70_001), None);
    assert_eq!(cache.find(at(0), 70_000 + CACHE_PACKETS_MAX as u64), None);
}

#[test]
fn packets_inserted_out_of_order_are_found() {
    let mut cache = PacketCache::default();
    for sequence in [65_530, 65_540, 65_535, 65_536, 65_531] {
        insert(&mut cache, at(0), sequence, 100);
    }
    for sequence in [65_530, 65_531, 65_535, 65_536, 65_540] {
        assert!(holds(&cache, at(5), sequence, 100));
    }
    assert_eq!(cache.find(at(5), 65_532), None);
}

#[test]
fn the_first_copy_of_a_number_stays() {
    let mut cache = PacketCache::default();
    insert(&mut cache, at(0), 5, 100);
    cache.insert(at(1), 5, header(99), &[1, 2, 3]);
    assert!(holds(&cache, at(1), 5, 100));
}

#[test]
fn a_packet_a_whole_ring_behind_displaces_nothing() {
    let mut cache = PacketCache::default();
    insert(&mut cache, at(0), 5_000, 100);
    insert(&mut cache, at(0), 5_000 - CACHE_PACKETS_MAX as u64, 100);
    assert!(holds(&cache, at(0), 5_000, 100));
    insert(&mut cache, at(0), 5_000 + CACHE_PACKETS_MAX as u64, 100);
    assert_eq!(cache.find(at(0), 5_000), None);
}

#[test]
fn empty_payloads_are_kept_and_oversized_ones_are_not() {
    let mut cache = PacketCache::default();
    insert(&mut cache, at(0), 1, 0);
    insert(&mut cache, at(0), 2, DATAGRAM_BYTES_MAX);
    insert(&mut cache, at(0), 3, DATAGRAM_BYTES_MAX + 1);
    assert!(holds(&cache, at(0), 1, 0));
    assert!(holds(&cache, at(0), 2, DATAGRAM_BYTES_MAX));
    assert_eq!(cache.find(at(0), 3), None);
}

/// N5, in bytes: a flood within one instant stays within the limits and keeps the newest.
#[test]
fn memory_is_bounded_however_much_arrives() {
    for len in [0, 1, 100, 1_024, 1_200, DATAGRAM_BYTES_MAX] {
        let mut cache = PacketCache::default();
        for sequence in 0..5_000 {
            insert(&mut cache, at(0), sequence, len);
            assert!(cache.memory_bytes() <= MEMORY_BYTES_MAX);
        }
        let held = (0..5_000)
            .filter(|sequence| holds(&cache, at(0), *sequence, len))
            .count();
        let expected = CACHE_PACKETS_MAX.min(CACHE_BYTES_MAX / len.max(1));
        assert!(
            held <= expected && held + 2 >= expected,
            "{held} of {expected} at {len} bytes"
        );
        assert!(holds(&cache, at(0), 4_999, len));
    }
}

/// N5, in time: what aged makes room, so memory follows the rate of one second, not the total.
#[test]
fn memory_follows_the_rate_not_the_total() {
    let mut cache = PacketCache::default();
    for sequence in 0..20_000 {
        insert(&mut cache, at(sequence * 20), sequence, 500);
    }
    // 50 packets a second of 500 bytes: 25 kB, so the arena was doubled once.
    assert_eq!(cache.arena.len(), 2 * ARENA_BYTES_MIN);
    assert!(cache.entries.capacity() <= 128);
}

#[test]
fn no_young_packet_is_lost_when_the_rate_rises() {
    let mut cache = PacketCache::default();
    for sequence in 0..200 {
        insert(&mut cache, at(sequence * 20), sequence, 200);
    }
    for sequence in 200..900 {
        insert(&mut cache, at(4_000), sequence, 1_000);
    }
    for sequence in 151..200 {
        assert!(holds(&cache, at(4_000), sequence, 200), "{sequence}");
    }
    assert!((200..900).all(|sequence| holds(&cache, at(4_000), sequence, 1_000)));
}

#[test]
fn ten_years_of_silence_empty_it_at_once() {
    let mut cache = PacketCache::default();
    for sequence in 0..1_000 {
        insert(&mut cache, at(0), sequence, 1_000);
    }
    let decade = at(0) + Duration::from_secs(10 * 365 * 86_400);
    assert!((0..1_000).all(|sequence| cache.find(decade, sequence).is_none()));
    insert(&mut cache, decade, u64::MAX, 10);
    assert!(holds(&cache, decade, u64::MAX, 10));
    assert_eq!(cache.entries.len(), 1);
}

#[test]
fn insertion_numbers_may_wrap() {
    let mut cache = PacketCache {
        first: u32::MAX - 5,
        ..PacketCache::default()
    };
    for sequence in 0..3_000 {
        insert(&mut cache, at(sequence), sequence, 10);
    }
    assert!((2_000..3_000).all(|sequence| holds(&cache, at(3_000), sequence, 10)));
}

proptest! {
    /// Against a map that keeps everything: what is found is right, and what must be there is.
    #[test]
    fn the_cache_agrees_with_a_map(
        steps in prop::collection::vec((0_u64..30, -30_i64..40, 0_usize..1_500), 1..300),
        start in 2_000_u64..1 << 40,
    ) {
        let mut cache = PacketCache::default();
        let mut model: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let (mut now_ms, mut highest) = (0, start);
        for (wait, offset, len) in steps {
            now_ms += wait;
            let sequence = highest.saturating_add_signed(offset);
            highest = highest.max(sequence);
            model.retain(|_, (inserted, _)| now_ms - *inserted <= 1_000);
            insert(&mut cache, at(now_ms), sequence, len);
            model.entry(sequence).or_insert((now_ms, len));
            prop_assert!(cache.memory_bytes() <= MEMORY_BYTES_MAX);
        }
        for sequence in start.saturating_sub(2_000)..=highest {
            match model.get(&sequence) {
                // The limits leave room for 1 s of this; a number is only lost to one 1,024 above.
                Some((_, len)) if highest - sequence < CACHE_PACKETS_MAX as u64 => {
                    prop_assert!(holds(&cache, at(now_ms), sequence, *len));
                }
                Some(_) => {}
                None => prop_assert_eq!(cache.find(at(now_ms), sequence), None),
            }
        }
    }
}
