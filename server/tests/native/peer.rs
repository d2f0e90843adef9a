//! A str0m client over a socket of its own.

use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use antiphon_udp::Clock;
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::rtcp::Rtcp;
use str0m::rtp::{ExtensionValues, RawPacket, RtpPacket, RtpWrite, SeqNo, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::server::Server;

const IDLE: Duration = Duration::from_micros(300);

pub(crate) struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    clock: Clock,
    timeout: Instant,
    sections: Vec<Section>,
    packets: Vec<RtpPacket>,
    pub(crate) resource: String,
    pub(crate) connected: bool,
    pub(crate) goodbye: bool,
    pub(crate) closed: bool,
}

struct Section {
    payload_types: Vec<u8>,
    ssrc: Option<Ssrc>,
    sequence: u64,
}

impl Peer {
    /// Offers these sections at `path` and takes the answer.
    pub(crate) fn join(server: &Server, path: &str, sections: &[(MediaKind, Direction)]) -> Self {
        Self::try_join(server, path, sections).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// The same; the problem document if it was refused.
    pub(crate) fn try_join(
        server: &Server,
        path: &str,
        sections: &[(MediaKind, Direction)],
    ) -> Result<Self, String> {
        let clock = Clock::start();
        let now = clock.epoch().instant(clock.now());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback works");
        socket.set_nonblocking(true).expect("it can be nonblocking");
        let address = socket.local_addr().expect("it is bound");
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            // They alone tell of a BYE.
            .enable_raw_packets(true)
            .build(now);
        let candidate = Candidate::host(address, Protocol::Udp).expect("a host candidate");
        rtc.add_local_candidate(candidate);
        let mut changes = rtc.sdp_api();
        let add = |(kind, direction): &(MediaKind, Direction)| {
            changes.add_media(*kind, *direction, Some("stream".into()), None, None)
        };
        let mids: Vec<Mid> = sections.iter().map(add).collect();
        let (offer, pending) = changes.apply().expect("there are changes to offer");
        let mut response = server.post(path, &offer.to_sdp_string());
        let answer = response.body_mut().read_to_string().expect("text");
        if response.status() != 201 {
            return Err(answer);
        }
        let location = response.headers()["location"].to_str().expect("ASCII");
        let answer = SdpAnswer::from_sdp_string(&answer).expect("str0m reads our answer");
        let accepted = rtc.sdp_api().accept_answer(pending, answer);
        accepted.expect("str0m accepts our answer");
        let sections = mids.into_iter().map(|mid| Section::of(&mut rtc, mid));
        Ok(Self {
            sections: sections.collect(),
            rtc,
            socket,
            clock,
            timeout: now,
            packets: Vec::new(),
            resource: location.to_owned(),
            connected: false,
            goodbye: false,
            closed: false,
        })
    }

    /// The last part of the session's URL.
    pub(crate) fn secret(&self) -> &str {
        self.resource.rsplit('/').next().unwrap_or_default()
    }

    /// Sends a packet in one section; `time` in units of its clock.
    pub(crate) fn send(&mut self, section: usize, time: u32, payload: &[u8]) {
        let now = self.clock.epoch().instant(self.clock.now());
        let section = &mut self.sections[section];
        section.sequence += 1;
        let ssrc = section.ssrc.expect("it sends in this section");
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx(&ssrc).expect("it was found before");
        let write = RtpWrite::new(
            section.payload_types[0].into(),
            SeqNo::from(section.sequence),
            time,
            now,
            Arc::<[u8]>::from(payload),
        );
        let values = ExtensionValues::default();
        stream.write_rtp(write.marker(true).ext_vals(values).nackable(true));
        self.rtc
            .handle_input(Input::Timeout(now))
            .expect("it lives");
        self.drain();
    }

    /// Payloads received in one section, in order of arrival.
    pub(crate) fn payloads(&self, section: usize) -> Vec<Vec<u8>> {
        let types = &self.sections[section].payload_types;
        let of_section = |packet: &&RtpPacket| types.contains(&packet.header.payload_type);
        let packets = self.packets.iter().filter(of_section);
        packets.map(|packet| packet.payload.to_vec()).collect()
    }

    /// Does what there is to do; whether anything came.
    fn step(&mut self) -> bool {
        let now = self.clock.epoch().instant(self.clock.now());
        if self.closed {
            return false;
        }
        if self.timeout <= now {
            self.rtc
                .handle_input(Input::Timeout(now))
                .expect("it lives");
            self.drain();
        }
        let mut buffer = [0; 2_048];
        let Ok((len, source)) = self.socket.recv_from(&mut buffer) else {
            return false;
        };
        let contents = &buffer[..len];
        let local = self.socket.local_addr().expect("it is bound");
        if let Ok(received) = Receive::new(Protocol::Udp, source, local, contents) {
            let input = Input::Receive(now, received);
            self.closed |= self.rtc.handle_input(input).is_err();
            self.drain();
        }
        true
    }

    fn drain(&mut self) {
        while !self.closed {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.timeout = at;
                    self.closed |= !self.rtc.is_alive();
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    // A full buffer loses it, as a network may.
                    let to = transmit.destination;
                    self.socket.send_to(&transmit.contents, to).ok();
                }
                Ok(Output::Event(Event::Connected)) => self.connected = true,
                Ok(Output::Event(Event::RtpPacket(packet))) => self.packets.push(packet),
                Ok(Output::Event(Event::RawPacket(raw))) => {
                    self.goodbye |= matches!(*raw, RawPacket::RtcpRx(Rtcp::Goodbye(_)));
                }
                Ok(Output::Event(_)) => {}
                Err(_) => self.closed = true,
            }
        }
    }
}

impl Section {
    fn of(rtc: &mut Rtc, mid: Mid) -> Self {
        let media = rtc.media(mid).expect("the section exists");
        let payload_types = media.remote_pts().iter().map(|pt| **pt).collect();
        let mut api = rtc.direct_api();
        let ssrc = api.stream_tx_by_mid(mid, None).map(|stream| stream.ssrc());
        Self {
            payload_types,
            ssrc,
            sequence: 0,
        }
    }
}

/// Drives all peers until `done`, at most for `limit`; whether it came to that.
pub(crate) fn run(
    peers: &mut [&mut Peer],
    limit: Duration,
    done: impl Fn(&[&mut Peer]) -> bool,
) -> bool {
    let clock = Clock::start();
    let end = clock.now() + limit;
    loop {
        let mut active = false;
        for peer in peers.iter_mut() {
            active |= peer.step();
        }
        if done(peers) {
            return true;
        }
        if clock.now() >= end {
            return false;
        }
        if !active {
            thread::park_timeout(IDLE);
        }
    }
}
