//! The master secrets of DTLS handshakes, for a key log that captures are opened with.
//!
//! The library has no key log. It derives all keys through one provider of HMAC, though, and the first step of the
//! key expansion (RFC 5246 §5, §6.3) shows that provider the master secret and both random numbers: whoever stands
//! in for it sees them.

use std::fmt;
use std::fmt::Write as _;
use std::panic::{RefUnwindSafe, UnwindSafe};

use dimpl::CryptoError;
use dimpl::crypto::{HashAlgorithm, HmacProvider};
use zeroize::Zeroizing;

const LABEL: &[u8] = b"key expansion";
const RANDOM_BYTES: usize = 32;
const MASTER_SECRET_BYTES: usize = 48;

/// Takes a line of a TLS key log, with its line feed, for each handshake, on the thread of its shard. Whoever has the
/// line can open all that session sends and receives.
pub type SecretSink = Box<dyn Fn(&str) + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// Stands before the library's provider of HMAC and listens.
pub(super) struct Listener {
    sink: SecretSink,
    inner: &'static dyn HmacProvider,
}

impl Listener {
    /// The library wants a provider that lives for ever, and an identity does.
    pub(super) fn leak(sink: SecretSink, inner: &'static dyn HmacProvider) -> &'static Self {
        Box::leak(Box::new(Self { sink, inner }))
    }
}

impl HmacProvider for Listener {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        if let Some(client_random) = client_random(key, data) {
            let mut line = Zeroizing::new(String::with_capacity(256));
            line.push_str("CLIENT_RANDOM ");
            push_hex(&mut line, client_random);
            line.push(' ');
            push_hex(&mut line, key);
            line.push('\n');
            (self.sink)(&line);
        }
        self.inner.hmac(hash, key, data, out)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener(..)")
    }
}

/// The client's random number, if this is the first step of a key expansion: label, server's, client's.
fn client_random<'a>(key: &[u8], data: &'a [u8]) -> Option<&'a [u8]> {
    let randoms = data.strip_prefix(LABEL)?;
    let is_first_step = key.len() == MASTER_SECRET_BYTES && randoms.len() == 2 * RANDOM_BYTES;
    is_first_step.then(|| &randoms[RANDOM_BYTES..])
}

fn push_hex(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(line, "{byte:02x}").expect("a string takes what is written to it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_step_of_a_key_expansion_is_told() {
        let randoms: Vec<u8> = (0..64).collect();
        let step = [LABEL, &randoms].concat();
        let secret = [9; MASTER_SECRET_BYTES];
        assert_eq!(client_random(&secret, &step), Some(&randoms[32..]));
        assert_eq!(client_random(&secret[1..], &step), None, "another key");
        let later = [&[1; 32][..], &step].concat();
        assert_eq!(client_random(&secret, &later), None, "a later step");
        let finished = [b"client finished", &randoms[..32]].concat();
        assert_eq!(client_random(&secret, &finished), None, "another label");
    }
}
