//! Whose datagram is it: the shard's tables against naive ones, with churn and addresses used again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;

use super::ops::ops;
use super::world::{Peer, World, address, check, sound};
use crate::limits::{CHECKS_REMEMBERED_MAX, PATH_QUIET, SESSION_PATHS_MAX};
use crate::message::{CloseReason, Command, DropReason, Event, Role};
use crate::plan::IceCredentials;
use crate::rng::Seed;
use crate::time::Timestamp;

const SESSIONS_MAX: u32 = 4;
/// Of one session: none forgets a path for want of room, so the model need not know which it would.
const ADDRESSES: u16 = SESSION_PATHS_MAX as u16;
/// In a crowd, the first address of a session is so many behind that of the session before: most are shared.
const CROWD_STEP: u16 = 3;
/// Of every session: what tells them apart is the address.
const SSRC: u32 = 7;

#[derive(Arbitrary)]
enum Op {
    Open,
    /// The handshake of a session ends.
    Connect(u8),
    Restart(u8),
    Close(u8),
    Check {
        session: u8,
        from: u8,
        number: u8,
        nominates: bool,
        /// How many restarts ago its credentials were given.
        restarts_ago: u8,
        forged: bool,
    },
    /// A packet sealed for a session.
    Sound {
        session: u8,
        from: u8,
    },
    /// A compound sealed for a session.
    Report {
        session: u8,
        from: u8,
    },
    /// DTLS, RTP or RTCP of nobody.
    Noise {
        from: u8,
        kind: u8,
    },
    Pass {
        millis: u16,
    },
}

/// Sessions that come and go, and datagrams for them from a few addresses: each reaches the session that proved its
/// source, as far as that one holds it, and no other. Of more paths than a session may have the one that was silent
/// longest is forgotten.
pub fn demux_ops(data: &[u8]) {
    let mut model = Model::new(SESSIONS_MAX, 0);
    for op in ops(data) {
        model.step(op);
        model.check_tables();
    }
    model.close_all();
    model.judge_forgetting(data.first().copied().unwrap_or(0));
}

/// The same with many sessions at once and operations drawn from a seed (M6): most live, and all change.
pub fn demux_crowd(sessions: u32, steps: u32, seed: &Seed) {
    let mut model = Model::new(sessions, CROWD_STEP);
    let mut rng = seed.rng();
    for session in 0..sessions as usize {
        model.open();
        model.on_check(session, 0, (0, 0), true, false);
        model.first = session;
        model.step(Op::Connect(0));
    }
    for step in 0..steps {
        // An operation names one of 256: those that live, or did not long ago.
        let recent = model.sessions.len().saturating_sub(2 * sessions as usize);
        model.first = recent + rng.below(2 * sessions) as usize;
        let (session, from) = (0, rng.below(256) as u8);
        model.step(match rng.below(40) {
            0..=1 => Op::Open,
            2 => Op::Close(session),
            3 => Op::Restart(session),
            4..=9 => Op::Connect(session),
            10 => Op::Noise { from, kind: from },
            11..=12 => Op::Pass {
                millis: rng.below(100) as u16,
            },
            13..=22 => Op::Check {
                session,
                from,
                number: rng.below(256) as u8,
                nominates: rng.below(2) == 0,
                restarts_ago: u8::from(rng.below(8) == 0),
                forged: rng.below(8) == 0,
            },
            23..=29 => Op::Report { session, from },
            _ => Op::Sound { session, from },
        });
        if step % 64 == 0 {
            model.check_tables();
        }
    }
    let taken = model.taken;
    assert!(taken > u64::from(steps / 50), "{taken} packets reached one");
    model.close_all();
}

/// As a naive reader of the rules keeps a session.
struct Known {
    peer: Peer,
    lives: bool,
    connected: bool,
    /// Every credentials we gave, oldest first.
    given: Vec<IceCredentials>,
    /// Place of those that a restart under way replaces.
    previous: Option<usize>,
    /// Numbers of the checks taken, oldest first.
    checks: Vec<u8>,
    /// Addresses it proved, and when its last authentic packet came from there.
    proved: BTreeMap<SocketAddr, Timestamp>,
    packets: u64,
    next: u16,
}

impl Known {
    /// Of its last packet; long enough for any profile's tag to be looked for.
    fn payload(&self) -> Vec<u8> {
        self.next.to_be_bytes().repeat(10)
    }
}

struct Model {
    world: World,
    /// Every session there ever was.
    sessions: Vec<Known>,
    /// Which session's packets come from an address.
    owners: BTreeMap<SocketAddr, usize>,
    sessions_max: u32,
    address_step: u16,
    /// Operations count sessions from here.
    first: usize,
    living: usize,
    /// Packets that reached their session.
    taken: u64,
}

impl Model {
    fn new(sessions_max: u32, address_step: u16) -> Self {
        Self {
            world: World::new(sessions_max),
            sessions: Vec::new(),
            owners: BTreeMap::new(),
            sessions_max,
            address_step,
            first: 0,
            living: 0,
            taken: 0,
        }
    }

    /// One of the addresses that a session may send from.
    fn address(&self, session: usize, from: u8) -> SocketAddr {
        let first = session as u16 * self.address_step;
        address(first + u16::from(from) % ADDRESSES)
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Open => self.open(),
            Op::Connect(session) => self.connect(session),
            Op::Restart(session) => self.restart(session),
            Op::Close(session) => {
                if let Some(index) = self.find(session) {
                    self.close(index);
                }
            }
            Op::Check {
                session,
                from,
                number,
                nominates,
                restarts_ago,
                forged,
            } => {
                let Some(session) = self.find(session) else {
                    return;
                };
                let given = self.sessions[session].given.len();
                let place = given - 1 - usize::from(restarts_ago) % given;
                self.on_check(session, from, (number, place), nominates, forged);
            }
            Op::Sound { session, from } => self.on_media(session, from, false),
            Op::Report { session, from } => self.on_media(session, from, true),
            Op::Noise { from, kind } => self.on_noise(from, kind),
            Op::Pass { millis } => {
                self.world.now = self.world.now + Duration::from_millis(u64::from(millis));
                self.world.turn();
                self.note_closed();
            }
        }
    }

    fn find(&self, session: u8) -> Option<usize> {
        let index = self.first + usize::from(session);
        (index < self.sessions.len()).then_some(index)
    }

    fn open(&mut self) {
        let opened = self.world.open(Role::Echo);
        assert_eq!(opened.is_ok(), self.living < self.sessions_max as usize);
        let Ok((id, local)) = opened else { return };
        assert!(
            self.sessions.iter().all(|known| known.peer.id != id),
            "{id} twice"
        );
        self.living += 1;
        let peer = Peer::new(id, &local, self.sessions.len() as u64);
        self.sessions.push(Known {
            peer,
            lives: true,
            connected: false,
            given: vec![local.ice.clone()],
            previous: None,
            checks: Vec::new(),
            proved: BTreeMap::new(),
            packets: 0,
            next: 1,
        });
    }

    fn connect(&mut self, session: u8) {
        let Some(index) = self.find(session) else {
            return;
        };
        // A handshake needs a path of its own, and ends once.
        let mut owners = self.owners.iter();
        let path = owners.find(|(_, owner)| **owner == index);
        let Some((source, _)) = path.filter(|_| !self.sessions[index].connected) else {
            return;
        };
        let known = &mut self.sessions[index];
        known.peer.shake_hands(&mut self.world, *source);
        known.connected = true;
        for (to, _) in std::mem::take(&mut self.world.sent) {
            assert!(known.proved.contains_key(&to), "{to} proved nothing");
        }
        let told = std::mem::take(&mut self.world.events);
        assert!(matches!(told[..], [Event::Connected { session, .. }] if session == known.peer.id));
    }

    fn restart(&mut self, session: u8) {
        let Some(known) = self.find(session).map(|index| &mut self.sessions[index]) else {
            return;
        };
        let ice = self.world.restart(known.peer.id);
        assert_eq!(ice.is_some(), known.lives, "a stale key finds nothing");
        if let Some(ice) = ice {
            known.previous.get_or_insert(known.given.len() - 1);
            known.peer.ice = ice.clone();
            known.given.push(ice);
        }
    }

    fn close(&mut self, index: usize) {
        let session = self.sessions[index].peer.id;
        let lives = self.sessions[index].lives;
        let reason = CloseReason::Requested;
        self.world.command(Command::Close { session, reason });
        assert_eq!(lives, self.note_closed() == 1, "a stale key finds nothing");
    }

    /// RFC 8445 §7.3 and what `limits` says of paths, once more and slowly.
    fn on_check(
        &mut self,
        session: usize,
        from: u8,
        (number, place): (u8, usize),
        nominates: bool,
        forged: bool,
    ) {
        let source = self.address(session, from);
        let known = &mut self.sessions[session];
        let mut ice = known.given[place].clone();
        if forged {
            ice.password.push('?');
        }
        let current = place + 1 == known.given.len();
        let outdated = !current && known.previous == Some(place);
        let expected = if !known.lives || !(current || outdated) {
            Some(DropReason::UnknownUfrag)
        } else if forged {
            Some(DropReason::UnauthenticatedStun)
        } else {
            let repeated = known.checks.contains(&number);
            if !repeated {
                known.checks.push(number);
                let many = known.checks.len().saturating_sub(CHECKS_REMEMBERED_MAX);
                known.checks.drain(..many);
            }
            let refused = (repeated || outdated) && !known.proved.contains_key(&source);
            refused.then_some(DropReason::UnauthenticatedStun)
        };
        let dropped = self
            .world
            .deliver(source, &check(&ice, u32::from(number), nominates));
        assert_eq!(dropped, expected, "a check of session {session}");
        let sent = std::mem::take(&mut self.world.sent);
        if expected.is_some() {
            assert!(sent.is_empty(), "refused in silence");
            return;
        }
        assert!(matches!(&sent[..], [(to, _)] if *to == source));
        known.proved.insert(source, self.world.now);
        if nominates && current {
            known.previous = None;
        }
        let held = self
            .owners
            .get(&source)
            .is_some_and(|owner| *owner != session && self.uses(*owner, source));
        if !held {
            self.owners.insert(source, session);
        }
    }

    /// Whether a session's authentic packets came from there of late.
    fn uses(&self, session: usize, source: SocketAddr) -> bool {
        let active = self.sessions[session].proved.get(&source);
        active.is_some_and(|active| self.world.now.since(*active) < PATH_QUIET)
    }

    fn on_media(&mut self, session: u8, from: u8, report: bool) {
        let Some(session) = self.find(session) else {
            return;
        };
        let source = self.address(session, from);
        let known = &mut self.sessions[session];
        let sealed = if report {
            // A receiver report of one block; no profile finds it too short for its tag.
            let plain = [&[0x81, 201, 0, 7], &SSRC.to_be_bytes()[..], &[0; 24]].concat();
            known.peer.seal_rtcp(&plain)
        } else {
            known.next += 1;
            known
                .peer
                .seal_rtp(&sound(SSRC, known.next, &known.payload()))
        };
        let payload = known.payload();
        let dropped = self.world.deliver(source, &sealed.expect("a fresh number"));
        let expected: &[_] = match self.owners.get(&source) {
            None => &[Some(DropReason::UnknownSource)],
            Some(owner) if !self.sessions[*owner].connected => &[Some(DropReason::NoKeysYet)],
            // The owner may have had a packet of that number: that is looked at first.
            Some(owner) if *owner != session => &[
                Some(DropReason::AuthenticationFailed),
                Some(DropReason::Replayed),
            ],
            Some(_) => &[None],
        };
        assert!(
            expected.contains(&dropped),
            "{dropped:?} of session {session}, not {expected:?}"
        );
        let sent = std::mem::take(&mut self.world.sent);
        let told = std::mem::take(&mut self.world.events);
        if dropped.is_some() {
            assert!(sent.is_empty() && told.is_empty(), "refused in silence");
            return;
        }
        let known = &mut self.sessions[session];
        known.proved.insert(source, self.world.now);
        known.packets += 1;
        self.taken += 1;
        for event in told {
            assert!(matches!(event, Event::TrackAdded { session, .. } if session == known.peer.id));
        }
        let mut echoed = 0;
        for (to, contents) in sent {
            assert!(known.proved.contains_key(&to), "{to} proved nothing");
            let opened = known.peer.open(&contents).expect("sealed for its session");
            echoed += usize::from(opened.ends_with(&payload));
        }
        assert!(report || echoed >= 1, "it comes back");
    }

    fn on_noise(&mut self, from: u8, kind: u8) {
        let source = self.address(self.first, from);
        let noise = [[22; 40], [0x80; 40], {
            let mut report = [0x80; 40];
            report[1] = 200;
            report
        }];
        let dropped = self.world.deliver(source, &noise[usize::from(kind) % 3]);
        let owned = self.owners.contains_key(&source);
        assert_eq!(dropped == Some(DropReason::UnknownSource), !owned);
        // A handshake may end of it, and its session with it.
        self.note_closed();
    }

    /// Forgets the sessions that ended; how many.
    fn note_closed(&mut self) -> usize {
        let mut count = 0;
        for event in std::mem::take(&mut self.world.events) {
            let Event::Closed { session, .. } = event else {
                assert!(matches!(event, Event::TrackRemoved { .. }));
                continue;
            };
            let mut sessions = self.sessions.iter();
            let index = sessions.position(|known| known.peer.id == session);
            let index = index.expect("it was opened");
            assert!(
                std::mem::take(&mut self.sessions[index].lives),
                "it ends once"
            );
            self.owners.retain(|_, owner| *owner != index);
            self.living -= 1;
            count += 1;
        }
        self.world.sent.clear();
        count
    }

    fn check_tables(&mut self) {
        let sizes = self.world.shard.table_sizes();
        assert_eq!(
            (sizes.sessions, sizes.paths),
            (self.living, self.owners.len())
        );
        assert_eq!(sizes.timers, self.living, "each has its deadline");
    }

    /// A session proves one address more than it may have; all but the first, which is in use, in an order of ours.
    fn judge_forgetting(&mut self, rotation: u8) {
        let (id, local) = self.world.open(Role::Echo).expect("all have gone");
        let others = ADDRESSES - 1;
        let order = (0..others).map(|place| 1 + (place + u16::from(rotation)) % others);
        let order: Vec<_> = order.collect();
        for (number, from) in (0..).zip([0].iter().chain(&order).chain(&[ADDRESSES])) {
            self.world.now = self.world.now + Duration::from_millis(1);
            let check = check(&local.ice, number, number == 0);
            let dropped = self.world.deliver(address(*from), &check);
            assert_eq!(dropped, None, "a sound check is taken");
        }
        for from in 0..=ADDRESSES {
            // A report of nobody: it says whether the address is anybody's.
            let mut report = [0x80; 40];
            report[1] = 200;
            let dropped = self.world.deliver(address(from), &report);
            let is_held = dropped != Some(DropReason::UnknownSource);
            assert_eq!(is_held, from != order[0], "address {from}");
        }
        assert_eq!(self.world.shard.table_sizes().paths, SESSION_PATHS_MAX);
        let (session, reason) = (id, CloseReason::Requested);
        self.world.command(Command::Close { session, reason });
        self.world.events.clear();
        self.world.sent.clear();
        self.world.assert_empty();
    }

    fn close_all(&mut self) {
        for index in 0..self.sessions.len() {
            let session = self.sessions[index].peer.id;
            let request = self.world.request();
            self.world
                .command(Command::SessionStats { request, session });
            match self.world.events.pop().expect("a command is answered") {
                Event::SessionStats { stats, .. } => {
                    let known = &self.sessions[index];
                    assert!(known.lives);
                    assert_eq!(
                        (stats.connected, stats.packets_received),
                        (known.connected, known.packets)
                    );
                }
                _ => assert!(!self.sessions[index].lives, "a stale key finds nothing"),
            }
            self.close(index);
        }
        assert!(self.owners.is_empty());
        self.world.assert_empty();
    }
}
