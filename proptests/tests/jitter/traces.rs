//! Paths by name: when each packet of a stream arrives, drawn from seeded models.

use antiphon_core::jitter::tone::TonePacket;
use antiphon_core::rng::{Rng, Seed};

/// Microseconds that the fastest packet is on its way.
pub(crate) const TRANSIT: i64 = 50_000;
/// Microseconds of one packet.
pub(crate) const PACKET: i64 = 20_000;
/// Packets of a trace: 60 s.
const PACKETS: u64 = 3_000;
/// Timestamp units of one packet.
const TICKS: u32 = 960;

/// A packet on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// When it was sent, in microseconds.
    pub(crate) sent: i64,
    /// When it arrives; `None`: it is lost.
    pub(crate) arrival: Option<i64>,
    /// Its number.
    pub(crate) sequence: u64,
    /// Its timestamp.
    pub(crate) timestamp: u32,
    /// What it carries.
    pub(crate) packet: TonePacket,
}

/// Randomness that is the same on every machine: no function of a library is asked for a logarithm.
pub(crate) struct Dice(Rng);

impl Dice {
    /// Dice of a name and a number.
    pub(crate) fn new(name: &str, number: u8) -> Self {
        let mut seed = [number; 32];
        for (place, byte) in seed.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        Self(Seed::new(seed).rng())
    }

    /// Whether something happens that does so many times of ten thousand.
    pub(crate) fn strikes(&mut self, of_ten_thousand: u32) -> bool {
        self.0.below(10_000) < of_ten_thousand
    }

    /// Even between two bounds.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::from(self.0.below((high - low).max(1) as u32))
    }

    /// Even between 0 and 1, neither of them.
    fn unit(&mut self) -> f64 {
        (f64::from(self.0.u32()) + 0.5) / 4_294_967_296.0
    }

    /// Exponential, of this mean.
    pub(crate) fn exponential(&mut self, mean: i64) -> i64 {
        (-natural_log(self.unit()) * mean as f64) as i64
    }

    /// Gamma of shape 2, of this mean.
    pub(crate) fn gamma(&mut self, mean: i64) -> i64 {
        self.exponential(mean / 2) + self.exponential(mean / 2)
    }

    /// Pareto of exponent 2, beginning at 0, whose median is .41 of the scale.
    pub(crate) fn pareto(&mut self, scale: i64) -> i64 {
        ((1.0 / self.unit().sqrt() - 1.0) * scale as f64) as i64
    }
}

/// Of a number between 0 and 1, by halving and a series of the area hyperbolic tangent.
fn natural_log(mut x: f64) -> f64 {
    let mut halvings = 0;
    while x < 0.75 {
        x *= 2.0;
        halvings += 1;
    }
    let y = (x - 1.0) / (x + 1.0);
    let (mut term, mut sum) = (y, 0.0);
    for odd in 0..24 {
        sum += term / f64::from(2 * odd + 1);
        term *= y * y;
    }
    2.0 * sum - f64::from(halvings) * std::f64::consts::LN_2
}

/// The named paths, in the order of the table.
pub(crate) const NAMES: &[&str] = &[
    "clean",
    "loss 1 %",
    "loss 3 %",
    "loss 5 %",
    "loss 10 %",
    "loss 20 %",
    "loss 10 %, FEC",
    "bursts (Gilbert-Elliott)",
    "bursts, FEC",
    "gamma 10 ms",
    "gamma 30 ms",
    "Pareto 5 ms",
    "Pareto 15 ms",
    "Wi-Fi stalls",
    "drift +100 ppm",
    "drift -100 ppm",
    "drift +300 ppm",
    "drift -300 ppm",
    "reordered 3 %",
    "duplicates 5 %",
    "path +80 ms",
    "path -80 ms",
    "talk-spurts, gamma 15 ms",
    "mobile",
];

/// The packets of a path, in the order they are sent. Each number is another draw of it.
pub(crate) fn trace(name: &str, number: u8) -> Vec<Sent> {
    let mut dice = Dice::new(name, number);
    let parts_per_million = match name {
        "drift +100 ppm" => 100,
        "drift -100 ppm" => -100,
        "drift +300 ppm" => 300,
        "drift -300 ppm" => -300,
        _ => 0,
    };
    let mut packets = if name.starts_with("talk-spurts") {
        talk_spurts(&mut dice)
    } else {
        (0..PACKETS).map(|index| (index, index)).collect()
    }
    .into_iter()
    .map(|(sequence, place)| {
        let sent = place as i64 * PACKET;
        Sent {
            sent: sent + sent * parts_per_million / 1_000_000,
            arrival: None,
            sequence: 0x1_ff00 + sequence,
            timestamp: (place as u32).wrapping_mul(TICKS).wrapping_sub(100_000),
            packet: TonePacket {
                at: place as u32 * 2,
                frames: 2,
                is_dtx: false,
                has_fec: name.ends_with("FEC"),
            },
        }
    })
    .collect::<Vec<_>>();
    // The last before a pause says so, and so does what comes in it.
    for index in 1..packets.len() {
        let leap = packets[index].packet.at - packets[index - 1].packet.at;
        packets[index - 1].packet.is_dtx |= leap > 2;
    }
    travel(name, &mut packets, &mut dice);
    packets
}

/// Numbers and places of packets: speech of 1.5 s and pauses of 1 s on average, in which one packet in 400 ms is sent.
fn talk_spurts(dice: &mut Dice) -> Vec<(u64, u64)> {
    let mut places = Vec::new();
    let mut place = 0;
    while place < PACKETS {
        let speech = 10 + dice.exponential(65) as u64;
        places.extend(place..place + speech);
        place += speech;
        let pause = 10 + dice.exponential(40) as u64;
        places.extend((place..place + pause).skip(19).step_by(20));
        place += pause;
    }
    (0..).zip(places).collect()
}

/// Lets each packet arrive, or not.
fn travel(name: &str, packets: &mut [Sent], dice: &mut Dice) {
    let mut state = State::default();
    for packet in packets {
        let delay = state.delay(name, packet.sent, dice);
        if state.is_lost(name, dice) {
            continue;
        }
        let mut arrival = packet.sent + TRANSIT + delay;
        if name == "reordered 3 %" && dice.strikes(300) {
            arrival += dice.between(25_000, 45_000);
        } else {
            // One queue: nobody overtakes.
            arrival = arrival.max(state.last);
            state.last = arrival;
        }
        packet.arrival = Some(arrival);
    }
}

#[derive(Default)]
struct State {
    last: i64,
    in_burst: bool,
    stall: (i64, i64),
}

impl State {
    fn is_lost(&mut self, name: &str, dice: &mut Dice) -> bool {
        let of_ten_thousand = match name {
            "loss 1 %" | "mobile" => 100,
            "loss 3 %" => 300,
            "loss 5 %" => 500,
            "loss 10 %" | "loss 10 %, FEC" => 1_000,
            "loss 20 %" => 2_000,
            "bursts (Gilbert-Elliott)" | "bursts, FEC" => {
                // Good to bad in one of 50, bad to good in one of 4: 7.4 %, four at a time.
                self.in_burst = dice.strikes(if self.in_burst { 7_500 } else { 200 });
                return self.in_burst;
            }
            _ => return false,
        };
        dice.strikes(of_ten_thousand)
    }

    /// Microseconds beyond the fastest.
    fn delay(&mut self, name: &str, sent: i64, dice: &mut Dice) -> i64 {
        match name {
            "gamma 10 ms" => dice.gamma(10_000),
            "gamma 30 ms" => dice.gamma(30_000),
            "Pareto 5 ms" => dice.pareto(5_000),
            "Pareto 15 ms" => dice.pareto(15_000),
            "talk-spurts, gamma 15 ms" => dice.gamma(15_000),
            "Wi-Fi stalls" => self.stalled(sent, dice, 50_000..150_000),
            "mobile" => self.stalled(sent, dice, 50_000..300_000) + dice.gamma(20_000),
            "path +80 ms" if sent >= 20_000_000 => 80_000,
            "path -80 ms" if sent < 20_000_000 => 80_000,
            _ => 0,
        }
    }

    /// Every 1 to 5 s nothing passes for a while; then all of it does.
    fn stalled(&mut self, sent: i64, dice: &mut Dice, length: std::ops::Range<i64>) -> i64 {
        if sent > self.stall.1 {
            let begin = sent + dice.between(1_000_000, 5_000_000);
            self.stall = (begin, begin + dice.between(length.start, length.end));
        }
        let (begin, end) = self.stall;
        if (begin..end).contains(&sent) {
            end - sent
        } else {
            0
        }
    }
}

/// Arrivals in their order, copies included.
pub(crate) fn arrivals(name: &str, packets: &[Sent]) -> Vec<(i64, Sent)> {
    let mut dice = Dice::new("duplicates", 0);
    let mut arrivals = Vec::new();
    for packet in packets {
        let Some(arrival) = packet.arrival else {
            continue;
        };
        arrivals.push((arrival, *packet));
        if name == "duplicates 5 %" && dice.strikes(500) {
            arrivals.push((arrival + dice.between(0, 40_000), *packet));
        }
    }
    arrivals.sort_by_key(|(arrival, packet)| (*arrival, packet.sequence));
    arrivals
}
