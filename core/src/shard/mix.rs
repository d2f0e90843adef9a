//! Rooms that are mixed: packets to their desks, and what the desks make to those who listen.

use crate::ids::{ParticipantId, RoomId, SessionKey};
use crate::limits::MIXED_ROOMS_MAX;
use crate::message::Role;
use crate::plan::MediaKind;
use crate::route::desk::Desk;
use crate::session::media::{Forwarded, Incoming};
use crate::shard::{Shard, guard};

impl Shard {
    /// A session listens to a room's mix, from now on.
    pub(super) fn listen_to_mix(
        &mut self,
        session: SessionKey,
        media: u8,
        room: RoomId,
        own: Option<ParticipantId>,
    ) {
        let Some(number) = self.desk_of(room) else {
            return;
        };
        let now = self.now;
        let desk = self.desks[number].get_or_insert_with(|| Box::new((room, Desk::new(now))));
        desk.1.add_listener(session, media, own);
        self.arm_desk(number);
    }

    /// A session is gone, as a listener and as a source.
    pub(super) fn leave_mixes(&mut self, session: SessionKey) {
        for number in 0..self.desks.len() {
            if let Some(desk) = &mut self.desks[number] {
                desk.1.remove(session);
                if desk.1.is_idle() {
                    self.desks[number] = None;
                }
                self.arm_desk(number);
            }
        }
        while matches!(self.desks.last(), Some(None)) {
            self.desks.pop();
        }
    }

    /// Gives a publisher's packet to the desk of its room, if that is mixed.
    pub(super) fn mix_packet(&mut self, session: SessionKey, role: Role, packet: &Incoming<'_>) {
        let Role::Publish { room, participant } = role else {
            return;
        };
        if packet.codec.kind() != MediaKind::Audio || packet.codec.is_event() {
            return;
        }
        let now = self.now;
        for number in 0..self.desks.len() {
            let Some(desk) = self.desks[number].as_mut().filter(|desk| desk.0 == room) else {
                continue;
            };
            let taken = guard(|| desk.1.handle_packet(now, session, participant, packet));
            if taken.is_err()
                && let Some(desk) = self.desks[number].take()
            {
                self.arm_desk(number);
                self.on_desk_fault(&desk.1);
            }
            return;
        }
    }

    /// Mixes the frame that a desk is due to mix, and sends what comes of it.
    pub(super) fn mix_due(&mut self, number: usize) {
        let Some(mut desk) = self.desks.get_mut(number).and_then(Option::take) else {
            return;
        };
        let now = self.now;
        let Ok(is_ready) = guard(|| desk.1.mix(now)) else {
            self.on_desk_fault(&desk.1);
            return;
        };
        let faults = self.stats.faults;
        if is_ready {
            for (packet, listeners) in desk.1.packets() {
                for (session, media) in listeners {
                    let sent =
                        self.mutate(*session, |session, cx| session.forward(cx, *media, &packet));
                    self.stats.voice.packets_mixed += u64::from(sent == Some(Forwarded::Sent));
                    self.rearm(*session);
                }
            }
        }
        // A listener that panicked could not be taken off a desk that was taken out.
        if self.stats.faults != faults {
            let listeners: Vec<_> = desk.1.listeners().collect();
            for gone in listeners {
                if self.sessions.find(gone).is_none() {
                    desk.1.remove(gone);
                }
            }
        }
        if !desk.1.is_idle() {
            if self.desks.len() <= number {
                self.desks.resize_with(number + 1, || None);
            }
            self.desks[number] = Some(desk);
        }
        self.arm_desk(number);
    }

    /// The number of a room's desk, or of a free place for it.
    fn desk_of(&mut self, room: RoomId) -> Option<usize> {
        let is_its =
            |desk: &Option<Box<(RoomId, Desk)>>| desk.as_ref().is_some_and(|desk| desk.0 == room);
        let place = self.desks.iter().position(is_its);
        let place = place.or_else(|| self.desks.iter().position(Option::is_none));
        if place.is_none() && self.desks.len() < MIXED_ROOMS_MAX {
            self.desks.push(None);
            return Some(self.desks.len() - 1);
        }
        place
    }

    /// Our bug: it ends those who listened, and nobody else.
    fn on_desk_fault(&mut self, desk: &Desk) {
        let listeners: Vec<_> = desk.listeners().collect();
        for session in listeners {
            self.on_fault(session);
        }
    }

    fn arm_desk(&mut self, number: usize) {
        let desk = self.desks.get(number).and_then(Option::as_ref);
        let deadline = desk.map(|desk| desk.1.deadline());
        let slot = self.config.sessions_max.saturating_add(number as u32);
        self.wheel.arm(slot, deadline);
    }
}
