//! The socket of one shard.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use antiphon_core::drive::{RecvBatch, RecvMeta, TransmitBatch};
use antiphon_core::limits::RECV_SLOT_BYTES;
use antiphon_core::time::Timestamp;
use socket2::{Domain, Protocol, Type};

use crate::clock::{self, Clock};
use crate::runs::{self, Run};
use crate::stats::SocketCounters;
use crate::sys::{self, MESSAGES_MAX, Message, Messages};

/// Receive buffer to ask for: 40 ms at 250,000 datagrams a second (the default holds 1 ms).
pub const RECV_BUFFER_BYTES_WANTED: usize = 4 << 20;

/// Bytes used of a receive slot when the kernel does not coalesce: more than any path's MTU we meet,
/// and half a page, so that a batch stays small in memory.
const PLAIN_SLOT_BYTES: usize = 2_048;
/// Failures of the receive call taken in a row before the driver gets its turn: each clears one error
/// that the kernel had kept for us.
const RECV_ERRORS_IN_A_ROW_MAX: usize = 8;

/// What a [`Socket::send`] did with the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOutcome {
    /// Transmits the kernel took.
    pub sent: usize,
    /// Transmits it refused for good; counted by kind in [`SocketStats`](crate::SocketStats).
    pub refused: usize,
    /// It has no room now: the rest of the batch waits until the socket is writable.
    pub blocked: bool,
}

/// A bound, nonblocking UDP socket that receives and sends in batches.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    dual_stack: bool,
    recv_buffer_bytes: usize,
    slot_bytes_max: usize,
    /// Whether to try segmentation offload: the kernel knows it, and no device refused it yet.
    segmenting: bool,
    inbound: Messages,
    outbound: Messages,
    runs: Vec<Run>,
    overflow_last: u32,
    counters: Arc<SocketCounters>,
}

impl Socket {
    /// Binds to `address` and asks for a receive buffer of `recv_buffer_wanted` bytes.
    ///
    /// `[::]` takes both IPv6 and IPv4, and falls back to `0.0.0.0` on a host without IPv6; every
    /// other address takes its own family only. The port is never shared (no `SO_REUSEPORT`): a second
    /// process on it fails loudly.
    ///
    /// # Errors
    /// What the operating system says: most often that the address is in use or not ours.
    pub fn bind(address: SocketAddr, recv_buffer_wanted: usize) -> io::Result<Self> {
        let any_v6 = address.is_ipv6() && address.ip().is_unspecified();
        let socket = match bind_one(address) {
            Err(error) if any_v6 && means_no_ipv6(&error) => bind_one(SocketAddr::new(
                Ipv4Addr::UNSPECIFIED.into(),
                address.port(),
            ))?,
            other => other?,
        };
        let recv_buffer_bytes = enlarge_recv_buffer(&socket, recv_buffer_wanted)?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        ask_for_control_messages(socket.as_fd(), local.is_ipv6())?;
        let accepts =
            |name, value| sys::set_option(socket.as_fd(), libc::SOL_UDP, name, value).is_ok();
        let coalescing = accepts(libc::UDP_GRO, 1);
        let segmenting = accepts(libc::UDP_SEGMENT, 0);
        Ok(Self {
            socket,
            local,
            dual_stack: local.is_ipv6(),
            recv_buffer_bytes,
            slot_bytes_max: if coalescing {
                RECV_SLOT_BYTES
            } else {
                PLAIN_SLOT_BYTES
            },
            segmenting,
            inbound: Messages::new(),
            outbound: Messages::new(),
            runs: Vec::with_capacity(MESSAGES_MAX),
            overflow_last: 0,
            counters: Arc::default(),
        })
    }

    /// Where the socket is bound; its address may be the unspecified one.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Size of the receive buffer as one asks for it, to compare with what was wanted. The kernel
    /// books twice as much, for its own overhead.
    #[must_use]
    pub const fn recv_buffer_bytes(&self) -> usize {
        self.recv_buffer_bytes
    }

    /// The socket's counters, to read while a driver owns the socket.
    #[must_use]
    pub fn counters(&self) -> Arc<SocketCounters> {
        Arc::clone(&self.counters)
    }

    /// A second handle of the same socket, for a runtime to watch for readiness. It is nonblocking too.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn duplicate(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    /// Receives what has arrived into the free slots of `batch`, in one system call, and returns the
    /// count of slots filled. Never allocates.
    ///
    /// [`RecvMeta::received`] is the kernel's stamp on the shard's clock, not later than `clock` at
    /// the end of this call; it may be later than a time read before.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there: wait until readable. Others are counted; try again.
    pub fn recv(&mut self, clock: &Clock, batch: &mut RecvBatch) -> io::Result<usize> {
        if batch.free_count() == 0 {
            return Ok(0);
        }
        let count = self.recv_messages(batch)?;
        let (now, unix_now) = (clock.now(), clock::unix_now());
        for index in 0..count {
            let message = self.inbound.received(index);
            if let Some(total) = message.control.overflow {
                let more = total.wrapping_sub(self.overflow_last);
                self.counters.recv_overflow.add(more.into());
                self.overflow_last = total;
            }
            let received = clock::received(message.control.stamp, now, unix_now);
            batch.commit(self.meta(&message, received).unwrap_or_else(|| {
                self.counters.recv_discarded.add(1);
                // Slots are committed in order, so a datagram nobody may see leaves an empty one.
                let (source, destination) = (self.local, self.local);
                RecvMeta {
                    received,
                    source,
                    destination,
                    ecn: None,
                    len: 0,
                    stride: 0,
                }
            }));
        }
        Ok(count)
    }

    /// Sends from the front of `batch` until it is empty or the socket is full, and consumes what was
    /// sent or refused. Never allocates, never fails: one peer's error is not another's.
    pub fn send(&mut self, batch: &mut TransmitBatch) -> SendOutcome {
        let mut outcome = SendOutcome::default();
        // Transmits at the front that segmentation offload refused once already.
        let mut plain = 0;
        while !batch.is_empty() {
            let alone = if self.segmenting { plain } else { usize::MAX };
            runs::plan(&mut self.runs, batch.iter(), alone);
            let contents = batch.iter().map(|(_, contents)| contents);
            match self
                .outbound
                .send(self.socket.as_fd(), self.dual_stack, &self.runs, contents)
            {
                Ok(messages) => {
                    let sent = self.runs[..messages].iter().map(|run| run.count).sum();
                    batch.consume(sent);
                    outcome.sent += sent;
                    plain = plain.saturating_sub(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.counters.send_blocked.add(1);
                    outcome.blocked = true;
                    return outcome;
                }
                Err(error) => {
                    let first = self.runs[0];
                    if first.count > 1 && self.on_segmentation_refused(&error) {
                        plain = first.count;
                        continue;
                    }
                    self.counters.note_refused(&error, first.count);
                    batch.consume(first.count);
                    outcome.refused += first.count;
                    plain = plain.saturating_sub(first.count);
                }
            }
        }
        outcome
    }

    /// What befalls the next send calls, one for each; loopback never pushes back by itself.
    #[cfg(any(test, feature = "conformance"))]
    pub fn fail_sends(&mut self, faults: impl IntoIterator<Item = Option<crate::Fault>>) {
        self.outbound.faults.extend(faults);
    }

    fn recv_messages(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        let mut failures = 0;
        loop {
            let slots = batch.free_slots();
            match self
                .inbound
                .recv(self.socket.as_fd(), slots, self.slot_bytes_max)
            {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    self.counters.recv_errors.add(1);
                    failures += 1;
                    if failures == RECV_ERRORS_IN_A_ROW_MAX {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// `None` when the datagram is incomplete or its addresses are not told.
    fn meta(&self, message: &Message, received: Timestamp) -> Option<RecvMeta> {
        if message.truncated {
            return None;
        }
        let ip = match message.control.destination {
            Some(ip) => ip,
            None if !self.local.ip().is_unspecified() => self.local.ip(),
            None => return None,
        };
        Some(RecvMeta {
            received,
            source: message.source?,
            destination: SocketAddr::new(ip, self.local.port()),
            ecn: message.control.ecn,
            len: message.len,
            stride: message.control.stride.unwrap_or(message.len),
        })
    }

    /// Whether `error`, given to a run of several, may be about segmentation rather than the peer.
    fn on_segmentation_refused(&mut self, error: &io::Error) -> bool {
        let refused = match error.raw_os_error() {
            // The device cannot checksum what the kernel would cut: no run will ever pass.
            Some(libc::EIO) => {
                self.segmenting = false;
                true
            }
            // A segment is larger than this path takes: alone, it may be fragmented.
            Some(libc::EINVAL | libc::EMSGSIZE) => true,
            _ => false,
        };
        if refused {
            self.counters.segmentation_refused.add(1);
        }
        refused
    }
}

/// To watch it for readiness where no second handle is wanted.
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_one(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn means_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

/// The system's maximum clips what is asked for, unless we may go beyond it (`CAP_NET_ADMIN`).
fn enlarge_recv_buffer(socket: &socket2::Socket, wanted: usize) -> io::Result<usize> {
    let got = || socket.recv_buffer_size().map(|booked| booked / 2);
    socket.set_recv_buffer_size(wanted)?;
    if got()? < wanted
        && let Ok(value) = libc::c_int::try_from(wanted)
        && sys::set_option(
            socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            value,
        )
        .is_err()
    {
        // Not allowed: what we got is reported to the operator, who may raise the maximum.
    }
    got()
}

/// Destination address, congestion bits, receive stamp and overflow count. A dual-stack socket gets
/// the congestion bits of IPv4 datagrams by the option of IPv4.
fn ask_for_control_messages(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    sys::set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    sys::set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    sys::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    if v6 {
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)
    } else {
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

#[cfg(test)]
mod tests;
