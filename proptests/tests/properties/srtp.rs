//! RTP headers, SRTP and the replay window together: what one side seals the other opens, once.

use std::collections::BTreeSet;

use antiphon_core::limits::SRTP_OVERHEAD_BYTES_MAX;
use antiphon_core::message::ProfileName;
use antiphon_core::plan::DtlsRole;
use antiphon_core::srtp::{
    Inbound, KeyingMaterial, OpenError, Opened, Outbound, ReplayWindow, RtpPosition, SendSource,
};
use antiphon_core::wire::rtp::{Header, HeaderFields, write_header};
use proptest::prelude::*;

use crate::config;

const SSRC: u32 = 0x1234_5678;

/// Our side and the peer's, of one handshake.
struct Ends {
    outbound: Outbound,
    inbound: Inbound,
}

fn ends(profile: ProfileName, role: DtlsRole) -> Ends {
    let len = match profile {
        ProfileName::AeadAes256Gcm => 88,
        ProfileName::AeadAes128Gcm => 56,
        ProfileName::Aes128CmSha1_80 => 60,
    };
    let exported: Vec<u8> = (0..len).collect();
    let other = match role {
        DtlsRole::Client => DtlsRole::Server,
        DtlsRole::Server => DtlsRole::Client,
    };
    let material = || KeyingMaterial::new(profile, &exported).expect("the length is right");
    let (_, outbound) = material().into_contexts(role);
    let (inbound, _) = material().into_contexts(other);
    Ends { outbound, inbound }
}

fn any_ends() -> impl Strategy<Value = (ProfileName, DtlsRole)> {
    let profile = prop_oneof![
        Just(ProfileName::AeadAes256Gcm),
        Just(ProfileName::AeadAes128Gcm),
        Just(ProfileName::Aes128CmSha1_80),
    ];
    (
        profile,
        prop_oneof![Just(DtlsRole::Client), Just(DtlsRole::Server)],
    )
}

/// Header (with an extension, sometimes) and payload, plain and sealed.
fn seal(
    outbound: &Outbound,
    source: &mut SendSource,
    sequence_number: u16,
    extension: &[u8],
    payload: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let fields = HeaderFields {
        payload_type: 96,
        marker: sequence_number & 1 == 1,
        sequence_number,
        timestamp: 3,
        ssrc: SSRC,
    };
    let extensions = [(3, extension)];
    let extensions = if extension.is_empty() {
        &[][..]
    } else {
        &extensions
    };
    let mut plain = vec![0; 64];
    let header_len = write_header(&mut plain, &fields, extensions).expect("it fits");
    plain.truncate(header_len);
    let mut sealed = plain.clone();
    sealed.resize(header_len + payload.len() + SRTP_OVERHEAD_BYTES_MAX, 0);
    let len = outbound
        .seal_rtp(
            source,
            sequence_number,
            &mut sealed,
            header_len,
            &[],
            payload,
        )
        .expect("a fresh number");
    sealed.truncate(len);
    plain.extend_from_slice(payload);
    (plain, sealed)
}

fn open(
    inbound: &Inbound,
    window: &mut ReplayWindow,
    packet: &mut [u8],
) -> Result<Opened, OpenError> {
    let Ok(header) = Header::parse(packet) else {
        // The header is in the clear: what does not parse never gets to the cipher.
        return Err(OpenError::Unauthenticated);
    };
    let position = RtpPosition {
        ssrc: header.ssrc,
        sequence_number: header.sequence_number,
        header_len: header.len,
    };
    inbound.open_rtp(window, position, packet)
}

/// Indices from `first` on, each up to 400 places from where it belongs.
fn order(first: u64) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..400, 1..120).prop_map(move |keys| {
        let mut order: Vec<_> = keys
            .iter()
            .zip(0_u64..)
            .map(|(key, place)| (place * 3 + key, first + place * 3))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, index)| index).collect()
    })
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn packets_open_once_in_whatever_order_they_come(
        (profile, role) in any_ends(),
        indices in prop_oneof![order(700), order(65_000)],
        extension in prop::collection::vec(any::<u8>(), 0..16),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        shuffle in prop::collection::vec(any::<prop::sample::Index>(), 120),
    ) {
        let mut ends = ends(profile, role);
        let mut source = ends.outbound.claim(SSRC).expect("the first claim");
        let mut window = ReplayWindow::default();
        // Both counters begin below a wrap, as a stream must.
        let mut flying = Vec::new();
        let first = *indices.iter().min().expect("not empty");
        let mut ahead = vec![first];
        ahead.extend(indices.iter().copied().filter(|index| *index != first));
        for index in ahead {
            let (plain, sealed) = seal(&ends.outbound, &mut source, index as u16, &extension, &payload);
            flying.push((index, plain, sealed));
        }
        let (index, plain, mut sealed) = flying.remove(0);
        let opened = open(&ends.inbound, &mut window, &mut sealed).expect("the first opens");
        prop_assert_eq!((&sealed[..opened.length], opened.index), (&plain[..], index));
        let mut seen = BTreeSet::from([index]);
        for place in shuffle {
            if flying.is_empty() {
                break;
            }
            // The network reorders again, within what is under way.
            let (index, plain, sealed) = flying[place.index(flying.len().min(100))].clone();
            let result = open(&ends.inbound, &mut window, &mut sealed.clone());
            if seen.insert(index) {
                let mut copy = sealed;
                prop_assert_eq!(result, Ok(Opened { length: plain.len(), index }));
                prop_assert!(open(&ends.inbound, &mut window, &mut copy).is_err(), "once");
                flying.retain(|(other, ..)| *other != index);
            } else {
                prop_assert_eq!(result, Err(OpenError::Replayed));
            }
        }
    }

    #[test]
    fn a_turned_bit_is_refused_and_leaves_no_trace(
        (profile, role) in any_ends(),
        extension in prop::collection::vec(any::<u8>(), 0..16),
        payload in prop::collection::vec(any::<u8>(), 0..80),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut ends = ends(profile, role);
        let mut source = ends.outbound.claim(SSRC).expect("the first claim");
        let (plain, sealed) = seal(&ends.outbound, &mut source, 9, &extension, &payload);
        let mut window = ReplayWindow::default();
        let untouched = window.clone();
        let bit = bit.index(sealed.len() * 8);
        let mut turned = sealed.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(open(&ends.inbound, &mut window, &mut turned).is_err(), "bit {}", bit);
        prop_assert_eq!(&window, &untouched);
        // And the true one still opens.
        let mut packet = sealed;
        let opened = open(&ends.inbound, &mut window, &mut packet).expect("nobody used its number");
        prop_assert_eq!(&packet[..opened.length], &plain[..]);
    }
}
