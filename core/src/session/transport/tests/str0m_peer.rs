//! An independent client: str0m's `Rtc`.

use std::sync::Arc;
use std::time::Duration;

use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use super::world::{SESSION, client_address, credentials, epoch, path_from, server_address};
use super::*;

struct Peer {
    rtc: Rtc,
    deadline: Timestamp,
    is_connected: bool,
}

impl Peer {
    fn new(epoch: Epoch, now: Timestamp, server: &Identity, is_client: bool) -> Self {
        let provider = Arc::new(str0m_aws_lc_rs::default_provider());
        let config = RtcConfig::new()
            .set_rtp_mode(true)
            .set_crypto_provider(provider);
        let mut rtc = config.build(epoch.instant(now));
        rtc.add_local_candidate(Candidate::host(client_address(), "udp").unwrap());
        rtc.add_remote_candidate(Candidate::host(server_address(), "udp").unwrap());
        let creds = |name: &str| {
            let IceCredentials { ufrag, password } = &credentials(name);
            str0m::IceCreds {
                ufrag: ufrag.clone(),
                pass: password.clone(),
            }
        };
        let mut direct = rtc.direct_api();
        direct.set_ice_controlling(true);
        direct.set_local_ice_credentials(creds("client"));
        direct.set_remote_ice_credentials(creds("server"));
        direct.set_remote_fingerprint(str0m::crypto::Fingerprint {
            hash_func: "sha-256".into(),
            bytes: server.fingerprint().0.to_vec(),
        });
        direct.start_dtls(is_client).unwrap();
        Self {
            rtc,
            deadline: now,
            is_connected: false,
        }
    }

    fn fingerprint(&mut self) -> Fingerprint {
        let direct = self.rtc.direct_api();
        let bytes = direct.local_dtls_fingerprint().bytes.as_slice();
        Fingerprint(bytes.try_into().unwrap())
    }

    fn drain(&mut self, epoch: Epoch) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Transmit(transmit) => sent.push(transmit.contents.to_vec()),
                Output::Event(event) => self.is_connected |= matches!(event, Event::Connected),
                Output::Timeout(at) => {
                    self.deadline = epoch.timestamp(at);
                    return sent;
                }
            }
        }
    }
}

#[test]
fn str0m_connects_in_either_role() {
    for role in ROLES {
        let (epoch, mut now) = (epoch(), Timestamp::from_millis(1));
        let identity = Arc::new(Identity::generate().unwrap());
        let mut peer = Peer::new(epoch, now, &identity, role == DtlsRole::Server);
        let (local, remote) = (credentials("server"), credentials("client"));
        let fingerprint = peer.fingerprint();
        let mut server = Transport::new(
            &identity,
            SESSION,
            (local, [7; 16]),
            remote,
            fingerprint,
            role,
            (now, epoch),
        );
        let path = path_from(client_address());
        let mut connected = None;
        let end = now + Duration::from_secs(10);
        while connected.is_none() || !peer.is_connected {
            assert!(
                now < end,
                "{role:?}: server {connected:?}, peer {}",
                peer.is_connected
            );
            let mut to_peer = Vec::new();
            let mut out = |_: Path, bytes: &[u8]| to_peer.push(bytes.to_vec());
            server.handle_timeout(now, &mut out);
            for bytes in peer.drain(epoch) {
                match bytes[0] {
                    0..=3 => drop(server.handle_stun(now, path, &bytes, &mut out).unwrap()),
                    20..=63 => server.handle_dtls(now, path, &bytes, &mut out).unwrap(),
                    _ => {}
                }
            }
            for bytes in to_peer {
                let input = Receive {
                    proto: Protocol::Udp,
                    source: server_address(),
                    destination: client_address(),
                    contents: bytes.as_slice().try_into().unwrap(),
                };
                peer.rtc
                    .handle_input(Input::Receive(epoch.instant(now), input))
                    .unwrap();
            }
            while let Some(event) = server.poll_event() {
                match event {
                    TransportEvent::Connected { profile, .. } => connected = Some(profile),
                    TransportEvent::Closed(reason) => panic!("{reason:?}"),
                }
            }
            now = now + Duration::from_millis(5);
            peer.rtc
                .handle_input(Input::Timeout(epoch.instant(now)))
                .unwrap();
        }
        assert_eq!(connected, Some(ProfileName::AeadAes256Gcm));
        assert_eq!(server.send_path(), Some(path));
    }
}
