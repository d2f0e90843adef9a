//! The thread-per-core runtime on io_uring. So far only the question that comes before it: may this process
//! use io_uring at all? The driver is not here yet, and the server says so.
//!
//! glommio itself answers by panicking in its thread (0.9.0: "Failed to register a probe"), so a server asks first.
#![forbid(unsafe_code)]

use std::io;

use io_uring::IoUring;

/// Entries of the ring that is tried: the smallest useful.
const PROBE_ENTRIES: u32 = 2;

const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const ENOSYS: i32 = 38;

/// Why io_uring cannot be used. Each says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// EPERM or EACCES.
    #[error(
        "io_uring is not permitted here: allow it in the container's seccomp profile, or set \
         kernel.io_uring_disabled to 0"
    )]
    NotPermitted,
    /// ENOSYS.
    #[error("this kernel has no io_uring: it takes Linux 5.8 or later")]
    Unsupported,
    /// ENOMEM.
    #[error("the locked-memory limit is too low for io_uring: raise it to 512 KiB (ulimit -l 512)")]
    LockedMemory,
    /// Anything else.
    #[error("io_uring cannot be used: {0}")]
    Other(io::Error),
}

/// Whether this process may use io_uring: sets up a small ring and drops it.
///
/// # Errors
/// [`Unavailable`] names the cause and the remedy.
pub fn probe() -> Result<(), Unavailable> {
    IoUring::new(PROBE_ENTRIES).map(drop).map_err(explain)
}

fn explain(error: io::Error) -> Unavailable {
    match error.raw_os_error() {
        Some(EPERM | EACCES) => Unavailable::NotPermitted,
        Some(ENOSYS) => Unavailable::Unsupported,
        Some(ENOMEM) => Unavailable::LockedMemory,
        _ => Unavailable::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_kernel_gets_its_own_remedy() {
        let words = |errno| explain(io::Error::from_raw_os_error(errno)).to_string();
        assert!(words(EPERM).contains("seccomp") && words(EACCES).contains("seccomp"));
        assert!(words(ENOSYS).contains("Linux 5.8"));
        assert!(words(ENOMEM).contains("ulimit -l 512"));
        assert!(words(24).contains("cannot be used"));
    }

    #[test]
    fn asking_never_panics_and_gives_the_same_answer_twice() {
        assert_eq!(probe().is_ok(), probe().is_ok());
    }
}
