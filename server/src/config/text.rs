//! Texts and numbers of options, as the command line, variables and the file have them.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize as _, Deserializer};

#[cfg(feature = "grpc")]
use crate::agent::grpc::AgentUrl;

pub(super) fn parse_http(text: &str) -> Result<SocketAddr, String> {
    parsed(
        text,
        "an address and a port, such as 127.0.0.1:8080 or [::]:8080",
    )
}

pub(super) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    parsed(text, "an IP address, such as 192.0.2.1 or 2001:db8::1")
}

/// A number of the command line or a variable.
pub(super) fn parse_whole<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(
    text: &str,
) -> Result<T, String> {
    let number = text.parse().ok().and_then(in_range::<T, MIN, MAX>);
    number.ok_or_else(|| format!("`{text}` is not a whole number from {MIN} to {MAX}"))
}

fn in_range<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(number: i64) -> Option<T> {
    let number = u64::try_from(number).ok()?;
    T::try_from(number)
        .ok()
        .filter(|_| (MIN..=MAX).contains(&number))
}

fn parsed<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not {expected}"))
}

pub(super) fn http_text<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    parse_http(&text).map(Some).map_err(D::Error::custom)
}

pub(super) fn ip_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = String::deserialize(from)?;
    parse_ip(&text).map(Some).map_err(D::Error::custom)
}

pub(super) fn ips_text<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<IpAddr>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let addresses = texts
        .iter()
        .map(|text| parse_ip(text))
        .collect::<Result<_, _>>();
    addresses.map(Some).map_err(D::Error::custom)
}

#[cfg(feature = "grpc")]
pub(super) fn agent_urls_text<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<AgentUrl>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let urls = texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>();
    urls.map(Some).map_err(D::Error::custom)
}

/// An option that only builds with networks have, in one without.
#[cfg(not(feature = "onnx"))]
pub(super) fn lacks_onnx(_: &str) -> Result<std::convert::Infallible, &'static str> {
    Err("this build runs no networks: build with `--features antiphon-server/onnx`")
}

#[cfg(not(feature = "onnx"))]
pub(super) fn lacks_onnx_text<'de, D: Deserializer<'de>>(
    _: D,
) -> Result<Option<std::convert::Infallible>, D::Error> {
    lacks_onnx("").map(Some).map_err(D::Error::custom)
}

/// A number of the file.
pub(super) fn whole<'de, D, T, const MIN: u64, const MAX: u64>(
    from: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    from.deserialize_i64(Whole::<T, MIN, MAX>(PhantomData))
        .map(Some)
}

struct Whole<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

impl<T: TryFrom<u64>, const MIN: u64, const MAX: u64> Visitor<'_> for Whole<T, MIN, MAX> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        let unexpected = || E::invalid_value(Unexpected::Signed(number), &self);
        in_range::<T, MIN, MAX>(number).ok_or_else(unexpected)
    }
}
