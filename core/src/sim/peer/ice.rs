//! Connectivity checks as a full agent with one pair makes them (RFC 8445 §7.2, RFC 7675).

use std::time::Duration;

use super::{CONSENT, Outbox};
use crate::fuzzing::{answer, check, is_answer};
use crate::plan::IceCredentials;
use crate::rng::Rng;
use crate::time::Timestamp;

/// Between checks until one is answered; browsers begin as fast.
const SETUP_INTERVAL: Duration = Duration::from_millis(100);
/// Between checks once the pair is in use.
const CONSENT_INTERVAL: Duration = Duration::from_millis(2_500);
/// Until a check that was not answered is followed by another.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Checks whose answers are still welcome.
const OUTSTANDING_MAX: usize = 8;

/// One pair's checks.
#[derive(Debug)]
pub(super) struct Ice {
    local: IceCredentials,
    remote: IceCredentials,
    /// Nominates with its first check already (as libwebrtc does), or only once one was answered.
    eager: bool,
    outstanding: Vec<[u8; 12]>,
    next: Timestamp,
    began: Timestamp,
    answered: Option<Timestamp>,
}

impl Ice {
    pub(super) fn new(
        now: Timestamp,
        local: IceCredentials,
        remote: IceCredentials,
        eager: bool,
    ) -> Self {
        Self {
            local,
            remote,
            eager,
            outstanding: Vec::new(),
            next: now,
            began: now,
            answered: None,
        }
    }

    pub(super) const fn deadline(&self) -> Timestamp {
        self.next
    }

    /// Whether nobody has answered for so long that sending must stop.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.answered.unwrap_or(self.began)) >= CONSENT
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp, rng: &mut Rng, out: &mut Outbox<'_>) {
        if now < self.next {
            return;
        }
        let mut transaction = [0; 12];
        rng.fill(&mut transaction);
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        let nominates = self.eager || self.answered.is_some();
        let password = &self.remote.password;
        out.send(&check(
            &username,
            password,
            transaction,
            0x6e7f_00ff,
            nominates,
        ));
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.remove(0);
        }
        self.outstanding.push(transaction);
        self.next = now
            + match self.answered {
                None => SETUP_INTERVAL,
                Some(_) if self.outstanding.len() > 1 => RETRY_INTERVAL,
                Some(_) => CONSENT_INTERVAL,
            };
    }

    /// Answers a check of the other side, which asks whether we are where our packets come from.
    pub(super) fn handle_check(&self, bytes: &[u8], out: &mut Outbox<'_>) {
        if let Some(answer) = answer(bytes, &self.local.password) {
            out.send(&answer);
        }
    }

    /// Whether an answer came to a check of ours; the first one calls for a nomination at once.
    pub(super) fn handle_answer(&mut self, now: Timestamp, bytes: &[u8]) -> bool {
        let Some(transaction) = bytes
            .get(8..20)
            .and_then(|id| <[u8; 12]>::try_from(id).ok())
        else {
            return false;
        };
        let known = self.outstanding.contains(&transaction);
        if !known || !is_answer(bytes, &self.remote.password, transaction) {
            return false;
        }
        self.outstanding.clear();
        self.next = match self.answered {
            None if !self.eager => now,
            _ => now + CONSENT_INTERVAL,
        };
        self.answered = Some(now);
        true
    }
}
