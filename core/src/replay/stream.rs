//! One RTP source in a capture, and the table of them.
//!
//! A capture is somebody else's past: nothing in it is authenticated, and a copy or a late packet is a finding, not
//! an attack. So this counts what a session's receiver (`receive`) never sees.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::codec::{self, Codecs};
use super::report::{Flow, StreamReport};
use crate::limits::{DROPOUT_MAX, MISORDER_MAX, REPLAY_STREAMS_MAX};
use crate::wire::rtp::Header;

/// Sequence numbers remembered behind the highest: all that can be told from a number of 16 bits.
const WINDOW: u64 = 1 << 15;
/// Extended numbers start here, so that those before the first are positive too.
const FIRST_CYCLE: u64 = 1 << 16;
/// Milliseconds of media that a packet carries at most (Opus, RFC 6716 §2.1.4). Where more passes between two
/// packets in a row, the source was silent.
const PACKET_TIME_MAX_MS: i64 = 120;

/// One packet, as its stream sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) header: Header,
    /// Bytes of the whole packet on the wire.
    pub(super) bytes: u64,
    pub(super) truncated: bool,
    pub(super) opened: bool,
    /// Nanoseconds by the capture's clock, which may go back.
    pub(super) stamp: u64,
}

/// Which clock a stream's arrival times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrivals {
    Capture,
    Media,
    None,
}

#[derive(Debug)]
pub(super) struct Stream {
    ssrc: u32,
    flow: Flow,
    payload_types: BTreeMap<u8, u64>,
    last_payload_type: u8,
    first_sequence: u16,
    packets: u64,
    duplicates: u64,
    late: u64,
    restarts: u64,
    markers: u64,
    bytes: u64,
    truncated: u64,
    opened: u64,
    run: Run,
    /// Sums over the runs before this one.
    before: Closed,
    /// Numbers of the window that came, a bit each.
    present: Box<[u64; (WINDOW / 64) as usize]>,
    /// A number far from all others, and the one that would prove it a new beginning.
    stray: Option<u16>,
    strays: u64,
    is_confirmed: bool,
    timing: Timing,
    clocks: Vec<Clock>,
    spurts: Spurts,
}

/// Numbers since the stream began, or began anew. Extended: a cycle is 65,536.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The first that came, which RFC 3550 counts from.
    base: u64,
    lowest: u64,
    highest: u64,
    unique: u64,
    /// Of the packet with the highest number.
    timestamp: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Closed {
    expected: u64,
    unique: u64,
    missing: u64,
}

/// Where a packet stands among those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Beyond the highest number.
    Ahead(u64),
    /// Between others, or before them, and not seen yet.
    Late(u64),
    Copy,
    /// Too far from all others to belong to them.
    Stray,
    /// It follows a stray one: the stream began anew with that.
    Restart,
}

impl Stream {
    fn new(flow: Flow, seen: &Seen) -> Self {
        let header = &seen.header;
        let first = FIRST_CYCLE + u64::from(header.sequence_number);
        Self {
            ssrc: header.ssrc,
            flow,
            payload_types: BTreeMap::new(),
            last_payload_type: header.payload_type,
            first_sequence: header.sequence_number,
            packets: 0,
            duplicates: 0,
            late: 0,
            restarts: 0,
            markers: 0,
            bytes: 0,
            truncated: 0,
            opened: 0,
            run: Run::starting(first, header.timestamp),
            before: Closed::default(),
            present: Box::new([0; (WINDOW / 64) as usize]),
            stray: None,
            strays: 0,
            is_confirmed: false,
            timing: Timing::default(),
            clocks: Vec::new(),
            spurts: Spurts::default(),
        }
    }

    /// Takes note of a packet; where it stands, if it is one of the stream's that did not come before.
    fn note(&mut self, seen: &Seen, codecs: &Codecs, arrivals: Arrivals) -> Option<Placed> {
        let header = &seen.header;
        let is_first = self.packets == 0;
        self.packets += 1;
        *self.payload_types.entry(header.payload_type).or_insert(0) += 1;
        self.markers += u64::from(header.marker);
        self.bytes += seen.bytes;
        self.truncated += u64::from(seen.truncated);
        self.opened += u64::from(seen.opened);
        let place = if is_first {
            self.mark(self.run.base);
            Place::Ahead(self.run.base)
        } else {
            self.place(header)
        };
        self.note_place(place, header);
        let clock_rate = codecs
            .codec(header.payload_type)
            .map(codec::Codec::clock_rate);
        let mut arrived = None;
        if place != Place::Stray {
            let arrival = self
                .timing
                .arrival(seen.stamp, header.timestamp, clock_rate, arrivals);
            arrived = arrival.and(self.timing.last());
            if let Some(rate) = clock_rate {
                self.note_clock(rate, arrival, header.timestamp);
            }
        }
        if let (Place::Ahead(number), Some(rate)) = (place, clock_rate)
            && codec::is_audio(rate)
        {
            self.spurts.note(number, header, rate);
        }
        self.last_payload_type = header.payload_type;
        let number = match place {
            Place::Ahead(number) | Place::Late(number) => number,
            Place::Restart => self.run.highest,
            Place::Copy | Place::Stray => return None,
        };
        Some(Placed {
            number,
            arrived,
            is_confirmed: self.is_confirmed,
        })
    }

    fn place(&self, header: &Header) -> Place {
        let sequence = header.sequence_number;
        let ahead = sequence.wrapping_sub(self.run.highest as u16);
        if self.stray == Some(sequence) {
            return Place::Restart;
        }
        if ahead == 0 {
            return Place::Copy;
        }
        if u64::from(ahead) < WINDOW {
            let number = self.run.highest + u64::from(ahead);
            return if u64::from(ahead) < DROPOUT_MAX {
                Place::Ahead(number)
            } else {
                Place::Stray
            };
        }
        let behind = u64::from(ahead.wrapping_neg());
        let Some(number) = self.run.highest.checked_sub(behind) else {
            return Place::Stray;
        };
        // An old packet has an old timestamp; one that is far behind and newer is a new beginning.
        let is_newer = header
            .timestamp
            .wrapping_sub(self.run.timestamp)
            .cast_signed()
            > 0;
        let is_before_all = number < self.run.lowest;
        if behind >= WINDOW || (behind > MISORDER_MAX && (is_newer || is_before_all)) {
            Place::Stray
        } else if !is_before_all && self.is_marked(number) {
            Place::Copy
        } else {
            Place::Late(number)
        }
    }

    fn note_place(&mut self, place: Place, header: &Header) {
        match place {
            Place::Ahead(number) => {
                self.is_confirmed |= number > self.run.base && self.looks_alike(header);
                self.advance(number, header.timestamp);
            }
            Place::Late(number) => {
                self.is_confirmed |= self.looks_alike(header);
                self.late += 1;
                self.run.lowest = self.run.lowest.min(number);
                self.run.unique += 1;
                self.mark(number);
            }
            Place::Copy => self.duplicates += 1,
            Place::Stray => {
                self.strays += 1;
                self.stray = Some(header.sequence_number.wrapping_add(1));
            }
            Place::Restart => self.restart(header),
        }
        if !matches!(place, Place::Stray | Place::Copy) {
            self.stray = None;
        }
    }

    /// Near in number and of one type: two packets of another protocol hardly ever are (DNS, whose numbers and
    /// sources repeat, differs in this).
    const fn looks_alike(&self, header: &Header) -> bool {
        header.payload_type == self.last_payload_type
    }

    fn advance(&mut self, number: u64, timestamp: u32) {
        if number > self.run.highest {
            for skipped in self.run.highest + 1..number {
                self.unmark(skipped);
            }
            self.run.highest = number;
            self.run.unique += 1;
        }
        self.run.timestamp = timestamp;
        self.mark(number);
    }

    /// The stray packet and this one are the stream now (RFC 3550 §A.1).
    fn restart(&mut self, header: &Header) {
        self.before.expected += self.run.expected();
        self.before.unique += self.run.unique;
        self.before.missing += self.run.missing();
        let last = self.run.highest;
        let first = header.sequence_number.wrapping_sub(1);
        let step = first.wrapping_sub(last as u16);
        self.run = Run::starting(last + u64::from(step), header.timestamp);
        self.present.fill(0);
        self.mark(self.run.base);
        self.advance(self.run.base + 1, header.timestamp);
        self.restarts += 1;
        self.strays -= 1;
        self.is_confirmed |= self.looks_alike(header);
        self.timing.restart();
        self.clocks.iter_mut().for_each(Clock::restart);
        self.spurts.restart();
    }

    fn note_clock(&mut self, rate: u32, arrival: Option<u64>, timestamp: u32) {
        let known = self.clocks.iter().position(|clock| clock.rate == rate);
        let place = known.unwrap_or_else(|| {
            // Not more than there are payload types.
            self.clocks.push(Clock {
                rate,
                packets: 0,
                last: None,
                jitter: None,
            });
            self.clocks.len() - 1
        });
        self.clocks[place].note(arrival, timestamp);
    }

    fn is_marked(&self, number: u64) -> bool {
        self.present[word(number)] & bit(number) != 0
    }

    fn mark(&mut self, number: u64) {
        self.present[word(number)] |= bit(number);
    }

    fn unmark(&mut self, number: u64) {
        self.present[word(number)] &= !bit(number);
    }

    fn report(self) -> StreamReport {
        // The first of those with the most packets, whatever came later.
        let clock = self.clocks.iter().rev().max_by_key(|clock| clock.packets);
        let expected = self.before.expected + self.run.expected();
        let received = self.packets - self.strays;
        let duration = self.timing.duration();
        StreamReport {
            ssrc: self.ssrc,
            flow: self.flow,
            clock_rate: clock.map(|clock| clock.rate),
            packets: self.packets,
            unique: self.before.unique + self.run.unique,
            duplicates: self.duplicates,
            late: self.late,
            missing: self.before.missing + self.run.missing(),
            expected,
            lost: expected.cast_signed() - received.cast_signed(),
            first_sequence: self.first_sequence,
            highest_sequence: self.run.highest as u16,
            cycles: self.run.highest / 65_536 - 1,
            restarts: self.restarts,
            strays: self.strays,
            markers: self.markers,
            bytes: self.bytes,
            truncated: self.truncated,
            jitter: clock.and_then(|clock| clock.jitter),
            duration,
            bitrate: duration.and_then(|duration| bitrate(self.bytes, duration)),
            talk_spurts: clock
                .is_some_and(|clock| codec::is_audio(clock.rate))
                .then_some(self.spurts.count),
            opened: self.opened,
            payload_types: self.payload_types,
        }
    }
}

impl Run {
    const fn starting(first: u64, timestamp: u32) -> Self {
        Self {
            base: first,
            lowest: first,
            highest: first,
            unique: 1,
            timestamp,
        }
    }

    const fn expected(&self) -> u64 {
        self.highest - self.base + 1
    }

    const fn missing(&self) -> u64 {
        self.highest - self.lowest + 1 - self.unique
    }
}

const fn word(number: u64) -> usize {
    (number % WINDOW / 64) as usize
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

fn bitrate(bytes: u64, duration: Duration) -> Option<u64> {
    let nanos = duration.as_nanos();
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    u64::try_from(bits.checked_div(nanos)?).ok()
}

/// When the packets of a stream arrived, by the clock of the replay.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    /// Nanoseconds of the first and of the latest.
    span: Option<(u64, u64)>,
    media: Option<MediaTime>,
}

/// The media clock laid over the capture's at one packet.
#[derive(Clone, Copy, Debug)]
struct MediaTime {
    anchor: u64,
    rate: u32,
    timestamp: u32,
    /// Timestamp units since the anchor.
    passed: i64,
}

impl Timing {
    fn arrival(
        &mut self,
        stamp: u64,
        timestamp: u32,
        rate: Option<u32>,
        arrivals: Arrivals,
    ) -> Option<u64> {
        let arrival = match arrivals {
            Arrivals::None => return None,
            Arrivals::Capture => stamp,
            Arrivals::Media => self.media_arrival(stamp, timestamp, rate),
        };
        let (first, last) = self.span.unwrap_or((arrival, arrival));
        self.span = Some((first, last.max(arrival)));
        Some(arrival)
    }

    /// A packet arrives when its media time is due; one that is late, at once. Without a clock, when it was captured.
    fn media_arrival(&mut self, stamp: u64, timestamp: u32, rate: Option<u32>) -> u64 {
        let now = self.span.map_or(0, |(_, last)| last);
        let Some(rate) = rate else {
            return stamp.max(now);
        };
        let media = self.media.get_or_insert(MediaTime {
            anchor: stamp.max(now),
            rate,
            timestamp,
            passed: 0,
        });
        if media.rate != rate {
            return now;
        }
        let step = timestamp.wrapping_sub(media.timestamp).cast_signed();
        media.passed = media.passed.saturating_add(step.into());
        media.timestamp = timestamp;
        let nanos = i128::from(media.passed) * 1_000_000_000 / i128::from(rate);
        let due = (i128::from(media.anchor) + nanos).max(0);
        u64::try_from(due).unwrap_or(u64::MAX).max(now)
    }

    fn restart(&mut self) {
        self.media = None;
    }

    /// When the latest arrived.
    fn last(&self) -> Option<u64> {
        self.span.map(|(_, last)| last)
    }

    fn duration(&self) -> Option<Duration> {
        let (first, last) = self.span?;
        Some(Duration::from_nanos(last - first))
    }
}

/// Jitter of the packets of one clock rate (RFC 3550 §A.8). A payload type of another rate, or of none known, has
/// no part in it: its timestamps count something else.
#[derive(Clone, Copy, Debug)]
struct Clock {
    rate: u32,
    packets: u64,
    /// Arrival in nanoseconds, and timestamp.
    last: Option<(u64, u32)>,
    /// `None` before the first arrival.
    jitter: Option<f64>,
}

impl Clock {
    fn note(&mut self, arrival: Option<u64>, timestamp: u32) {
        self.packets += 1;
        let Some(arrival) = arrival else {
            return;
        };
        let jitter = self.jitter.get_or_insert(0.0);
        if let Some((arrival_before, timestamp_before)) = self.last.replace((arrival, timestamp)) {
            let nanos = arrival.wrapping_sub(arrival_before).cast_signed();
            let passed = nanos as f64 * f64::from(self.rate) / 1e9;
            let sent = timestamp.wrapping_sub(timestamp_before).cast_signed();
            *jitter += ((passed - f64::from(sent)).abs() - *jitter) / 16.0;
        }
    }

    /// A new timeline is no jitter.
    fn restart(&mut self) {
        self.last = None;
    }
}

/// Counts talk-spurts. Some senders mark every packet, so a marker alone is no beginning: there must be a pause before.
#[derive(Clone, Copy, Debug, Default)]
struct Spurts {
    count: u64,
    /// Number and timestamp of the packet before.
    last: Option<(u64, u32)>,
    /// The shortest media time from a packet to the next: what one of them holds.
    packet_time: Option<u32>,
    /// The packet before may be the first of a spurt.
    may_begin: bool,
}

impl Spurts {
    fn note(&mut self, number: u64, header: &Header, rate: u32) {
        let begins = self
            .last
            .replace((number, header.timestamp))
            .is_none_or(|last| self.is_after_pause(last, number, header, rate));
        if !begins {
            self.count += u64::from(self.may_begin);
        }
        self.may_begin = begins;
    }

    fn is_after_pause(
        &mut self,
        last: (u64, u32),
        number: u64,
        header: &Header,
        rate: u32,
    ) -> bool {
        let passed = header.timestamp.wrapping_sub(last.1).cast_signed();
        // Lost packets may have filled the time; they are fewer than `DROPOUT_MAX`.
        let packets = number.saturating_sub(last.0).cast_signed();
        if packets == 1 && passed > 0 {
            let shortest = self.packet_time.unwrap_or(u32::MAX);
            self.packet_time = Some(shortest.min(passed.unsigned_abs()));
        }
        let passed = i64::from(passed);
        let is_longer_than_any = passed * 1_000 > packets * i64::from(rate) * PACKET_TIME_MAX_MS;
        // Half a packet more than they hold: some senders round their timestamps.
        let is_longer = self
            .packet_time
            .is_some_and(|time| passed * 2 > packets * i64::from(time) * 3);
        is_longer_than_any || (header.marker && is_longer)
    }

    fn restart(&mut self) {
        self.last = None;
        self.may_begin = false;
    }
}

/// Every source there is. One of which a single packet came is kept too, until more show what it is.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: BTreeMap<(Flow, u32), Entry>,
    /// Those that were unconfirmed when they appeared, the oldest first: they give way when there are too many.
    unconfirmed: VecDeque<(Flow, u32)>,
    appeared: u64,
}

#[derive(Debug)]
struct Entry {
    /// Its place in the report.
    appeared: u64,
    stream: Stream,
}

impl Streams {
    /// Takes note of a packet.
    pub(super) fn note(
        &mut self,
        flow: Flow,
        seen: &Seen,
        codecs: &Codecs,
        arrivals: Arrivals,
    ) -> Noted {
        let key = (flow, seen.header.ssrc);
        let mut given_up = 0;
        if !self.streams.contains_key(&key) && self.streams.len() >= REPLAY_STREAMS_MAX {
            match self.give_up_one() {
                Some(packets) => given_up = packets,
                None => return Noted::Beyond,
            }
        }
        let entry = self.streams.entry(key).or_insert_with(|| {
            self.appeared += 1;
            self.unconfirmed.push_back(key);
            Entry {
                appeared: self.appeared,
                stream: Stream::new(flow, seen),
            }
        });
        let before = entry.stream.is_confirmed;
        let place = entry.stream.note(seen, codecs, arrivals);
        Noted::Counted {
            is_confirmed: entry.stream.is_confirmed && !before,
            given_up,
            place,
        }
    }

    /// Reports in the order of appearance. A source that no second packet confirmed is one only if `is_media` knows
    /// its flow; the packets of the others are the second part.
    pub(super) fn into_reports(self, is_media: impl Fn(Flow) -> bool) -> (Vec<StreamReport>, u64) {
        let mut entries: Vec<Entry> = self.streams.into_values().collect();
        entries.sort_by_key(|entry| entry.appeared);
        let (reported, alone): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .map(|entry| entry.stream)
            .partition(|stream| stream.is_confirmed || is_media(stream.flow));
        let alone = alone.iter().map(|stream| stream.packets).sum();
        let reports = reported.into_iter().map(Stream::report).collect();
        (reports, alone)
    }

    /// Forgets the oldest that nothing confirmed; how many packets it had.
    fn give_up_one(&mut self) -> Option<u64> {
        while let Some(key) = self.unconfirmed.pop_front() {
            let is_unconfirmed = |entry: &Entry| !entry.stream.is_confirmed;
            if self.streams.get(&key).is_some_and(is_unconfirmed) {
                return self.streams.remove(&key).map(|entry| entry.stream.packets);
            }
        }
        None
    }
}

/// Where a packet stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its sequence number, extended.
    pub(super) number: u64,
    /// Nanoseconds by the clock of the replay, which never goes back.
    pub(super) arrived: Option<u64>,
    /// The stream is one beyond doubt.
    pub(super) is_confirmed: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Counted {
        /// With this packet its stream is one beyond doubt.
        is_confirmed: bool,
        /// Packets of another source that had to give way.
        given_up: u64,
        /// Where it stands, if it is none that came before or is another's.
        place: Option<Placed>,
    },
    /// There are too many sources.
    Beyond,
}

#[cfg(test)]
mod tests;
