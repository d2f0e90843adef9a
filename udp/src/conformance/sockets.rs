//! A driver, its threads, and real sockets on loopback.

use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use antiphon_core::drive::{Full, RelayLanes, ShardHandle, Turner};
use antiphon_core::ids::ShardId;
use antiphon_core::message::{Command, Event};
use antiphon_core::time::Epoch;

use super::{Plan, Rig, SHARD};
use crate::{Clock, Fault, RECV_BUFFER_BYTES_WANTED, Socket, SocketCounters};

/// Nothing a driver is asked for here takes this long, even on a loaded machine.
pub(super) const BOUND: Duration = Duration::from_secs(10);

/// A driver's `spawn`, and what may be expected of it.
pub trait Driver {
    /// See [`Rig::LATENESS_MAX`].
    const LATENESS_MAX: Duration;
    /// What its runtime may allocate for each wait, however many datagrams the turn before it carried.
    const ALLOCATIONS_A_WAIT_MAX: u64;

    /// Why it cannot be tried on this machine.
    #[must_use]
    fn missing() -> Option<String> {
        None
    }

    /// Starts a thread that drives what `make` makes over `socket`.
    ///
    /// # Errors
    /// What the operating system says.
    fn spawn<T: Turner + 'static>(
        id: ShardId,
        make: impl FnOnce(&Clock) -> T + Send + 'static,
        socket: Socket,
        clock: Clock,
        relays: &RelayLanes,
        emit: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<ShardHandle>;
}

/// A turner that a driver drives.
#[derive(Debug)]
pub struct Sockets<D> {
    shard: ShardHandle,
    events: Receiver<Event>,
    address: SocketAddr,
    counters: Arc<SocketCounters>,
    clients: Vec<UdpSocket>,
    driver: PhantomData<D>,
}

impl<D: Driver> Rig for Sockets<D> {
    const LATENESS_MAX: Duration = D::LATENESS_MAX;

    fn missing() -> Option<String> {
        D::missing()
    }

    fn start<T: Turner + 'static>(
        plan: Plan,
        make: impl FnOnce(Epoch) -> T + Send + 'static,
    ) -> Self {
        let bind_to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut socket =
            Socket::bind(bind_to, RECV_BUFFER_BYTES_WANTED).expect("loopback has free ports");
        socket.fail_sends(
            (0..=plan.full_sends.last().copied().unwrap_or(0)).map(|call| {
                plan.full_sends
                    .contains(&call)
                    .then_some(Fault::Errno(libc::EAGAIN))
            }),
        );
        let (address, counters) = (socket.local_addr(), socket.counters());
        let (sender, events) = mpsc::channel();
        let emit = move |event| {
            // The test may be over, and its receiver gone, while the shard still runs.
            drop(sender.send(event));
        };
        let make = move |clock: &Clock| make(clock.epoch());
        let shard = D::spawn(
            SHARD,
            make,
            socket,
            Clock::start(),
            &RelayLanes::default(),
            emit,
        )
        .expect("the driver starts");
        assert_eq!(shard.id(), SHARD);
        Self {
            shard,
            events,
            address,
            counters,
            clients: Vec::new(),
            driver: PhantomData,
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Full<Command>> {
        self.shard.try_send(command)
    }

    fn event(&mut self) -> Option<Event> {
        match self.events.recv_timeout(BOUND) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no event in time"),
        }
    }

    fn send(&mut self, client: usize, contents: &[u8]) {
        let address = self.address;
        let sent = self.client(client).send_to(contents, address);
        assert_eq!(sent.expect("loopback takes a datagram"), contents.len());
    }

    fn recv(&mut self, client: usize) -> Vec<u8> {
        let address = self.address;
        let mut bytes = [0; 2_048];
        let received = self.client(client).recv_from(&mut bytes);
        let (len, source) = received.expect("a datagram comes in time");
        assert_eq!(source, address);
        bytes[..len].to_vec()
    }

    fn blocked(&self) -> u64 {
        self.counters.snapshot().send_blocked
    }

    fn stop(&mut self) {
        self.shard.stop();
    }

    fn join(self) -> thread::Result<()> {
        self.shard.join()?;
        // The port is free again.
        drop(Socket::bind(self.address, 0).expect("the socket was closed"));
        Ok(())
    }
}

impl<D> Sockets<D> {
    /// Where the shard listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a client is.
    pub(super) fn client_address(&mut self, client: usize) -> SocketAddr {
        let address = self.client(client).local_addr();
        address.expect("it was bound to one")
    }

    /// A datagram from the shard to a client, if one has come.
    pub(super) fn try_recv(&mut self, client: usize) -> Option<Vec<u8>> {
        let mut bytes = [0; 2_048];
        let client = self.client(client);
        client.set_nonblocking(true).expect("it is a socket");
        let received = client.recv(&mut bytes).ok();
        client.set_nonblocking(false).expect("it is a socket");
        received.map(|len| bytes[..len].to_vec())
    }

    /// The client of this number, made when it is first used.
    fn client(&mut self, number: usize) -> &UdpSocket {
        while self.clients.len() <= number {
            let client =
                UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
            client
                .set_read_timeout(Some(BOUND))
                .expect("the bound is not zero");
            self.clients.push(client);
        }
        &self.clients[number]
    }
}
