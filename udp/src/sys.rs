//! The only unsafe code of the crate: `recvmmsg`, `sendmmsg` and `setsockopt`.
//!
//! Headers, addresses and control messages are allocated once and filled again for each call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::RawAddress;
use crate::control::{Control, Received};
use crate::runs::Run;

/// Messages of one system call: beyond 64 the cost per datagram no longer falls.
pub(crate) const MESSAGES_MAX: usize = 64;
/// Pieces of memory in one send call, all messages together.
pub(crate) const SLICES_MAX: usize = 512;

/// The arrays that one call reads and writes; element `i` of each belongs to message `i`, except that
/// a message may have several `slices`.
#[derive(Debug)]
pub(crate) struct Messages {
    headers: Vec<libc::mmsghdr>,
    slices: Vec<libc::iovec>,
    addresses: Vec<RawAddress>,
    controls: Vec<Control>,
    /// What befalls the next calls to `send`, one for each.
    #[cfg(any(test, feature = "conformance"))]
    pub(crate) faults: std::collections::VecDeque<Option<Fault>>,
}

/// One received message, without its contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Bytes in the slot.
    pub(crate) len: usize,
    /// The slot, or the room for control messages, was too small.
    pub(crate) truncated: bool,
    pub(crate) source: Option<SocketAddr>,
    pub(crate) control: Received,
}

/// What befalls a send call in a test.
#[cfg(any(test, feature = "conformance"))]
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It fails with this error number.
    Errno(i32),
    /// It sends no more than this many messages.
    Short(usize),
}

// SAFETY: the pointers in `headers` and `slices` are written anew at the start of each call and are
// followed only during it, under `&mut self`. Between calls they are dead values.
unsafe impl Send for Messages {}

impl Messages {
    pub(crate) fn new() -> Self {
        // SAFETY: both are plain C structs of integers and pointers, for which zero is a valid value.
        let (header, slice) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            headers: vec![header; MESSAGES_MAX],
            slices: vec![slice; SLICES_MAX],
            addresses: vec![RawAddress::default(); MESSAGES_MAX],
            controls: vec![Control::default(); MESSAGES_MAX],
            #[cfg(any(test, feature = "conformance"))]
            faults: std::collections::VecDeque::new(),
        }
    }

    /// Receives at most one message into each of `slots` (the first [`MESSAGES_MAX`] of them), using
    /// at most `slot_bytes_max` of each, and returns how many came. Never blocks.
    pub(crate) fn recv<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = &'a mut [u8]>,
        slot_bytes_max: usize,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (slot, slice) in slots.zip(&mut self.slices).take(MESSAGES_MAX) {
            slice.iov_base = slot.as_mut_ptr().cast();
            slice.iov_len = slot.len().min(slot_bytes_max);
            count += 1;
        }
        for index in 0..count {
            self.describe(index, RawAddress::BYTES, Control::BYTES, 1);
        }
        self.point(count);
        // SAFETY: the first `count` (at most `MESSAGES_MAX`) headers were just pointed at one slice,
        // one address and one control buffer of the lengths given, all alive and unaliased until the
        // call returns: the arrays belong to `self`, the slots are exclusive borrows that outlive it.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Message `index` of the last [`recv`](Self::recv).
    pub(crate) fn received(&self, index: usize) -> Message {
        let libc::mmsghdr {
            msg_hdr: header,
            msg_len,
        } = &self.headers[index];
        Message {
            len: *msg_len as usize,
            truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
            source: self.addresses[index].decode(header.msg_namelen as usize),
            control: self.controls[index].decode(header.msg_controllen as _),
        }
    }

    /// Sends each of `runs` as one message, taking `count` pieces of `contents` for each, and returns
    /// how many messages went. Never blocks. An error is that of the first message.
    pub(crate) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        dual_stack: bool,
        runs: &[Run],
        mut contents: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        let mut room = self.slices.iter_mut();
        let mut slice_counts = [0; MESSAGES_MAX];
        for (run, slice_count) in runs.iter().zip(&mut slice_counts) {
            for (slice, piece) in room.by_ref().take(run.count).zip(contents.by_ref()) {
                slice.iov_base = piece.as_ptr().cast_mut().cast();
                slice.iov_len = piece.len();
                *slice_count += 1;
            }
        }
        for (index, (run, slice_count)) in runs.iter().zip(slice_counts).enumerate() {
            let (address, address_bytes) = RawAddress::encode(run.destination, dual_stack);
            self.addresses[index] = address;
            let control_bytes = self.controls[index].encode(
                run.destination.is_ipv4(),
                run.source,
                run.ecn,
                run.segmentation(),
            );
            self.describe(index, address_bytes, control_bytes, slice_count);
        }
        let count = runs.len().min(MESSAGES_MAX);
        self.point(count);
        #[cfg(any(test, feature = "conformance"))]
        let count = match self.faults.pop_front().flatten() {
            Some(Fault::Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Short(most)) => count.min(most),
            None => count,
        };
        // SAFETY: the first `count` headers were just pointed at an address, control messages and
        // slices of the lengths given, all alive until the call returns: the arrays belong to `self`,
        // the contents are shared borrows that outlive it. `sendmmsg` writes to `msg_len` only.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Writes the lengths of header `index`.
    fn describe(&mut self, index: usize, address: usize, control: usize, slices: usize) {
        let header = &mut self.headers[index].msg_hdr;
        header.msg_namelen = address as libc::socklen_t;
        header.msg_controllen = control as _;
        header.msg_iovlen = slices as _;
        header.msg_flags = 0;
    }

    /// Points the first `count` headers, already described, at their addresses, control messages and
    /// slices. Comes last, so that no borrow of an array ends the life of a pointer into it.
    fn point(&mut self, count: usize) {
        let addresses = self.addresses.as_mut_ptr();
        let controls = self.controls.as_mut_ptr();
        let mut slices = self.slices.as_mut_ptr();
        for (index, header) in self.headers.iter_mut().take(count).enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_name = addresses.wrapping_add(index).cast();
            header.msg_control = controls.wrapping_add(index).cast();
            header.msg_iov = slices;
            slices = slices.wrapping_add(header.msg_iovlen as _);
        }
    }
}

/// Sets a socket option whose value is an `int`.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is a live `int` and the length given is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
