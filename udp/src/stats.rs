//! What the socket counts, readable from other threads.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Figures of one socket: cumulative since it was bound, absolute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Datagrams the kernel dropped because the receive buffer was full (`SO_RXQ_OVFL`). Known only
    /// once a later datagram came through.
    pub recv_overflow: u64,
    /// Failures of the receive call other than "nothing there".
    pub recv_errors: u64,
    /// Datagrams discarded because they were longer than any we accept, or bore no usable address.
    pub recv_discarded: u64,
    /// Times the socket had no room for more to send.
    pub send_blocked: u64,
    /// Transmits refused: no route, or the peer's host or port does not answer.
    pub send_unreachable: u64,
    /// Transmits refused by a local rule (firewall).
    pub send_denied: u64,
    /// Transmits refused as longer than the path or the protocol takes.
    pub send_too_large: u64,
    /// Transmits refused for want of kernel memory, or dropped by the queueing discipline.
    pub send_no_memory: u64,
    /// Transmits refused for another reason.
    pub send_failed: u64,
    /// Runs that segmentation offload refused, sent again one by one.
    pub segmentation_refused: u64,
}

impl SocketStats {
    /// Datagrams that were lost at the socket, by reason.
    #[must_use]
    pub const fn losses(&self) -> [(&'static str, u64); 7] {
        [
            ("receive_buffer_full", self.recv_overflow),
            ("receive_discarded", self.recv_discarded),
            ("send_unreachable", self.send_unreachable),
            ("send_denied", self.send_denied),
            ("send_too_large", self.send_too_large),
            ("send_no_memory", self.send_no_memory),
            ("send_failed", self.send_failed),
        ]
    }

    /// What went less than smoothly and lost nothing.
    #[must_use]
    pub const fn incidents(&self) -> [(&'static str, u64); 3] {
        [
            ("receive_error", self.recv_errors),
            ("send_blocked", self.send_blocked),
            ("segmentation_refused", self.segmentation_refused),
        ]
    }
}

/// The counters behind [`SocketStats`]: written by the socket's thread, read by any.
#[derive(Debug, Default)]
pub struct SocketCounters {
    pub(crate) recv_overflow: Counter,
    pub(crate) recv_errors: Counter,
    pub(crate) recv_discarded: Counter,
    pub(crate) send_blocked: Counter,
    pub(crate) send_unreachable: Counter,
    pub(crate) send_denied: Counter,
    pub(crate) send_too_large: Counter,
    pub(crate) send_no_memory: Counter,
    pub(crate) send_failed: Counter,
    pub(crate) segmentation_refused: Counter,
}

impl SocketCounters {
    /// The figures now. Each is exact; together they may be of slightly different moments.
    #[must_use]
    pub fn snapshot(&self) -> SocketStats {
        SocketStats {
            recv_overflow: self.recv_overflow.value(),
            recv_errors: self.recv_errors.value(),
            recv_discarded: self.recv_discarded.value(),
            send_blocked: self.send_blocked.value(),
            send_unreachable: self.send_unreachable.value(),
            send_denied: self.send_denied.value(),
            send_too_large: self.send_too_large.value(),
            send_no_memory: self.send_no_memory.value(),
            send_failed: self.send_failed.value(),
            segmentation_refused: self.segmentation_refused.value(),
        }
    }

    /// Counts `transmits` refused with `error`.
    pub(crate) fn note_refused(&self, error: &io::Error, transmits: usize) {
        let counter = match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN) => {
                &self.send_unreachable
            }
            Some(libc::EPERM | libc::EACCES) => &self.send_denied,
            Some(libc::EMSGSIZE) => &self.send_too_large,
            Some(libc::ENOBUFS | libc::ENOMEM) => &self.send_no_memory,
            _ => &self.send_failed,
        };
        counter.add(transmits as u64);
    }
}

/// A count with one writer; touched a few times a batch, never for each packet.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
