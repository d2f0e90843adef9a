//! Seeded randomness. The driver draws one [`Seed`] from the operating system (or a test names one);
//! everything random in a shard derives from it, by label, so that one more session moves no other's stream.

use std::fmt;

use aws_lc_rs::hmac;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// The root of a shard's randomness. Secret in production: it yields ICE passwords.
#[derive(Clone, Serialize, Deserialize)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Wraps 32 bytes of entropy.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A seed for `label` and `id`, independent of every other (HMAC-SHA-256 of both under this seed).
    #[must_use]
    pub fn derive(&self, label: &str, id: u64) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(label.as_bytes());
        context.update(&[0]);
        context.update(&id.to_be_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.sign().as_ref());
        Self(bytes)
    }

    /// A generator that starts at this seed.
    #[must_use]
    pub fn rng(&self) -> Rng {
        Rng(ChaCha20Rng::from_seed(self.0))
    }

    /// The seed as key material, for MACs.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Never shows the seed.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A cryptographic generator (ChaCha20); the same seed gives the same stream on every platform.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// 32 random bits.
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// 64 random bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A number below `bound`, which must not be zero. The bias is below 2^-32 for `bound` < 2^32.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "no number is below zero");
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u32
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_streams_repeat_and_differ() {
        let seed = Seed::new([7; 32]);
        let first = |label, id| seed.derive(label, id).rng().u64();
        assert_eq!(first("ice", 1), first("ice", 1));
        assert_ne!(first("ice", 1), first("ice", 2));
        assert_ne!(first("ice", 1), first("ssrc", 1));
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Seed::new([1; 32]).rng();
        assert!((0..1_000).all(|_| rng.below(7) < 7));
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", Seed::new([0xab; 32])), "Seed(..)");
    }
}
