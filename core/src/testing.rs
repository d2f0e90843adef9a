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

/// The STUN messages of RFC 5769.
pub(crate) mod rfc5769 {
    use super::unhex;

    /// Of the short-term credentials of §2.1 to §2.3.
    pub(crate) const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    /// §2.1: a check of `h6vY` for `evtj`, who is told that its sender is controlled. Padded with spaces.
    pub(crate) fn request() -> Vec<u8> {
        unhex(concat!(
            "000100582112a442b7e7a701bc34d686fa87dfae",
            "802200105354554e207465737420636c69656e74",
            "002400046e0001ff",
            "80290008932ff9b151263b36",
            "000600096576746a3a68367659202020",
            "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2",
            "80280004e57a3bcf",
        ))
    }

    /// §2.2: an answer that names 192.0.2.1, port 32853.
    pub(crate) fn response_v4() -> Vec<u8> {
        unhex(concat!(
            "0101003c2112a442b7e7a701bc34d686fa87dfae",
            "8022000b7465737420766563746f7220",
            "002000080001a147e112a643",
            "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7",
            "80280004c07d4c96",
        ))
    }

    /// §2.3: an answer that names 2001:db8:1234:5678:11:2233:4455:6677, port 32853.
    pub(crate) fn response_v6() -> Vec<u8> {
        unhex(concat!(
            "010100482112a442b7e7a701bc34d686fa87dfae",
            "8022000b7465737420766563746f7220",
            "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
            "00080014a382954e4be67bf11784c97c8292c275bfe3ed41",
            "80280004c8fb0b4c",
        ))
    }

    /// §2.4: a request under long-term credentials, which no check has.
    pub(crate) fn long_term_request() -> Vec<u8> {
        unhex(concat!(
            "000100602112a44278ad3433c6ad72c029da412e",
            "00060012e3839ee38388e383aae38383e382afe382b90000",
            "0015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341",
            "0014000b6578616d706c652e6f726700",
            "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666",
        ))
    }

    /// [`request`] with one thing wrong, and what.
    pub(crate) fn broken_requests() -> [(&'static str, Vec<u8>); 8] {
        let changed = |place: usize, bytes: &[u8]| {
            let mut message = request();
            message[place..place + bytes.len()].copy_from_slice(bytes);
            message
        };
        let mut truncated = request();
        truncated.truncate(truncated.len() - 18);
        [
            ("bad-integrity-last-bit", changed(99, &[0xa3])),
            ("bad-fingerprint", changed(107, &[0xce])),
            ("length-too-long", changed(2, &[0, 0x6c])),
            ("length-not-multiple-of-4", changed(2, &[0, 0x57])),
            ("bad-cookie", changed(4, &[0; 4])),
            ("attr-overruns", changed(22, &[0xff; 2])),
            ("truncated-in-mi", truncated),
            ("top-bits-set", changed(0, &[0xc0, 1])),
        ]
    }
}
