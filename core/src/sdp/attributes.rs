//! Values of single attributes: small pure readers, none of which looks beyond its own line.

use crate::plan::{DtlsRole, Fingerprint};

use super::error::Fault;

/// Media direction (RFC 8866 §6.7), as written by whoever wrote the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(super) fn read(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The same, seen from the other end.
    pub(super) const fn reversed(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            Self::SendRecv | Self::Inactive => self,
        }
    }

    pub(super) const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub(super) const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// What `a=setup` of an offer makes of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Connect(DtlsRole),
    Hold,
}

/// RFC 4145 §4; we stay passive whenever the peer lets us choose, because its ClientHello then
/// comes over a path it has already proved.
pub(super) fn setup(value: &str) -> Result<Setup, Fault> {
    match value {
        "actpass" | "active" => Ok(Setup::Connect(DtlsRole::Server)),
        "passive" => Ok(Setup::Connect(DtlsRole::Client)),
        "holdconn" => Ok(Setup::Hold),
        _ => Err(Fault::Setup),
    }
}

/// A fingerprint line (RFC 8122 §5): checked by the length of its hash; `None` unless SHA-256.
pub(super) fn fingerprint(value: &str) -> Result<Option<Fingerprint>, Fault> {
    const HASHES: [(&str, usize); 7] = [
        ("sha-256", 32),
        ("sha-1", 20),
        ("sha-224", 28),
        ("sha-384", 48),
        ("sha-512", 64),
        ("md5", 16),
        ("md2", 16),
    ];
    let (name, digest) = value.split_once(' ').unwrap_or((value, ""));
    let known = HASHES
        .iter()
        .find(|(hash, _)| hash.eq_ignore_ascii_case(name));
    let Some(&(hash, bytes)) = known else {
        return Ok(None);
    };
    let mut digits = [0; 64];
    let mut count = 0;
    for pair in digest.trim().split(':') {
        match (digits.get_mut(count), hex_byte(pair)) {
            (Some(digit), Some(byte)) => *digit = byte,
            _ => return Err(Fault::Fingerprint { hash, bytes }),
        }
        count += 1;
    }
    if count != bytes {
        return Err(Fault::Fingerprint { hash, bytes });
    }
    let sha256 = (hash == "sha-256")
        .then(|| digits.first_chunk().copied())
        .flatten();
    Ok(sha256.map(Fingerprint))
}

/// `ice-ufrag` of RFC 8839 §5.4.
pub(super) fn ufrag(value: &str) -> Result<&str, Fault> {
    if is_ice_text(value, 4) {
        Ok(value)
    } else {
        Err(Fault::Ufrag)
    }
}

/// `ice-pwd` of RFC 8839 §5.4.
pub(super) fn password(value: &str) -> Result<&str, Fault> {
    if is_ice_text(value, 22) {
        Ok(value)
    } else {
        Err(Fault::Password)
    }
}

/// Whether a candidate (RFC 8839 §5.1) is one that could ever reach us: UDP, component 1, an
/// address rather than a name. Errors only on a port that is a number but no port; other odd
/// candidates are the peer's own loss.
pub(super) fn candidate_is_usable(value: &str) -> Result<bool, Fault> {
    let mut fields = value.split_ascii_whitespace();
    let (Some(_foundation), Some(component), Some(transport), Some(_priority)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Ok(false);
    };
    let (Some(address), Some(port)) = (fields.next(), fields.next()) else {
        return Ok(false);
    };
    let port_is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if port_is_number && port.parse::<u16>().is_err() {
        return Err(Fault::Port);
    }
    Ok(port_is_number
        && fields.next() == Some("typ")
        && component == "1"
        && transport.eq_ignore_ascii_case("udp")
        && address.parse::<std::net::IpAddr>().is_ok())
}

/// Value of one parameter of an `a=fmtp` line, e.g. `apt` of `apt=96;rtx-time=3000`.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn is_ice_text(value: &str, least: usize) -> bool {
    (least..=256).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

fn hex_byte(pair: &str) -> Option<u8> {
    let digits = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits {
        u8::from_str_radix(pair, 16).ok()
    } else {
        None
    }
}
