//! A trace through a buffer, and what that gives.

use std::iter::Sum;
use std::time::Duration;

use antiphon_core::audio::Rate;
use antiphon_core::jitter::tone::ToneDecoder;
use antiphon_core::jitter::{Config, FrameKind, JitterBuffer, Mode, Packet};
use antiphon_core::time::Timestamp;

use crate::traces::{PACKET, Sent, TRANSIT, arrivals};

/// Where in the stream's 10 ms the clock that plays it stands.
const PHASE: i64 = 3_700;
const FRAME: i64 = 10_000;
/// The epoch, so that nothing happens before it.
const START: i64 = 1_000_000;

/// What a buffer made of a trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Microseconds that each packet was played later than had it come as fast as the fastest; ascending.
    pub(crate) delays: Vec<i64>,
    /// Speech, in packets.
    pub(crate) speech: i64,
    /// Made up, in microseconds.
    pub(crate) concealed: i64,
    /// Packets of speech that were sent and never heard.
    pub(crate) unheard: i64,
    /// Left out or put in, in microseconds.
    pub(crate) stretched: i64,
    /// Times it ran dry.
    pub(crate) underruns: i64,
}

impl Outcome {
    /// Microseconds.
    pub(crate) fn mean_delay(&self) -> i64 {
        self.delays.iter().sum::<i64>() / (self.delays.len() as i64).max(1)
    }

    /// Microseconds that 95 of 100 packets stay below.
    pub(crate) fn p95_delay(&self) -> i64 {
        self.delays
            .get(self.delays.len() * 95 / 100)
            .copied()
            .unwrap_or(0)
    }

    fn of(packets: &[Sent]) -> Self {
        let speech = packets.iter().filter(|sent| !sent.packet.is_dtx).count() as i64;
        Self {
            delays: Vec::new(),
            speech,
            concealed: 0,
            unheard: speech,
            stretched: 0,
            underruns: 0,
        }
    }
}

/// Several runs of one path together.
impl Sum for Outcome {
    fn sum<I: Iterator<Item = Self>>(outcomes: I) -> Self {
        let mut sum = Self::of(&[]);
        for outcome in outcomes {
            sum.delays.extend(outcome.delays);
            sum.speech += outcome.speech;
            sum.concealed += outcome.concealed;
            sum.unheard += outcome.unheard;
            sum.stretched += outcome.stretched;
            sum.underruns += outcome.underruns;
        }
        sum.delays.sort_unstable();
        sum
    }
}

/// The time of a journey in the buffer's clock.
pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_nanos((START + micros) as u64 * 1_000)
}

/// One of our buffers over a trace.
struct Player<'a> {
    buffer: JitterBuffer,
    decoder: ToneDecoder,
    packets: &'a [Sent],
    outcome: Outcome,
    is_clocked: bool,
}

/// Plays a trace with one of our buffers.
pub(crate) fn play(name: &str, packets: &[Sent], config: Config) -> Outcome {
    let mut player = Player {
        buffer: JitterBuffer::new(config, Rate::Hz16000, 48_000),
        decoder: ToneDecoder::new(Rate::Hz16000),
        packets,
        outcome: Outcome::of(packets),
        is_clocked: config.mode == Mode::Clocked,
    };
    let mut now = PHASE;
    for (arrival, sent) in arrivals(name, packets) {
        player.pass(&mut now, arrival);
        player.buffer.insert(
            at(arrival),
            Packet {
                sequence: sent.sequence,
                timestamp: sent.timestamp,
                payload: &sent.packet.payload(),
                marker: false,
            },
        );
        if !player.is_clocked {
            while player.poll(arrival) != FrameKind::Empty {}
        }
    }
    // What waits is played out; what would be made up after it is not asked for.
    let frame = Duration::from_millis(10);
    while player.is_clocked && (player.buffer.held() > 0 || player.buffer.ready() >= frame) {
        player.poll(now);
        now += FRAME;
    }
    player.outcome()
}

impl Player<'_> {
    /// Lets time pass up to an arrival.
    fn pass(&mut self, now: &mut i64, until: i64) {
        while self.is_clocked && *now < until {
            self.poll(*now);
            *now += FRAME;
        }
        while !self.is_clocked
            && let Some(deadline) = self.buffer.next_deadline()
            && deadline < at(until)
        {
            let micros = deadline.as_micros() as i64 - START;
            assert_ne!(
                self.poll(micros),
                FrameKind::Empty,
                "something is due at a deadline"
            );
        }
    }

    fn poll(&mut self, now: i64) -> FrameKind {
        let mut out = [0.0; Rate::Hz16000.frame()];
        let kind = self.buffer.poll(at(now), &mut self.decoder, &mut out);
        // What was decoded now ends where what is ready ends; the frame handed out is before that.
        let mut end = now + FRAME + self.buffer.ready().as_micros() as i64;
        while let Some(decoded) = self.decoder.decoded.pop() {
            let played = end - i64::from(decoded.frames.max(2)) * FRAME;
            end = played;
            if decoded.is_dtx {
                continue;
            }
            let index = self
                .packets
                .partition_point(|sent| sent.packet.at < decoded.at);
            self.outcome.unheard -= 1;
            let sent = self.packets[index].sent;
            self.outcome.delays.push(played - sent - TRANSIT);
        }
        kind
    }

    fn outcome(mut self) -> Outcome {
        let stats = self.buffer.stats();
        let micros = |samples: u64| samples as i64 * 1_000 / 16;
        self.outcome.concealed = micros(stats.concealed_samples);
        self.outcome.stretched = micros(
            stats.inserted_samples_for_deceleration + stats.removed_samples_for_acceleration,
        );
        self.outcome.underruns = stats.underruns as i64;
        self.outcome.delays.sort_unstable();
        self.outcome
    }
}

/// Late packets in a row after which a fixed buffer begins again.
const FIXED_PATIENCE: i64 = 10;

/// Plays a trace with a buffer of one delay: each talk-spurt's first packet is held that long, the others follow at
/// the pace of their timestamps. It begins again when ten packets in a row are late, or it would play nothing more.
pub(crate) fn play_fixed(name: &str, packets: &[Sent], delay: i64) -> Outcome {
    let mut outcome = Outcome::of(packets);
    let mut heard = vec![false; packets.len()];
    let mut anchor: Option<i64> = None;
    let mut late_in_a_row = 0;
    let mut before_pause = true;
    for (arrival, sent) in arrivals(name, packets) {
        let index = packets.partition_point(|other| other.sequence < sent.sequence);
        let media = i64::from(sent.packet.at) * FRAME;
        if before_pause || late_in_a_row >= FIXED_PATIENCE {
            anchor = Some(arrival + delay - media);
            late_in_a_row = 0;
        }
        before_pause = sent.packet.is_dtx;
        let due = anchor.unwrap_or(arrival) + media;
        if heard[index] || sent.packet.is_dtx {
            continue;
        }
        if arrival > due {
            outcome.underruns += i64::from(late_in_a_row == 0);
            late_in_a_row += 1;
            continue;
        }
        late_in_a_row = 0;
        heard[index] = true;
        outcome.unheard -= 1;
        outcome.delays.push(due - sent.sent - TRANSIT);
    }
    fill_from_copies(packets, &mut heard, &mut outcome);
    outcome.concealed = outcome.unheard * PACKET;
    outcome.delays.sort_unstable();
    outcome
}

/// It knows FEC too: a packet that is heard brings back the one before it.
fn fill_from_copies(packets: &[Sent], heard: &mut [bool], outcome: &mut Outcome) {
    for index in 0..packets.len().saturating_sub(1) {
        if heard[index + 1] && !heard[index] && packets[index + 1].packet.has_fec {
            heard[index] = true;
            outcome.unheard -= 1;
        }
    }
}
