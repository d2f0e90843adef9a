//! Asks for memory that will be needed soon: many such requests are under way at once, where reads that depend on each
//! other wait for one another. A hint, without effect on what a program computes.
//!
//! `core::hint::prefetch_read` will do this once it is stable; the crate goes then.
#![deny(unsafe_code)]

/// Bytes of a line of the cache, on every processor we know to run on.
const LINE_BYTES: usize = 64;

/// Asks for all lines of a value, not for what it points to. Does nothing on processors it does not know.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for offset in offsets(start.addr(), size_of_val(value)) {
        line(start.wrapping_add(offset));
    }
}

/// How far from its start there are lines of a value, one offset a line.
#[inline]
fn offsets(start: usize, size: usize) -> impl Iterator<Item = usize> {
    // A value may begin within a line, and so reach into one more.
    let reach = if size == 0 {
        0
    } else {
        size + start % LINE_BYTES
    };
    (0..reach).step_by(LINE_BYTES)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(unsafe_code, reason = "the only way to a prefetch in stable Rust")]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 has the instruction, and it reads nothing: any address will do.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline]
#[expect(unsafe_code, reason = "the only way to a prefetch in stable Rust")]
fn line(address: *const u8) {
    // SAFETY: the instruction is a hint, which reads nothing: any address will do.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn line(_: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_value_is_asked_for_once() {
        for start in 1_000..1_000 + LINE_BYTES {
            for size in 0..5 * LINE_BYTES {
                let asked: Vec<_> = offsets(start, size)
                    .map(|offset| (start + offset) / LINE_BYTES)
                    .collect();
                let mut lines: Vec<_> = (start..start + size).map(|at| at / LINE_BYTES).collect();
                lines.dedup();
                assert_eq!(asked, lines, "{size} bytes at {start}");
            }
        }
    }

    #[test]
    fn values_of_all_kinds_can_be_asked_for() {
        prefetch(&[0_u8; 0]);
        prefetch("text");
        prefetch(&vec![1_u64; 1_000][..]);
    }
}
