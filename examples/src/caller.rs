//! One call: a str0m client with one Opus track in both directions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite, SeqNo, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError};

use crate::dtls::Credentials;

/// Units of Opus' RTP clock in a millisecond.
const CLOCK_PER_MS: u32 = 48;
const STAMP_BYTES: usize = 16;
/// A stamp behind the three bytes of an Opus packet that is all padding.
pub const PAYLOAD_BYTES_MIN: usize = 3 + STAMP_BYTES;
/// One length byte counts at most 254 bytes of padding.
pub const PAYLOAD_BYTES_MAX: usize = 3 + 254;

/// A call whose offer is written.
pub struct Offered {
    rtc: Rtc,
    mid: Mid,
    pending: SdpPendingOffer,
    address: SocketAddr,
    /// The offer.
    pub sdp: String,
}

/// A call that was answered.
pub struct Caller {
    rtc: Rtc,
    ssrc: Ssrc,
    payload_type: u8,
    sequence: u64,
    /// The address it calls from.
    pub address: SocketAddr,
    /// When it wants to be driven, whatever comes.
    pub timeout: Instant,
}

/// What came out of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// ICE and DTLS are done.
    Connected,
    /// A packet with our stamp.
    Stamped(Stamp),
    /// A packet without.
    Foreign,
    /// It is over.
    Closed,
}

/// What a packet carries in place of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the call.
    pub call: u32,
    /// Number of the packet.
    pub packet: u32,
    /// When it was sent, on the sender's clock.
    pub sent_nanos: u64,
}

impl Offered {
    /// Writes an offer for a call from `address`.
    ///
    /// # Errors
    /// When str0m refuses the address.
    pub fn new(
        credentials: &Credentials,
        address: SocketAddr,
        now: Instant,
    ) -> Result<Self, RtcError> {
        let mut rtc = RtcConfig::new()
            .set_rtp_mode(true)
            .set_crypto_provider(Arc::clone(&credentials.provider))
            .set_dtls_cert(credentials.certificate.clone())
            .clear_codecs()
            .enable_opus(true, false)
            .build(now);
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp)?);
        let mut changes = rtc.sdp_api();
        let mid = changes.add_media(
            MediaKind::Audio,
            Direction::SendRecv,
            Some("load".into()),
            None,
            None,
        );
        let (offer, pending) = changes.apply().expect("a section was added");
        Ok(Self {
            rtc,
            mid,
            pending,
            address,
            sdp: offer.to_sdp_string(),
        })
    }

    /// Takes the answer.
    ///
    /// # Errors
    /// When str0m cannot read it, or it agrees on no codec.
    pub fn answered(mut self, answer: &str, now: Instant) -> Result<Caller, RtcError> {
        let unusable = |what: &str| RtcError::RemoteSdp(what.to_owned());
        let answer = SdpAnswer::from_sdp_string(answer).map_err(|e| unusable(&e.to_string()))?;
        self.rtc.sdp_api().accept_answer(self.pending, answer)?;
        let media = self.rtc.media(self.mid);
        let payload_type = media
            .and_then(|media| media.remote_pts().first().copied())
            .ok_or_else(|| unusable("no codec was agreed"))?;
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(self.mid, None);
        let ssrc = stream
            .ok_or_else(|| unusable("the track may not be sent"))?
            .ssrc();
        Ok(Caller {
            rtc: self.rtc,
            ssrc,
            payload_type: *payload_type,
            sequence: 0,
            address: self.address,
            timeout: now,
        })
    }
}

impl Caller {
    /// Handles a datagram.
    pub fn receive(&mut self, now: Instant, source: SocketAddr, contents: &[u8]) -> bool {
        let Ok(datagram) = Receive::new(Protocol::Udp, source, self.address, contents) else {
            return true;
        };
        self.rtc.handle_input(Input::Receive(now, datagram)).is_ok()
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant) -> bool {
        self.rtc.handle_input(Input::Timeout(now)).is_ok()
    }

    /// Sends one packet of 20 ms; it leaves at the next [`Self::poll`].
    pub fn send(&mut self, now: Instant, payload: Arc<[u8]>) -> bool {
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx(&self.ssrc) else {
            return false;
        };
        self.sequence += 1;
        let time = (self.sequence as u32).wrapping_mul(20 * CLOCK_PER_MS);
        let sequence = SeqNo::from(self.sequence);
        let write = RtpWrite::new(self.payload_type.into(), sequence, time, now, payload);
        let values = ExtensionValues {
            audio_level: Some(-30),
            voice_activity: Some(true),
            ..Default::default()
        };
        stream.write_rtp(write.ext_vals(values));
        self.tick(now)
    }

    /// Says BYE and close_notify at the next [`Self::poll`].
    pub fn hang_up(&mut self) {
        // One that never connected has nobody to say it to.
        self.rtc.close().ok();
    }

    /// Takes the next thing it did; datagrams go to `out`.
    pub fn poll(&mut self, out: &mut impl FnMut(SocketAddr, &[u8])) -> Option<Heard> {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.timeout = at;
                    return None;
                }
                Ok(Output::Transmit(transmit)) => out(transmit.destination, &transmit.contents),
                Ok(Output::Event(Event::Connected)) => return Some(Heard::Connected),
                Ok(Output::Event(Event::RtpPacket(packet))) => {
                    let stamp = Stamp::read(&packet.payload);
                    return Some(stamp.map_or(Heard::Foreign, Heard::Stamped));
                }
                Ok(Output::Event(_)) => {}
                Err(_) => return Some(Heard::Closed),
            }
            if !self.rtc.is_alive() {
                return Some(Heard::Closed);
            }
        }
    }
}

impl Stamp {
    /// An Opus packet (RFC 6716 §3.2.5) of one empty frame, with the stamp in its padding.
    #[must_use]
    pub fn write(&self, payload_bytes: usize) -> Arc<[u8]> {
        let payload_bytes = payload_bytes.clamp(PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX);
        let mut payload = vec![0; payload_bytes];
        payload[0] = 0xfb;
        payload[1] = 0x41;
        payload[2] = (payload_bytes - 3) as u8;
        payload[3..7].copy_from_slice(&self.call.to_be_bytes());
        payload[7..11].copy_from_slice(&self.packet.to_be_bytes());
        payload[11..19].copy_from_slice(&self.sent_nanos.to_be_bytes());
        payload.into()
    }

    /// Reads it back; `None` when this packet is not of our making.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&[0xfb, 0x41])?.get(1..)?;
        Some(Self {
            call: u32::from_be_bytes(*rest.first_chunk()?),
            packet: u32::from_be_bytes(*rest.get(4..)?.first_chunk()?),
            sent_nanos: u64::from_be_bytes(*rest.get(8..)?.first_chunk()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_at_every_size_and_foreign_packets_have_none() {
        let stamp = Stamp {
            call: 7,
            packet: 70_000,
            sent_nanos: 1 << 40,
        };
        for bytes in [0, PAYLOAD_BYTES_MIN, 80, PAYLOAD_BYTES_MAX, 9_000] {
            assert_eq!(Stamp::read(&stamp.write(bytes)), Some(stamp));
        }
        assert_eq!(Stamp::read(&[0xfb, 0x41, 9, 1]), None);
        assert_eq!(Stamp::read(b"\xfc and more than sixteen bytes"), None);
    }
}
