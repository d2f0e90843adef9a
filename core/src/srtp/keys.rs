//! From keying material to session keys: RFC 5764 §4.2 and RFC 3711 §4.3.

use std::fmt;

use aws_lc_rs::cipher::{self, EncryptingKey, UnboundCipherKey};
use zeroize::Zeroizing;

use super::cm::{self, Cm};
use super::gcm::Gcm;
use super::suite::Suite;
use super::{Inbound, Outbound};
use crate::message::ProfileName;
use crate::plan::DtlsRole;

/// Twice the longest key and salt: AES-256-GCM.
const MATERIAL_BYTES: usize = 2 * (32 + 12);
/// Salts of RFC 3711; those of RFC 7714 are two bytes shorter and padded on the right.
const SALT_BYTES: usize = 14;

/// Key material of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} takes {expected} bytes of {part}, not {actual}", profile.name())]
pub struct KeyError {
    /// The profile asked for.
    pub profile: ProfileName,
    /// What had the wrong length.
    pub part: &'static str,
    /// Bytes it must have.
    pub expected: usize,
    /// Bytes it has.
    pub actual: usize,
}

/// What the DTLS handshake exported for SRTP: both sides' master keys and salts. Zeroised on drop.
pub struct KeyingMaterial {
    profile: ProfileName,
    bytes: Zeroizing<[u8; MATERIAL_BYTES]>,
}

impl KeyingMaterial {
    /// Takes the exporter's output for `profile`, in the order of RFC 5764 §4.2: client key, server
    /// key, client salt, server salt.
    ///
    /// # Errors
    /// The length is not exactly that of the profile.
    pub fn new(profile: ProfileName, exported: &[u8]) -> Result<Self, KeyError> {
        let expected = 2 * (key_bytes(profile) + salt_bytes(profile));
        check_length(profile, "keying material", expected, exported)?;
        let mut bytes = Zeroizing::new([0; MATERIAL_BYTES]);
        bytes[..expected].copy_from_slice(exported);
        Ok(Self { profile, bytes })
    }

    /// The profile agreed.
    #[must_use]
    pub const fn profile(&self) -> ProfileName {
        self.profile
    }

    /// Expands the keys of both directions, for the side that played `role`. Takes about 10 µs and
    /// allocates; call it once a handshake and drop the material, as two [`Outbound`] of one key
    /// would use every nonce twice.
    #[must_use]
    pub fn into_contexts(self, role: DtlsRole) -> (Inbound, Outbound) {
        let profile = self.profile;
        let (key, salt) = (key_bytes(profile), salt_bytes(profile));
        let (keys, salts) = self.bytes[..2 * (key + salt)].split_at(2 * key);
        let client = derive(profile, &keys[..key], &salts[..salt]);
        let server = derive(profile, &keys[key..], &salts[salt..]);
        let (remote, local) = match role {
            DtlsRole::Client => (server, client),
            DtlsRole::Server => (client, server),
        };
        (
            Inbound::from_suites(profile, remote),
            Outbound::from_suites(profile, local),
        )
    }
}

/// Shows the profile alone.
impl fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyingMaterial({})", self.profile.name())
    }
}

/// Session keys of one direction.
pub(super) struct Suites {
    pub(super) rtp: Suite,
    pub(super) rtcp: Suite,
}

/// Session keys of one direction from a master key and salt of any origin.
pub(super) fn derive_checked(
    profile: ProfileName,
    key: &[u8],
    salt: &[u8],
) -> Result<Suites, KeyError> {
    check_length(profile, "master key", key_bytes(profile), key)?;
    check_length(profile, "master salt", salt_bytes(profile), salt)?;
    Ok(derive(profile, key, salt))
}

/// As [`derive_checked`] for `AES128_CM_SHA1_32`: RTP has tags of 4 bytes, RTCP keeps 10 (RFC 5764 §4.1.2).
#[cfg(feature = "replay")]
pub(super) fn derive_with_short_tags(key: &[u8], salt: &[u8]) -> Result<Suites, KeyError> {
    let suites = derive_checked(ProfileName::Aes128CmSha1_80, key, salt)?;
    Ok(Suites {
        rtp: Suite::ShortCm(Box::new(KeyDerivation::new(key, salt).cm(0))),
        rtcp: suites.rtcp,
    })
}

fn derive(profile: ProfileName, key: &[u8], salt: &[u8]) -> Suites {
    let derivation = KeyDerivation::new(key, salt);
    Suites {
        rtp: derivation.suite(profile, 0),
        rtcp: derivation.suite(profile, 3),
    }
}

fn check_length(
    profile: ProfileName,
    part: &'static str,
    expected: usize,
    bytes: &[u8],
) -> Result<(), KeyError> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(KeyError {
        profile,
        part,
        expected,
        actual: bytes.len(),
    })
}

const fn key_bytes(profile: ProfileName) -> usize {
    match profile {
        ProfileName::AeadAes256Gcm => 32,
        ProfileName::AeadAes128Gcm | ProfileName::Aes128CmSha1_80 => 16,
    }
}

const fn salt_bytes(profile: ProfileName) -> usize {
    match profile {
        ProfileName::AeadAes256Gcm | ProfileName::AeadAes128Gcm => 12,
        ProfileName::Aes128CmSha1_80 => SALT_BYTES,
    }
}

/// AES in counter mode over a label (RFC 3711 §4.3.3, RFC 6188), with a key derivation rate of 0:
/// keys are derived once.
pub(super) struct KeyDerivation {
    prf: EncryptingKey,
    salt: Zeroizing<[u8; SALT_BYTES]>,
}

impl KeyDerivation {
    /// `key` must have 16 or 32 bytes, `salt` at most 14.
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Self {
        let mut padded = Zeroizing::new([0; SALT_BYTES]);
        padded[..salt.len()].copy_from_slice(salt);
        Self {
            prf: counter_key(key),
            salt: padded,
        }
    }

    /// Fills `out` with the key of a label: 0 to 2 are SRTP's cipher key, authentication key and
    /// salt; 3 to 5 SRTCP's.
    pub(super) fn fill(&self, label: u8, out: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..SALT_BYTES].copy_from_slice(&*self.salt);
        counter[7] ^= label;
        out.fill(0);
        cm::apply_key_stream(&self.prf, counter, out);
    }

    fn suite(&self, profile: ProfileName, first_label: u8) -> Suite {
        match profile {
            ProfileName::AeadAes256Gcm | ProfileName::AeadAes128Gcm => {
                let mut key = Zeroizing::new([0; 32]);
                let key = &mut key[..key_bytes(profile)];
                self.fill(first_label, key);
                let mut salt = Zeroizing::new([0; 12]);
                self.fill(first_label + 2, &mut *salt);
                Suite::Gcm(Gcm::new(key, &salt))
            }
            ProfileName::Aes128CmSha1_80 => Suite::Cm(Box::new(self.cm(first_label))),
        }
    }

    fn cm<const TAG: usize>(&self, first_label: u8) -> Cm<TAG> {
        let mut key = Zeroizing::new([0; 16]);
        self.fill(first_label, &mut *key);
        let mut mac = Zeroizing::new([0; 20]);
        self.fill(first_label + 1, &mut *mac);
        let mut salt = Zeroizing::new([0; SALT_BYTES]);
        self.fill(first_label + 2, &mut *salt);
        Cm::new(&*key, &mac, &salt)
    }
}

/// An AES key in counter mode. `key` must have 16 or 32 bytes.
pub(super) fn counter_key(key: &[u8]) -> EncryptingKey {
    let algorithm = if key.len() == 32 {
        &cipher::AES_256
    } else {
        &cipher::AES_128
    };
    UnboundCipherKey::new(algorithm, key)
        .and_then(EncryptingKey::ctr)
        .expect("AES takes any key of its length")
}
