//! P2 and P5: what is written is read again, and no input needs more stack than any other. P1, P3 and P6 are the
//! fuzz bodies', P4 is in `core/tests/allocation.rs`.

use std::thread;

use antiphon_core::fuzzing;
use antiphon_core::limits::SDP_BYTES_MAX;
use antiphon_core::plan::IceCredentials;
use antiphon_core::sdp::{Fragment, write_restart_fragment};
use antiphon_core::wire::rtp::{FIXED_HEADER_BYTES, Header, HeaderFields, write_header};
use antiphon_core::wire::stun::local_ufrag;
use antiphon_core::wire::{Class, classify};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::config;

/// Far less than a driver's thread has (2 MiB), and enough for an unoptimised build.
const STACK_BYTES: usize = 256 << 10;

fn fields() -> impl Strategy<Value = HeaderFields> {
    let numbers = (any::<u16>(), any::<u32>(), any::<u32>());
    // RTCP's packet types are no payload types (RFC 5761 §4).
    let payload_type = prop_oneof![0_u8..64, 96_u8..128];
    (payload_type, any::<bool>(), numbers).prop_map(
        |(payload_type, marker, (sequence_number, timestamp, ssrc))| HeaderFields {
            payload_type,
            marker,
            sequence_number,
            timestamp,
            ssrc,
        },
    )
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn a_packet_is_read_as_it_was_written(
        fields in fields(),
        values in btree_map(1_u8..=255, vec(any::<u8>(), 0..40), 0..8),
        payload in vec(any::<u8>(), 0..1_000),
    ) {
        let extensions: Vec<_> = values.iter().map(|(id, value)| (*id, &value[..])).collect();
        let mut packet = vec![0xff; 600];
        let len = write_header(&mut packet, &fields, &extensions).expect("there is room");
        packet.truncate(len);
        packet.extend_from_slice(&payload);
        prop_assert_eq!(classify(&packet), Class::Rtp);
        let header = Header::parse(&packet).expect("we read what we write");
        let again = HeaderFields {
            payload_type: header.payload_type,
            marker: header.marker,
            sequence_number: header.sequence_number,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
        };
        prop_assert_eq!((header.len, again), (len, fields));
        prop_assert!(header.extensions(&packet).eq(extensions));
        prop_assert_eq!(header.payload(&packet), Ok(&payload[..]));
        prop_assert!(len < FIXED_HEADER_BYTES || Header::parse(&packet[..len - 1]).is_err());
    }

    #[test]
    fn a_check_names_whom_it_was_written_for(
        ours in "[a-zA-Z0-9+/]{4,40}",
        theirs in "[a-zA-Z0-9+/]{4,40}",
        nominates: bool,
    ) {
        let check = fuzzing::binding_request(&format!("{ours}:{theirs}"), "password", 1, nominates);
        prop_assert_eq!(local_ufrag(&check), Ok(Some(&ours[..])));
    }

    #[test]
    fn a_fragment_is_read_as_it_was_written(
        ufrag in "[a-zA-Z0-9+/]{4,256}",
        password in "[a-zA-Z0-9+/]{22,256}",
    ) {
        let ice = IceCredentials { ufrag, password };
        let text = write_restart_fragment(&ice, &[], &[]);
        let read = Fragment::parse(text.as_bytes()).expect("we read what we write");
        prop_assert_eq!(read.ice, Some(ice));
    }
}

type Body = fn(&[u8]);

/// As long as an input may be, and of whatever nests or repeats in its format.
fn long_inputs() -> Vec<(Body, Vec<u8>)> {
    let offers = [
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
        "a=group:BUNDLE 0\r\n",
        "a=simulcast:send a;b,c;~d\r\n",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n",
        "a=ssrc-group:FID 1 2\r\n",
    ];
    let offer = |line: &str| {
        let mut text = fuzzing::OFFER.as_bytes().to_vec();
        text.extend(line.bytes().cycle().take(SDP_BYTES_MAX));
        text.truncate(SDP_BYTES_MAX);
        text
    };
    let compound = [0x80, 204, 0, 0].repeat(16_000);
    let extensions = [&[0x90, 96, 0, 1][..], &[0; 8], &[0xbe, 0xde, 0x3f, 0xff]].concat();
    let extensions = [extensions, vec![0x10; 65_532]].concat();
    let attributes = [
        &[0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42][..],
        &[0; 12 + 65_532],
    ]
    .concat();
    let mut inputs: Vec<(Body, Vec<u8>)> = vec![
        (fuzzing::rtcp, compound),
        (fuzzing::rtp, extensions),
        (fuzzing::stun, attributes),
        (fuzzing::payload, vec![0x78; 65_535]),
    ];
    for line in offers {
        inputs.push((fuzzing::sdp_offer, offer(line)));
        inputs.push((fuzzing::trickle_frag, offer(line)));
    }
    inputs
}

#[test]
fn the_longest_inputs_are_read_on_a_small_stack() {
    for (body, input) in long_inputs() {
        let reader = thread::Builder::new().stack_size(STACK_BYTES);
        let reader = reader.spawn(move || body(&input)).expect("a thread");
        reader.join().expect("it keeps its promises");
    }
}
