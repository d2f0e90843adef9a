use serde_json::Value;

use crate::testing::{malformed, rfc5769, unhex, vector};

use super::*;

/// A binding request with `attributes` as (type, value), lengths and padding made right.
fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute_type, value) in attributes {
        body.extend(attribute_type.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0x20);
    }
    let mut message = vec![0, 1];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(MAGIC_COOKIE.to_be_bytes());
    message.extend([7; TRANSACTION_ID_BYTES]);
    message.extend(body);
    message
}

#[test]
fn the_samples_of_rfc_5769_read_as_printed() {
    assert_eq!(local_ufrag(&rfc5769::request()), Ok(Some("evtj")));
    assert_eq!(local_ufrag(&rfc5769::response_v4()), Ok(None));
    assert_eq!(local_ufrag(&rfc5769::response_v6()), Ok(None));
    // A long-term user name has no colon: it is nobody's check.
    assert_eq!(local_ufrag(&rfc5769::long_term_request()), Ok(None));
}

#[test]
fn broken_samples_of_rfc_5769_are_refused_unless_only_a_sum_is_wrong() {
    // Sums are the agent's part.
    let claim = Ok(Some("evtj"));
    let expected = [
        claim,
        claim,
        Err(ParseError::Length),
        Err(ParseError::Length),
        Err(ParseError::Version),
        Err(ParseError::Truncated),
        Err(ParseError::Length),
        Err(ParseError::Version),
    ];
    for ((name, message), expected) in rfc5769::broken_requests().iter().zip(expected) {
        assert_eq!(local_ufrag(message), expected, "{name}");
    }
}

#[test]
fn a_fingerprint_that_is_there_must_be_the_sum() {
    for message in [
        rfc5769::request(),
        rfc5769::response_v4(),
        rfc5769::response_v6(),
        // It has none.
        rfc5769::long_term_request(),
        Vec::new(),
        vec![0; 7],
    ] {
        assert!(!has_wrong_fingerprint(&message));
    }
    let sound = rfc5769::request();
    // A turned bit in its type and length leaves no fingerprint to compare.
    let end = sound.len() - 8;
    for place in (0..end).chain(end + 4..sound.len()) {
        let mut turned = sound.clone();
        turned[place] ^= 1;
        assert!(has_wrong_fingerprint(&turned), "byte {place}");
    }
}

/// Copied by hand: another hand's copy, whose sums were recomputed, is the same.
#[test]
fn the_samples_of_rfc_5769_are_copied_without_error() {
    let Some(file) = vector("rfc/rfc5769-stun.json") else {
        return;
    };
    let file: Value = serde_json::from_slice(&file).unwrap();
    let samples = [
        ("req", rfc5769::request()),
        ("respv4", rfc5769::response_v4()),
        ("respv6", rfc5769::response_v6()),
        ("reqltc", rfc5769::long_term_request()),
    ];
    for (name, sample) in samples {
        assert_eq!(sample, message(&file["vectors"], name), "{name}");
    }
    for (name, broken) in rfc5769::broken_requests() {
        let other = message(&file["negative_derived_here"], name);
        assert_eq!(broken, other, "{name}");
    }
}

fn message(messages: &Value, name: &str) -> Vec<u8> {
    let mut messages = messages.as_array().unwrap().iter();
    let found = messages.find(|message| message["name"] == name);
    unhex(found.unwrap()["hex"].as_str().unwrap())
}

#[test]
fn malformed_messages_name_nobody() {
    let Some(inputs) = malformed("malformed/stun.jsonl") else {
        return;
    };
    for input in inputs {
        assert!(!matches!(local_ufrag(&input), Ok(Some(_))), "{input:02x?}");
    }
}

#[test]
fn every_truncation_of_a_request_is_refused() {
    let whole = request(&[(0x0024, &[1, 2, 3, 4]), (USERNAME, b"ours:theirs")]);
    assert_eq!(local_ufrag(&whole), Ok(Some("ours")));
    for len in 0..whole.len() {
        assert!(local_ufrag(&whole[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_name_after_the_integrity_check_is_ignored() {
    for integrity in [MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256] {
        let message = request(&[(integrity, &[0; 20]), (USERNAME, b"ours:theirs")]);
        assert_eq!(local_ufrag(&message), Ok(None));
    }
}

#[test]
fn the_first_name_counts_and_padding_is_skipped() {
    let message = request(&[(0x8022, b"abcde"), (USERNAME, b"a:b"), (USERNAME, b"c:d")]);
    assert_eq!(local_ufrag(&message), Ok(Some("a")));
    assert_eq!(local_ufrag(&request(&[(USERNAME, b":x")])), Ok(Some("")));
    assert_eq!(local_ufrag(&request(&[(USERNAME, b"")])), Ok(None));
    assert_eq!(local_ufrag(&request(&[])), Ok(None));
    assert_eq!(
        local_ufrag(&request(&[(USERNAME, b"\xff:x")])),
        Err(ParseError::Text)
    );
}

#[test]
fn a_request_of_more_attributes_than_the_limit_is_refused() {
    let mut attributes: Vec<(u16, &[u8])> = vec![(0x8022, b""); STUN_ATTRIBUTES_MAX - 1];
    attributes.push((USERNAME, b"ours:theirs"));
    assert_eq!(local_ufrag(&request(&attributes)), Ok(Some("ours")));
    attributes.insert(0, (0x8022, b""));
    assert_eq!(local_ufrag(&request(&attributes)), Err(ParseError::TooMany));
}
