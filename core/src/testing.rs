//! What the tests of several modules share, and those of `core/tests` beside them.

use std::env;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value;

/// The folder of public test data. Without it: says so, and `None`.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = env::var_os("ANTIPHON_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    let folder = folder.display();
    eprintln!("SKIPPED: no folder of test data at {folder}; set ANTIPHON_VECTORS");
    None
}

/// The file at `path` below that folder, unpacked; `None` as for [`folder`].
pub(crate) fn vector(path: &str) -> Option<Vec<u8>> {
    let mut bytes = fs::read(folder()?.join(path)).expect("the folder is there, so is the file");
    if path.ends_with(".gz") {
        let mut unpacked = Vec::new();
        GzDecoder::new(&bytes[..])
            .read_to_end(&mut unpacked)
            .expect("a whole archive");
        bytes = unpacked;
    }
    Some(bytes)
}

/// The JSON file at `path`; `None` as for [`folder`].
pub(crate) fn json(path: &str) -> Option<Value> {
    vector(path).map(|bytes| serde_json::from_slice(&bytes).expect("JSON"))
}

/// The inputs of a `malformed/*.jsonl[.gz]` file; `None` as for [`folder`].
pub(crate) fn malformed(path: &str) -> Option<Vec<Vec<u8>>> {
    let text = String::from_utf8(vector(path)?).expect("text");
    let inputs: Vec<_> = text
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).expect("JSON");
            unhex(value["hex"].as_str().expect("bytes"))
        })
        .collect();
    assert!(!inputs.is_empty(), "{path} has inputs");
    Some(inputs)
}

/// Bytes of a hexadecimal text.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// UDP payloads of packet captures.
pub(crate) mod captures {
    use pcap_parser::{Linktype, PcapCapture};

    use super::vector;

    /// Payloads of the UDP datagrams of a classic capture, in its order; `None` as for [`folder`].
    /// Ethernet and Linux cooked (SLL); IPv4 without fragments, and IPv6.
    pub(crate) fn udp_payloads(path: &str) -> Option<Vec<Vec<u8>>> {
        let file = vector(path)?;
        let capture = PcapCapture::from_file(&file).expect("a classic capture");
        let network_at = match capture.header.network {
            Linktype::ETHERNET => 14,
            Linktype::LINUX_SLL => 16,
            other => panic!("{path}: link type {other}"),
        };
        let payloads: Vec<_> = capture
            .blocks
            .iter()
            .filter_map(|block| Some(udp_payload(block.data.get(network_at..)?)?.to_vec()))
            .collect();
        assert!(!payloads.is_empty(), "{path} has datagrams");
        Some(payloads)
    }

    fn udp_payload(network: &[u8]) -> Option<&[u8]> {
        const UDP: u8 = 17;
        let (protocol, transport_at) = match network.first()? >> 4 {
            4 => (*network.get(9)?, usize::from(network[0] & 0x0f) * 4),
            6 => (*network.get(6)?, 40),
            _ => return None,
        };
        let transport = network.get(transport_at..)?;
        let len = usize::from(u16::from_be_bytes([*transport.get(4)?, *transport.get(5)?]));
        if protocol == UDP {
            transport.get(8..len)
        } else {
            None
        }
    }
}
