//! One peer: its transport (ICE and DTLS) and its media (SRTP, RTP, RTCP), behind one deadline.
//!
//! A session never sees the shard or another session. What concerns others leaves as a value: an opened
//! packet, an ask, an event.

pub(crate) mod media;
pub mod transport;

use std::time::Duration;

use antiphon_prefetch::prefetch;
use serde::{Deserialize, Serialize};

use self::media::{Ask, Incoming, Media, MediaMark};
use self::transport::{Checked, Outcome, Sink, Transport, TransportEvent, TransportMark};
use crate::call::Call;
use crate::drive::{Lane, TransmitBatch, TransmitMeta};
use crate::ids::SessionId;
use crate::limits::PATH_QUIET;
use crate::message::{CloseReason, DropReason, ProfileName, Role, SessionStats, ShardStats};
use crate::net::Path;
use crate::plan::{IceCredentials, LocalDescription, SessionPlan};
use crate::rng::Rng;
use crate::shard::{Depth, ShardConfig};
use crate::srtp::KeyingMaterial;
use crate::time::{Epoch, Timestamp, earliest};
use crate::voice::message::{AgentAsk, Heard};

/// What a mutation of a session may touch outside it.
pub(crate) struct Context<'a> {
    pub(crate) now: Timestamp,
    pub(crate) epoch: &'a Epoch,
    pub(crate) transmits: &'a mut TransmitBatch,
    pub(crate) stats: &'a mut ShardStats,
    /// `None`: nobody takes them down.
    pub(crate) handshakes: &'a mut Option<Vec<(SessionId, Outcome)>>,
}

impl Context<'_> {
    /// Queues an RTP packet; `received` counts its delay, which a retransmission has none of.
    pub(crate) fn transmit_media(
        &mut self,
        path: Path,
        received: Option<Timestamp>,
        size_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let meta = meta(path, Lane::Media, received);
        self.transmits.push_with(meta, size_max, write)
    }

    /// Queues a datagram that is never dropped for want of room.
    pub(crate) fn transmit_control(
        &mut self,
        path: Path,
        size_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        self.transmits
            .push_with(meta(path, Lane::Control, None), size_max, write)
    }
}

impl Sink for Context<'_> {
    fn transmit(&mut self, path: Path, contents: &[u8]) {
        self.transmits
            .push(meta(path, Lane::Control, None), contents);
    }

    fn records_handshakes(&self) -> bool {
        self.handshakes.is_some()
    }

    fn note_handshake(&mut self, session: SessionId, outcome: Outcome) {
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.push((session, outcome));
        }
    }
}

fn meta(path: Path, lane: Lane, received: Option<Timestamp>) -> TransmitMeta {
    let source = Some(path.local.ip());
    TransmitMeta {
        source,
        destination: path.remote,
        ecn: None,
        lane,
        received,
    }
}

/// Something a session did that others must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The handshake finished.
    Connected {
        profile: ProfileName,
        setup: Duration,
    },
    /// It is over; remove it.
    Closed(CloseReason),
}

/// One peer connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) role: Role,
    opened: Timestamp,
    connected: bool,
    restarts: u8,
    transport: Transport,
    pub(crate) media: Media,
    /// What it has if it talks with an agent.
    call: Option<Box<Call>>,
    change: Option<Change>,
}

/// Where a connected session stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionMark {
    opened: Timestamp,
    restarts: u8,
    transport: TransportMark,
    pub(crate) media: MediaMark,
}

impl Session {
    /// Where it stands; `None` unless it is connected.
    pub(crate) fn mark(&self) -> Option<SessionMark> {
        self.connected.then(|| SessionMark {
            opened: self.opened,
            restarts: self.restarts,
            transport: self.transport.mark(),
            media: self.media.mark(),
        })
    }

    /// Goes on where another stood, or where it stood itself later, of the same plan, number and keys; but for what it
    /// sends, which depends on others.
    pub(crate) fn resume(
        &mut self,
        mark: &SessionMark,
        profile: ProfileName,
        keying: KeyingMaterial,
    ) {
        if !self.connected {
            let (inbound, outbound) = keying.into_contexts(self.media.plan().dtls_role);
            self.media.install_keys(profile, inbound, outbound);
        }
        self.media.resume_receiving(&mark.media);
        self.transport.resume(mark.transport.clone());
        (self.opened, self.restarts) = (mark.opened, mark.restarts);
        self.connected = true;
    }

    /// A session that waits for its peer's first check, and our half of the description.
    pub(crate) fn new(
        id: SessionId,
        role: Role,
        plan: Box<SessionPlan>,
        config: &ShardConfig,
        ice: IceCredentials,
        rng: &mut Rng,
        clocks: (Timestamp, Epoch),
    ) -> (Self, LocalDescription) {
        let (remote_ice, remote_fingerprint) = (plan.remote_ice.clone(), plan.remote_fingerprint);
        let dtls_role = plan.dtls_role;
        let (media, sources) = Media::new(plan, config.tuning, rng);
        let call = match role {
            Role::Agent(agent) => Call::new(clocks.0, agent, media.plan(), config.tuning.turns),
            _ => None,
        };
        let identity = &config.identity;
        let mut secret = [0; 16];
        rng.fill(&mut secret);
        let transport = Transport::new(
            identity,
            id,
            (ice.clone(), secret),
            remote_ice,
            remote_fingerprint,
            dtls_role,
            clocks,
        );
        let session = Self {
            id,
            role,
            opened: clocks.0,
            connected: false,
            restarts: 0,
            transport,
            media,
            call: call.map(Box::new),
            change: None,
        };
        let local = LocalDescription {
            ice,
            fingerprint: identity.fingerprint(),
            sources,
        };
        (session, local)
    }

    /// Asks for what a packet from the peer will need, as deep as this.
    pub(crate) fn prefetch_receiving(&self, depth: Depth) {
        self.prefetch(depth);
        self.media.prefetch_receiving(depth);
    }

    /// Asks for what a packet to the peer, in this section, will need, as deep as this.
    pub(crate) fn prefetch_sending(&self, depth: Depth, media: u8) {
        self.prefetch(depth);
        self.media.prefetch_sending(depth, media);
    }

    fn prefetch(&self, depth: Depth) {
        if depth == Depth::Session {
            prefetch(&self.id);
            prefetch(&self.media);
        }
        self.transport.prefetch(depth);
    }

    /// Takes in a STUN packet.
    pub(crate) fn handle_stun(
        &mut self,
        cx: &mut Context<'_>,
        path: Path,
        packet: &[u8],
    ) -> Result<Checked, DropReason> {
        let checked = self.transport.handle_stun(cx.now, path, packet, cx);
        self.poll_transport(cx);
        // An index beyond the last is never sealed; that the session ends with the next check is soon enough.
        if self.media.is_exhausted() {
            self.close(cx, CloseReason::KeyExhausted);
        }
        checked
    }

    /// Takes in a DTLS datagram.
    pub(crate) fn handle_dtls(
        &mut self,
        cx: &mut Context<'_>,
        path: Path,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let taken = self.transport.handle_dtls(cx.now, path, packet, cx);
        self.poll_transport(cx);
        taken
    }

    /// Opens an SRTP packet; see [`Media::receive_rtp`].
    pub(crate) fn handle_rtp<'a>(
        &mut self,
        cx: &mut Context<'_>,
        path: Path,
        received: Timestamp,
        packet: &'a mut [u8],
        incoming: &mut Option<Incoming<'a>>,
    ) -> Result<(), DropReason> {
        self.media.receive_rtp(cx, received, packet, incoming)?;
        self.transport.note_authenticated_media(cx.now, path, cx);
        if self.media.is_due(cx.now) {
            self.send_due(cx);
        }
        Ok(())
    }

    /// Opens an SRTCP packet; see [`Media::receive_rtcp`].
    pub(crate) fn handle_rtcp(
        &mut self,
        cx: &mut Context<'_>,
        path: Path,
        packet: &mut [u8],
        asks: &mut Vec<Ask>,
    ) -> Result<(), DropReason> {
        self.media.receive_rtcp(cx, packet, asks)?;
        self.transport.note_authenticated_media(cx.now, path, cx);
        Ok(())
    }

    /// Does what is due. Spurious calls change nothing.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        let (deadline, reason) = self.life_deadline();
        if deadline <= cx.now {
            self.close(cx, reason);
            return;
        }
        self.transport.handle_timeout(cx.now, cx);
        self.poll_transport(cx);
        self.send_due(cx);
        self.talk(cx);
    }

    /// Lets the agent hear a packet of the session's own.
    pub(crate) fn hear(&mut self, cx: &mut Context<'_>, packet: &Incoming<'_>) {
        if let Some(call) = &mut self.call {
            call.handle_packet(cx.now, packet, &mut cx.stats.voice);
            self.talk(cx);
        }
    }

    /// Does what the agent asks for.
    pub(crate) fn handle_ask(&mut self, cx: &mut Context<'_>, ask: AgentAsk) {
        if let Some(call) = &mut self.call {
            call.handle_ask(cx.now, ask);
            self.talk(cx);
        }
    }

    /// What the agent is to know, oldest first.
    pub(crate) fn poll_heard(&mut self) -> Option<Heard> {
        self.call.as_mut()?.poll_heard()
    }

    /// Hears and says what is due.
    fn talk(&mut self, cx: &mut Context<'_>) {
        let (Some(call), true) = (&mut self.call, self.connected) else {
            return;
        };
        call.handle_timeout(cx.now, &mut cx.stats.voice);
        while let Some(packet) = call.speak(cx.now, &mut cx.stats.voice) {
            let Some(path) = self.transport.send_path() else {
                continue;
            };
            if self.media.forward(cx, path, packet.media, &packet) != media::Forwarded::Sent {
                // No room: it is lost, as it could be on its way.
                continue;
            }
        }
        if self.media.is_due(cx.now)
            && let Some(path) = self.transport.send_path()
        {
            self.media.send_due_reports(cx, path);
        }
    }

    /// Forwards a packet of the track that a section follows; see [`Media::forward`].
    pub(crate) fn forward(
        &mut self,
        cx: &mut Context<'_>,
        media: u8,
        packet: &Incoming<'_>,
    ) -> media::Forwarded {
        let Some(path) = self.transport.send_path() else {
            return media::Forwarded::Skipped;
        };
        let forwarded = self.media.forward(cx, path, media, packet);
        if self.media.is_due(cx.now) {
            self.media.send_due_reports(cx, path);
        }
        forwarded
    }

    /// Sends a cached packet again; see [`Media::retransmit`].
    pub(crate) fn retransmit(&mut self, cx: &mut Context<'_>, media: u8, packet: &Incoming<'_>) {
        if let Some(path) = self.transport.send_path() {
            self.media.retransmit(cx, path, media, packet);
        }
    }

    /// Asks the peer for a keyframe of a section, now or as soon as the throttle allows.
    pub(crate) fn request_keyframe(&mut self, cx: &mut Context<'_>, media: u8) {
        self.media.want_keyframe(media);
        self.send_due(cx);
    }

    /// Restarts ICE; the old path carries media until the new one is proved.
    pub(crate) fn restart(&mut self, local: IceCredentials, remote: IceCredentials) {
        self.restarts = self.restarts.wrapping_add(1);
        self.transport.restart(local, remote);
    }

    /// Ends the session with BYE and close_notify.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        if let Some(path) = self.transport.send_path() {
            self.media.send_goodbye(cx, path);
        }
        self.transport.close(cx.now, cx);
        self.change = Some(Change::Closed(reason));
    }

    /// What happened since the last call that others must know.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.change.take()
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let deadline = self.deadline_of_media();
        match &self.call {
            Some(call) if self.connected => earliest(deadline, call.deadline()),
            _ => deadline,
        }
    }

    /// The same, but for what a call with an agent waits for: few sessions have one, and each packet asks.
    #[inline]
    pub(crate) fn deadline_of_media(&self) -> Option<Timestamp> {
        let (life, _) = self.life_deadline();
        let work = earliest(self.transport.deadline(), self.media.deadline());
        earliest(Some(life), work)
    }

    /// Whether a check names this session: its fragment now, or, until a restart is through, before it.
    pub(crate) fn answers_to(&self, ufrag: &str) -> bool {
        self.transport.answers_to(ufrag)
    }

    /// Whether the peer's authenticated packets came over `path` of late.
    pub(crate) fn uses_path(&self, path: Path, now: Timestamp) -> bool {
        let active = self.transport.last_active(path);
        active.is_some_and(|active| now.since(active) < PATH_QUIET)
    }

    /// Paths the peer proved.
    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> {
        self.transport.proved_paths()
    }

    /// ICE restarts so far, modulo 256.
    pub(crate) const fn restarts(&self) -> u8 {
        self.restarts
    }

    /// Media can flow.
    pub(crate) const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Its figures.
    pub(crate) fn statistics(&self, now: Timestamp) -> SessionStats {
        let age = now.since(self.opened);
        SessionStats {
            age,
            connected: self.connected,
            jitter_buffer: self.call.as_ref().and_then(|call| call.jitter_stats()),
            ..self.media.statistics(now)
        }
    }

    /// When its life ends if nothing more comes, and why.
    fn life_deadline(&self) -> (Timestamp, CloseReason) {
        let tuning = self.media.tuning();
        if !self.connected {
            return (
                self.opened + tuning.setup_timeout,
                CloseReason::SetupTimeout,
            );
        }
        let since = self.transport.last_check().unwrap_or(self.opened);
        (since + tuning.consent_timeout, CloseReason::ConsentExpired)
    }

    fn send_due(&mut self, cx: &mut Context<'_>) {
        if self.media.is_due(cx.now)
            && let Some(path) = self.transport.send_path()
        {
            self.media.send_due_reports(cx, path);
            self.media.send_due_feedback(cx, path);
        }
    }

    fn poll_transport(&mut self, cx: &mut Context<'_>) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                TransportEvent::Connected { profile, keys } => {
                    let role = self.media.plan().dtls_role;
                    // The library exports as many bytes as the profile wants; were it wrong, no media
                    // could flow, so the handshake failed.
                    let Ok(keying) = KeyingMaterial::new(profile, keys.as_bytes()) else {
                        self.change = Some(Change::Closed(CloseReason::HandshakeFailed));
                        continue;
                    };
                    let (inbound, outbound) = keying.into_contexts(role);
                    self.media.install_keys(profile, inbound, outbound);
                    self.connected = true;
                    let setup = cx.now.since(self.opened);
                    self.change = Some(Change::Connected { profile, setup });
                }
                TransportEvent::Closed(reason) => self.change = Some(Change::Closed(reason)),
            }
        }
    }
}
