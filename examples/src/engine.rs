//! Drives all calls on one thread over one socket: each call has an address of 127.64.0.0/16 to itself,
//! because a server on one port tells calls apart by where they come from.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use antiphon_core::drive::{Lane, RecvBatch, TransmitBatch, TransmitMeta};
use antiphon_core::limits::RECV_SLOTS;
use antiphon_core::time::Timestamp;
use antiphon_udp::{Clock, RECV_BUFFER_BYTES_WANTED, Socket};
use smol::channel::{self, Receiver, Sender};
use smol::future::FutureExt as _;
use smol::{Async, Timer};

use crate::caller::{Caller, Heard, Stamp};

/// Calls of one engine: the addresses it hands out.
pub const CALLS_MAX: usize = 65_536;
/// After the last packet was sent, replies are awaited for this long.
const LISTEN_ON: Duration = Duration::from_millis(500);
/// A sender that fell further behind than this skips the packets it owes.
const BACKLOG_MAX: Duration = Duration::from_millis(200);

/// A call that was answered, for the engine to connect and keep up.
pub struct Join {
    /// The call.
    pub caller: Caller,
    /// When its POST began.
    pub posted: Timestamp,
    /// When the answer had been read.
    pub answered: Timestamp,
}

/// What each call sends.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Time from packet to packet.
    pub interval: Duration,
    /// What is in them.
    pub contents: Contents,
}

/// What packets hold.
#[derive(Clone, Debug)]
pub enum Contents {
    /// A stamp, in so many bytes; what comes back tells the round trip.
    Stamps(usize),
    /// These payloads over and over, each call somewhere else in them; whatever comes back counts.
    Speech(Arc<[Arc<[u8]>]>),
}

/// What one call came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// When its POST began.
    pub posted: Timestamp,
    /// When the answer had been read.
    pub answered: Timestamp,
    /// When ICE and DTLS were done.
    pub connected: Option<Timestamp>,
    /// When the kernel had its first packet back.
    pub first_media: Option<Timestamp>,
    /// Packets sent.
    pub sent: u64,
    /// Packets that came back, none twice: SRTP sees to that.
    pub received: u64,
    /// It ended before it was told to.
    pub died: bool,
}

/// What all calls came to.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// In the order they joined.
    pub calls: Vec<Outcome>,
    /// When each packet that came back was sent, and how long it took.
    pub round_trips: Vec<(Timestamp, Duration)>,
    /// When each packet should have been sent, and how late it was: the generator's own fault.
    pub lateness: Vec<(Timestamp, Duration)>,
    /// Packets without a stamp, or with another call's.
    pub misdelivered: u64,
}

/// Counts to read while the engine runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Calls that connected.
    pub connected: AtomicU64,
    /// Calls whose first packet came back.
    pub heard: AtomicU64,
    /// Packets sent.
    pub sent: AtomicU64,
    /// Packets that came back.
    pub received: AtomicU64,
}

/// A running engine. It ends its calls when told to finish.
pub struct Engine {
    /// The UDP port of all calls.
    port: u16,
    joins: Sender<Join>,
    /// Its counts.
    pub progress: Arc<Progress>,
    thread: JoinHandle<Outcomes>,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the socket or the thread cannot be had.
    pub fn start(clock: Clock, pace: Pace) -> io::Result<Self> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let socket = Socket::bind(any, RECV_BUFFER_BYTES_WANTED)?;
        let port = socket.local_addr().port();
        let readiness = Async::new(socket.duplicate()?)?;
        let (joins, joining) = channel::unbounded();
        let progress = Arc::new(Progress::default());
        let run = Run {
            clock,
            pace,
            socket,
            readiness,
            transmits: TransmitBatch::default(),
            calls: Vec::new(),
            due: BTreeSet::new(),
            outcomes: Outcomes::default(),
            progress: Arc::clone(&progress),
            sending: true,
        };
        let thread = thread::Builder::new().name("engine".to_owned());
        let thread = thread.spawn(move || smol::block_on(run.until_left(joining)))?;
        Ok(Self {
            port,
            joins,
            progress,
            thread,
        })
    }

    /// The address of call `number`.
    #[must_use]
    pub fn address(&self, number: usize) -> SocketAddr {
        address(number, self.port)
    }

    /// A lane to hand calls in by, from any thread.
    #[must_use]
    pub fn lane(&self) -> Sender<Join> {
        self.joins.clone()
    }

    /// Stops sending, waits for what is under way, ends the calls; all lanes must have been dropped.
    #[must_use]
    pub fn finish(self) -> Outcomes {
        drop(self.joins);
        self.thread.join().unwrap_or_default()
    }
}

fn address(number: usize, port: u16) -> SocketAddr {
    let [.., high, low] = (number as u32).to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(127, 64, high, low).into(), port)
}

fn number_of(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(v4) => {
            let [_, _, high, low] = v4.octets();
            Some(usize::from(high) << 8 | usize::from(low))
        }
        IpAddr::V6(_) => None,
    }
}

/// Why a wait ended.
enum Woken {
    Joined(Box<Join>),
    Left,
    Due,
}

struct Call {
    caller: Caller,
    outcome: usize,
    next_send: Option<Timestamp>,
    due: Timestamp,
}

struct Run {
    clock: Clock,
    pace: Pace,
    socket: Socket,
    readiness: Async<UdpSocket>,
    transmits: TransmitBatch,
    /// By number of the address; `None` before it joined and after it ended.
    calls: Vec<Option<Call>>,
    due: BTreeSet<(Timestamp, usize)>,
    outcomes: Outcomes,
    progress: Arc<Progress>,
    sending: bool,
}

impl Run {
    async fn until_left(mut self, joining: Receiver<Join>) -> Outcomes {
        let mut batch = RecvBatch::new(RECV_SLOTS);
        loop {
            self.turn(&mut batch);
            match self.wait(Some(&joining), None).await {
                Woken::Joined(join) => self.admit(*join),
                Woken::Left => break,
                Woken::Due => {}
            }
        }
        self.sending = false;
        let end = self.clock.now() + LISTEN_ON;
        while self.clock.now() < end {
            self.turn(&mut batch);
            self.wait(None, Some(end)).await;
        }
        for number in 0..self.calls.len() {
            if let Some(call) = &mut self.calls[number] {
                call.caller.hang_up();
                self.drain(number, end);
            }
        }
        self.socket.send(&mut self.transmits);
        self.outcomes
    }

    async fn wait(&self, joining: Option<&Receiver<Join>>, until: Option<Timestamp>) -> Woken {
        let due = self.due.first().map(|(at, _)| *at);
        let until = until.into_iter().chain(due).min();
        let readable = async {
            self.readiness.readable().await.ok();
            Woken::Due
        };
        let joined = async {
            match joining {
                Some(joining) => joining
                    .recv()
                    .await
                    .map_or(Woken::Left, |join| Woken::Joined(Box::new(join))),
                None => smol::future::pending().await,
            }
        };
        let timer = async {
            match until {
                Some(until) => Timer::at(self.clock.epoch().instant(until)).await,
                None => Timer::never().await,
            };
            Woken::Due
        };
        readable.or(joined).or(timer).await
    }

    fn turn(&mut self, batch: &mut RecvBatch) {
        while self
            .socket
            .recv(&self.clock, batch)
            .is_ok_and(|count| count > 0)
        {
            let now = self.clock.now();
            for datagram in batch.datagrams() {
                let number = number_of(datagram.destination.ip()).unwrap_or(usize::MAX);
                if let Some(Some(call)) = self.calls.get_mut(number) {
                    let instant = self.clock.epoch().instant(now);
                    let source = datagram.source;
                    let alive = call.caller.receive(instant, source, datagram.contents);
                    self.drain_or_end(number, datagram.received, alive);
                }
            }
            batch.clear();
        }
        loop {
            let now = self.clock.now();
            let Some(&(at, number)) = self.due.first().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.due.remove(&(at, number));
            self.serve(number, now);
        }
        self.socket.send(&mut self.transmits);
    }

    fn admit(&mut self, join: Join) {
        let number = number_of(join.caller.address.ip()).expect("addresses are the engine's");
        let now = self.clock.now();
        let outcome = self.outcomes.calls.len();
        self.outcomes.calls.push(Outcome {
            posted: join.posted,
            answered: join.answered,
            connected: None,
            first_media: None,
            sent: 0,
            received: 0,
            died: false,
        });
        if self.calls.len() <= number {
            self.calls.resize_with(number + 1, || None);
        }
        self.calls[number] = Some(Call {
            caller: join.caller,
            outcome,
            next_send: None,
            due: now,
        });
        self.due.insert((now, number));
    }

    /// Does what a call is due to do.
    fn serve(&mut self, number: usize, now: Timestamp) {
        let instant = self.clock.epoch().instant(now);
        let Some(call) = &mut self.calls[number] else {
            return;
        };
        let mut alive = true;
        match call.next_send.filter(|at| self.sending && *at <= now) {
            Some(at) => {
                let outcome = &mut self.outcomes.calls[call.outcome];
                outcome.sent += 1;
                let payload = match &self.pace.contents {
                    Contents::Stamps(bytes) => {
                        let stamp = Stamp {
                            call: number as u32,
                            packet: outcome.sent as u32,
                            sent_nanos: now.as_nanos(),
                        };
                        stamp.write(*bytes)
                    }
                    Contents::Speech(payloads) => {
                        let place = outcome.sent as usize + number * 37;
                        Arc::clone(&payloads[place % payloads.len()])
                    }
                };
                alive = call.caller.send(instant, payload);
                self.progress.sent.fetch_add(1, Ordering::Relaxed);
                // The first one is due at once, wherever the call's turn in the interval is.
                if outcome.sent == 1 {
                    call.next_send = Some(next_phase(number, now, self.pace.interval));
                } else {
                    self.outcomes.lateness.push((at, now.since(at)));
                    let behind = now.since(at) > BACKLOG_MAX;
                    call.next_send = Some(if behind { now } else { at } + self.pace.interval);
                }
            }
            None => alive &= call.caller.tick(instant),
        }
        self.drain_or_end(number, now, alive);
    }

    fn drain_or_end(&mut self, number: usize, received: Timestamp, alive: bool) {
        if !(alive && self.drain(number, received))
            && let Some(call) = self.calls[number].take()
        {
            self.due.remove(&(call.due, number));
            self.outcomes.calls[call.outcome].died = true;
        }
    }

    /// Takes what a call did, `received` being the kernel's stamp of what made it; whether it lives.
    fn drain(&mut self, number: usize, received: Timestamp) -> bool {
        let Some(call) = &mut self.calls[number] else {
            return false;
        };
        let source = Some(call.caller.address.ip());
        let transmits = &mut self.transmits;
        let mut out = |destination: SocketAddr, contents: &[u8]| {
            let meta = TransmitMeta {
                source,
                destination,
                ecn: None,
                lane: Lane::Control,
                received: None,
            };
            transmits.push(meta, contents);
        };
        let outcome = &mut self.outcomes.calls[call.outcome];
        while let Some(heard) = call.caller.poll(&mut out) {
            match heard {
                Heard::Connected => {
                    let now = self.clock.now();
                    outcome.connected = Some(now);
                    call.next_send = Some(now);
                    self.progress.connected.fetch_add(1, Ordering::Relaxed);
                }
                Heard::Stamped(stamp) if stamp.call == number as u32 => {
                    let sent = Timestamp::from_nanos(stamp.sent_nanos);
                    outcome.received += 1;
                    self.progress.received.fetch_add(1, Ordering::Relaxed);
                    self.outcomes.round_trips.push((sent, received.since(sent)));
                    if outcome.first_media.is_none() {
                        outcome.first_media = Some(received);
                        self.progress.heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Heard::Foreign if matches!(self.pace.contents, Contents::Speech(_)) => {
                    outcome.received += 1;
                    self.progress.received.fetch_add(1, Ordering::Relaxed);
                    if outcome.first_media.is_none() {
                        outcome.first_media = Some(received);
                        self.progress.heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Heard::Stamped(_) | Heard::Foreign => self.outcomes.misdelivered += 1,
                Heard::Closed => return false,
            }
        }
        self.due.remove(&(call.due, number));
        let timeout = self.clock.epoch().timestamp(call.caller.timeout);
        let send = call.next_send.filter(|_| self.sending);
        call.due = send.map_or(timeout, |send| send.min(timeout));
        self.due.insert((call.due, number));
        true
    }
}

/// When a call sends next after its first packet. By the golden ratio, any number of calls is spread
/// evenly over the interval, whatever the rhythm in which they joined.
fn next_phase(number: usize, now: Timestamp, interval: Duration) -> Timestamp {
    let interval = interval.as_nanos() as u64;
    let phase = (number as f64 * 0.618_033_988_75).fract() * interval as f64;
    let start = now.as_nanos() / interval * interval + phase as u64;
    let wait = if start > now.as_nanos() { 0 } else { interval };
    Timestamp::from_nanos(start + wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_own_address_and_a_phase_within_one_interval() {
        let interval = Duration::from_millis(20);
        let now = Timestamp::from_millis(12_345);
        for number in [0, 1, 255, 256, 199, CALLS_MAX - 1] {
            assert_eq!(number_of(address(number, 9).ip()), Some(number));
            let next = next_phase(number, now, interval);
            assert!(next > now && next <= now + interval, "{number}: {next}");
        }
    }
}
