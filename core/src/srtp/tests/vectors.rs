//! Published vectors, byte for byte.

use aws_lc_rs::digest;

use super::{field, position};
use crate::message::ProfileName;
use crate::srtp::gcm::Gcm;
use crate::srtp::keys::{KeyDerivation, Suites, counter_key};
use crate::srtp::suite::Suite;
use crate::srtp::{Inbound, OpenError, Outbound, ReplayWindow, cm};
use crate::testing::{json, malformed, unhex};

/// Session keys given directly, as RFC 7714 does.
fn suites(key: &[u8], salt: &[u8]) -> Suites {
    let suite = || Suite::Gcm(Gcm::new(key, &salt.try_into().unwrap()));
    Suites {
        rtp: suite(),
        rtcp: suite(),
    }
}

fn profile(key: &[u8]) -> ProfileName {
    if key.len() == 32 {
        ProfileName::AeadAes256Gcm
    } else {
        ProfileName::AeadAes128Gcm
    }
}

/// Sections 16.1.3, 16.1.4, 16.2.3, 16.2.4, 17.3 and 17.4 authenticate without encrypting, which
/// WebRTC cannot negotiate; the two of RTCP must be refused for it.
#[test]
fn rfc_7714_packets_seal_and_open_to_the_byte() {
    let Some(file) = json("rfc/rfc7714-srtp-gcm.json") else {
        return;
    };
    let (mut sealed, mut opened, mut refused) = (0, 0, 0);
    for vector in file["vectors"].as_array().unwrap() {
        let section = vector["section"].as_str().unwrap();
        let (key, salt) = (field(vector, "key"), field(vector, "salt"));
        let inbound = || Inbound::from_suites(profile(&key), suites(&key, &salt));
        let outbound = || Outbound::from_suites(profile(&key), suites(&key, &salt));
        let input = field(vector, "in");
        match section.split_whitespace().next().unwrap() {
            "16.1.1." | "16.2.1." => {
                let expected = field(vector, "out");
                assert_eq!(seal_rtp(outbound(), &input), expected, "{section}");
                assert_eq!(open_rtp(&inbound(), &expected).unwrap(), input, "{section}");
                sealed += 1;
            }
            "16.1.2." | "16.2.2." => {
                let plain = open_rtp(&inbound(), &input).unwrap();
                assert_eq!(plain[12..], field(vector, "out_payload"), "{section}");
                assert_eq!(plain[..12], input[..12], "{section}");
                opened += 1;
            }
            "17.1." => {
                let expected = field(vector, "out");
                let index = u32::from_be_bytes(*expected.last_chunk().unwrap()) & 0x7fff_ffff;
                let outbound = outbound().with_rtcp_index(index);
                assert_eq!(seal_rtcp(outbound, &input), expected, "{section}");
                sealed += 1;
            }
            "17.2." => {
                let mut packet = input.clone();
                let length = inbound().open_rtcp(&mut packet).unwrap();
                assert_eq!(packet[..length], field(vector, "out"), "{section}");
                opened += 1;
            }
            "17.3." => {
                let mut packet = field(vector, "out");
                assert_eq!(
                    inbound().open_rtcp(&mut packet),
                    Err(OpenError::NotEncrypted)
                );
                refused += 1;
            }
            "17.4." => {
                let mut packet = input.clone();
                assert_eq!(
                    inbound().open_rtcp(&mut packet),
                    Err(OpenError::NotEncrypted)
                );
                refused += 1;
            }
            _ => assert!(section.contains("Tag"), "an unknown section: {section}"),
        }
    }
    assert_eq!((sealed, opened, refused), (3, 3, 2));
}

#[test]
fn rfc_3711_and_6188_key_derivation_gives_every_label() {
    let Some(file) = json("rfc/rfc3711-rfc6188-aescm-kdf.json") else {
        return;
    };
    let mut labels_checked = 0;
    for vector in file["kdf"].as_array().unwrap() {
        let key = field(vector, "master_key");
        if key.len() == 24 {
            continue; // AES-192 is in no profile of WebRTC.
        }
        let derivation = KeyDerivation::new(&key, &field(vector, "master_salt"));
        for (name, expected) in vector["labels"].as_object().unwrap() {
            let label = name[..1].parse().unwrap();
            let expected = unhex(expected.as_str().unwrap());
            let mut derived = vec![0xff; expected.len()];
            derivation.fill(label, &mut derived);
            assert_eq!(derived, expected, "{} {name}", vector["name"]);
            labels_checked += 1;
        }
    }
    assert_eq!(labels_checked, 12);
}

#[test]
fn rfc_3711_counter_mode_gives_a_megabyte_of_key_stream() {
    let Some(file) = json("rfc/rfc3711-rfc6188-aescm-kdf.json") else {
        return;
    };
    let mut streams_checked = 0;
    for vector in file["aes_cm"].as_array().unwrap() {
        let key = field(vector, "session_key");
        if key.len() == 24 {
            continue;
        }
        let length = vector["keystream_len"].as_u64().unwrap();
        let mut stream = vec![0; usize::try_from(length).unwrap()];
        let counter = field(vector, "offset_iv").try_into().unwrap();
        cm::apply_key_stream(&counter_key(&key), counter, &mut stream);
        let hash = digest::digest(&digest::SHA256, &stream);
        assert_eq!(
            hash.as_ref(),
            field(vector, "keystream_sha256"),
            "{}",
            vector["name"]
        );
        streams_checked += 1;
    }
    assert_eq!(streams_checked, 2);
}

#[test]
fn libsrtp_packets_seal_and_open_to_the_byte_from_the_master_key() {
    let Some(file) = json("rfc/libsrtp-srtp-e2e.json") else {
        return;
    };
    let mut checked = 0;
    for vector in file["vectors"].as_array().unwrap() {
        let (profile, salt) = match vector["profile"].as_str().unwrap() {
            "AES_CM_128_HMAC_SHA1_80" => (ProfileName::Aes128CmSha1_80, "master_salt"),
            "AEAD_AES_128_GCM" => (ProfileName::AeadAes128Gcm, "master_salt_12"),
            _ => continue, // AES-192 and AES-256 in counter mode are not ours.
        };
        let (key, salt) = (field(vector, "master_key"), field(vector, salt));
        let outbound = || Outbound::from_master(profile, &key, &salt).unwrap();
        let mut inbound = Inbound::from_master(profile, &key, &salt).unwrap();
        let (rtp, srtp) = (field(vector, "rtp"), field(vector, "srtp"));
        assert_eq!(seal_rtp(outbound(), &rtp), srtp);
        assert_eq!(open_rtp(&inbound, &srtp).unwrap(), rtp);
        let (rtcp, srtcp) = (field(vector, "rtcp"), field(vector, "srtcp"));
        assert_eq!(seal_rtcp(outbound(), &rtcp), srtcp);
        let mut packet = srtcp;
        let length = inbound.open_rtcp(&mut packet).unwrap();
        assert_eq!(packet[..length], rtcp);
        checked += 1;
    }
    assert_eq!(checked, 2);
}

#[test]
fn no_malformed_packet_opens_or_panics_or_changes_state() {
    let Some(inputs) = malformed("malformed/srtp.jsonl") else {
        return;
    };
    for bytes in &inputs {
        super::properties::assert_refused_as_anything(bytes);
    }
    assert_eq!(inputs.len(), 290);
}

fn seal_rtp(mut outbound: Outbound, plain: &[u8]) -> Vec<u8> {
    let at = position(plain).unwrap();
    let mut out = vec![0xee; plain.len() + 16];
    out[..at.header_len].copy_from_slice(&plain[..at.header_len]);
    let mut source = outbound.claim(at.ssrc).unwrap();
    let payload = &plain[at.header_len..];
    let length = outbound
        .seal_rtp(
            &mut source,
            at.sequence_number,
            &mut out,
            at.header_len,
            &[],
            payload,
        )
        .unwrap();
    out.truncate(length);
    out
}

fn seal_rtcp(mut outbound: Outbound, plain: &[u8]) -> Vec<u8> {
    let mut out = plain.to_vec();
    out.resize(plain.len() + 20, 0xee);
    let length = outbound.seal_rtcp(&mut out, plain.len()).unwrap();
    out.truncate(length);
    out
}

fn open_rtp(inbound: &Inbound, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut packet = sealed.to_vec();
    let at = position(sealed).unwrap();
    let opened = inbound.open_rtp(&mut ReplayWindow::default(), at, &mut packet)?;
    assert_eq!(opened.index, u64::from(at.sequence_number));
    packet.truncate(opened.length);
    Ok(packet)
}
