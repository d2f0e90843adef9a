//! Session descriptions: the offer of one track of Opus, and as much of the answer as a session needs.
//!
//! The answer may come from any server, and is read as such: bounded, and never with a panic.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use antiphon_core::plan::{DtlsRole, Fingerprint, IceCredentials};

use super::limits::CANDIDATES_MAX;

/// Payload type we offer Opus under; the answer may number otherwise.
const OUR_PAYLOAD_TYPE: u8 = 111;
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// What a session does with its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Sends, and expects it back.
    Echo,
    /// Sends for others.
    Publish,
    /// Receives what another one sends.
    Subscribe,
}

impl Role {
    const fn direction(self) -> &'static str {
        match self {
            Self::Echo => "sendrecv",
            Self::Publish => "sendonly",
            Self::Subscribe => "recvonly",
        }
    }
}

/// Our side of a session.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) role: Role,
    pub(super) ice: IceCredentials,
    pub(super) fingerprint: Fingerprint,
    /// Source of what we send.
    pub(super) ssrc: u32,
    /// Where we are.
    pub(super) address: SocketAddr,
}

/// The other side, as it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) ice: IceCredentials,
    pub(super) fingerprint: Fingerprint,
    /// Our role in the handshake.
    pub(super) role: DtlsRole,
    /// Where it may be reached, in its order; at least one.
    pub(super) candidates: Vec<SocketAddr>,
    /// Payload type of Opus.
    pub(super) payload_type: u8,
    /// Identifier of the audio level among header extensions, if it was agreed.
    pub(super) audio_level: Option<u8>,
}

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("the answer has no audio section in use")]
    NoAudio,
    #[error("the answer does not take Opus")]
    NoOpus,
    #[error("the answer gives no ICE credentials (a=ice-ufrag and a=ice-pwd)")]
    NoCredentials,
    #[error("the answer gives no SHA-256 fingerprint of a certificate")]
    NoFingerprint,
    #[error("the answer's a=setup is neither active nor passive")]
    Setup,
    #[error("the answer gives no UDP candidate with an address")]
    NoCandidate,
}

impl Offer {
    pub(super) fn write(&self) -> String {
        let (role, number) = (self.role.direction(), self.ssrc);
        let (ip, port) = (self.address.ip(), self.address.port());
        let mut text = format!(
            "v=0\r\no=- {number} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
             a=group:BUNDLE 0\r\na=msid-semantic: WMS *\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF {OUR_PAYLOAD_TYPE}\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
             a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\n\
             a={role}\r\na=rtcp-mux\r\na=rtpmap:{OUR_PAYLOAD_TYPE} opus/48000/2\r\n\
             a=fmtp:{OUR_PAYLOAD_TYPE} minptime=10;useinbandfec=1\r\na=extmap:1 {AUDIO_LEVEL}\r\n",
            self.ice.ufrag, self.ice.password, self.fingerprint,
        );
        if self.role != Role::Subscribe {
            text.push_str("a=msid:load load\r\n");
            // Writing to a string cannot fail.
            write!(text, "a=ssrc:{number} cname:load\r\n").ok();
        }
        write!(
            text,
            "a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\na=end-of-candidates\r\n"
        )
        .ok();
        text
    }
}

/// What an answer says as far as it was read.
#[derive(Default)]
struct Reading<'a> {
    ufrag: Option<&'a str>,
    password: Option<&'a str>,
    fingerprint: Option<Fingerprint>,
    setup: Option<&'a str>,
    candidates: Vec<SocketAddr>,
    opus: Option<u8>,
    audio_level: Option<u8>,
    /// A section of audio that was taken has begun, or has been.
    is_taken: bool,
}

impl Answer {
    /// Reads an answer: what stands before the sections, and the first section of audio.
    ///
    /// # Errors
    /// [`AnswerError`], for the counts of a report.
    pub(super) fn read(text: &str) -> Result<Self, AnswerError> {
        let mut reading = Reading::default();
        let mut is_ours = true;
        for line in text.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                is_ours = !reading.is_taken && is_audio_in_use(media);
                reading.is_taken |= is_ours;
            } else if let Some(attribute) = line.strip_prefix("a=").filter(|_| is_ours) {
                let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
                reading.note(name, value.trim());
            }
        }
        reading.finish()
    }
}

impl<'a> Reading<'a> {
    fn note(&mut self, name: &str, value: &'a str) {
        match name {
            "ice-ufrag" => self.ufrag = Some(value),
            "ice-pwd" => self.password = Some(value),
            "fingerprint" => self.fingerprint = fingerprint(value).or(self.fingerprint),
            "setup" => self.setup = Some(value),
            "candidate" if self.candidates.len() < CANDIDATES_MAX => {
                self.candidates.extend(candidate(value));
            }
            "rtpmap" => self.opus = self.opus.or_else(|| opus(value)),
            "extmap" => self.audio_level = self.audio_level.or_else(|| audio_level(value)),
            _ => {}
        }
    }

    fn finish(self) -> Result<Answer, AnswerError> {
        if !self.is_taken {
            return Err(AnswerError::NoAudio);
        }
        // RFC 8839 §5.4: at most 256 characters each; an empty name or password authenticates nothing.
        let credential = |text: Option<&str>| {
            let text = text.filter(|text| (1..=256).contains(&text.len()));
            text.map(str::to_owned).ok_or(AnswerError::NoCredentials)
        };
        if self.candidates.is_empty() {
            return Err(AnswerError::NoCandidate);
        }
        Ok(Answer {
            ice: IceCredentials {
                ufrag: credential(self.ufrag)?,
                password: credential(self.password)?,
            },
            fingerprint: self.fingerprint.ok_or(AnswerError::NoFingerprint)?,
            role: match self.setup {
                // Who does not say waits (RFC 4145 §4).
                Some("passive") | None => DtlsRole::Client,
                Some("active") => DtlsRole::Server,
                Some(_) => return Err(AnswerError::Setup),
            },
            candidates: self.candidates,
            payload_type: self.opus.ok_or(AnswerError::NoOpus)?,
            audio_level: self.audio_level,
        })
    }
}

/// Whether an m-line is of audio, and not refused by port 0.
fn is_audio_in_use(media: &str) -> bool {
    let mut words = media.split_ascii_whitespace();
    words.next() == Some("audio") && words.next().is_some_and(|port| port != "0")
}

fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, digits) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut pairs = digits.trim().split(':');
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(Fingerprint(bytes))
}

/// The address of a candidate (RFC 8839 §5.1) that we can send to: UDP, and not a name.
fn candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<_> = value.split_ascii_whitespace().take(6).collect();
    let [_, component, transport, _, address, port] = words[..] else {
        return None;
    };
    let ip: IpAddr = address.parse().ok()?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let usable = component == "1" && transport.eq_ignore_ascii_case("udp");
    (usable && !ip.is_unspecified() && !ip.is_multicast()).then(|| SocketAddr::new(ip, port))
}

/// The payload type of an `a=rtpmap` of Opus.
fn opus(value: &str) -> Option<u8> {
    let (number, encoding) = value.split_once(' ')?;
    let name = encoding.trim().split('/').next()?;
    let number = number.parse().ok().filter(|number| *number < 128)?;
    name.eq_ignore_ascii_case("opus").then_some(number)
}

/// The identifier of an `a=extmap` of the audio level, whatever its direction.
fn audio_level(value: &str) -> Option<u8> {
    let (id, uri) = value.split_once(' ')?;
    let id = id.split('/').next()?.parse().ok()?;
    (uri.trim() == AUDIO_LEVEL && (1..=14).contains(&id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use antiphon_core::rng::Seed;
    use antiphon_core::sdp::{Offer as Read, Purpose};

    use super::*;

    fn offer(role: Role) -> Offer {
        Offer {
            role,
            ice: IceCredentials {
                ufrag: "load".to_owned(),
                password: "a password of 22 chars".replace(' ', "+"),
            },
            fingerprint: Fingerprint([0xab; 32]),
            ssrc: 77,
            address: "127.64.0.1:4000".parse().unwrap(),
        }
    }

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n\
        a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
        a=ice-ufrag:theirs\r\na=ice-pwd:their+password+is+long+enough\r\n\
        a=fingerprint:sha-1 AA:BB\r\na=fingerprint:SHA-256 \
        00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1f\r\n\
        a=setup:passive\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 OPUS/48000/2\r\n\
        a=extmap:3/sendrecv urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
        a=candidate:1 1 UDP 2130706431 127.0.0.1 40001 typ host\r\n\
        a=candidate:2 1 tcp 1 127.0.0.1 9 typ host tcptype active\r\n\
        a=candidate:3 1 udp 1 3f2a.local 9 typ host\r\n\
        a=candidate:4 1 udp 1 2001:db8::1 40001 typ srflx raddr 0.0.0.0 rport 9\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 97\r\na=ice-ufrag:other\r\na=setup:active\r\n";

    #[test]
    fn an_answer_gives_what_it_says_of_its_audio() {
        let answer = Answer::read(ANSWER).unwrap();
        assert_eq!(answer.ice.ufrag, "theirs");
        assert_eq!(answer.ice.password, "their+password+is+long+enough");
        assert_eq!(
            answer.fingerprint.0,
            std::array::from_fn(|index| index as u8)
        );
        assert_eq!(answer.role, DtlsRole::Client);
        let addresses = ["127.0.0.1:40001", "[2001:db8::1]:40001"];
        assert_eq!(
            answer.candidates,
            addresses.map(|text| text.parse().unwrap())
        );
        assert_eq!((answer.payload_type, answer.audio_level), (96, Some(3)));
        let passive = ANSWER.replace("a=setup:passive", "a=setup:active");
        assert_eq!(Answer::read(&passive).unwrap().role, DtlsRole::Server);
    }

    #[test]
    fn an_answer_that_lacks_something_says_what() {
        let without = |line: &str| Answer::read(&ANSWER.replace(line, "a=x")).unwrap_err();
        assert_eq!(Answer::read("").unwrap_err(), AnswerError::NoAudio);
        assert_eq!(
            Answer::read(&ANSWER.replace("m=audio 9", "m=audio 0")).unwrap_err(),
            AnswerError::NoAudio
        );
        assert_eq!(without("a=rtpmap:96"), AnswerError::NoOpus);
        assert_eq!(without("a=ice-pwd"), AnswerError::NoCredentials);
        assert_eq!(without("a=fingerprint:SHA-256"), AnswerError::NoFingerprint);
        let setup = ANSWER.replace("setup:passive", "setup:actpass");
        assert_eq!(Answer::read(&setup).unwrap_err(), AnswerError::Setup);
        let candidates = ANSWER.replace("a=candidate", "a=x");
        assert_eq!(
            Answer::read(&candidates).unwrap_err(),
            AnswerError::NoCandidate
        );
    }

    #[test]
    fn hostile_answers_are_bounded_and_harmless() {
        let mut rng = Seed::new([9; 32]).rng();
        for _ in 0..20_000 {
            let mut bytes = ANSWER.as_bytes().to_vec();
            for _ in 0..=rng.u32() % 4 {
                let at = rng.u32() as usize % bytes.len();
                bytes[at] = rng.u32() as u8;
            }
            bytes.truncate(rng.u32() as usize % (2 * ANSWER.len()));
            // What is still an answer has all that one needs.
            if let Ok(answer) = Answer::read(&String::from_utf8_lossy(&bytes)) {
                assert!(answer.payload_type < 128 && !answer.candidates.is_empty());
            }
        }
        let line = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";
        let many = format!("{ANSWER}m=audio 9 x 1\r\n{}", line.repeat(10_000));
        assert_eq!(Answer::read(&many).unwrap().candidates.len(), 2);
        let many = ANSWER.replace("a=mid:0\r\n", &line.repeat(1_000));
        assert_eq!(
            Answer::read(&many).unwrap().candidates.len(),
            CANDIDATES_MAX
        );
        let long = ANSWER.replace("ufrag:theirs", &format!("ufrag:{}", "u".repeat(300)));
        assert_eq!(Answer::read(&long).unwrap_err(), AnswerError::NoCredentials);
    }

    #[test]
    fn a_server_reads_the_offer_as_what_it_is() {
        let purposes = [
            (Role::Echo, Purpose::Echo),
            (Role::Publish, Purpose::Publish { prefer: None }),
        ];
        for (role, purpose) in purposes {
            let text = offer(role).write();
            let read = Read::parse(text.as_bytes()).expect("an offer");
            assert!(read.negotiate(purpose).is_ok(), "{role:?}");
        }
        let text = offer(Role::Subscribe).write();
        assert!(Read::parse(text.as_bytes()).is_ok());
        assert!(!text.contains("a=ssrc"));
    }
}
