//! str0m's stock provider with one DTLS configuration for all calls.
//!
//! The stock one makes a configuration for each call and tests the crypto library anew for it: 860 µs
//! of the caller's processor, five times a handshake, which would measure the caller.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider};

/// The crypto provider and the certificate of all calls of a process.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// For `RtcConfig::set_crypto_provider`.
    pub provider: Arc<CryptoProvider>,
    /// For `RtcConfig::set_dtls_cert`.
    pub certificate: DtlsCert,
}

impl Credentials {
    /// A new certificate.
    ///
    /// # Errors
    /// When the crypto library cannot make one.
    pub fn generate() -> Result<Self, CryptoError> {
        let stock = str0m_aws_lc_rs::default_provider();
        let made = stock.dtls_provider.generate_certificate();
        let certificate = made.ok_or_else(|| CryptoError::Other("no certificate".to_owned()))?;
        let provider = CryptoProvider {
            dtls_provider: &CachingDtls,
            ..stock
        };
        Ok(Self {
            provider: Arc::new(provider),
            certificate,
        })
    }
}

#[derive(Debug)]
struct CachingDtls;

struct Association(dimpl::Dtls);

impl DtlsProvider for CachingDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        str0m_aws_lc_rs::default_provider()
            .dtls_provider
            .generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        static CONFIG: OnceLock<Result<Arc<dimpl::Config>, String>> = OnceLock::new();
        let config = CONFIG.get_or_init(|| {
            let built = dimpl::Config::builder()
                .with_crypto_provider(str0m_aws_lc_rs::dimpl_crypto_provider())
                .use_server_cookie(false)
                .build();
            built.map(Arc::new).map_err(|error| error.to_string())
        });
        let config = config.clone().map_err(CryptoError::Other)?;
        let dtls = dimpl::Dtls::new_12(config, certificate.clone(), now);
        Ok(Box::new(Association(dtls)))
    }
}

impl std::fmt::Debug for Association {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Association")
    }
}

impl DtlsInstance for Association {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buffer)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}
