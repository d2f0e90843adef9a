//! The datagrams of a run as a capture, those that were sent made again, and the SRTP keys beside it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use antiphon_core::drive::{RecvMeta, TransmitMeta};
use antiphon_core::ids::SessionId;
use antiphon_core::journal::{Header, Witness};
use antiphon_core::message::ProfileName;
use antiphon_core::replay::{CaptureProfile, pcapng};
use antiphon_core::session::transport::KeyingMaterial;
use antiphon_core::time::Timestamp;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ledger;
use crate::replay::{ReplayError, unwritable};
use crate::secret_file::{self, Draft};

/// Bytes gathered before they are written.
const GATHERED_BYTES: usize = 256 << 10;

/// A capture under way.
pub(super) struct Export {
    file: Draft,
    path: PathBuf,
    blocks: Vec<u8>,
    unix: Duration,
    local_port: u16,
    keys: Vec<Value>,
    written: io::Result<()>,
    pub(super) datagrams: u64,
}

/// Where the keys of a capture go.
pub(super) fn keys_path(capture: &Path) -> PathBuf {
    let mut name = capture.as_os_str().to_owned();
    name.push(".keys.json");
    PathBuf::from(name)
}

impl Export {
    /// Begins the file. Neither it nor that of its keys may be there.
    pub(super) fn start(path: &Path, header: &Header) -> Result<Self, ReplayError> {
        let keys = keys_path(path);
        if keys.symlink_metadata().is_ok() {
            return Err(unwritable(&keys, io::ErrorKind::AlreadyExists.into()));
        }
        let mut blocks = Vec::with_capacity(2 * GATHERED_BYTES);
        pcapng::section_header(&mut blocks, concat!("Antiphon ", env!("CARGO_PKG_VERSION")));
        pcapng::interface(&mut blocks, &format!("shard-{}", header.shard.0));
        Ok(Self {
            file: Draft::begin(path).map_err(|error| unwritable(path, error))?,
            path: path.to_owned(),
            blocks,
            unix: header.unix,
            local_port: 0,
            keys: Vec::new(),
            written: Ok(()),
            datagrams: 0,
        })
    }

    /// Ends the file, and writes the keys beside it if there are any; tells where. If one of the two cannot be, there
    /// is neither.
    pub(super) fn finish(mut self) -> Result<Option<PathBuf>, ReplayError> {
        self.write();
        let of_capture = |error| unwritable(&self.path, error);
        self.written.map_err(of_capture)?;
        if self.keys.is_empty() {
            self.file.finish().map_err(of_capture)?;
            return Ok(None);
        }
        let keys = json!({"keys": self.keys});
        let text = Zeroizing::new(format!("{keys:#}\n"));
        let path = keys_path(&self.path);
        secret_file::write(&path, text.as_bytes()).map_err(|error| unwritable(&path, error))?;
        if let Err(error) = self.file.finish() {
            // Of no use alone, and secret; that it cannot be taken away is the lesser trouble.
            std::fs::remove_file(&path).ok();
            return Err(of_capture(error));
        }
        Ok(Some(path))
    }

    fn add(&mut self, packet: &pcapng::Packet<'_>) {
        self.datagrams += 1;
        pcapng::packet(&mut self.blocks, packet);
        if self.blocks.len() >= GATHERED_BYTES {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.written.is_ok() {
            self.written = self.file.write_all(&self.blocks);
        }
        self.blocks.clear();
    }

    fn unix(&self, at: Timestamp) -> Duration {
        self.unix.saturating_add(at.since(Timestamp::ZERO))
    }
}

impl Witness for Export {
    fn on_received(&mut self, _now: Timestamp, meta: &RecvMeta, contents: &[u8]) {
        self.local_port = meta.destination.port();
        for payload in contents.chunks(meta.stride.max(1)) {
            self.add(&pcapng::Packet {
                interface: 0,
                unix: self.unix(meta.received),
                source: meta.source,
                destination: meta.destination,
                ecn: meta.ecn,
                outbound: false,
                dropped_before: 0,
                payload,
            });
        }
    }

    fn on_keys(&mut self, _: Timestamp, id: SessionId, name: ProfileName, keys: &KeyingMaterial) {
        let profile = CaptureProfile::Spoken(name);
        let (key_len, salt_len) = (profile.key_bytes(), profile.salt_bytes());
        // RFC 5764 §4.2: client key, server key, client salt, server salt. Which flow is whose, is found by trying.
        let bytes = keys.as_bytes();
        let Some((master_keys, salts)) = bytes.split_at_checked(2 * key_len) else {
            return;
        };
        for (key, salt) in master_keys.chunks(key_len).zip(salts.chunks(salt_len)) {
            self.keys.push(json!({
                "session": id.to_string(),
                "profile": name.name(),
                "master_key": HEXLOWER.encode(key),
                "master_salt": HEXLOWER.encode(salt),
            }));
        }
    }

    fn on_transmit(&mut self, now: Timestamp, meta: &TransmitMeta, payload: &[u8]) {
        self.add(&pcapng::Packet {
            interface: 0,
            unix: self.unix(now),
            source: ledger::local(meta, self.local_port),
            destination: meta.destination,
            ecn: meta.ecn,
            outbound: true,
            dropped_before: 0,
            payload,
        });
    }
}
