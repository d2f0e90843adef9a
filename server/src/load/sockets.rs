//! The sockets of all sessions, and how a datagram finds its session.
//!
//! A server with one port tells sessions apart by where they come from. On loopback every session gets an address of
//! 127.64.0.0/10 to itself, and all share one socket; anywhere else there is one address, and a port each.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use antiphon_core::drive::{Lane, RecvBatch, TransmitBatch, TransmitMeta};
use antiphon_udp::{Clock, RECV_BUFFER_BYTES_WANTED, Socket, SocketStats};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};

/// The first of the addresses on loopback.
const LOOPBACK_FIRST: u32 = 0x7f40_0000;
/// Of a socket that one session has to itself: a second's packets.
const SMALL_BUFFER_BYTES: usize = 128 << 10;
/// Transmits after which a batch is sent in the middle of a turn: the first waits no longer than these take.
const FLUSH_COUNT: usize = 32;
/// Sockets that are asked for their datagrams after one look at which have any.
const READY_MAX: usize = 256;

/// Where sessions call from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An address each, on loopback.
    Loopback,
    /// This address, a port each.
    Ports(IpAddr),
}

/// A call from another thread that ends the wait.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    fn new() -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    pub(super) fn ring(&self) {
        // It fails only when 2^64 calls wait to be seen, and then the bell rings anyway.
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).ok();
    }
}

/// All sockets.
pub(super) struct Sockets {
    place: Place,
    sockets: Vec<Socket>,
    batches: Vec<TransmitBatch>,
    /// Batches with something in them.
    waiting: Vec<usize>,
    /// Tells which of several sockets have something; one is simply asked.
    poller: Option<OwnedFd>,
    ready: Vec<usize>,
    bell: Bell,
}

impl Sockets {
    /// Sockets for so many sessions.
    ///
    /// # Errors
    /// No descriptors are left, or the address is not ours.
    pub(super) fn open(place: Place, sessions: u32) -> io::Result<Self> {
        let bell = Bell::new()?;
        let (sockets, poller) = match place {
            Place::Loopback => {
                let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
                let socket = Socket::bind(any, RECV_BUFFER_BYTES_WANTED)?;
                (vec![socket], None)
            }
            Place::Ports(ip) => {
                let bind = |_| Socket::bind(SocketAddr::new(ip, 0), SMALL_BUFFER_BYTES);
                let sockets = (0..sessions).map(bind).collect::<io::Result<Vec<_>>>()?;
                let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                for (index, socket) in sockets.iter().enumerate() {
                    let data = epoll::EventData::new_u64(index as u64);
                    epoll::add(&poller, socket.as_fd(), data, epoll::EventFlags::IN)?;
                }
                (sockets, Some(poller))
            }
        };
        let batches = sockets.iter().map(|_| TransmitBatch::default()).collect();
        Ok(Self {
            place,
            batches,
            waiting: Vec::new(),
            sockets,
            poller,
            ready: vec![0],
            bell,
        })
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Where each session calls from, in order.
    pub(super) fn addresses(&self, sessions: u32) -> Vec<SocketAddr> {
        let address = |number: u32| match self.place {
            Place::Loopback => {
                let ip = Ipv4Addr::from_bits(LOOPBACK_FIRST + number);
                SocketAddr::new(ip.into(), self.sockets[0].local_addr().port())
            }
            Place::Ports(_) => self.sockets[number as usize].local_addr(),
        };
        (0..sessions).map(address).collect()
    }

    /// Notes which sockets have something, for [`ready`](Self::ready); at most [`READY_MAX`] of several.
    pub(super) fn look(&mut self) {
        let Some(poller) = &self.poller else {
            return;
        };
        self.ready.clear();
        let mut events = [const { MaybeUninit::uninit() }; READY_MAX];
        // What is ready in a call that was interrupted is ready in the next turn too.
        if let Ok((events, _)) = epoll::wait(poller, &mut events, Some(&timespec(Duration::ZERO))) {
            let index = |event: &epoll::Event| { event.data }.u64() as usize;
            self.ready.extend(events.iter().map(index));
        }
    }

    /// Socket `index` of those that have something; `None` after the last.
    pub(super) fn ready(&self, index: usize) -> Option<usize> {
        self.ready.get(index).copied()
    }

    /// Receives from one socket into `batch`; whether there may be more.
    pub(super) fn recv(&mut self, index: usize, clock: &Clock, batch: &mut RecvBatch) -> bool {
        self.sockets[index]
            .recv(clock, batch)
            .is_ok_and(|count| count > 0)
    }

    /// The session that a datagram is for.
    pub(super) fn session_of(&self, socket: usize, destination: IpAddr) -> usize {
        match (self.place, destination) {
            (Place::Loopback, IpAddr::V4(ip)) => ip.to_bits().wrapping_sub(LOOPBACK_FIRST) as usize,
            (Place::Loopback, IpAddr::V6(_)) => usize::MAX,
            (Place::Ports(_), _) => socket,
        }
    }

    /// Queues a datagram of a session, of at most `size_max` bytes, which `write` fills.
    pub(super) fn push(
        &mut self,
        session: usize,
        destination: SocketAddr,
        lane: Lane,
        size_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let (index, source) = match self.place {
            Place::Loopback => {
                let ip = Ipv4Addr::from_bits(LOOPBACK_FIRST + session as u32);
                (0, Some(ip.into()))
            }
            Place::Ports(_) => (session, None),
        };
        let meta = TransmitMeta {
            source,
            destination,
            ecn: None,
            lane,
            received: None,
        };
        let batch = &mut self.batches[index];
        let queued = batch.push_with(meta, size_max, write);
        if queued && self.waiting.last() != Some(&index) {
            self.waiting.push(index);
        }
        if batch.len() >= FLUSH_COUNT {
            self.sockets[index].send(batch);
        }
        queued
    }

    /// Sends what waits; what a socket has no room for is tried again with the next call.
    pub(super) fn flush(&mut self) {
        let (sockets, batches) = (&mut self.sockets, &mut self.batches);
        self.waiting.retain(|&index| {
            sockets[index].send(&mut batches[index]);
            !batches[index].is_empty()
        });
    }

    /// Waits for so long, for the bell, or, if asked, for a datagram.
    pub(super) fn wait(&self, longest: Duration, for_datagrams: bool) {
        let bell = PollFd::new(&self.bell.0, PollFlags::IN);
        let timeout = timespec(longest);
        let woken = if for_datagrams {
            let source = match &self.poller {
                Some(poller) => poller.as_fd(),
                None => self.sockets[0].as_fd(),
            };
            poll(
                &mut [bell, PollFd::from_borrowed_fd(source, PollFlags::IN)],
                Some(&timeout),
            )
        } else {
            poll(&mut [bell], Some(&timeout))
        };
        if woken.is_ok_and(|count| count > 0) {
            // Nothing to read when a datagram woke us.
            rustix::io::read(&self.bell.0, &mut [0; 8]).ok();
        }
    }

    /// What became of datagrams at our own sockets.
    pub(super) fn losses(&self) -> u64 {
        let stats = self
            .sockets
            .iter()
            .map(|socket| socket.counters().snapshot());
        stats
            .map(|stats: SocketStats| stats.losses().iter().map(|(_, count)| count).sum::<u64>())
            .sum()
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
