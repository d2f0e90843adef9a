//! What must hold of any packets, keys and orders.

use super::{PROFILES, header, master, position};
use crate::limits::{
    SEQUENCE_WINDOW, SRTCP_OVERHEAD_BYTES_MAX, SRTCP_SENDERS_MAX, SRTP_OVERHEAD_BYTES_MAX,
    SRTP_SEND_SOURCES_MAX,
};
use crate::message::ProfileName;
use crate::plan::DtlsRole;
use crate::rng::Seed;
use crate::srtp::suite::Suite;
use crate::srtp::{
    Inbound, KeyingMaterial, OpenError, Opened, Outbound, RTP_INDEX_END, ReplayWindow, RtpPosition,
    SealError, SendSource,
};

const SSRC: u32 = 0x1357_9bdf;

/// One direction, both ends.
fn pair(profile: ProfileName) -> (Outbound, Inbound) {
    let (key, salt) = master(profile, 7);
    let outbound = Outbound::from_master(profile, &key, &salt).unwrap();
    (
        outbound,
        Inbound::from_master(profile, &key, &salt).unwrap(),
    )
}

/// A sealed packet with a header of 12 bytes, or why there is none.
fn seal(
    outbound: &Outbound,
    source: &mut SendSource,
    sequence_number: u16,
    prefix: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0xee; 12 + prefix.len() + payload.len() + SRTP_OVERHEAD_BYTES_MAX];
    out[..12].copy_from_slice(&header(source.ssrc(), sequence_number));
    let length = outbound.seal_rtp(source, sequence_number, &mut out, 12, prefix, payload)?;
    assert!(
        out[length..].iter().all(|byte| *byte == 0xee),
        "written beyond the packet"
    );
    out.truncate(length);
    Ok(out)
}

fn open(
    inbound: &Inbound,
    window: &mut ReplayWindow,
    sealed: &[u8],
) -> Result<(u64, Vec<u8>), OpenError> {
    let mut packet = sealed.to_vec();
    let Opened { length, index } =
        inbound.open_rtp(window, position(sealed).unwrap(), &mut packet)?;
    packet.truncate(length);
    Ok((index, packet.split_off(12)))
}

fn seal_rtcp(outbound: &mut Outbound, ssrc: u32, body: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0x80, 201, 0, 1];
    out.extend(ssrc.to_be_bytes());
    out.extend(body);
    let plain_len = out.len();
    out.resize(plain_len + SRTCP_OVERHEAD_BYTES_MAX, 0xee);
    let length = outbound.seal_rtcp(&mut out, plain_len)?;
    assert!(
        out[length..].iter().all(|byte| *byte == 0xee),
        "written beyond the packet"
    );
    out.truncate(length);
    Ok(out)
}

/// Offers `bytes` as RTP with every plausible header length and as RTCP, in every profile.
pub(super) fn assert_refused_as_anything(bytes: &[u8]) {
    for profile in PROFILES {
        let (_, mut inbound) = pair(profile);
        let lengths = [0, 8, 12, 16, bytes.len(), bytes.len() + 1, usize::MAX];
        let guesses = lengths.map(|header_len| RtpPosition {
            ssrc: 1,
            sequence_number: 2,
            header_len,
        });
        for at in guesses.into_iter().chain(position(bytes)) {
            let mut window = ReplayWindow::default();
            let mut packet = bytes.to_vec();
            assert!(inbound.open_rtp(&mut window, at, &mut packet).is_err());
            assert_eq!(window, ReplayWindow::default());
        }
        assert!(inbound.open_rtcp(&mut bytes.to_vec()).is_err());
        assert!(inbound.rtcp_senders().is_empty());
    }
}

#[test]
fn inputs_of_every_small_length_are_refused() {
    for length in 0..=64 {
        assert_refused_as_anything(&vec![0x80; length]);
        assert_refused_as_anything(&vec![0xff; length]);
    }
}

#[test]
fn any_split_into_prefix_and_payload_seals_to_the_same_bytes_and_opens() {
    for profile in PROFILES {
        for length in [0, 1, 15, 16, 17, 100, 1_100] {
            let plain: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let gathered = {
                let (mut outbound, _) = pair(profile);
                let mut source = outbound.claim(SSRC).unwrap();
                seal(&outbound, &mut source, 9, &[], &plain).unwrap()
            };
            for at in [0, 1, 2, 15, 16, length / 2, length] {
                let (mut outbound, inbound) = pair(profile);
                let mut source = outbound.claim(SSRC).unwrap();
                let (prefix, payload) = plain.split_at(at.min(length));
                let sealed = seal(&outbound, &mut source, 9, prefix, payload).unwrap();
                assert_eq!(
                    sealed, gathered,
                    "{profile:?}, {length} bytes split at {at}"
                );
                let mut window = ReplayWindow::default();
                assert_eq!(open(&inbound, &mut window, &sealed), Ok((9, plain.clone())));
                assert_eq!(window.highest(), Some(9));
            }
        }
    }
}

#[test]
fn a_stream_survives_two_sequence_wraps_with_loss_and_reordering() {
    for profile in PROFILES {
        let (mut outbound, inbound) = pair(profile);
        let mut source = outbound.claim(SSRC).unwrap();
        let mut window = ReplayWindow::default();
        let mut rng = Seed::new([11; 32]).rng();
        let mut in_flight = Vec::new();
        let (mut sent, mut received) = (0, 0);
        let first = 30_000_u64;
        for step in 0..3_000 {
            // Strides keep the test short: 48 numbers a step, as if the rest were lost.
            let index = first + step * 48;
            let sealed = seal(
                &outbound,
                &mut source,
                index as u16,
                &[],
                &index.to_be_bytes(),
            );
            in_flight.push((index, sealed.unwrap()));
            sent += 1;
            if in_flight.len() > 10 {
                let at = rng.below(in_flight.len() as u32) as usize;
                let (index, sealed) = in_flight.swap_remove(at);
                let late = window
                    .highest()
                    .is_some_and(|highest| highest >= index + SEQUENCE_WINDOW as u64);
                match open(&inbound, &mut window, &sealed) {
                    Ok(opened) => assert_eq!(opened, (index, index.to_be_bytes().to_vec())),
                    Err(error) => assert!(late && error == OpenError::Replayed, "{error}"),
                }
                received += u32::from(!late);
            }
        }
        assert_eq!(source.highest(), Some(first + 2_999 * 48));
        assert!(window.highest().unwrap() >> 16 == 2, "two wraps");
        assert!(received > sent * 8 / 10, "{received} of {sent}");
    }
}

/// Zeros are sealed, so that what comes out is the key stream: equal only where a nonce is.
#[test]
fn no_nonce_is_used_twice_whatever_is_asked_for() {
    for profile in PROFILES {
        let (mut outbound, _) = pair(profile);
        let mut sources = [
            outbound.claim(SSRC).unwrap(),
            outbound.claim(SSRC + 1).unwrap(),
        ];
        let mut rng = Seed::new([5; 32]).rng();
        let mut key_streams = Vec::new();
        let (mut used, mut newest) = (0_u32, 60_000_u64);
        for _ in 0..1 << 17 {
            newest += u64::from(rng.below(8) != 0);
            // Mostly the next number; at times one repeated, or older than any cache.
            let back = if rng.below(6) == 0 {
                rng.below(1_500)
            } else {
                0
            };
            let sequence_number = (newest - u64::from(back)) as u16;
            let source = &mut sources[usize::from(rng.below(50) == 0)];
            let mut out = [0; 12 + 16 + SRTP_OVERHEAD_BYTES_MAX];
            out[..12].copy_from_slice(&header(source.ssrc(), sequence_number));
            match outbound.seal_rtp(source, sequence_number, &mut out, 12, &[], &[0; 16]) {
                Ok(_) => key_streams.push(<[u8; 16]>::try_from(&out[12..28]).unwrap()),
                Err(error) => {
                    assert_eq!(error, SealError::IndexUsed);
                    assert!(
                        out[12..].iter().all(|byte| *byte == 0),
                        "written though refused"
                    );
                    used += 1;
                }
            }
        }
        assert!(sources[0].highest().unwrap() >> 16 >= 2, "two wraps");
        assert!(
            used > 10_000 && key_streams.len() > 100_000,
            "{used} {}",
            key_streams.len()
        );
        let sealed = key_streams.len();
        key_streams.sort_unstable();
        key_streams.dedup();
        assert_eq!(key_streams.len(), sealed, "{profile:?}");
    }
}

#[test]
fn a_source_is_given_away_once_and_only_so_many_are() {
    let (mut outbound, _) = pair(ProfileName::AeadAes128Gcm);
    assert!(outbound.claim(SSRC).is_some());
    assert!(outbound.claim(SSRC).is_none());
    let given = (0..)
        .take_while(|ssrc| outbound.claim(*ssrc).is_some())
        .count();
    assert_eq!(given, SRTP_SEND_SOURCES_MAX - 1);
}

#[test]
fn a_sequence_number_is_sealed_once_and_never_when_too_old() {
    let (mut outbound, _) = pair(ProfileName::AeadAes256Gcm);
    let mut source = outbound.claim(SSRC).unwrap();
    const WIDTH: u16 = SEQUENCE_WINDOW as u16;
    let mut seal_number = |number| seal(&outbound, &mut source, number, &[], b"x").map(drop);
    assert_eq!(seal_number(5_000), Ok(()));
    assert_eq!(seal_number(5_000), Err(SealError::IndexUsed));
    assert_eq!(seal_number(5_000 - WIDTH + 1), Ok(()));
    assert_eq!(seal_number(5_000 - WIDTH + 1), Err(SealError::IndexUsed));
    assert_eq!(seal_number(5_000 - WIDTH), Err(SealError::IndexUsed));
    assert_eq!(
        seal_number(60_000),
        Err(SealError::IndexUsed),
        "before the first rollover"
    );
    assert_eq!(seal_number(5_001), Ok(()));
}

#[test]
fn rtp_ends_after_2_to_the_48_packets() {
    for profile in PROFILES {
        let (outbound, inbound) = pair(profile);
        let mut source = SendSource::starting_at(SSRC, RTP_INDEX_END - 3);
        let mut window = ReplayWindow::starting_at(RTP_INDEX_END - 3);
        for sequence_number in [65_534, 65_535] {
            assert!(!source.is_exhausted());
            let sealed = seal(&outbound, &mut source, sequence_number, &[], b"last").unwrap();
            let (index, plain) = open(&inbound, &mut window, &sealed).unwrap();
            assert_eq!(index, RTP_INDEX_END - 65_536 + u64::from(sequence_number));
            assert_eq!(plain, b"last");
        }
        assert!(source.is_exhausted());
        assert_eq!(
            seal(&outbound, &mut source, 0, &[], b"more"),
            Err(SealError::Exhausted)
        );
        assert_eq!(source.highest(), Some(RTP_INDEX_END - 1));

        // A sender that goes on repeats itself from index 0; those are old packets here.
        let mut fresh = SendSource::starting_at(SSRC, 5);
        let repeated = seal(&outbound, &mut fresh, 6, &[], b"again").unwrap();
        let before = window.clone();
        assert_eq!(
            open(&inbound, &mut window, &repeated),
            Err(OpenError::Replayed)
        );
        assert_eq!(window, before);
    }
}

#[test]
fn rtcp_ends_after_2_to_the_31_packets() {
    for profile in PROFILES {
        let (outbound, mut inbound) = pair(profile);
        let mut outbound = outbound.with_rtcp_index((1 << 31) - 2);
        for _ in 0..2 {
            assert!(!outbound.is_rtcp_exhausted());
            let mut sealed = seal_rtcp(&mut outbound, SSRC, b"report").unwrap();
            let length = inbound.open_rtcp(&mut sealed).unwrap();
            assert_eq!(&sealed[8..length], b"report");
        }
        assert!(outbound.is_rtcp_exhausted());
        assert_eq!(
            seal_rtcp(&mut outbound, SSRC, b"report"),
            Err(SealError::Exhausted)
        );
        assert_eq!(
            seal_rtcp(&mut outbound, SSRC + 1, b"report"),
            Err(SealError::Exhausted)
        );
    }
}

#[test]
fn no_room_writes_nothing_and_uses_no_index() {
    for profile in PROFILES {
        let (mut outbound, _) = pair(profile);
        let mut source = outbound.claim(SSRC).unwrap();
        let full = seal(&outbound, &mut source, 1, &[], &[1; 20])
            .unwrap()
            .len();
        for room in 12..full {
            let mut out = vec![0xee; room];
            out[..12].copy_from_slice(&header(SSRC, 2));
            let result = outbound.seal_rtp(&mut source, 2, &mut out, 12, &[1; 3], &[1; 17]);
            assert_eq!(result, Err(SealError::NoRoom));
            assert!(out[12..].iter().all(|byte| *byte == 0xee));
        }
        let result = outbound.seal_rtp(&mut source, 2, &mut [0; 64], usize::MAX, &[], &[]);
        assert_eq!(result, Err(SealError::NoRoom));
        assert!(seal(&outbound, &mut source, 2, &[], &[1; 20]).is_ok());

        let full = seal_rtcp(&mut outbound, SSRC, &[2; 12]).unwrap().len();
        for room in 20..full {
            let result = outbound.seal_rtcp(&mut vec![0; room], 20);
            assert_eq!(result, Err(SealError::NoRoom));
        }
        assert_eq!(outbound.seal_rtcp(&mut [0; 64], 7), Err(SealError::Short));
        assert_eq!(
            outbound.seal_rtcp(&mut [0; 64], usize::MAX),
            Err(SealError::NoRoom)
        );
    }
}

#[test]
fn each_flipped_bit_is_refused_and_counter_mode_leaves_the_packet_as_it_was() {
    for profile in PROFILES {
        let (mut outbound, mut inbound) = pair(profile);
        let mut source = outbound.claim(SSRC).unwrap();
        let rtp = seal(&outbound, &mut source, 9, &[], b"a payload of some bytes").unwrap();
        let rtcp = seal_rtcp(&mut outbound, SSRC, b"a report of some bytes").unwrap();
        for bit in 0..rtp.len() * 8 {
            let mut forged = rtp.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let (kept, mut window) = (forged.clone(), ReplayWindow::default());
            let Some(at) = position(&forged) else {
                continue;
            };
            assert!(
                inbound.open_rtp(&mut window, at, &mut forged).is_err(),
                "bit {bit}"
            );
            assert_eq!(window, ReplayWindow::default());
            assert!(
                profile != ProfileName::Aes128CmSha1_80 || forged == kept,
                "bit {bit}"
            );
        }
        for bit in 0..rtcp.len() * 8 {
            let mut forged = rtcp.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let kept = forged.clone();
            assert!(inbound.open_rtcp(&mut forged).is_err(), "bit {bit}");
            assert!(inbound.rtcp_senders().is_empty());
            assert!(
                profile != ProfileName::Aes128CmSha1_80 || forged == kept,
                "bit {bit}"
            );
        }
    }
}

/// A valid header with a huge sequence number costs nothing to make; it must not move the rollover.
#[test]
fn a_forged_sequence_number_does_not_push_the_rollover_counter() {
    for profile in PROFILES {
        let (mut outbound, inbound) = pair(profile);
        let mut source = outbound.claim(SSRC).unwrap();
        let mut window = ReplayWindow::default();
        for number in [40_000, 50_000, 60_000] {
            let sealed = seal(&outbound, &mut source, number, &[], b"x").unwrap();
            open(&inbound, &mut window, &sealed).unwrap();
        }
        let before = window.clone();
        for sequence_number in 0..=u16::MAX {
            let mut forged = [0x55; 40];
            forged[..12].copy_from_slice(&header(SSRC, sequence_number));
            assert!(open(&inbound, &mut window, &forged).is_err());
        }
        assert_eq!(window, before);
        let sealed = seal(&outbound, &mut source, 60_001, &[], b"x").unwrap();
        assert!(open(&inbound, &mut window, &sealed).is_ok());
    }
}

#[test]
fn rtcp_is_counted_per_sender_and_refused_when_replayed() {
    for profile in PROFILES {
        let (mut outbound, mut inbound) = pair(profile);
        let sealed: Vec<_> = (0..300)
            .map(|i| seal_rtcp(&mut outbound, SSRC + i % 3, &[i as u8; 4]).unwrap())
            .collect();
        // Sent last, received first; what is 128 behind the last of its sender is too old.
        for (i, packet) in sealed.iter().enumerate().rev() {
            let newest_of_sender = 299 - (299 - i) % 3;
            let opened = inbound.open_rtcp(&mut packet.clone());
            if newest_of_sender - i < 128 {
                assert_eq!(opened, Ok(12), "packet {i}");
            } else {
                assert_eq!(opened, Err(OpenError::Replayed), "packet {i}");
            }
        }
        let state = inbound.rtcp_senders().to_vec();
        for packet in &sealed {
            assert_eq!(
                inbound.open_rtcp(&mut packet.clone()),
                Err(OpenError::Replayed)
            );
        }
        assert_eq!(inbound.rtcp_senders(), state);
    }
}

#[test]
fn one_rtcp_sender_too_many_is_refused_and_the_others_go_on() {
    let (mut outbound, mut inbound) = pair(ProfileName::AeadAes128Gcm);
    let first = seal_rtcp(&mut outbound, 0, b"body").unwrap();
    assert!(inbound.open_rtcp(&mut first.clone()).is_ok());
    for ssrc in 1..SRTCP_SENDERS_MAX as u32 {
        let mut sealed = seal_rtcp(&mut outbound, ssrc, b"body").unwrap();
        assert!(inbound.open_rtcp(&mut sealed).is_ok());
    }
    let mut sealed = seal_rtcp(&mut outbound, 0xffff, b"body").unwrap();
    assert_eq!(
        inbound.open_rtcp(&mut sealed),
        Err(OpenError::TooManySenders)
    );
    assert_eq!(inbound.rtcp_senders().len(), SRTCP_SENDERS_MAX);
    assert_eq!(
        inbound.open_rtcp(&mut first.clone()),
        Err(OpenError::Replayed)
    );
    let mut sealed = seal_rtcp(&mut outbound, 0, b"body").unwrap();
    assert!(inbound.open_rtcp(&mut sealed).is_ok());
}

/// A sender may claim not to encrypt and still authenticate: counter mode's tag covers the bit.
#[test]
fn authentic_rtcp_that_is_not_encrypted_is_refused() {
    let (key, salt) = master(ProfileName::Aes128CmSha1_80, 7);
    let suites = crate::srtp::keys::derive_checked(ProfileName::Aes128CmSha1_80, &key, &salt);
    let nonce = crate::srtp::suite::NonceInput {
        ssrc: SSRC,
        index: 1,
    };
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(SSRC.to_be_bytes());
    packet.resize(8 + 4 + 10, 0);
    suites
        .unwrap()
        .rtcp
        .seal_rtcp(nonce, 1_u32.to_be_bytes(), &mut packet);
    let (_, mut inbound) = pair(ProfileName::Aes128CmSha1_80);
    assert_eq!(
        inbound.open_rtcp(&mut packet.clone()),
        Err(OpenError::NotEncrypted)
    );
    assert!(inbound.rtcp_senders().is_empty());
}

#[test]
fn what_one_side_of_the_handshake_seals_the_other_opens() {
    for profile in PROFILES {
        let length = 2 * (master(profile, 0).0.len() + master(profile, 0).1.len());
        let exported: Vec<u8> = (0..length as u8).collect();
        let contexts = |role| {
            KeyingMaterial::new(profile, &exported)
                .unwrap()
                .into_contexts(role)
        };
        let (client_in, mut client_out) = contexts(DtlsRole::Client);
        let (server_in, mut server_out) = contexts(DtlsRole::Server);
        for (out, to, wrong) in [
            (&mut client_out, &server_in, &client_in),
            (&mut server_out, &client_in, &server_in),
        ] {
            let mut source = out.claim(SSRC).unwrap();
            let sealed = seal(out, &mut source, 3, &[], b"hello").unwrap();
            let mut window = ReplayWindow::default();
            assert_eq!(
                open(wrong, &mut window, &sealed),
                Err(OpenError::Unauthenticated)
            );
            assert_eq!(open(to, &mut window, &sealed), Ok((3, b"hello".to_vec())));
        }
    }
}

#[test]
fn key_material_of_another_length_is_refused() {
    for (profile, expected) in PROFILES.into_iter().zip([88, 56, 60]) {
        for length in 0..=100 {
            let result = KeyingMaterial::new(profile, &vec![1; length]);
            assert_eq!(
                result.is_ok(),
                length == expected,
                "{profile:?}, {length} bytes"
            );
        }
        let (key, salt) = master(profile, 1);
        assert!(Inbound::from_master(profile, &key[1..], &salt).is_err());
        assert!(Outbound::from_master(profile, &key, &salt[1..]).is_err());
    }
    let error = KeyingMaterial::new(ProfileName::AeadAes128Gcm, &[1; 60]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "AEAD_AES_128_GCM takes 56 bytes of keying material, not 60"
    );
}

#[test]
fn debug_output_shows_no_key() {
    let material = KeyingMaterial::new(ProfileName::AeadAes128Gcm, &[0xab; 56]).unwrap();
    assert_eq!(format!("{material:?}"), "KeyingMaterial(AEAD_AES_128_GCM)");
    let contexts = format!("{:?}", material.into_contexts(DtlsRole::Server));
    assert_eq!(
        contexts,
        "(Inbound(AEAD_AES_128_GCM), Outbound(AEAD_AES_128_GCM))"
    );
}

/// A session of AES-GCM must not pay for the size of AES-CM: beside these bytes it holds four
/// contexts of the C library, about 580 bytes each: 2.6 kB for both directions.
#[test]
fn contexts_are_small() {
    assert!(size_of::<Suite>() <= 48, "{}", size_of::<Suite>());
    assert!(size_of::<Inbound>() <= 128, "{}", size_of::<Inbound>());
    assert!(size_of::<Outbound>() <= 128, "{}", size_of::<Outbound>());
    assert_eq!(size_of::<ReplayWindow>(), 136);
    assert_eq!(size_of::<SendSource>(), 144);
}
