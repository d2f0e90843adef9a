//! Everybody who joined a world, by number; those who are long gone can be let go of.

use std::ops::{Index, IndexMut};

use super::world::Member;

/// Members in the order in which they joined.
#[derive(Default)]
pub(super) struct Members {
    here: Vec<Member>,
    /// How many joined before the first of them, and were let go.
    released: u32,
}

impl Members {
    pub(super) fn push(&mut self, member: Member) {
        self.here.push(member);
    }

    /// The number that the next has.
    pub(super) fn next(&self) -> u32 {
        self.released + self.here.len() as u32
    }

    pub(super) fn as_slice(&self) -> &[Member] {
        &self.here
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Member> {
        self.here.iter_mut()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Member> {
        self.here.get(self.place(number)?)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Member> {
        let place = self.place(number)?;
        self.here.get_mut(place)
    }

    /// Lets go of the first members as long as `may_go` says so of the next.
    pub(super) fn release(
        &mut self,
        may_go: impl Fn(&Member) -> bool,
    ) -> std::vec::Drain<'_, Member> {
        let stays = self.here.iter().position(|member| !may_go(member));
        let count = stays.unwrap_or(self.here.len());
        self.released += count as u32;
        self.here.drain(..count)
    }

    fn place(&self, number: u32) -> Option<usize> {
        number
            .checked_sub(self.released)
            .map(|place| place as usize)
    }
}

impl Index<u32> for Members {
    type Output = Member;

    fn index(&self, number: u32) -> &Member {
        self.get(number)
            .expect("who is spoken of is still a member")
    }
}

impl IndexMut<u32> for Members {
    fn index_mut(&mut self, number: u32) -> &mut Member {
        self.get_mut(number)
            .expect("who is spoken of is still a member")
    }
}
