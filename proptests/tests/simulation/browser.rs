//! Browser stand-ins: str0m's `Rtc` with its own ICE, DTLS, RTP and RTCP, in the same worlds. Its bytes come from the
//! operating system, so these runs are judged by what they come to.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use antiphon_core::ids::{ParticipantId, RoomId};
use antiphon_core::message::{Role, Target};
use antiphon_core::plan::{IceCredentials, MediaKind, SessionPlan};
use antiphon_core::rng::{Rng, Seed};
use antiphon_core::sdp::{Negotiated, Offer, Purpose};
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{ShardConfig, TableSizes, Tuning};
use antiphon_core::sim::link::{GilbertElliott, Impairment};
use antiphon_core::sim::peer::{Answer, Ending, Heard, HeardPacket, Outbox, Peer, Report, Trust};
use antiphon_core::sim::source::{Clock, Source, Talker};
use antiphon_core::sim::world::{Join, MemberId, Options, World};
use antiphon_core::time::{Epoch, Timestamp};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc};

/// A browser with one audio section.
struct Browser {
    rtc: Rtc,
    epoch: Epoch,
    member: u32,
    negotiated: Negotiated,
    pending: Option<SdpPendingOffer>,
    mid: Mid,
    /// Its own address, and the server's.
    ends: Option<(std::net::SocketAddr, std::net::SocketAddr)>,
    source: Option<Source>,
    sends: bool,
    number: u32,
    rng: Rng,
    rtc_deadline: Timestamp,
    report: Report,
}

impl Browser {
    fn new(world: &World, epoch: Epoch, sends: bool, purpose: Purpose) -> Self {
        let direction = if sends {
            Direction::SendOnly
        } else {
            Direction::RecvOnly
        };
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .build(epoch.instant(world.now()));
        let mut changes = rtc.sdp_api();
        let mid = changes.add_media(
            str0m::media::MediaKind::Audio,
            direction,
            Some("stream".into()),
            None,
            None,
        );
        let (offer, pending) = changes.apply().expect("there is something to offer");
        let text = offer.to_sdp_string();
        let offer = Offer::parse(text.as_bytes()).expect("str0m offers well");
        let member = world.next_member().0;
        Self {
            rtc,
            epoch,
            member,
            negotiated: offer
                .negotiate(purpose)
                .expect("str0m offers what we handle"),
            pending: Some(pending),
            mid,
            ends: None,
            source: None,
            sends,
            number: 0,
            rng: Seed::new([9; 32]).derive("browser", member.into()).rng(),
            rtc_deadline: world.now(),
            report: Report {
                heard: if sends {
                    Vec::new()
                } else {
                    vec![Heard::new(MediaKind::Audio, Trust::Everything)]
                },
                ..Report::default()
            },
        }
    }

    fn advance(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        let instant = self.epoch.instant(now);
        if self.rtc.is_alive() && self.rtc.handle_input(Input::Timeout(instant)).is_ok() {
            self.drain(now, out);
        }
    }

    fn drain(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.rtc_deadline = self.epoch.timestamp(at);
                    break;
                }
                Ok(Output::Transmit(transmit)) => out.send(&transmit.contents),
                Ok(Output::Event(event)) => self.on_event(now, event),
                Err(_) => break,
            }
        }
        if !self.rtc.is_alive() {
            self.report.ended.get_or_insert((now, Ending::Closed));
        }
    }

    fn on_event(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Connected => {
                self.report.connected = Some(now);
                if self.sends {
                    self.source = Some(Source::Talker(Talker::new(now, &mut self.rng, true)));
                }
            }
            Event::RtpPacket(packet) if !self.sends => {
                let packet = HeardPacket {
                    index: *packet.seq_no,
                    timestamp: packet.header.timestamp,
                    payload: &packet.payload,
                    repaired: false,
                };
                self.report.hear(now, 0, &packet);
            }
            _ => {}
        }
    }

    fn speak(&mut self, now: Timestamp) {
        let Some(source) = &mut self.source else {
            return;
        };
        while source.next() <= now {
            let mut payload = Vec::new();
            let stamp = (self.member, self.number);
            let made = source.make(now, &mut self.rng, &Clock::default(), stamp, &mut payload);
            let media = self.rtc.media(self.mid).expect("the section is there");
            let payload_type = media
                .remote_pts()
                .first()
                .copied()
                .expect("a codec was agreed");
            let mut api = self.rtc.direct_api();
            let stream = api.stream_tx_by_mid(self.mid, None).expect("it sends");
            let number = SeqNo::from(1 + u64::from(self.number));
            let instant = self.epoch.instant(now);
            let write = RtpWrite::new(
                payload_type,
                number,
                made.timestamp,
                instant,
                Arc::<[u8]>::from(payload),
            );
            stream.write_rtp(
                write
                    .marker(made.marker)
                    .ext_vals(ExtensionValues::default()),
            );
            self.number += 1;
            self.report.sent[0] += 1;
        }
    }
}

impl Peer for Browser {
    fn plan(&self) -> SessionPlan {
        self.negotiated.plan().clone()
    }

    fn on_answer(&mut self, now: Timestamp, answer: &Answer, out: &mut Outbox<'_>) {
        let ends = out.ends();
        self.ends = Some(ends);
        let candidate = Candidate::host(ends.0, Protocol::Udp).expect("a host candidate");
        self.rtc.add_local_candidate(candidate);
        let text = self.negotiated.answer(&answer.local, &[answer.server], 1);
        let accepted = SdpAnswer::from_sdp_string(&text).expect("str0m reads our answer");
        let pending = self.pending.take().expect("there is one answer");
        self.rtc
            .sdp_api()
            .accept_answer(pending, accepted)
            .expect("str0m accepts our answer");
        self.advance(now, out);
    }

    fn handle_datagram(&mut self, now: Timestamp, contents: &mut [u8], out: &mut Outbox<'_>) {
        let Some((local, server)) = self.ends else {
            return;
        };
        let Ok(received) = Receive::new(Protocol::Udp, server, local, contents) else {
            return;
        };
        let input = Input::Receive(self.epoch.instant(now), received);
        if self.rtc.is_alive() && self.rtc.handle_input(input).is_ok() {
            self.drain(now, out);
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        self.speak(now);
        self.advance(now, out);
    }

    fn deadline(&self) -> Option<Timestamp> {
        let media = self.source.as_ref().map(Source::next);
        self.rtc
            .is_alive()
            .then(|| media.map_or(self.rtc_deadline, |next| next.min(self.rtc_deadline)))
    }

    fn close(&mut self, now: Timestamp, out: &mut Outbox<'_>) {
        self.rtc.disconnect();
        self.advance(now, out);
    }

    fn restart(&mut self) -> IceCredentials {
        unreachable!("no test restarts a browser here")
    }

    fn on_restarted(&mut self, _now: Timestamp, _ice: &IceCredentials, _out: &mut Outbox<'_>) {}

    fn report(&self) -> &Report {
        &self.report
    }

    fn measure_gaps_from(&mut self, now: Timestamp) {
        for heard in &mut self.report.heard {
            heard.longest_gap = Duration::ZERO;
            heard.last = Some(now);
        }
    }
}

fn world(seed: u64) -> (World, Epoch) {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    let identity =
        IDENTITY.get_or_init(|| Arc::new(Identity::generate().expect("the library works")));
    let config = Arc::new(ShardConfig {
        identity: Arc::clone(identity),
        sessions_max: 100,
        tuning: Tuning::default(),
    });
    let epoch = Epoch::simulated();
    (
        World::with_config(Options::new(seed), &config, epoch),
        epoch,
    )
}

/// One who speaks, and three who follow; over these impairments, each way.
fn room(world: &mut World, epoch: Epoch, impairments: &[Impairment]) -> Vec<MemberId> {
    let (room, participant) = (RoomId(1), ParticipantId(1));
    let publish = Role::Publish { room, participant };
    let target = Target::Participant(participant);
    let follow = Role::Subscribe { room, target };
    (0..4)
        .map(|number| {
            let sends = number == 0;
            let (role, purpose) = if sends {
                (publish, Purpose::Publish { prefer: None })
            } else {
                (follow, Purpose::Subscribe { tracks: Vec::new() })
            };
            let mut way = vec![Impairment::Delay(Duration::from_millis(20))];
            way.extend_from_slice(impairments);
            let peer = Box::new(Browser::new(world, epoch, sends, purpose));
            world.join(Join {
                peer,
                role,
                shard: 0,
                up: way.clone(),
                down: way,
                ipv6: number == 3,
            })
        })
        .collect()
}

#[test]
fn browsers_hear_each_other_and_leave_nothing_behind() {
    let loss = Impairment::Loss(GilbertElliott::even(50));
    let duplicate = Impairment::Duplicate {
        permille: 20,
        by: Duration::from_millis(3),
    };
    let jitter = Impairment::Jitter(Duration::from_millis(15));
    for (seed, impairments) in [(1, vec![]), (2, vec![loss, jitter, duplicate])] {
        let (mut world, epoch) = world(seed);
        let members = room(&mut world, epoch, &impairments);
        world.run_for(Duration::from_secs(20));
        let sent = world.member(members[0]).peer.report().sent[0];
        assert!(sent > 800, "{sent} packets of 20 s");
        let lost_up = world.member(members[0]).rtp_lost_up;
        for id in &members {
            let member = world.member(*id);
            let report = member.peer.report();
            assert!(
                report.connected.is_some() && member.closed.is_none(),
                "{id:?}"
            );
            assert_eq!(report.findings, [""; 0], "{id:?}");
            for heard in &report.heard {
                let source = heard.sources.first().expect("it heard somebody");
                let missing = source.highest - source.first + 1 - source.packets;
                assert!(
                    u64::from(missing) <= lost_up + member.rtp_lost_down,
                    "{id:?}: {missing}"
                );
                assert!(
                    heard.packets > sent / 2,
                    "{id:?} heard {} of {sent}",
                    heard.packets
                );
            }
        }
        assert_eq!(world.findings(), [""; 0]);
        members.iter().for_each(|id| world.leave(*id));
        world.run_for(Duration::from_secs(35));
        assert!(
            world
                .table_sizes()
                .all(|tables| tables == TableSizes::default())
        );
    }
}

#[test]
fn a_browser_behind_a_nat_that_moves_is_heard_again() {
    let (mut world, epoch) = world(3);
    let members = room(&mut world, epoch, &[]);
    world.run_for(Duration::from_secs(5));
    world.rebind(members[0]);
    world.rebind(members[1]);
    world.run_for(Duration::from_secs(10));
    let now = world.now();
    for id in &members[1..] {
        world.member_mut(*id).peer.measure_gaps_from(now);
    }
    world.run_for(Duration::from_secs(3));
    for id in &members[1..] {
        let heard = &world.member(*id).peer.report().heard[0];
        assert!(
            heard.gap_until(world.now()) < Duration::from_millis(25),
            "{id:?}: {heard:?}"
        );
    }
}
