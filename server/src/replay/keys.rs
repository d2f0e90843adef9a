//! SRTP master keys as people have them: JSON files, and `a=crypto` lines of session descriptions.

use std::path::Path;

use antiphon_core::replay::CaptureProfile;
use antiphon_core::srtp::Inbound;
use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::ReplayError;

/// One direction's master key. Hexadecimal, or base64 as `a=crypto` has it: the key and then the salt.
#[derive(Deserialize)]
struct Key {
    profile: String,
    master_key: Option<String>,
    master_salt: Option<String>,
    key_hex: Option<String>,
    inline: Option<String>,
}

/// The keys of a JSON file: `{"keys": [KEY, ...]}`, or `{"NAME.pcap": KEY, ...}` of which the capture's is taken.
pub(super) fn of_file(
    text: &str,
    path: &Path,
    capture: &Path,
) -> Result<Vec<Inbound>, ReplayError> {
    let wrong = |what: &str| ReplayError::Input(format!("{}: {what}", path.display()));
    let file: Value = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
    let keys = match file.get("keys") {
        Some(Value::Array(keys)) => keys.clone(),
        Some(_) => return Err(wrong("\"keys\" is no list")),
        None => {
            let name = capture.file_name().unwrap_or_default().to_string_lossy();
            let key = file.get(&*name).cloned();
            vec![key.ok_or_else(|| wrong(&format!("it has no \"keys\", nor a key of {name}")))?]
        }
    };
    keys.into_iter()
        .map(|key| {
            let key: Key =
                serde_json::from_value(key).map_err(|error| wrong(&error.to_string()))?;
            key.inbound().map_err(|what| wrong(&what))
        })
        .collect()
}

/// The key of a line such as `a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:BASE64|2^20` (RFC 4568 §9.1); what comes
/// before the name of the profile may be left out.
pub(super) fn of_crypto_line(line: &str) -> Result<Inbound, ReplayError> {
    let wrong = |what: &str| ReplayError::Input(format!("the crypto line is of no use: {what}"));
    let mut words = line.split_whitespace();
    let profile = words
        .find_map(CaptureProfile::from_name)
        .ok_or_else(|| wrong("it names no SRTP profile that is known here"))?;
    let key = words
        .next()
        .and_then(|word| word.strip_prefix("inline:"))
        .ok_or_else(|| wrong("inline: does not follow the profile"))?;
    if let Some(parameter) = words.next() {
        return Err(wrong(&format!(
            "the parameter {parameter} is not supported"
        )));
    }
    let mut parts = key.split('|');
    let key = parts.next().unwrap_or_default();
    if key.contains(';') || parts.any(|part| part.contains([':', ';'])) {
        return Err(wrong("master key identifiers are not supported"));
    }
    let master = base64(key).ok_or_else(|| wrong("the key is no base64"))?;
    inbound(profile, &master).map_err(|what| wrong(&what))
}

impl Key {
    fn inbound(&self) -> Result<Inbound, String> {
        let profile = CaptureProfile::from_name(&self.profile)
            .ok_or_else(|| format!("the profile {} is not known here", self.profile))?;
        let hex = |text: &str| hex(text).ok_or_else(|| "a key is not hexadecimal".to_owned());
        match (
            &self.master_key,
            &self.master_salt,
            &self.key_hex,
            &self.inline,
        ) {
            (Some(key), Some(salt), None, None) => profile
                .inbound(&hex(key)?, &hex(salt)?)
                .map_err(|error| error.to_string()),
            (None, None, Some(both), None) => inbound(profile, &hex(both)?),
            (None, None, None, Some(both)) => {
                let master = base64(both).ok_or_else(|| "a key is no base64".to_owned())?;
                inbound(profile, &master)
            }
            _ => {
                let forms = "a key has master_key and master_salt, or key_hex, or inline";
                Err(forms.to_owned())
            }
        }
    }
}

/// A key and then a salt.
fn inbound(profile: CaptureProfile, master: &[u8]) -> Result<Inbound, String> {
    let (key, salt) = master
        .split_at_checked(profile.key_bytes())
        .unwrap_or((master, &[]));
    profile
        .inbound(key, salt)
        .map_err(|error| error.to_string())
}

fn hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    Some(Zeroizing::new(bytes))
}

/// With its padding or without.
fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.as_bytes();
    let bytes = BASE64.decode(text).or_else(|_| BASE64_NOPAD.decode(text));
    bytes.ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e";

    fn refusal<T>(result: Result<T, ReplayError>) -> String {
        result.err().expect("it is refused").to_string()
    }

    #[test]
    fn crypto_lines_are_read_whole_and_bare() {
        for line in [
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|"),
            format!("AES_CM_128_HMAC_SHA1_32 inline:{KEY}"),
            format!("1 AEAD_AES_128_GCM inline:{}A==", &KEY[..37]),
        ] {
            of_crypto_line(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_crypto_line_that_would_open_nothing_is_refused_with_the_reason() {
        let cases = [
            (
                "a=crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA".to_owned(),
                "profile",
            ),
            ("AES_CM_128_HMAC_SHA1_80".to_owned(), "inline"),
            (
                format!("AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4"),
                "identifiers",
            ),
            (
                format!("AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=3"),
                "KDR=3",
            ),
            ("AES_CM_128_HMAC_SHA1_80 inline:!".to_owned(), "base64"),
            ("AES_CM_128_HMAC_SHA1_80 inline:AAAA".to_owned(), "16 bytes"),
        ];
        for (line, named) in cases {
            let refusal = refusal(of_crypto_line(&line));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
    }

    #[test]
    fn both_forms_of_key_files_are_read() {
        let read = |text: &str| of_file(text, Path::new("keys.json"), Path::new("a/b.pcap"));
        let one = r#"{"profile": "SRTP_AEAD_AES_128_GCM", "master_key": "c0c1eb1a4708f8e6899c3442d288247f",
                      "master_salt": "a8da4a572af1f7c1fe799abe"}"#;
        assert_eq!(
            read(&format!(r#"{{"keys": [{one}, {one}]}}"#))
                .unwrap()
                .len(),
            2
        );
        let named =
            format!(r#"{{"b.pcap": {{"profile": "AES_CM_128_HMAC_SHA1_80", "inline": "{KEY}"}}}}"#);
        assert_eq!(read(&named).unwrap().len(), 1);
        let other = of_file(&named, Path::new("keys.json"), Path::new("c.pcap"));
        assert!(refusal(other).contains("c.pcap"));
        assert!(refusal(read("{}")).contains("b.pcap"));
        assert!(refusal(read("[")).contains("keys.json"));
        let short = one.replace("c0c1", "");
        assert!(refusal(read(&format!(r#"{{"keys": [{short}]}}"#))).contains("16 bytes"));
        assert!(refusal(read(r#"{"keys": [{"profile": "X", "key_hex": ""}]}"#)).contains('X'));
    }
}
