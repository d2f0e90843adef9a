//! A peer without a library of its own: it holds the keys and says what it likes.

use std::net::SocketAddr;
use std::sync::Arc;

use antiphon_core::ids::SessionId;
use antiphon_core::limits::{SRTCP_OVERHEAD_BYTES_MAX, SRTP_OVERHEAD_BYTES_MAX};
use antiphon_core::message::{ProfileName, Role};
use antiphon_core::plan::{
    AnnouncedSsrc, Codec, CodecPlan, DtlsRole, ExtensionIds, Feedback, Fingerprint, IceCredentials,
    LocalDescription, MediaKind, MediaPlan, Mid, SessionPlan,
};
use antiphon_core::srtp::{
    Inbound, KeyingMaterial, Outbound, ReplayWindow, RtpPosition, SendSource,
};
use antiphon_core::wire::rtcp::CompoundWriter;
use antiphon_core::wire::rtp::{Header, HeaderFields, write_header};
use antiphon_core::wire::{Class, classify};
use aws_lc_rs::digest::{SHA256, digest};
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use is::stun::{StunMessage, TransId};

use super::{SERVER, World};

/// Payload types of [`plan`].
pub(crate) const OPUS: u8 = 111;
pub(crate) const VP8: u8 = 96;
pub(crate) const RTX: u8 = 97;
/// Sources that [`plan`] announces for audio and video.
pub(crate) const AUDIO_SSRC: u32 = 0xa0d1_0001;
pub(crate) const VIDEO_SSRC: u32 = 0x71de_0001;
/// The id of the audio level extension in [`plan`].
pub(crate) const LEVEL: u8 = 1;

/// A peer that speaks STUN, DTLS and SRTP by hand. It lives at a tapped address, without loss or delay.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    pub(crate) session: SessionId,
    pub(crate) local: LocalDescription,
    pub(crate) remote: IceCredentials,
    pub(crate) outbound: Outbound,
    exported: Vec<u8>,
    inbound: Inbound,
    window: ReplayWindow,
}

/// What it received, opened.
pub(crate) enum Heard {
    Rtp(Header, Vec<u8>),
    Rtcp(Vec<u8>),
    Stun(Vec<u8>),
}

impl Raw {
    /// Opens a session for a plan of [`plan`], goes through ICE and DTLS, and keeps the keys.
    pub(crate) fn connect(
        world: &mut World,
        address: SocketAddr,
        role: Role,
        plan: SessionPlan,
    ) -> Self {
        Self::connect_nominating(world, address, role, plan, true)
    }

    /// The same, with or without a nomination.
    pub(crate) fn connect_nominating(
        world: &mut World,
        address: SocketAddr,
        role: Role,
        plan: SessionPlan,
        nominates: bool,
    ) -> Self {
        let (certificate, fingerprint) = certificate();
        let remote = plan.remote_ice.clone();
        let plan = SessionPlan {
            remote_fingerprint: fingerprint,
            ..plan
        };
        let (session, local) = world.open(plan, role).expect("there is room");
        world.taps.insert(address, Vec::new());
        let check = check(&local.ice, &remote, nominates);
        world.inject(address, &check);
        let provider = str0m_aws_lc_rs::dimpl_crypto_provider();
        let config = Config::builder().with_crypto_provider(provider).build();
        let config = Arc::new(config.expect("a valid configuration"));
        let mut dtls = Dtls::new_12(config, certificate, world.epoch.instant(world.now));
        dtls.set_active(true);
        let (mut keys, mut done) = (None, false);
        for _ in 0..20 {
            let now = world.epoch.instant(world.now);
            dtls.handle_timeout(now).expect("the handshake goes on");
            for sent in std::mem::take(world.taps.get_mut(&address).expect("it was tapped above")) {
                if classify(&sent) == Class::Dtls {
                    dtls.handle_packet(&sent).expect("our server speaks DTLS");
                }
            }
            let mut buffer = [0; 4_096];
            loop {
                match dtls.poll_output(&mut buffer) {
                    Output::Packet(packet) => world.inject(address, packet),
                    Output::KeyingMaterial(exported, profile) => {
                        keys = Some((exported.to_vec(), profile));
                    }
                    Output::Connected => done = true,
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
            if done && keys.is_some() {
                break;
            }
        }
        let (exported, profile) = keys.expect("the handshake finished");
        assert_eq!(profile, SrtpProfile::AEAD_AES_256_GCM);
        let keying = KeyingMaterial::new(ProfileName::AeadAes256Gcm, &exported)
            .expect("of the right length");
        let (inbound, outbound) = keying.into_contexts(DtlsRole::Client);
        Self {
            address,
            session,
            local,
            remote,
            outbound,
            exported,
            inbound,
            window: ReplayWindow::default(),
        }
    }

    /// Seals a packet of any source whatever, as its first: each call has a context of its own for the key.
    pub(crate) fn seal_first(&self, fields: &HeaderFields, payload: &[u8]) -> Vec<u8> {
        let keying = KeyingMaterial::new(ProfileName::AeadAes256Gcm, &self.exported);
        let (_, mut outbound) = keying
            .expect("of the right length")
            .into_contexts(DtlsRole::Client);
        let mut source = outbound.claim(fields.ssrc).expect("the first claim");
        seal(&outbound, &mut source, fields, &[], payload)
    }

    /// Sends a check from any address.
    pub(crate) fn check_from(
        &self,
        world: &mut World,
        source: SocketAddr,
        nominates: bool,
    ) -> usize {
        let bytes = check(&self.local.ice, &self.remote, nominates);
        world.inject(source, &bytes);
        bytes.len()
    }

    /// Answers the checks that the shard sent to a tapped address, from there; how many.
    pub(crate) fn answer_checks(&self, world: &mut World, address: SocketAddr) -> usize {
        let sent = std::mem::take(world.taps.get_mut(&address).expect("it is tapped"));
        let answer = |bytes: &Vec<u8>| {
            let check = StunMessage::parse(bytes).ok()?;
            let reply = StunMessage::binding_reply(check.trans_id(), SERVER);
            check
                .is_binding_request()
                .then(|| written(&reply, &self.remote.password))
        };
        let answers: Vec<_> = sent.iter().filter_map(answer).collect();
        for answer in &answers {
            world.inject(address, answer);
        }
        answers.len()
    }

    /// Seals a packet.
    pub(crate) fn seal(
        &self,
        source: &mut SendSource,
        fields: &HeaderFields,
        extensions: &[(u8, &[u8])],
        payload: &[u8],
    ) -> Vec<u8> {
        seal(&self.outbound, source, fields, extensions, payload)
    }

    /// Seals a compound that `write` fills.
    pub(crate) fn seal_rtcp(&mut self, write: impl FnOnce(&mut CompoundWriter<'_>)) -> Vec<u8> {
        let mut out = [0; 1_400];
        let mut writer = CompoundWriter::new(&mut out);
        write(&mut writer);
        let len = writer.len();
        self.seal_rtcp_bytes(&out[..len])
    }

    /// Seals anything at all as if it were RTCP.
    pub(crate) fn seal_rtcp_bytes(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = plain.to_vec();
        out.resize(plain.len() + SRTCP_OVERHEAD_BYTES_MAX, 0);
        let len = self.outbound.seal_rtcp(&mut out, plain.len());
        out.truncate(len.expect("long enough for a header"));
        out
    }

    /// Takes and opens all that the shard sent to it since the last call. RTP of one source only.
    pub(crate) fn listen(&mut self, world: &mut World) -> Vec<Heard> {
        let sent = std::mem::take(world.taps.get_mut(&self.address).expect("it is tapped"));
        let open = |mut bytes: Vec<u8>| match classify(&bytes) {
            Class::Rtp => {
                let header = Header::parse(&bytes).expect("we send RTP");
                let position = RtpPosition {
                    ssrc: header.ssrc,
                    sequence_number: header.sequence_number,
                    header_len: header.len,
                };
                let mut fresh = ReplayWindow::default();
                let window = if header.payload_type == RTX {
                    &mut fresh
                } else {
                    &mut self.window
                };
                let opened = self.inbound.open_rtp(window, position, &mut bytes).ok()?;
                Some(Heard::Rtp(
                    header,
                    bytes[header.len..opened.length].to_vec(),
                ))
            }
            Class::Rtcp => {
                let len = self.inbound.open_rtcp(&mut bytes).expect("we seal well");
                Some(Heard::Rtcp(bytes[..len].to_vec()))
            }
            Class::Stun => Some(Heard::Stun(bytes)),
            _ => None,
        };
        sent.into_iter().filter_map(open).collect()
    }
}

fn seal(
    outbound: &Outbound,
    source: &mut SendSource,
    fields: &HeaderFields,
    extensions: &[(u8, &[u8])],
    payload: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; 100 + payload.len() + SRTP_OVERHEAD_BYTES_MAX];
    let header = write_header(&mut out, fields, extensions).expect("there is room");
    let number = fields.sequence_number;
    let len = outbound.seal_rtp(source, number, &mut out, header, &[], payload);
    out.truncate(len.expect("a fresh number"));
    out
}

/// A check of a peer with these credentials.
pub(crate) fn check(server: &IceCredentials, client: &IceCredentials, nominates: bool) -> Vec<u8> {
    let username = format!("{}:{}", server.ufrag, client.ufrag);
    let message =
        StunMessage::binding_request(&username, TransId::new(), true, 7, 0x6e00_01ff, nominates);
    written(&message, &server.password)
}

fn written(message: &StunMessage<'_>, password: &str) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let hmac = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
    let sign = |key: &[u8], parts: &[&[u8]]| hmac.sha1_hmac(key, parts);
    let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, sign);
    bytes.truncate(length.expect("it fits"));
    bytes
}

/// A header, with a timestamp 20 ms after that of the number before.
pub(crate) fn fields(payload_type: u8, ssrc: u32, sequence_number: u16) -> HeaderFields {
    HeaderFields {
        payload_type,
        marker: true,
        sequence_number,
        timestamp: u32::from(sequence_number) * 960,
        ssrc,
    }
}

/// One audio and one video section, in which the peer sends, receives, or both.
pub(crate) fn plan(receive: bool, send: bool) -> SessionPlan {
    let feedback = Feedback {
        nack: true,
        pli: true,
        fir: true,
        ..Feedback::default()
    };
    let section = |mid: &[u8], kind, codec, payload_type, rtx, ssrc| MediaPlan {
        mid: Mid::new(mid).expect("a short tag"),
        kind,
        receive,
        send,
        codecs: vec![CodecPlan {
            payload_type,
            codec,
            rtx_payload_type: rtx,
            feedback: if kind == MediaKind::Video {
                feedback
            } else {
                Feedback::default()
            },
        }],
        extensions: ExtensionIds {
            audio_level: Some(LEVEL),
            ..ExtensionIds::default()
        },
        ssrcs: if receive {
            vec![AnnouncedSsrc { ssrc, rtx: None }]
        } else {
            Vec::new()
        },
        rids: Vec::new(),
    };
    SessionPlan {
        remote_ice: IceCredentials {
            ufrag: "rawpeer".into(),
            password: "a-password-of-a-raw-peer".into(),
        },
        remote_fingerprint: Fingerprint([0; 32]),
        dtls_role: DtlsRole::Server,
        reduced_size_rtcp: true,
        media: vec![
            section(b"0", MediaKind::Audio, Codec::Opus, OPUS, None, AUDIO_SSRC),
            section(
                b"1",
                MediaKind::Video,
                Codec::Vp8,
                VP8,
                Some(RTX),
                VIDEO_SSRC,
            ),
        ],
    }
}

fn certificate() -> (DtlsCertificate, Fingerprint) {
    let made = str0m_aws_lc_rs::default_provider()
        .dtls_provider
        .generate_certificate()
        .expect("the library makes certificates");
    let hash = digest(&SHA256, &made.certificate);
    let fingerprint = Fingerprint(hash.as_ref().try_into().expect("32 bytes"));
    let certificate = DtlsCertificate {
        certificate: made.certificate,
        private_key: made.private_key,
    };
    (certificate, fingerprint)
}
