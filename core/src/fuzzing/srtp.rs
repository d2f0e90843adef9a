//! SRTP and SRTCP under keys the fuzzer does not have.

use crate::limits::{SRTCP_OVERHEAD_BYTES_MAX, SRTP_OVERHEAD_BYTES_MAX};
use crate::message::ProfileName;
use crate::plan::DtlsRole;
use crate::srtp::{Inbound, KeyingMaterial, OpenError, Outbound, ReplayWindow, RtpPosition};
use crate::wire::rtp::{FIXED_HEADER_BYTES, Header, HeaderFields, write_header};

/// Packets of strangers, and packets of our own with a bit turned. The first byte chooses the profile, the next
/// two the bit. What one end seals the other opens, and nobody takes his own for the other's.
pub fn srtp(data: &[u8]) {
    let [profile, place @ .., _] = *data.first_chunk::<4>().unwrap_or(&[0; 4]);
    let data = data.get(3..).unwrap_or_default();
    let place = usize::from(u16::from_be_bytes(place));
    let (profile, bytes) = match profile % 3 {
        0 => (ProfileName::AeadAes256Gcm, 2 * (32 + 12)),
        1 => (ProfileName::AeadAes128Gcm, 2 * (16 + 12)),
        _ => (ProfileName::Aes128CmSha1_80, 2 * (16 + 14)),
    };
    let exported: [u8; 88] = std::array::from_fn(|at| at as u8);
    for wrong in [bytes - 1, bytes + 1] {
        let wrong = exported.get(..wrong).unwrap_or_default();
        assert!(
            KeyingMaterial::new(profile, wrong).is_err(),
            "keys are whole"
        );
    }
    let [client, server] = [DtlsRole::Client, DtlsRole::Server].map(|role| {
        let keying = KeyingMaterial::new(profile, &exported[..bytes]);
        keying.expect("the length is right").into_contexts(role)
    });
    let ((mut own, mut outbound), (mut inbound, _)) = (client, server);
    assert_eq!((inbound.profile(), outbound.profile()), (profile, profile));
    refuse_strangers(&mut inbound, data);
    round_trip_rtp([&inbound, &own], &mut outbound, data, place);
    round_trip_rtcp([&mut inbound, &mut own], &mut outbound, data, place);
}

fn refuse_strangers(inbound: &mut Inbound, data: &[u8]) {
    let mut window = ReplayWindow::default();
    let untouched = window.clone();
    if let Ok(header) = Header::parse(data) {
        let mut packet = data.to_vec();
        let opened = inbound.open_rtp(&mut window, position(&header), &mut packet);
        assert!(opened.is_err(), "nobody guesses a tag");
        assert_eq!(window, untouched);
        assert_eq!(packet[..header.len], data[..header.len]);
    }
    assert!(inbound.open_rtcp(&mut data.to_vec()).is_err());
}

fn round_trip_rtp(
    [inbound, own]: [&Inbound; 2],
    outbound: &mut Outbound,
    payload: &[u8],
    place: usize,
) {
    let mut source = outbound.claim(1).expect("the first claim");
    assert!(outbound.claim(1).is_none(), "a source is one sender's");
    assert_eq!((source.ssrc(), source.highest()), (1, None));
    let fields = HeaderFields {
        payload_type: 96,
        marker: false,
        sequence_number: 5,
        timestamp: 7,
        ssrc: 1,
    };
    let mut plain = vec![0; FIXED_HEADER_BYTES];
    write_header(&mut plain, &fields, &[]).expect("it fits");
    let mut sealed = plain.clone();
    sealed.resize(plain.len() + payload.len() + SRTP_OVERHEAD_BYTES_MAX, 0);
    let (prefix, rest) = payload.split_at(payload.len().min(place % 8));
    let len = outbound
        .seal_rtp(&mut source, 5, &mut sealed, plain.len(), prefix, rest)
        .expect("there is room");
    sealed.truncate(len);
    plain.extend_from_slice(payload);
    let again = outbound.seal_rtp(&mut source, 5, &mut sealed.clone(), 12, prefix, rest);
    assert!(again.is_err(), "no nonce twice");
    assert!(source.highest() == Some(5) && !source.is_exhausted());

    let mut window = ReplayWindow::default();
    let untouched = window.clone();
    let mut turned = sealed.clone();
    turned[place / 8 % len] ^= 1 << (place % 8);
    if let Ok(header) = Header::parse(&turned) {
        let opened = inbound.open_rtp(&mut window, position(&header), &mut turned);
        assert!(opened.is_err(), "bit {place} is authenticated");
        assert_eq!(window, untouched);
    }
    let position = position(&Header::parse(&sealed).expect("our header"));
    let mut mirrored = sealed.clone();
    let opened = own.open_rtp(&mut window, position, &mut mirrored);
    assert_eq!(opened, Err(OpenError::Unauthenticated), "it is our own");
    let mut copy = sealed.clone();
    let opened = inbound
        .open_rtp(&mut window, position, &mut copy)
        .expect("we open what we seal");
    assert_eq!((&copy[..opened.length], opened.index), (&plain[..], 5));
    let replayed = inbound.open_rtp(&mut window, position, &mut sealed);
    assert_eq!(replayed, Err(OpenError::Replayed));
}

fn round_trip_rtcp(
    [inbound, own]: [&mut Inbound; 2],
    outbound: &mut Outbound,
    data: &[u8],
    place: usize,
) {
    let mut sealed = data.to_vec();
    sealed.resize(data.len() + SRTCP_OVERHEAD_BYTES_MAX, 0);
    let Ok(len) = outbound.seal_rtcp(&mut sealed, data.len()) else {
        assert!(data.len() < 8, "only a packet without a sender is refused");
        return;
    };
    sealed.truncate(len);
    let mut turned = sealed.clone();
    turned[place / 8 % len] ^= 1 << (place % 8);
    assert!(inbound.open_rtcp(&mut turned).is_err());
    assert!(own.open_rtcp(&mut sealed.clone()).is_err(), "it is our own");
    let mut copy = sealed.clone();
    let opened = inbound.open_rtcp(&mut copy).expect("we open what we seal");
    assert_eq!(copy[..opened], *data);
    assert_eq!(inbound.open_rtcp(&mut sealed), Err(OpenError::Replayed));
}

const fn position(header: &Header) -> RtpPosition {
    RtpPosition {
        ssrc: header.ssrc,
        sequence_number: header.sequence_number,
        header_len: header.len,
    }
}
