//! Entries to turns.

use std::collections::VecDeque;

use super::birth::{Birth, Counts};
use super::player::Witness;
use super::reader::{ReadError, Reader};
use super::record::{EndReason, Lost, Record, Rest, Slot};
use crate::drive::RecvMeta;
use crate::ids::{SessionId, ShardId};
use crate::message::{Command, Event};
use crate::relay::Relay;
use crate::session::transport::Outcome;
use crate::time::Timestamp;

/// What a journal says happened next.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A turn.
    Turn(Box<RecordedTurn<'a>>),
    /// A turn at this time in which nothing happened.
    Idle(Timestamp),
    /// How a session stands.
    Birth(Box<Birth>),
    /// What the shard has counted.
    Counts(Counts),
    /// Something was not recorded.
    Lost(Lost),
    /// The recording ended.
    End(EndReason),
}

impl Entry<'_> {
    /// When it was; `None` for what took no time.
    pub(super) fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Turn(turn) => Some(turn.now),
            Self::Idle(now) => Some(*now),
            _ => None,
        }
    }
}

/// One turn of a pump, as it was recorded.
#[derive(Debug)]
pub struct RecordedTurn<'a> {
    /// When.
    pub now: Timestamp,
    /// What the server said.
    pub commands: VecDeque<Command>,
    /// What other shards said.
    pub relays: VecDeque<(ShardId, Relay)>,
    /// What the socket gave, batch by batch.
    pub batches: VecDeque<VecDeque<Slot<'a>>>,
    /// Each send call: when it had returned, and how many transmits it took.
    pub sends: VecDeque<(Timestamp, u32)>,
    /// What the shard told.
    pub events: VecDeque<Event>,
    /// What calls into handshakes came to.
    pub handshakes: Vec<(SessionId, Outcome)>,
    /// How it ended.
    pub rest: Rest,
}

impl RecordedTurn<'_> {
    pub(super) fn nothing(now: Timestamp) -> Self {
        Self {
            now,
            commands: VecDeque::new(),
            relays: VecDeque::new(),
            batches: VecDeque::new(),
            sends: VecDeque::new(),
            events: VecDeque::new(),
            handshakes: Vec::new(),
            rest: Rest::default(),
        }
    }

    /// Commands, relays and datagrams received.
    #[must_use]
    pub fn inputs(&self) -> usize {
        let datagrams = self.batches.iter().flatten().map(Slot::len).sum::<usize>();
        self.commands.len() + self.relays.len() + datagrams
    }

    /// Forgets all but the first `count` inputs.
    pub fn truncate(&mut self, count: usize) {
        self.commands.truncate(count);
        let mut left = count - self.commands.len();
        self.relays.truncate(left);
        left -= self.relays.len();
        for batch in &mut self.batches {
            batch.retain_mut(|slot| {
                let kept = slot.len().min(left);
                slot.truncate(kept);
                left -= kept;
                kept > 0
            });
        }
        // An empty batch would end the receiving, as it does where there is nothing more.
        self.batches.retain(|batch| !batch.is_empty());
    }

    /// Shows what was recorded of it without playing it: all but what was sent, of which no more than a hash is there.
    pub fn show(&self, witness: &mut impl Witness) {
        for command in &self.commands {
            witness.on_command(self.now, command);
        }
        for (from, relay) in &self.relays {
            witness.on_relay(self.now, *from, relay);
        }
        for slot in self.batches.iter().flatten() {
            for (kept, len) in slot.datagrams() {
                let meta = RecvMeta {
                    stride: len,
                    ..slot.meta(len)
                };
                witness.on_received(self.now, &meta, kept);
            }
        }
        for event in &self.events {
            witness.on_event(self.now, event);
        }
    }
}

/// The turns of a journal. A turn that is not all there is left out.
#[derive(Clone, Debug)]
pub struct Turns<'a> {
    reader: Reader<'a>,
}

impl<'a> Turns<'a> {
    /// Those from where the reader is.
    #[must_use]
    pub const fn new(reader: Reader<'a>) -> Self {
        Self { reader }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.reader.position()
    }

    fn read_turn(&mut self, now: Timestamp) -> Result<RecordedTurn<'a>, ReadError> {
        let mut turn = RecordedTurn::nothing(now);
        loop {
            let at = self.reader.position();
            let record = self.reader.next().ok_or(ReadError::CutOff { at })??;
            match record {
                Record::Command(command) => turn.commands.push_back(command.into_owned()),
                Record::Relay(from, relay) => turn.relays.push_back((from, relay.into_owned())),
                Record::Received(slot) => match turn.batches.back_mut() {
                    Some(batch) if !slot.is_first => batch.push_back(slot),
                    _ => turn.batches.push_back(VecDeque::from([slot])),
                },
                Record::Sent { at, count } => turn.sends.push_back((at, count)),
                Record::Event(event) => turn.events.push_back(event.into_owned()),
                Record::Handshake(session, outcome) => turn.handshakes.push((session, outcome)),
                Record::Rest(rest) => return Ok(RecordedTurn { rest, ..turn }),
                _ => return Err(ReadError::OutOfPlace { at }),
            }
        }
    }
}

impl<'a> Iterator for Turns<'a> {
    type Item = Result<Entry<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.reader.position();
        Some(match self.reader.next()? {
            Ok(Record::Turn(now)) => match self.read_turn(now) {
                Ok(turn) => Ok(Entry::Turn(Box::new(turn))),
                Err(error) => {
                    self.reader.give_up();
                    Err(error)
                }
            },
            Ok(Record::Idle(now)) => Ok(Entry::Idle(now)),
            Ok(Record::Birth(birth)) => Ok(Entry::Birth(birth)),
            Ok(Record::Counts(counts)) => Ok(Entry::Counts(counts)),
            Ok(Record::Lost(lost)) => Ok(Entry::Lost(lost)),
            Ok(Record::End(reason)) => Ok(Entry::End(reason)),
            Ok(_) => {
                self.reader.give_up();
                Err(ReadError::OutOfPlace { at })
            }
            Err(error) => Err(error),
        })
    }
}
