//! Sessions by slot and generation: lookup is an index and a compare, a stale key finds nothing.

use std::collections::BTreeSet;

use crate::ids::SessionKey;
use crate::limits::REPLAY_SLOTS_MAX;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// A slab of boxed values. Slots are reused last-freed first; iteration goes by slot.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    capacity: u32,
}

impl<T> Slab<T> {
    /// A slab of at most `capacity` values; allocates slots as they are first used.
    pub(crate) const fn new(capacity: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            capacity,
        }
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The key the next insertion will have; `None` when the slab is full.
    pub(crate) fn vacant_key(&self) -> Option<SessionKey> {
        if let Some(&index) = self.free.last() {
            let generation = self.slots.get(index as usize)?.generation;
            return Some(SessionKey { index, generation });
        }
        let index = u32::try_from(self.slots.len())
            .ok()
            .filter(|index| *index < self.capacity)?;
        Some(SessionKey {
            index,
            generation: 0,
        })
    }

    /// Makes these the next vacant keys, in this order, as far as their slots are free and not beyond
    /// [`REPLAY_SLOTS_MAX`].
    pub(crate) fn arrange(&mut self, keys: &[SessionKey]) {
        let capacity = self.capacity.min(REPLAY_SLOTS_MAX);
        let there_can_be = || keys.iter().filter(|key| key.index < capacity);
        let count = there_can_be().map(|key| key.index + 1).max().unwrap_or(0);
        for index in self.slots.len() as u32..count {
            self.free.push(index);
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
        }
        let mut next = Vec::new();
        let mut seen = BTreeSet::new();
        for key in there_can_be() {
            let slot = &mut self.slots[key.index as usize];
            if slot.value.is_none() && seen.insert(key.index) {
                slot.generation = key.generation;
                next.push(key.index);
            }
        }
        // Mostly they are the next as it is, and the free slots, which may be many, need no look.
        if self.free.iter().rev().take(next.len()).ne(&next) {
            self.free.retain(|free| !seen.contains(free));
            self.free.extend(next.iter().rev());
        }
    }

    /// Puts a value under the vacant key.
    ///
    /// # Panics
    /// When the slab is full: ask `vacant_key` first.
    pub(crate) fn insert(&mut self, value: Box<T>) -> SessionKey {
        let key = self
            .vacant_key()
            .expect("the caller asked for a vacant key first");
        if self.free.pop().is_none() {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
        }
        self.slots[key.index as usize].value = Some(value);
        key
    }

    /// Takes a value out; its key never finds anything again.
    pub(crate) fn remove(&mut self, key: SessionKey) -> Option<Box<T>> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// The value under a key.
    pub(crate) fn find(&self, key: SessionKey) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_deref()
        } else {
            None
        }
    }

    /// The value under a key.
    pub(crate) fn find_mut(&mut self, key: SessionKey) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_deref_mut()
        } else {
            None
        }
    }

    /// The value in a slot now, whatever its generation, with its key.
    pub(crate) fn at(&self, index: u32) -> Option<(SessionKey, &T)> {
        let slot = self.slots.get(index as usize)?;
        let value = slot.value.as_deref()?;
        Some((
            SessionKey {
                index,
                generation: slot.generation,
            },
            value,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_after_its_slot_is_reused() {
        let mut slab = Slab::new(2);
        let first = slab.insert(Box::new('a'));
        assert_eq!(slab.remove(first).as_deref(), Some(&'a'));
        let second = slab.insert(Box::new('b'));
        assert_eq!(first.index, second.index);
        assert_eq!(slab.find(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.find(second), Some(&'b'));
    }

    #[test]
    fn keys_are_given_out_as_arranged_and_a_place_that_is_taken_is_left() {
        let key = |index, generation| SessionKey { index, generation };
        let mut slab = Slab::new(6);
        let taken = slab.insert('a'.into());
        slab.arrange(&[key(2, 0), key(4, 5)]);
        slab.arrange(&[key(4, 7), taken, key(2, 0), key(6, 0), key(4, 9)]);
        slab.arrange(&[key(4, 7), key(2, 0)]);
        assert_eq!(slab.insert('b'.into()), key(4, 7));
        assert_eq!(slab.insert('c'.into()), key(2, 0));
        assert_eq!(slab.len(), 3);
        let rest: Vec<_> = std::iter::from_fn(|| {
            let key = slab.vacant_key()?;
            Some(slab.insert(Box::new('d'))).filter(|inserted| *inserted == key)
        })
        .collect();
        assert_eq!(rest.len(), 3, "those skipped, and the last: {rest:?}");
        assert_eq!(slab.find(taken), Some(&'a'));
    }

    #[test]
    fn a_full_slab_has_no_vacant_key() {
        let mut slab = Slab::new(2);
        slab.insert(Box::new(1));
        let key = slab.insert(Box::new(2));
        assert_eq!(slab.vacant_key(), None);
        slab.remove(key);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.vacant_key().map(|key| key.generation), Some(1));
    }
}
