//! A way to the server that can change the port it comes from, as a NAT does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A thread that hears nothing looks this often whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// No Chromium sends larger datagrams.
const DATAGRAM_BYTES: usize = 2_048;

/// Hands on what comes to its own address, 127.0.0.2, and brings the answers back. Each client gets a port of
/// its own towards the server. Dropping it ends its threads.
pub(crate) struct Relay {
    ports: Arc<Mutex<BTreeMap<SocketAddr, UdpSocket>>>,
    /// How many times the ports were changed; threads of earlier ports end.
    changes: Arc<AtomicU32>,
}

impl Relay {
    /// The address it stands at.
    pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    const ENDED: u32 = u32::MAX;

    /// Relays to this port of 127.0.0.1.
    pub(crate) fn start(port: u16) -> Self {
        let front = UdpSocket::bind((Self::ADDRESS, port)).expect("the address is free");
        front.set_read_timeout(Some(LOOK)).expect("not zero");
        let relay = Self {
            ports: Arc::default(),
            changes: Arc::default(),
        };
        let (ports, changes) = (Arc::clone(&relay.ports), Arc::clone(&relay.changes));
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        thread::spawn(move || {
            let mut bytes = [0; DATAGRAM_BYTES];
            while changes.load(Ordering::Relaxed) != Self::ENDED {
                let Ok((len, client)) = front.recv_from(&mut bytes) else {
                    continue;
                };
                let mut ports = ports.lock().expect("no thread panics");
                let port = ports
                    .entry(client)
                    .or_insert_with(|| open(&front, client, server, &changes));
                // What is lost is lost.
                port.send(&bytes[..len]).ok();
            }
        });
        relay
    }

    /// Gives every client another port; nothing comes back by the old ones any more.
    pub(crate) fn rebind(&self) {
        self.ports.lock().expect("no thread panics").clear();
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.changes.store(Self::ENDED, Ordering::Relaxed);
    }
}

/// A port towards the server, and a thread that brings back what comes there.
fn open(
    front: &UdpSocket,
    client: SocketAddr,
    server: SocketAddr,
    changes: &Arc<AtomicU32>,
) -> UdpSocket {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    port.connect(server).expect("it is on loopback");
    port.set_read_timeout(Some(LOOK)).expect("not zero");
    let back = port.try_clone().expect("descriptors are left");
    let front = front.try_clone().expect("descriptors are left");
    let (changes, now) = (Arc::clone(changes), changes.load(Ordering::Relaxed));
    thread::spawn(move || {
        let mut bytes = [0; DATAGRAM_BYTES];
        while changes.load(Ordering::Relaxed) == now {
            let Ok(len) = back.recv(&mut bytes) else {
                continue;
            };
            if changes.load(Ordering::Relaxed) == now {
                front.send_to(&bytes[..len], client).ok();
            }
        }
    });
    port
}
