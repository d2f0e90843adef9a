//! May this process use io_uring, and does the kernel have enough of it?
//!
//! glommio answers by panicking or by ending the process (0.9.0), so a server asks first.

use std::io;
use std::thread;

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::executor::Executor;

/// Entries of the ring that is tried: the smallest useful.
const PROBE_ENTRIES: u32 = 2;
/// What glommio asks for, whoever runs it.
const LOCKED_BYTES_MIN: u64 = 512 << 10;
/// Of the operations glommio insists on, those a shard lives by and the last that came into the kernel.
const OPERATIONS: [u8; 5] = [
    opcode::PollAdd::CODE,
    opcode::RecvMsg::CODE,
    opcode::Timeout::CODE,
    opcode::Read::CODE,
    opcode::Fallocate::CODE,
];

const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

/// Why io_uring cannot be used. Each says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// EPERM or EACCES.
    #[error(
        "io_uring is not permitted here: allow io_uring_setup, io_uring_enter and io_uring_register in the \
         container's seccomp profile, or set kernel.io_uring_disabled to 0"
    )]
    NotPermitted,
    /// ENOSYS, or what is asked for is not known.
    #[error("this kernel has no io_uring, or too little of it: it takes Linux 5.8 or later")]
    Unsupported,
    /// The limit of locked memory, in KiB, which could not be raised.
    #[error(
        "the limit of locked memory is {0} KiB and io_uring wants 512: raise it (`ulimit -l 512`, LimitMEMLOCK=, \
         --ulimit memlock=)"
    )]
    LockedMemory(u64),
    /// Anything else.
    #[error("io_uring cannot be used: {0}")]
    Other(io::Error),
}

/// Whether shards can be driven here. Raises the limit of locked memory first as far as it may, and on success
/// leaves it there for the shards; sets up a small ring and then an executor, and drops them.
///
/// # Errors
/// [`Unavailable`] names the cause and the remedy.
pub fn probe() -> Result<(), Unavailable> {
    raise_locked_memory()?;
    // On a thread of its own: an executor belongs to its thread, and the end of a ring interrupts later system calls
    // of the thread that used it.
    let trial = thread::Builder::new().spawn(try_out);
    let panicked = |_| Err(Unavailable::Other(io::Error::other("glommio panicked")));
    trial.map_err(explain)?.join().unwrap_or_else(panicked)
}

fn try_out() -> Result<(), Unavailable> {
    let ring = IoUring::new(PROBE_ENTRIES).map_err(explain)?;
    let mut known = Probe::new();
    let submitter = ring.submitter();
    submitter.register_probe(&mut known).map_err(explain)?;
    if !OPERATIONS.iter().all(|code| known.is_supported(*code)) {
        return Err(Unavailable::Unsupported);
    }
    // Entering is a system call of its own, with a rule of its own in a seccomp profile.
    submitter.submit().map_err(explain)?;
    Executor::new().map(drop).map_err(explain)
}

/// The soft limit up to the hard one; the hard one too if that is not enough and we may.
fn raise_locked_memory() -> Result<(), Unavailable> {
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    if current.is_none_or(|bytes| bytes >= LOCKED_BYTES_MIN) {
        return Ok(());
    }
    let limit = maximum.map(|bytes| bytes.max(LOCKED_BYTES_MIN));
    let wanted = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Memlock, wanted)
        .map_err(|_| Unavailable::LockedMemory(current.unwrap_or(0) >> 10))
}

fn explain(error: io::Error) -> Unavailable {
    match error.raw_os_error() {
        Some(EPERM | EACCES) => Unavailable::NotPermitted,
        Some(ENOSYS | EINVAL) => Unavailable::Unsupported,
        Some(ENOMEM) => {
            let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
            Unavailable::LockedMemory(limit >> 10)
        }
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
        assert!(words(ENOSYS).contains("Linux 5.8") && words(EINVAL).contains("Linux 5.8"));
        assert!(words(ENOMEM).contains("ulimit -l 512"));
        assert!(words(24).contains("cannot be used"));
    }

    #[test]
    fn asking_never_panics_and_gives_the_same_answer_twice() {
        assert_eq!(probe().is_ok(), probe().is_ok());
    }
}
