//! POSTs all offers at their time, and DELETEs what came of them; or both in turn, so that sessions come and go.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use antiphon_core::plan::{Fingerprint, IceCredentials};
use antiphon_core::rng::{Rng, Seed};
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::call::Agreed;
use super::description::{Answer, Offer, Role};
use super::engine::{Desk, Join, Order};
use super::http::{Client, Reply, Target};
use super::limits::{
    CHURN_TIMEOUT, DELETES_TIMEOUT, HTTP_TIMEOUT, POSTERS_MAX, REASON_BYTES_MAX, REASONS_MAX,
};

/// A step of the golden ratio that gives every session another source, and is odd.
const SSRC_STEP: u32 = 0x9e37_79b1;

/// Between looks at whether churn is over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Before a server that was too busy to delete is asked again.
const DELETE_AGAIN: Duration = Duration::from_millis(50);

/// Why sessions failed, and how many of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasons(pub(super) BTreeMap<String, u64>);

impl Reasons {
    /// Counts one. Reasons beyond the limit are counted together.
    pub(super) fn note(&mut self, reason: String, count: u64) {
        let is_known = self.0.contains_key(&reason) || self.0.len() < REASONS_MAX;
        let reason = if is_known {
            reason
        } else {
            "others".to_owned()
        };
        *self.0.entry(reason).or_default() += count;
    }

    pub(super) fn add(&mut self, others: Self) {
        for (reason, count) in others.0 {
            self.note(reason, count);
        }
    }
}

/// What all offers of a run have in common.
pub(super) struct Posting {
    pub(super) clock: Clock,
    pub(super) target: Arc<Target>,
    pub(super) role: Role,
    pub(super) fingerprint: Fingerprint,
    pub(super) seed: Seed,
    /// By session, this one's and others'.
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether sessions call from addresses of the loopback interface.
    pub(super) is_loopback: bool,
    pub(super) desk: Desk,
    /// Sessions to call.
    pub(super) sessions: Range<u32>,
    /// POSTs a second.
    pub(super) rate: f64,
    pub(super) start: Timestamp,
    /// Says that no more shall be posted.
    pub(super) stop: Arc<AtomicBool>,
}

/// What the server made for a session.
#[derive(Clone, Debug)]
pub(super) struct Made {
    session: u32,
    /// To be deleted in the end.
    path: String,
}

/// What came of them.
#[derive(Debug, Default)]
pub(super) struct Posted {
    /// Sessions that were answered and handed to the engine.
    pub(super) answered: u64,
    /// What the server made.
    pub(super) resources: Vec<Made>,
    /// Sessions whose resource is not known, or not on that server.
    pub(super) unknown_resources: u64,
    pub(super) reasons: Reasons,
}

impl Posted {
    /// Of so many that did not come to their end: each may have left a session on the server.
    fn cut_off(workers: u64) -> Self {
        Self {
            unknown_resources: workers,
            ..Self::default()
        }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.resources.extend(other.resources);
        self.unknown_resources += other.unknown_resources;
        self.reasons.add(other.reasons);
    }
}

/// Posting that goes on, on the runtime's thread.
pub(super) struct Posters {
    workers: JoinSet<Posted>,
    posted: Posted,
}

impl Posters {
    pub(super) fn start(posting: Posting) -> Self {
        let count = posting.sessions.len().min(POSTERS_MAX) as u64;
        let next = Arc::new(AtomicU32::new(posting.sessions.start));
        let posting = Arc::new(posting);
        let mut workers = JoinSet::new();
        for worker in 0..count {
            let rng = posting.seed.derive("poster", worker).rng();
            workers.spawn(work(Arc::clone(&posting), Arc::clone(&next), rng));
        }
        Self {
            workers,
            posted: Posted::default(),
        }
    }

    /// What came of it once all is posted; `None` before.
    pub(super) fn poll(&mut self) -> Option<&mut Posted> {
        while let Some(worker) = self.workers.try_join_next() {
            // One that panicked has nothing to tell, and its sessions count as not connected.
            self.posted.add(worker.unwrap_or_default());
        }
        self.workers.is_empty().then_some(&mut self.posted)
    }
}

/// Sessions that leave and come anew, one after another, at the rate of `posting`, until some time.
pub(super) struct Churn {
    workers: JoinSet<Posted>,
    places: Arc<Mutex<VecDeque<Place>>>,
    came: Arc<AtomicU32>,
}

/// A session's place, and what is to be deleted of who has it.
#[derive(Debug)]
struct Place {
    session: u32,
    path: Option<String>,
}

impl Churn {
    /// `resources` are those of all sessions.
    pub(super) fn start(posting: Posting, resources: Vec<Made>, until: Timestamp) -> Self {
        let free = posting.sessions.clone();
        let mut free: VecDeque<_> = free
            .map(|session| Place {
                session,
                path: None,
            })
            .collect();
        for Made { session, path } in resources {
            free[session as usize].path = Some(path);
        }
        // Each has one place at a time, so there is one for each.
        let count = free.len().min(POSTERS_MAX) as u64;
        let (places, came, turns) = (
            Arc::new(Mutex::new(free)),
            Arc::default(),
            Arc::new(AtomicU32::new(0)),
        );
        let posting = Arc::new(posting);
        let mut workers = JoinSet::new();
        for worker in 0..count {
            let turns = Turns {
                posting: Arc::clone(&posting),
                turns: Arc::clone(&turns),
                came: Arc::clone(&came),
                places: Arc::clone(&places),
                until,
            };
            let rng = posting.seed.derive("churn", worker).rng();
            workers.spawn(turns.take(rng));
        }
        Self {
            workers,
            places,
            came,
        }
    }

    /// Waits for those that are on their way out or in, but not for long, nor once `interrupt` is ready. How many were
    /// called for others, what came of it, and what is to be deleted now.
    pub(super) async fn finish(mut self, interrupt: impl Future<Output = ()>) -> (u32, Posted) {
        let mut posted = Posted::default();
        let all = async {
            while let Some(worker) = self.workers.join_next().await {
                posted.add(worker.unwrap_or_else(|_| Posted::cut_off(1)));
            }
        };
        tokio::select! {
            () = all => {}
            () = interrupt => {}
            () = sleep(CHURN_TIMEOUT) => {}
        }
        posted.add(Posted::cut_off(self.workers.len() as u64));
        self.workers.shutdown().await;
        let mut places = lock(&self.places);
        let taken = places.drain(..).filter_map(|place| {
            let (session, path) = (place.session, place.path?);
            Some(Made { session, path })
        });
        posted.resources = taken.collect();
        (self.came.load(Ordering::Relaxed), posted)
    }
}

/// What one that lets sessions go and come has of a [`Churn`].
struct Turns {
    posting: Arc<Posting>,
    turns: Arc<AtomicU32>,
    /// Sessions called for others.
    came: Arc<AtomicU32>,
    places: Arc<Mutex<VecDeque<Place>>>,
    until: Timestamp,
}

impl Turns {
    async fn take(self, mut rng: Rng) -> Posted {
        let posting = &self.posting;
        let mut client = Client::new(Arc::clone(&posting.target));
        let mut posted = Posted::default();
        loop {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            let due = posting.start + Duration::from_secs_f64(f64::from(turn + 1) / posting.rate);
            let is_over = || self.is_stopped() || posting.clock.now() >= self.until;
            while posting.clock.now() < due && !is_over() {
                sleep(due.since(posting.clock.now()).min(LOOK_AGAIN)).await;
            }
            if is_over() {
                return posted;
            }
            let taken = lock(&self.places).pop_front();
            let Some(mut place) = taken else {
                return posted;
            };
            self.renew(&mut place, &mut client, &mut rng, &mut posted)
                .await;
            lock(&self.places).push_back(place);
        }
    }

    fn is_stopped(&self) -> bool {
        self.posting.stop.load(Ordering::Relaxed)
    }

    /// Lets one leave, and another come.
    async fn renew(
        &self,
        place: &mut Place,
        client: &mut Client,
        rng: &mut Rng,
        posted: &mut Posted,
    ) {
        let (posting, session) = (&self.posting, place.session);
        let (gone, has_left) = oneshot::channel();
        posting.desk.order(Order::Leave { session, gone });
        // It is dropped without a word.
        has_left.await.ok();
        let patience = posting.clock.now() + HTTP_TIMEOUT;
        let gives_up = || self.is_stopped() || posting.clock.now() >= patience;
        if let Some(path) = &place.path
            && !delete(client, path, gives_up).await
            && !self.is_stopped()
        {
            posted.unknown_resources += 1;
        }
        if self.is_stopped() {
            // What is gone already is as good at the end.
            return;
        }
        self.came.fetch_add(1, Ordering::Relaxed);
        match post(posting, client, session, rng, posted).await {
            Ok(join) => {
                posted.answered += 1;
                posting.desk.order(Order::Join(Box::new(join)));
            }
            Err(reason) => posted.reasons.note(reason, 1),
        }
        place.path = posted.resources.pop().map(|resource| resource.path);
    }
}

fn lock(places: &Mutex<VecDeque<Place>>) -> MutexGuard<'_, VecDeque<Place>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(posting: Arc<Posting>, next: Arc<AtomicU32>, mut rng: Rng) -> Posted {
    let mut client = Client::new(Arc::clone(&posting.target));
    let mut posted = Posted::default();
    loop {
        let session = next.fetch_add(1, Ordering::Relaxed);
        if session >= posting.sessions.end {
            return posted;
        }
        let place = f64::from(session - posting.sessions.start);
        let due = posting.start + Duration::from_secs_f64(place / posting.rate);
        let wait = due.since(posting.clock.now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        if posting.stop.load(Ordering::Relaxed) {
            return posted;
        }
        match post(&posting, &mut client, session, &mut rng, &mut posted).await {
            Ok(join) => {
                posted.answered += 1;
                posting.desk.order(Order::Join(Box::new(join)));
            }
            Err(reason) => posted.reasons.note(reason, 1),
        }
    }
}

/// Calls the server once.
async fn post(
    posting: &Posting,
    client: &mut Client,
    session: u32,
    rng: &mut Rng,
    posted: &mut Posted,
) -> Result<Join, String> {
    let address = posting.addresses[session as usize];
    let offer = Offer {
        role: posting.role,
        ice: credentials(session, rng),
        fingerprint: posting.fingerprint,
        ssrc: session.wrapping_add(1).wrapping_mul(SSRC_STEP),
        address,
    };
    let began = posting.clock.now();
    let reply = client.post(offer.write()).await?;
    let answered = posting.clock.now();
    if reply.status != 201 {
        return Err(refusal(&reply));
    }
    let location = reply.location.as_deref();
    match location.and_then(|location| posting.target.url.resolve(location)) {
        Some(path) => posted.resources.push(Made { session, path }),
        None => posted.unknown_resources += 1,
    }
    let mut answer = Answer::read(&reply.body).map_err(|error| error.to_string())?;
    let is_reachable = |candidate: &SocketAddr| {
        candidate.is_ipv4() == address.is_ipv4()
            && (candidate.ip().is_loopback() || !posting.is_loopback)
    };
    answer.candidates.retain(is_reachable);
    if answer.candidates.is_empty() {
        return Err(if posting.is_loopback {
            "the answer has no candidate on loopback: call the server by an address it announces"
                .to_owned()
        } else {
            format!(
                "the answer has no candidate that {} can reach",
                address.ip()
            )
        });
    }
    Ok(Join {
        session,
        agreed: Agreed {
            role: offer.role,
            ssrc: offer.ssrc,
            local: offer.ice,
            answer,
        },
        posted: began,
        answered,
    })
}

/// A name that tells sessions apart, and 128 bits of password.
fn credentials(session: u32, rng: &mut Rng) -> IceCredentials {
    IceCredentials {
        ufrag: format!("{session:04x}{:04x}", rng.u32() & 0xffff),
        password: format!("{:016x}{:016x}", rng.u64(), rng.u64()),
    }
}

/// Status and title or first line of what a server says that does not take an offer.
fn refusal(reply: &Reply) -> String {
    let problem: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let said = problem["detail"]
        .as_str()
        .or_else(|| problem["title"].as_str());
    let said = said
        .or_else(|| reply.body.lines().next())
        .unwrap_or_default();
    let printable = |c: &char| !c.is_control();
    let said: String = said
        .chars()
        .filter(printable)
        .take(REASON_BYTES_MAX)
        .collect();
    format!("{} {said}", reply.status).trim_end().to_owned()
}

/// Ends what the server made; how many of them it may still have.
pub(super) async fn delete_all(target: &Arc<Target>, resources: Vec<Made>) -> u64 {
    let total = resources.len() as u64;
    let count = resources.len().min(POSTERS_MAX);
    let next = Arc::new(AtomicU32::new(0));
    let resources: Arc<[Made]> = resources.into();
    let deleted = Arc::new(AtomicU32::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..count {
        let (resources, next, deleted) = (
            Arc::clone(&resources),
            Arc::clone(&next),
            Arc::clone(&deleted),
        );
        let mut client = Client::new(Arc::clone(target));
        workers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                let Some(resource) = resources.get(index) else {
                    return;
                };
                let is_gone = delete(&mut client, &resource.path, || false).await;
                deleted.fetch_add(is_gone.into(), Ordering::Relaxed);
            }
        });
    }
    let all = async { while workers.join_next().await.is_some() {} };
    // What is not done by then is counted below.
    timeout(DELETES_TIMEOUT, all).await.ok();
    total - u64::from(deleted.load(Ordering::Relaxed))
}

/// Whether it is gone; asks again as long as the server is too busy to say, until it `gives_up`.
async fn delete(client: &mut Client, resource: &str, gives_up: impl Fn() -> bool) -> bool {
    loop {
        match client.delete(resource).await.map(|reply| reply.status) {
            Ok(429 | 503) if !gives_up() => sleep(DELETE_AGAIN).await,
            // One that was gone before is as good.
            Ok(status) => return matches!(status, 200..=299 | 404 | 410),
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_what_the_server_says() {
        let reply = |body: &str| Reply {
            status: 503,
            location: None,
            body: body.to_owned(),
        };
        let problem = r#"{"title":"Full","detail":"all shards are full","status":503}"#;
        assert_eq!(refusal(&reply(problem)), "503 all shards are full");
        assert_eq!(refusal(&reply("busy\nsecond line")), "503 busy");
        assert_eq!(refusal(&reply("")), "503");
        assert_eq!(refusal(&reply("\u{1b}[31mred")), "503 [31mred");
        assert!(refusal(&reply(&"x".repeat(10_000))).len() < 2 * REASON_BYTES_MAX);
    }

    #[test]
    fn reasons_are_counted_and_their_number_is_bounded() {
        let mut reasons = Reasons::default();
        for number in 0..10_000 {
            reasons.note(format!("reason {number}"), 1);
        }
        reasons.note("reason 3".to_owned(), 2);
        assert_eq!(reasons.0["reason 3"], 3);
        assert_eq!(reasons.0.len(), REASONS_MAX + 1);
        assert_eq!(reasons.0.values().sum::<u64>(), 10_002);
    }

    #[test]
    fn sessions_have_names_of_their_own() {
        let mut rng = Seed::new([2; 32]).rng();
        let names: std::collections::BTreeSet<_> = (0..20_000)
            .map(|session| credentials(session, &mut rng).ufrag.clone())
            .collect();
        assert_eq!(names.len(), 20_000);
    }
}
