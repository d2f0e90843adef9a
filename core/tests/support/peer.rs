//! One str0m peer and what it heard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antiphon_core::ids::SessionId;
use antiphon_core::time::Timestamp;
use str0m::bwe::BweKind;
use str0m::media::Mid;
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::stats::MediaEgressStats;
use str0m::{Event, Rtc};

use super::Link;

/// One str0m peer.
pub(crate) struct Peer {
    pub(crate) rtc: Rtc,
    pub(crate) address: SocketAddr,
    /// Where the world sees it, as behind a NAT: datagrams come from here, and only those sent here arrive.
    pub(crate) public: SocketAddr,
    pub(crate) session: Option<SessionId>,
    pub(crate) mids: Vec<Mid>,
    pub(crate) connected: bool,
    pub(crate) closed: bool,
    pub(crate) packets: Vec<RtpPacket>,
    /// When each of `packets` came.
    pub(crate) arrivals: Vec<Timestamp>,
    pub(crate) keyframe_requests: Vec<(Timestamp, Mid)>,
    /// Its own estimates of what it may send, in bits a second.
    pub(crate) estimates: Vec<u64>,
    pub(crate) egress: Vec<MediaEgressStats>,
    /// Its way to the shard, and the way back; the world's link where `None`.
    pub(crate) up: Option<Link>,
    pub(crate) down: Option<Link>,
    /// Our answer to its offer.
    pub(super) answer: String,
    pub(super) timeout: Instant,
    pub(super) senders: BTreeMap<Mid, Outgoing>,
}

#[derive(Clone, Copy)]
pub(super) struct Outgoing {
    pub(super) ssrc: Ssrc,
    pub(super) payload_type: u8,
    pub(super) next: u64,
}

impl Peer {
    pub(super) fn new(
        rtc: Rtc,
        address: SocketAddr,
        (session, answer): (SessionId, String),
        mids: Vec<Mid>,
        timeout: Instant,
    ) -> Self {
        Self {
            rtc,
            address,
            public: address,
            session: Some(session),
            mids,
            connected: false,
            closed: false,
            packets: Vec::new(),
            arrivals: Vec::new(),
            keyframe_requests: Vec::new(),
            estimates: Vec::new(),
            egress: Vec::new(),
            up: None,
            down: None,
            answer,
            timeout,
            senders: BTreeMap::new(),
        }
    }

    pub(super) fn sender(&mut self, mid: Mid) -> Outgoing {
        if let Some(sender) = self.senders.get(&mid) {
            return *sender;
        }
        let params = self
            .rtc
            .media(mid)
            .expect("the section exists")
            .remote_pts()
            .to_vec();
        let payload_type = *params.first().expect("a codec was agreed");
        let mut api = self.rtc.direct_api();
        let stream = api
            .stream_tx_by_mid(mid, None)
            .expect("it sends this track");
        let sender = Outgoing {
            ssrc: stream.ssrc(),
            payload_type: *payload_type,
            next: 1,
        };
        self.senders.insert(mid, sender);
        sender
    }

    /// The stream of a section, and the number of its next packet, which is used up.
    pub(super) fn next_number(&mut self, mid: Mid) -> Outgoing {
        let sender = self.sender(mid);
        self.set_next_sequence(mid, sender.next + 1);
        sender
    }

    /// Sets the number of the next packet of a section.
    pub(crate) fn set_next_sequence(&mut self, mid: Mid, next: u64) {
        let sender = self.sender(mid);
        self.senders.insert(mid, Outgoing { next, ..sender });
    }

    /// Answers every NACK: by default str0m stops when retransmissions pass 15 % of what it sends.
    pub(crate) fn always_answer_nacks(&mut self, mid: Mid) {
        let ssrc = self.sender(mid).ssrc;
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx(&ssrc).expect("it was found before");
        stream.set_rtx_cache(2_000, Duration::from_secs(3), None);
    }

    /// Its source of a section.
    pub(crate) fn ssrc(&mut self, mid: Mid) -> u32 {
        *self.sender(mid).ssrc
    }

    pub(super) fn note(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Connected => self.connected = true,
            Event::RtpPacket(packet) => {
                self.packets.push(packet);
                self.arrivals.push(now);
            }
            Event::KeyframeRequest(request) => self.keyframe_requests.push((now, request.mid)),
            Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) => {
                self.estimates.push(estimate.as_u64());
            }
            Event::MediaEgressStats(stats) => self.egress.push(stats),
            _ => {}
        }
    }

    /// Packets received in this section, in the order they came.
    pub(crate) fn packets_of(&self, mid: Mid) -> impl Iterator<Item = &RtpPacket> {
        let media = self.rtc.media(mid);
        self.packets.iter().filter(move |packet| {
            media.is_some_and(|media| media.remote_pts().contains(&packet.header.payload_type))
        })
    }

    /// Payloads received in this section, in the order they came.
    pub(crate) fn payloads(&self, mid: Mid) -> Vec<Vec<u8>> {
        self.packets_of(mid)
            .map(|packet| packet.payload.to_vec())
            .collect()
    }
}
