//! NAL units of H.264 payloads (RFC 6184 §5).

use crate::wire::bytes::Reader;

const NAL_TYPE_MASK: u8 = 0x1f;
/// Slice of an instantaneous decoder refresh picture.
const IDR_SLICE: u8 = 5;
const SEQUENCE_PARAMETER_SET: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// A sequence parameter set, or the first slice of an IDR picture, starts here: as a unit of its
/// own, in an aggregate, or as the first fragment.
pub(super) fn is_keyframe(payload: &[u8]) -> bool {
    match *payload {
        [head, ref units @ ..] if head & NAL_TYPE_MASK == STAP_A => aggregate_has_start(units),
        [indicator, head, ref slice @ ..] if indicator & NAL_TYPE_MASK == FU_A => {
            head & 0x80 != 0 && is_start(head, slice)
        }
        [head, ref slice @ ..] => is_start(head, slice),
        [] => false,
    }
}

fn aggregate_has_start(units: &[u8]) -> bool {
    let mut reader = Reader::new(units);
    loop {
        let Ok(unit) = reader.u16().and_then(|len| reader.bytes(usize::from(len))) else {
            return false;
        };
        if let [head, slice @ ..] = unit
            && is_start(*head, slice)
        {
            return true;
        }
    }
}

/// A slice header begins with `first_mb_in_slice`, and 0 is coded as a single set bit, so the first
/// slice of a picture is known without decoding more (H.264 §7.3.3).
fn is_start(head: u8, slice: &[u8]) -> bool {
    match head & NAL_TYPE_MASK {
        SEQUENCE_PARAMETER_SET => true,
        IDR_SLICE => slice.first().is_some_and(|first| first & 0x80 != 0),
        _ => false,
    }
}
