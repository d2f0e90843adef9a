//! Our private key, read and checked once.
//!
//! The DTLS library asks its provider for a key at each association, and the provider it comes with parses the
//! key and computes the public one anew: a tenth of what a handshake costs.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use dimpl::crypto::{
    Buf, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey as DtlsSigningKey,
};
use dimpl::{CryptoError, CryptoOperation};

/// Gives out one parsed key; leaves every other to the provider it stands before.
#[derive(Debug)]
pub(super) struct OneKey {
    pkcs8: Vec<u8>,
    pair: Pair,
    others: &'static dyn KeyProvider,
}

impl OneKey {
    /// `None` if the bytes are no P-256 key in PKCS #8. The library wants a provider that lives for ever, and an
    /// identity does.
    pub(super) fn leak(pkcs8: &[u8], others: &'static dyn KeyProvider) -> Option<&'static Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        Some(Box::leak(Box::new(Self {
            pkcs8: pkcs8.to_vec(),
            pair: Pair(Arc::new(pair)),
            others,
        })))
    }
}

impl KeyProvider for OneKey {
    fn load_private_key(&self, key: &[u8]) -> Result<Box<dyn DtlsSigningKey>, CryptoError> {
        if key == self.pkcs8 {
            Ok(Box::new(self.pair.clone()))
        } else {
            self.others.load_private_key(key)
        }
    }
}

#[derive(Clone, Debug)]
struct Pair(Arc<EcdsaKeyPair>);

impl DtlsSigningKey for Pair {
    fn sign(
        &mut self,
        contents: &[u8],
        hash: HashAlgorithm,
        out: &mut Buf,
    ) -> Result<(), CryptoError> {
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::SigningKeyHashMismatch {
                key_hash: HashAlgorithm::SHA256,
                requested: hash,
            });
        }
        let signature = self.0.sign(&SystemRandom::new(), contents);
        let signature =
            signature.map_err(|_| CryptoError::OperationFailed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}
