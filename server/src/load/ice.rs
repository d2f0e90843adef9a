//! A controlling agent with one pair at a time: checks until one is answered, then consent (RFC 8445 §7, RFC 7675).

use std::net::SocketAddr;
use std::time::Duration;

use antiphon_core::plan::IceCredentials;
use antiphon_core::rng::Rng;
use antiphon_core::time::Timestamp;

use super::stun::{self, Message, Transaction};

/// Between checks until one is answered; browsers begin as fast.
const SETUP_INTERVAL: Duration = Duration::from_millis(100);
/// Between checks for consent: 5 s, give or take a fifth (RFC 7675 §5.1).
const CONSENT_INTERVAL_MIN: Duration = Duration::from_millis(4_000);
const CONSENT_SPREAD_MS: u32 = 2_000;
/// Whoever has not answered for so long must not be sent anything (RFC 7675 §5.1).
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Checks whose answers are still welcome.
const ASKED_MAX: usize = 4;

/// One session's checks.
#[derive(Debug)]
pub(super) struct Ice {
    local: IceCredentials,
    remote: IceCredentials,
    tie_breaker: u64,
    asked: [Transaction; ASKED_MAX],
    /// Checks sent.
    count: usize,
    next: Timestamp,
    answered: Option<Timestamp>,
}

/// What a STUN message came to.
#[derive(Debug)]
pub(super) enum Said {
    /// It answers a check of ours.
    Answered,
    /// It is a check of theirs; this is our answer.
    Reply(Box<Message>),
    /// Nothing that is meant for us.
    Nothing,
}

impl Ice {
    pub(super) const fn new(
        now: Timestamp,
        local: IceCredentials,
        remote: IceCredentials,
        tie_breaker: u64,
    ) -> Self {
        Self {
            local,
            remote,
            tie_breaker,
            asked: [[0; 12]; ASKED_MAX],
            count: 0,
            next: now,
            answered: None,
        }
    }

    /// When [`poll`](Self::poll) has the next check.
    pub(super) const fn deadline(&self) -> Timestamp {
        self.next
    }

    /// Checks sent: which of several candidates the next one goes to.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Whether consent was given once and is no more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.answered
            .is_some_and(|answered| now.since(answered) >= CONSENT_TIMEOUT)
    }

    /// The check that is due.
    pub(super) fn poll(&mut self, now: Timestamp, rng: &mut Rng) -> Option<Message> {
        if now < self.next {
            return None;
        }
        let mut transaction = [0; 12];
        rng.fill(&mut transaction);
        self.asked[self.count % ASKED_MAX] = transaction;
        self.count += 1;
        self.next = now
            + match self.answered {
                None => SETUP_INTERVAL,
                Some(_) => consent_interval(rng),
            };
        let check = stun::check(&self.local, &self.remote, self.tie_breaker, transaction);
        Some(check)
    }

    /// Takes a message that came from `source`.
    pub(super) fn handle(
        &mut self,
        now: Timestamp,
        source: SocketAddr,
        datagram: &[u8],
        rng: &mut Rng,
    ) -> Said {
        if let Some(transaction) = stun::answered(datagram, &self.remote) {
            let known = self.count.min(ASKED_MAX);
            if !self.asked[..known].contains(&transaction) {
                return Said::Nothing;
            }
            self.next = now + consent_interval(rng);
            self.answered = Some(now);
            return Said::Answered;
        }
        match stun::answer(datagram, &self.local, source) {
            Some(reply) => Said::Reply(Box::new(reply)),
            None => Said::Nothing,
        }
    }
}

fn consent_interval(rng: &mut Rng) -> Duration {
    CONSENT_INTERVAL_MIN + Duration::from_millis((rng.u32() % CONSENT_SPREAD_MS).into())
}

#[cfg(test)]
mod tests {
    use antiphon_core::rng::Seed;

    use super::*;

    fn credentials(name: &str) -> IceCredentials {
        IceCredentials {
            ufrag: name.to_owned(),
            password: format!("the-password-of-{name}-is-long"),
        }
    }

    #[test]
    fn checks_come_fast_until_one_is_answered_and_at_the_pace_of_consent_after() {
        let mut rng = Seed::new([1; 32]).rng();
        let source = "127.0.0.1:9".parse().unwrap();
        let (ours, theirs) = (credentials("ours"), credentials("theirs"));
        let mut now = Timestamp::from_millis(50);
        let mut ice = Ice::new(now, ours, theirs.clone(), 7);
        let first = ice.poll(now, &mut rng).expect("the first is due at once");
        assert!(ice.poll(now, &mut rng).is_none());
        for _ in 0..3 {
            assert_eq!(ice.deadline().since(now), SETUP_INTERVAL);
            now = ice.deadline();
            assert!(ice.poll(now, &mut rng).is_some());
        }
        let late = stun::answer(first.as_bytes(), &theirs, source).expect("a check");
        assert!(matches!(
            ice.handle(now, source, late.as_bytes(), &mut rng),
            Said::Answered
        ));

        let began = now;
        for _ in 0..50 {
            let wait = ice.deadline().since(now).as_millis();
            assert!((4_000..6_000).contains(&wait), "{wait} ms");
            now = ice.deadline();
            let check = ice.poll(now, &mut rng).expect("it is due");
            assert!(!ice.is_over(now));
            let reply = stun::answer(check.as_bytes(), &theirs, source).expect("a check");
            assert!(matches!(
                ice.handle(now, source, reply.as_bytes(), &mut rng),
                Said::Answered
            ));
        }
        let mean = now.since(began).as_secs_f64() / 50.0;
        assert!((4.7..5.3).contains(&mean), "{mean} s");
        assert!(!ice.is_over(now + Duration::from_secs(29)));
        assert!(ice.is_over(now + Duration::from_secs(30)));
    }

    #[test]
    fn an_answer_to_what_was_never_asked_gives_no_consent() {
        let mut rng = Seed::new([1; 32]).rng();
        let source = "127.0.0.1:9".parse().unwrap();
        let (ours, theirs) = (credentials("ours"), credentials("theirs"));
        let now = Timestamp::from_millis(50);
        let mut ice = Ice::new(now, ours.clone(), theirs.clone(), 7);
        let zero = stun::check(&ours, &theirs, 1, [0; 12]);
        let reply = stun::answer(zero.as_bytes(), &theirs, source).expect("a check");
        assert!(matches!(
            ice.handle(now, source, reply.as_bytes(), &mut rng),
            Said::Nothing
        ));
    }
}
