//! One direction of one peer's way through the network: small impairments in a row.
//!
//! Each impairment says when what leaves now arrives, once, more often or not at all; none keeps a datagram. So a
//! link holds numbers only, and its order is the order in which its impairments were given: a bottleneck behind
//! the jitter is another link than jitter behind the bottleneck.

use std::sync::Arc;
use std::time::Duration;

use crate::rng::{Rng, Seed};
use crate::time::Timestamp;

/// Copies of one datagram that duplicating impairments can make; further ones are not made.
const COPIES_MAX: usize = 4;

/// One thing that happens on the way.
#[derive(Clone, Debug)]
pub enum Impairment {
    /// Takes this long. The only one that stays when a link [heals](Link::heal).
    Delay(Duration),
    /// Takes up to so much longer, evenly drawn, and keeps the order.
    Jitter(Duration),
    /// Loses datagrams, in bursts or alone.
    Loss(GilbertElliott),
    /// So many of 1,000 come later by this much, behind others.
    Reorder {
        /// Of 1,000.
        permille: u32,
        /// How much later.
        by: Duration,
    },
    /// So many of 1,000 come twice, the second later by this much.
    Duplicate {
        /// Of 1,000.
        permille: u32,
        /// How much later.
        by: Duration,
    },
    /// A bottleneck with a queue in front.
    Rate(Rate),
    /// Loses what is larger: payload bytes.
    Mtu(usize),
    /// Loses everything from the first time on, up to the second.
    Blackout(Timestamp, Timestamp),
}

/// Two states, each with a loss of its own (Gilbert 1960, Elliott 1963). Of 1,000 each.
#[derive(Clone, Copy, Debug, Default)]
pub struct GilbertElliott {
    /// From good to bad, with each datagram.
    pub to_bad: u32,
    /// From bad to good.
    pub to_good: u32,
    /// Lost in the good state.
    pub good: u32,
    /// Lost in the bad state.
    pub bad: u32,
    /// It is in the bad state.
    pub is_bad: bool,
}

impl GilbertElliott {
    /// So many of 1,000, each for itself.
    #[must_use]
    pub fn even(permille: u32) -> Self {
        Self {
            good: permille,
            ..Self::default()
        }
    }

    /// Bursts of `length` datagrams on average, so many of 1,000 in all: in the bad state all are lost.
    #[must_use]
    pub fn bursts(permille: u32, length: u32) -> Self {
        let to_good = 1_000 / length.max(1);
        Self {
            to_bad: (to_good * permille / (1_000 - permille.min(999))).max(1),
            to_good,
            good: 0,
            bad: 1_000,
            is_bad: false,
        }
    }

    fn loses(&mut self, rng: &mut Rng) -> bool {
        let turns = if self.is_bad {
            self.to_good
        } else {
            self.to_bad
        };
        if turns > 0 && chance(rng, turns) {
            self.is_bad = !self.is_bad;
        }
        let lost = if self.is_bad { self.bad } else { self.good };
        lost > 0 && chance(rng, lost)
    }
}

/// How fast a bottleneck serves.
#[derive(Clone, Debug)]
pub enum Service {
    /// Bits a second, always; not zero.
    Constant(u64),
    /// As it was measured.
    Trace(Arc<Trace>),
}

/// A bottleneck: first in, first out, and a queue that drops at its tail.
#[derive(Clone, Debug)]
pub struct Rate {
    service: Service,
    /// What would wait longer is lost.
    queue: Duration,
    /// When the last datagram will have left.
    free_at: Timestamp,
    /// Bytes left of the delivery opportunity at `free_at`, and the number of the next one.
    credit: usize,
    opportunity: u64,
}

impl Rate {
    /// A bottleneck whose queue holds what it serves in `queue`.
    #[must_use]
    pub const fn new(service: Service, queue: Duration) -> Self {
        Self {
            service,
            queue,
            free_at: Timestamp::ZERO,
            credit: 0,
            opportunity: 0,
        }
    }

    /// When a datagram that comes `at` has passed; `None`: the queue is full.
    fn pass(&mut self, at: Timestamp, bytes: usize) -> Option<Timestamp> {
        if self.free_at.since(at) > self.queue {
            return None;
        }
        let start = self.free_at.max(at);
        let served = match &self.service {
            Service::Constant(bits_per_second) => {
                let nanos = bytes as u64 * 8 * 1_000_000_000 / bits_per_second;
                (start + Duration::from_nanos(nanos), 0, 0)
            }
            Service::Trace(trace) => {
                let credit = if self.free_at >= at { self.credit } else { 0 };
                trace.serve(start, self.opportunity, credit, bytes)
            }
        };
        let free_at = served.0;
        if free_at.since(at) > self.queue {
            return None;
        }
        (self.free_at, self.opportunity, self.credit) = served;
        Some(free_at)
    }
}

/// Delivery opportunities of a measured link, repeated without end: Mahimahi's format.
#[derive(Debug)]
pub struct Trace {
    /// Milliseconds from the start, ascending; each lets 1,500 bytes pass.
    opportunities: Vec<u64>,
}

impl Trace {
    /// Bytes that pass at one opportunity.
    const BYTES: usize = 1_500;

    /// Reads a file of one number a line; `None` if it has none above zero or one that is no number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut opportunities = numbers
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()
            .ok()?;
        opportunities.sort_unstable();
        (opportunities.last().copied()? > 0).then_some(Self { opportunities })
    }

    /// When `bytes` have passed that come at `at`, where `credit` bytes may pass at once and the opportunities before
    /// `next` are used; then the number of the next one, and what credit is left.
    fn serve(
        &self,
        at: Timestamp,
        next: u64,
        credit: usize,
        bytes: usize,
    ) -> (Timestamp, u64, usize) {
        if bytes <= credit {
            return (at, next, credit - bytes);
        }
        let needed = (bytes - credit).div_ceil(Self::BYTES);
        let last = next.max(self.first_at(at)) + needed as u64 - 1;
        let left = credit + needed * Self::BYTES - bytes;
        (self.time_of(last).max(at), last + 1, left)
    }

    /// The number of the first opportunity that is not before `at`.
    fn first_at(&self, at: Timestamp) -> u64 {
        let before = (at + Duration::from_nanos(999_999))
            .as_millis()
            .saturating_sub(1);
        let (round, within) = (before / self.period(), before % self.period());
        let place = self.opportunities.partition_point(|other| *other <= within);
        round * self.opportunities.len() as u64 + place as u64
    }

    fn time_of(&self, number: u64) -> Timestamp {
        let count = self.opportunities.len() as u64;
        let within = self.opportunities[(number % count) as usize];
        Timestamp::from_millis(number / count * self.period() + within)
    }

    fn period(&self) -> u64 {
        self.opportunities.last().copied().unwrap_or(1)
    }
}

/// What became of the datagrams a link was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Given.
    pub sent: u64,
    /// Of these, never to arrive.
    pub lost: u64,
    /// Arriving a second time.
    pub copies: u64,
}

/// When one datagram arrives: as often as there are times.
pub type Arrivals = Few<Timestamp>;

/// Up to four values.
#[derive(Clone, Copy, Debug)]
pub struct Few<T> {
    values: [Option<T>; COPIES_MAX],
    len: usize,
}

impl<T: Copy> Few<T> {
    const fn new() -> Self {
        Self {
            values: [None; COPIES_MAX],
            len: 0,
        }
    }

    fn push(&mut self, value: T) {
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = Some(value);
            self.len += 1;
        }
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.values.iter().flatten().copied()
    }
}

/// One direction of one peer's way.
#[derive(Debug)]
pub struct Link {
    impairments: Vec<Impairment>,
    rng: Rng,
    /// The latest arrival so far, for jitter that keeps the order.
    latest: Timestamp,
    passed: Passed,
}

impl Link {
    /// A link with these impairments in this order, its chances from `seed`.
    #[must_use]
    pub fn new(impairments: Vec<Impairment>, seed: &Seed) -> Self {
        Self {
            impairments,
            rng: seed.rng(),
            latest: Timestamp::ZERO,
            passed: Passed::default(),
        }
    }

    /// A link that takes so long and does nothing else.
    #[must_use]
    pub fn clean(delay: Duration, seed: &Seed) -> Self {
        Self::new(vec![Impairment::Delay(delay)], seed)
    }

    /// When a datagram that leaves now arrives.
    pub fn pass(&mut self, now: Timestamp, bytes: usize) -> Arrivals {
        let mut flights = Arrivals::new();
        flights.push(now);
        self.passed.sent += 1;
        for impairment in &mut self.impairments {
            let mut after = Arrivals::new();
            for at in flights.iter() {
                impairment.pass(at, bytes, &mut self.rng, &mut self.latest, &mut after);
            }
            flights = after;
        }
        match flights.len {
            0 => self.passed.lost += 1,
            len => self.passed.copies += len as u64 - 1,
        }
        flights
    }

    /// Faults off: what is left is the delay.
    pub fn heal(&mut self) {
        self.impairments
            .retain(|impairment| matches!(impairment, Impairment::Delay(_)));
    }

    /// Adds an impairment behind the others.
    pub fn impair(&mut self, impairment: Impairment) {
        self.impairments.push(impairment);
    }

    /// What became of its datagrams.
    #[must_use]
    pub const fn passed(&self) -> Passed {
        self.passed
    }

    /// The delay that is never missing.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let delays = self
            .impairments
            .iter()
            .filter_map(|impairment| match impairment {
                Impairment::Delay(delay) => Some(*delay),
                _ => None,
            });
        delays.sum()
    }
}

impl Impairment {
    fn pass(
        &mut self,
        at: Timestamp,
        bytes: usize,
        rng: &mut Rng,
        latest: &mut Timestamp,
        out: &mut Arrivals,
    ) {
        match self {
            Self::Delay(delay) => out.push(at + *delay),
            Self::Jitter(most) => {
                *latest = (at + fraction(rng, *most)).max(*latest);
                out.push(*latest);
            }
            Self::Loss(loss) => {
                if !loss.loses(rng) {
                    out.push(at);
                }
            }
            Self::Reorder { permille, by } => {
                out.push(if chance(rng, *permille) { at + *by } else { at });
            }
            Self::Duplicate { permille, by } => {
                out.push(at);
                if chance(rng, *permille) {
                    out.push(at + *by);
                }
            }
            Self::Rate(rate) => {
                if let Some(passed) = rate.pass(at, bytes) {
                    out.push(passed);
                }
            }
            Self::Mtu(most) => {
                if bytes <= *most {
                    out.push(at);
                }
            }
            Self::Blackout(from, to) => {
                if at < *from || at >= *to {
                    out.push(at);
                }
            }
        }
    }
}

fn chance(rng: &mut Rng, permille: u32) -> bool {
    rng.below(1_000) < permille
}

fn fraction(rng: &mut Rng, of: Duration) -> Duration {
    let nanos = (u128::from(rng.u64()) * of.as_nanos()) >> 64;
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000);

    fn link(impairments: Vec<Impairment>) -> Link {
        Link::new(impairments, &Seed::new([1; 32]))
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Arrivals, in milliseconds after they left, of `count` datagrams one a millisecond.
    fn run(link: &mut Link, count: u64, bytes: usize) -> Vec<Vec<f64>> {
        let leave = |number| START + ms(number);
        (0..count)
            .map(|number| {
                let at = leave(number);
                let arrivals = link.pass(at, bytes);
                let passed = arrivals.iter().map(|arrival| arrival.since(at));
                passed.map(|passed| passed.as_secs_f64() * 1e3).collect()
            })
            .collect()
    }

    #[test]
    fn a_clean_link_takes_its_time_and_no_more() {
        let mut link = Link::clean(ms(20), &Seed::new([0; 32]));
        assert!(
            run(&mut link, 100, 100)
                .iter()
                .all(|passed| *passed == [20.0])
        );
        assert_eq!(
            link.passed(),
            Passed {
                sent: 100,
                ..Passed::default()
            }
        );
    }

    #[test]
    fn jitter_stays_in_bounds_and_keeps_the_order() {
        let mut link = link(vec![Impairment::Delay(ms(10)), Impairment::Jitter(ms(30))]);
        let mut last = Timestamp::ZERO;
        for number in 0..1_000 {
            let at = START + ms(number);
            let arrival = link.pass(at, 100).iter().next().unwrap();
            assert!(arrival >= last && arrival.since(at) >= ms(10) && arrival.since(at) <= ms(41));
            last = arrival;
        }
    }

    #[test]
    fn even_loss_loses_its_share_and_bursts_come_in_their_length() {
        let lost = |loss| {
            let mut link = link(vec![Impairment::Loss(loss)]);
            let passed = run(&mut link, 20_000, 100);
            let runs = passed.chunk_by(|one, other| one.is_empty() == other.is_empty());
            let bursts: Vec<_> = runs
                .filter(|run| run[0].is_empty())
                .map(<[_]>::len)
                .collect();
            let total: usize = bursts.iter().sum();
            (total as f64 / 20_000.0, total as f64 / bursts.len() as f64)
        };
        let (share, length) = lost(GilbertElliott::even(100));
        assert!((0.09..0.11).contains(&share) && (1.0..1.2).contains(&length));
        let (share, length) = lost(GilbertElliott::bursts(100, 10));
        assert!((0.07..0.13).contains(&share), "{share}");
        assert!((8.0..12.0).contains(&length), "{length}");
    }

    #[test]
    fn reordered_and_duplicated_datagrams_come_later() {
        let reorder = Impairment::Reorder {
            permille: 100,
            by: ms(5),
        };
        let duplicate = Impairment::Duplicate {
            permille: 100,
            by: ms(3),
        };
        let mut link = link(vec![reorder, duplicate]);
        let passed = run(&mut link, 10_000, 100);
        let late = passed.iter().filter(|passed| passed[0] == 5.0).count();
        let twice = passed.iter().filter(|passed| passed.len() == 2).count();
        assert!((900..1_100).contains(&late) && (900..1_100).contains(&twice));
        assert_eq!(link.passed().copies, twice as u64);
    }

    #[test]
    fn a_constant_rate_serves_no_faster_and_drops_what_would_wait_too_long() {
        // 100 bytes at 400 kbit/s take 2 ms, and one comes each millisecond.
        let rate = Rate::new(Service::Constant(400_000), ms(50));
        let mut link = link(vec![Impairment::Rate(rate)]);
        let passed = run(&mut link, 1_000, 100);
        let arrived = passed.iter().flatten().count();
        assert!((495..=530).contains(&arrived), "{arrived}");
        let longest = passed.iter().flatten().copied().fold(0.0, f64::max);
        assert!((48.0..=50.0).contains(&longest), "{longest}");
    }

    #[test]
    fn a_trace_lets_1500_bytes_pass_at_each_opportunity_and_repeats() {
        // Two in the 10th millisecond, one in the 20th.
        let trace = Arc::new(Trace::parse("10\n10\n20\n").unwrap());
        let rate = Rate::new(Service::Trace(trace), ms(1_000));
        let mut link = link(vec![Impairment::Rate(rate)]);
        let start = Timestamp::from_millis(1);
        let mut at = || link.pass(start, 1_000).iter().next().unwrap().as_millis();
        // 1,500 bytes hold one and a half, 3,000 hold three.
        assert_eq!([at(), at(), at()], [10, 10, 10]);
        assert_eq!([at(), at()], [20, 30]);
        assert_eq!(at(), 30);
        assert!(Trace::parse("").is_none() && Trace::parse("0").is_none());
        assert!(Trace::parse("ten").is_none());
    }

    #[test]
    fn what_is_too_large_or_in_a_blackout_is_lost_until_the_link_heals() {
        let blackout = Impairment::Blackout(START + ms(10), START + ms(20));
        let mut link = link(vec![
            Impairment::Mtu(1_200),
            blackout,
            Impairment::Delay(ms(1)),
        ]);
        let passed = run(&mut link, 30, 1_200);
        let lost: Vec<_> = (0..30).filter(|at| passed[*at].is_empty()).collect();
        assert_eq!(lost, (10..20).collect::<Vec<_>>());
        assert!(run(&mut link, 1, 1_201)[0].is_empty());
        link.heal();
        assert_eq!(run(&mut link, 1, 1_201), [[1.0]]);
        assert_eq!(link.delay(), ms(1));
    }
}
