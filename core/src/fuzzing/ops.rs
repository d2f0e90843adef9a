//! Operations out of a fuzzer's bytes.

use std::iter;

use arbitrary::{Arbitrary, Unstructured};

/// More than enough to find what there is to find, and a bound for one run.
const OPS_MAX: usize = 256;

/// The operations that bytes stand for, until they are used up. What is missing reads as zero, so any bytes are
/// operations, and fewer are simpler ones.
pub(super) fn ops<'a, T: Arbitrary<'a>>(data: &'a [u8]) -> impl Iterator<Item = T> {
    let mut bytes = Unstructured::new(data);
    let next = move || {
        if bytes.is_empty() {
            return None;
        }
        T::arbitrary(&mut bytes).ok()
    };
    iter::from_fn(next).take(OPS_MAX)
}
