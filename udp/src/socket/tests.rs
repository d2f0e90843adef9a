//! On real loopback sockets. Nothing waits without a bound.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use antiphon_core::drive::{Lane, TransmitMeta};
use antiphon_core::limits::RECV_SLOTS;
use antiphon_core::net::{Datagram, Ecn};

use super::*;
use crate::Fault;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn bind(ip: impl Into<IpAddr>) -> Socket {
    Socket::bind(SocketAddr::new(ip.into(), 0), 1 << 20).expect("loopback has free ports")
}

/// A plain socket of the standard library, to be the peer.
fn peer(ip: impl Into<IpAddr>) -> UdpSocket {
    let peer = UdpSocket::bind(SocketAddr::new(ip.into(), 0)).expect("loopback has free ports");
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    peer
}

fn at(socket: &Socket, ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), socket.local_addr().port())
}

fn meta(destination: SocketAddr) -> TransmitMeta {
    TransmitMeta {
        source: None,
        destination,
        ecn: None,
        lane: Lane::Media,
        received: None,
    }
}

/// Asks until a batch comes. Loopback delivers within the send call, so a few rounds are plenty.
fn recv(socket: &mut Socket, clock: &Clock) -> RecvBatch {
    let mut batch = RecvBatch::new(RECV_SLOTS);
    for _ in 0..1_000 {
        match socket.recv(clock, &mut batch) {
            Ok(_) => return batch,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing came");
}

/// The first datagram that comes, without its contents.
fn recv_one(socket: &mut Socket) -> (SocketAddr, SocketAddr, Option<Ecn>, Vec<u8>) {
    let mut batch = recv(socket, &Clock::start());
    let Datagram {
        source,
        destination,
        ecn,
        contents,
        ..
    } = batch
        .datagrams()
        .next()
        .expect("the batch holds a datagram");
    (source, destination, ecn, contents.to_vec())
}

fn recv_at(peer: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 2_048];
    let len = peer
        .recv(&mut bytes)
        .expect("a datagram comes within the bound");
    bytes[..len].to_vec()
}

fn has_ipv6() -> bool {
    let has = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        eprintln!("SKIPPED the IPv6 half: this host has no IPv6");
    }
    has
}

#[test]
fn a_dual_stack_socket_talks_to_both_families_and_shows_plain_addresses() {
    if !has_ipv6() {
        return;
    }
    let mut socket = bind(Ipv6Addr::UNSPECIFIED);
    for ip in [LOCALHOST, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let peer = peer(ip);
        peer.send_to(b"call", at(&socket, ip)).unwrap();
        let (source, destination, ecn, contents) = recv_one(&mut socket);
        assert_eq!(source, peer.local_addr().unwrap());
        assert_eq!(destination, at(&socket, ip));
        assert_eq!((ecn, &contents[..]), (None, &b"call"[..]));

        let mut batch = TransmitBatch::default();
        batch.push(
            TransmitMeta {
                source: Some(ip),
                ..meta(source)
            },
            b"response",
        );
        let outcome = socket.send(&mut batch);
        assert_eq!(
            outcome,
            SendOutcome {
                sent: 1,
                refused: 0,
                blocked: false
            }
        );
        assert_eq!(recv_at(&peer), b"response");
    }
}

#[test]
fn the_destination_is_the_address_the_peer_used_and_serves_as_source() {
    for bound in [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ] {
        let mut socket = bind(bound);
        let peer = peer(LOCALHOST);
        let second = IpAddr::from([127, 0, 0, 2]);
        peer.send_to(b"x", at(&socket, second)).unwrap();
        let (source, destination, ..) = recv_one(&mut socket);
        assert_eq!(destination, at(&socket, second));

        let mut batch = TransmitBatch::default();
        batch.push(
            TransmitMeta {
                source: Some(destination.ip()),
                ..meta(source)
            },
            b"y",
        );
        assert_eq!(socket.send(&mut batch).sent, 1);
        let (_, from) = peer.recv_from(&mut [0; 1]).expect("the answer comes");
        assert_eq!(from, destination);
    }
}

#[test]
fn a_port_is_never_shared() {
    let first = bind(LOCALHOST);
    let second = Socket::bind(first.local_addr(), 0).map(|_| ());
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn congestion_bits_go_both_ways_in_both_families() {
    let mut ips = vec![LOCALHOST];
    if has_ipv6() {
        ips.push(Ipv6Addr::LOCALHOST.into());
    }
    for ip in ips {
        let mut sender = bind(Ipv6Addr::UNSPECIFIED);
        let mut receivers = [bind(ip), bind(Ipv6Addr::UNSPECIFIED)];
        for receiver in &mut receivers {
            for ecn in [Some(Ecn::Ect0), None, Some(Ecn::Ce), Some(Ecn::Ect1)] {
                let mut batch = TransmitBatch::default();
                batch.push(
                    TransmitMeta {
                        ecn,
                        ..meta(at(receiver, ip))
                    },
                    b"marked",
                );
                assert_eq!(sender.send(&mut batch).sent, 1);
                assert_eq!(recv_one(receiver).2, ecn);
            }
        }
    }
}

#[test]
fn a_run_arrives_as_separate_datagrams_at_a_plain_receiver() {
    let mut socket = bind(LOCALHOST);
    let peer = peer(LOCALHOST);
    let mut batch = TransmitBatch::default();
    let sizes = [700, 700, 700, 300, 700, 50];
    for (byte, size) in (1..).zip(sizes) {
        batch.push(meta(peer.local_addr().unwrap()), &vec![byte; size]);
    }
    assert_eq!(socket.send(&mut batch).sent, sizes.len());
    assert_eq!(
        socket.runs.len(),
        2,
        "four go in one message, then two in another"
    );
    for (byte, size) in (1..).zip(sizes) {
        assert_eq!(recv_at(&peer), vec![byte; size]);
    }
    assert_eq!(socket.counters().snapshot(), Default::default());
}

#[test]
fn coalesced_datagrams_come_in_one_slot_and_are_split_again() {
    let (mut sender, mut receiver) = (bind(LOCALHOST), bind(LOCALHOST));
    let mut batch = TransmitBatch::default();
    let sizes = [1_000, 1_000, 1_000, 999];
    for (byte, size) in (1..).zip(sizes) {
        batch.push(meta(receiver.local_addr()), &vec![byte; size]);
    }
    assert_eq!(sender.send(&mut batch).sent, 4);
    let mut received = recv(&mut receiver, &Clock::start());
    if receiver.slot_bytes_max > PLAIN_SLOT_BYTES {
        assert_eq!(received.len(), 1, "loopback hands the run over whole");
    }
    let seen: Vec<_> = received
        .datagrams()
        .map(|d| (d.contents[0], d.contents.len()))
        .collect();
    assert_eq!(seen, (1..).zip(sizes).collect::<Vec<_>>());
}

#[test]
fn receive_times_are_the_kernels_and_lie_between_send_and_receipt() {
    const QUEUED: Duration = Duration::from_millis(20);
    const SLACK: Duration = Duration::from_millis(5);
    let mut socket = bind(LOCALHOST);
    let peer = peer(LOCALHOST);
    let clock = Clock::start();
    // The kernel switches stamping on a moment after the first socket asked, so the first tries may
    // be stamped when they are read.
    let stamped_on_arrival = (0..100).any(|_| {
        let before = clock.now();
        peer.send_to(b"stamped", socket.local_addr()).unwrap();
        let sent = clock.now();
        while clock.now().since(sent) < QUEUED {
            std::hint::spin_loop();
        }
        let mut batch = recv(&mut socket, &clock);
        let received = batch.datagrams().next().expect("one came").received;
        assert!(
            received >= before.before(SLACK),
            "{received} is before it was sent, {before}"
        );
        assert!(received <= clock.now());
        received <= sent + SLACK
    });
    assert!(
        stamped_on_arrival,
        "receive times are those of the receive call"
    );
}

#[test]
fn an_error_of_one_peer_stops_nobody_else() {
    let mut socket = bind(LOCALHOST);
    let peer = peer(LOCALHOST);
    let closed = bind(LOCALHOST).local_addr();
    let alive = peer.local_addr().unwrap();
    let not_ours = Some(IpAddr::from([192, 0, 2, 1]));
    let mut batch = TransmitBatch::default();
    batch.push(meta(alive), b"one");
    batch.push(meta(closed), b"nobody listens");
    batch.push(meta(alive), b"two");
    batch.push(
        TransmitMeta {
            source: not_ours,
            ..meta(alive)
        },
        b"lie",
    );
    batch.push(
        TransmitMeta {
            source: not_ours,
            ..meta(alive)
        },
        b"lie",
    );
    batch.push(meta(SocketAddr::new(LOCALHOST, 0)), b"no port");
    batch.push(meta(alive), b"three");
    let outcome = socket.send(&mut batch);
    assert_eq!(
        outcome,
        SendOutcome {
            sent: 4,
            refused: 3,
            blocked: false
        }
    );
    assert!(batch.is_empty());
    for expected in ["one", "two", "three"] {
        assert_eq!(recv_at(&peer), expected.as_bytes());
    }
    let stats = socket.counters().snapshot();
    assert_eq!(stats.send_unreachable + stats.send_failed, 3, "{stats:?}");
    // A refusal the closed port sent back must not surface as an error of the socket.
    peer.send_to(b"still here", socket.local_addr()).unwrap();
    assert_eq!(recv_one(&mut socket).3, b"still here");
}

#[test]
fn a_full_socket_keeps_the_rest_of_the_batch_in_order() {
    let mut socket = bind(LOCALHOST);
    let peer = peer(LOCALHOST);
    let mut batch = TransmitBatch::default();
    for byte in 0..6 {
        // Of growing size, so that each is a message of its own.
        batch.push(
            meta(peer.local_addr().unwrap()),
            &vec![byte; 10 + usize::from(byte)],
        );
    }
    // Loopback takes a datagram off the sender's books at once, so it never pushes back by itself.
    socket.fail_sends([Fault::Short(2), Fault::Errno(libc::EAGAIN)].map(Some));
    assert_eq!(
        socket.send(&mut batch),
        SendOutcome {
            sent: 2,
            refused: 0,
            blocked: true
        }
    );
    assert_eq!(batch.len(), 4);
    assert_eq!(
        socket.send(&mut batch),
        SendOutcome {
            sent: 4,
            refused: 0,
            blocked: false
        }
    );
    for byte in 0..6 {
        assert_eq!(recv_at(&peer), vec![byte; 10 + usize::from(byte)]);
    }
    assert_eq!(socket.counters().snapshot().send_blocked, 1);
}

#[test]
fn a_refused_run_is_sent_again_one_by_one() {
    for (errno, still_segmenting) in [
        (libc::EINVAL, true),
        (libc::EMSGSIZE, true),
        (libc::EIO, false),
    ] {
        let mut socket = bind(LOCALHOST);
        let peer = peer(LOCALHOST);
        let mut batch = TransmitBatch::default();
        for byte in 0..5 {
            batch.push(meta(peer.local_addr().unwrap()), &[byte; 100]);
        }
        socket.fail_sends([Some(Fault::Errno(errno))]);
        assert_eq!(socket.send(&mut batch).sent, 5);
        for byte in 0..5 {
            assert_eq!(recv_at(&peer), [byte; 100]);
        }
        assert_eq!(socket.segmenting, still_segmenting);
        assert_eq!(socket.counters().snapshot().segmentation_refused, 1);
    }
}

#[test]
fn refusals_are_counted_by_kind_and_the_batch_goes_on() {
    let mut socket = bind(LOCALHOST);
    let peer = peer(LOCALHOST);
    let errors = [
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::EPERM,
        libc::EMSGSIZE,
        libc::ENOBUFS,
        libc::EIO,
    ];
    let mut batch = TransmitBatch::default();
    for size in 1..=errors.len() + 1 {
        batch.push(meta(peer.local_addr().unwrap()), &vec![7; size]);
    }
    let interrupted = Fault::Errno(libc::EINTR);
    socket.fail_sends([Some(interrupted)]);
    socket.fail_sends(errors.map(Fault::Errno).map(Some));
    let outcome = socket.send(&mut batch);
    assert_eq!(
        outcome,
        SendOutcome {
            sent: 1,
            refused: errors.len(),
            blocked: false
        }
    );
    assert_eq!(recv_at(&peer).len(), errors.len() + 1);
    let stats = socket.counters().snapshot();
    assert_eq!(
        (
            stats.send_unreachable,
            stats.send_denied,
            stats.send_too_large
        ),
        (2, 1, 1)
    );
    assert_eq!(
        (stats.send_no_memory, stats.send_failed, stats.send_blocked),
        (1, 1, 0)
    );
    assert!(
        socket.segmenting,
        "a single datagram says nothing about segmentation"
    );
}

#[test]
fn ten_thousand_datagrams_to_many_ports_are_all_received_once() {
    const RECEIVERS: usize = 3;
    let mut sender = bind(LOCALHOST);
    let mut receivers: Vec<_> = (0..RECEIVERS).map(|_| bind(LOCALHOST)).collect();
    let clock = Clock::start();
    let mut seen = vec![0_u8; 10_000];
    let mut numbers = 0..10_000_u32;
    while !numbers.is_empty() {
        let mut batch = TransmitBatch::default();
        for number in numbers.by_ref().take(200) {
            let receiver = &receivers[number as usize / 3 % RECEIVERS];
            let len = if number % 7 == 0 { 300 } else { 120 };
            let mut contents = vec![0; len];
            contents[..4].copy_from_slice(&number.to_be_bytes());
            batch.push(meta(receiver.local_addr()), &contents);
        }
        assert_eq!(sender.send(&mut batch).refused, 0);
        for receiver in &mut receivers {
            let mut received = RecvBatch::new(RECV_SLOTS);
            while receiver.recv(&clock, &mut received).is_ok() {
                for datagram in received.datagrams() {
                    let number = *datagram
                        .contents
                        .first_chunk()
                        .expect("four bytes at least");
                    seen[u32::from_be_bytes(number) as usize] += 1;
                }
                received.clear();
            }
        }
    }
    assert!(seen.iter().all(|count| *count == 1));
}

#[test]
fn a_batch_without_room_receives_nothing_and_loses_nothing() {
    let mut socket = bind(LOCALHOST);
    let peer = peer(LOCALHOST);
    for byte in 0..3 {
        peer.send_to(&[byte], socket.local_addr()).unwrap();
    }
    let clock = Clock::start();
    let mut batch = RecvBatch::new(2);
    assert_eq!(socket.recv(&clock, &mut batch).unwrap(), 2);
    assert_eq!(socket.recv(&clock, &mut batch).unwrap(), 0);
    batch.clear();
    assert_eq!(socket.recv(&clock, &mut batch).unwrap(), 1);
    assert_eq!(batch.datagrams().next().map(|d| d.contents[0]), Some(2));
}

#[test]
fn datagrams_that_do_not_fit_are_discarded_and_empty_ones_are_no_datagrams() {
    let mut socket = bind(LOCALHOST);
    socket.slot_bytes_max = PLAIN_SLOT_BYTES;
    let peer = peer(LOCALHOST);
    peer.send_to(&vec![1; PLAIN_SLOT_BYTES + 1], socket.local_addr())
        .unwrap();
    peer.send_to(&[], socket.local_addr()).unwrap();
    peer.send_to(&vec![2; PLAIN_SLOT_BYTES], socket.local_addr())
        .unwrap();
    let mut batch = recv(&mut socket, &Clock::start());
    assert_eq!(batch.len(), 3);
    let seen: Vec<_> = batch
        .datagrams()
        .map(|d| (d.contents[0], d.contents.len()))
        .collect();
    assert_eq!(seen, [(2, PLAIN_SLOT_BYTES)]);
    assert_eq!(socket.counters().snapshot().recv_discarded, 1);
}

#[test]
fn what_a_full_receive_buffer_drops_is_counted() {
    let mut socket = Socket::bind(SocketAddr::new(LOCALHOST, 0), 4_096).unwrap();
    let peer = peer(LOCALHOST);
    for _ in 0..200 {
        peer.send_to(&[0; 500], socket.local_addr()).unwrap();
    }
    let clock = Clock::start();
    let mut batch = RecvBatch::new(RECV_SLOTS);
    let queued = socket.recv(&clock, &mut batch).unwrap();
    assert!(
        (1..RECV_SLOTS).contains(&queued),
        "{queued} fit in a buffer of 4 KiB"
    );
    // The count rides on the next datagram that gets in.
    peer.send_to(b"after", socket.local_addr()).unwrap();
    recv(&mut socket, &clock);
    assert_eq!(
        socket.counters().snapshot().recv_overflow,
        200 - queued as u64
    );
}

#[test]
fn the_receive_buffer_got_is_told_in_the_unit_it_was_asked_in() {
    let socket = bind(LOCALHOST);
    let maximum = std::fs::read_to_string("/proc/sys/net/core/rmem_max");
    let Some(maximum) = maximum
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
    else {
        eprintln!("SKIPPED: no /proc/sys/net/core/rmem_max");
        return;
    };
    assert!(socket.recv_buffer_bytes() >= (1 << 20).min(maximum));
    assert!(socket.recv_buffer_bytes() <= 1 << 20);
}
