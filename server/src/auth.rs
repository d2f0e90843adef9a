//! Bearer tokens (RFC 6750): who may publish, subscribe and administer, and where.
//!
//! Only digests of tokens are kept, and they are compared in constant time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::{constant_time, digest};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::Deserialize;

use crate::limits::{TOKEN_BYTES_MIN, TOKENS_MAX};
use crate::problem::Problem;
use crate::rooms::Name;
use crate::wall::unix_from_toml;

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// WHIP: echo, and publishing as a participant.
    Publish,
    /// WHEP, and the rooms API.
    Subscribe,
    /// gRPC: answering calls as an agent, under any name.
    Agent,
    /// Metrics, the list of sessions, and every session of its rooms.
    Admin,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Anybody: the server has no tokens.
    Anyone,
    /// The holder of this token.
    Token(usize),
}

/// The tokens the server knows.
#[derive(Debug, Default)]
pub struct Access {
    tokens: Option<Vec<Token>>,
}

/// Why a token file was refused. Never shows a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read the token file {path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what a token file looks like.
    #[error("the token file {path} is wrong: {detail}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Which entry, and what is allowed.
        detail: String,
    },
}

#[derive(Debug)]
struct Token {
    digest: [u8; 32],
    scopes: Vec<Scope>,
    rooms: Rooms,
    /// Seconds since 1970.
    expires: Option<i64>,
}

#[derive(Debug)]
enum Rooms {
    All,
    Some(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    scopes: Vec<Scope>,
    rooms: Vec<String>,
    expires: Option<toml::value::Datetime>,
}

impl Access {
    /// No tokens: anybody may do anything.
    #[must_use]
    pub const fn open() -> Self {
        Self { tokens: None }
    }

    /// Reads a token file.
    ///
    /// # Errors
    /// [`TokenFileError`] names the entry that is wrong, never its token.
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let text = std::fs::read_to_string(path).map_err(|error| TokenFileError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&text).map_err(|detail| TokenFileError::Wrong {
            path: path.to_owned(),
            detail,
        })
    }

    /// Reads the text of a token file.
    ///
    /// # Errors
    /// A sentence that names the entry that is wrong, never its token.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The parser's own message would quote the line, and with it the token.
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or(0, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", error.message())
        })?;
        if file.token.is_empty() || file.token.len() > TOKENS_MAX {
            return Err(format!(
                "{} tokens: 1 to {TOKENS_MAX} are allowed",
                file.token.len()
            ));
        }
        let check = |(index, entry)| {
            check_entry(entry).map_err(|detail| format!("token {}: {detail}", index + 1))
        };
        let tokens: Vec<Token> = file
            .token
            .into_iter()
            .enumerate()
            .map(check)
            .collect::<Result<_, _>>()?;
        // Of two entries only one would count, and nobody could tell which.
        let mut positions = BTreeMap::new();
        for (index, token) in tokens.iter().enumerate() {
            if let Some(earlier) = positions.insert(token.digest, index) {
                let (first, second) = (earlier + 1, index + 1);
                return Err(format!(
                    "token {first} and token {second} are the same: keep one entry"
                ));
            }
        }
        Ok(Self {
            tokens: Some(tokens),
        })
    }

    /// Whether tokens are asked for.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.tokens.is_none()
    }

    /// Whose request this is; `unix_secs` is now.
    ///
    /// # Errors
    /// 401 without a token, or with one that is unknown or expired.
    pub fn identify(&self, headers: &HeaderMap, unix_secs: i64) -> Result<Caller, Problem> {
        let caller = self.recognise(headers)?;
        let expires = self.token(caller).and_then(|token| token.expires);
        if expires.is_some_and(|expires| expires <= unix_secs) {
            return Err(Problem::token_invalid("the token has expired"));
        }
        Ok(caller)
    }

    /// Whose request this is, though the token may have expired.
    ///
    /// # Errors
    /// 401 without a token, or with one that is unknown.
    pub fn recognise(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(tokens) = &self.tokens else {
            return Ok(Caller::Anyone);
        };
        let presented = bearer(headers)?;
        let digest = digest::digest(&digest::SHA256, presented);
        // Every token is compared, so that the time says nothing about which one was close.
        let mut found = None;
        for (index, token) in tokens.iter().enumerate() {
            if constant_time::verify_slices_are_equal(digest.as_ref(), &token.digest).is_ok() {
                found = Some(Caller::Token(index));
            }
        }
        found.ok_or_else(|| Problem::token_invalid("the token is not known here"))
    }

    /// Checks that the caller may use `scope`, in `room` if one is meant. Administrators may
    /// publish and subscribe in their rooms.
    ///
    /// # Errors
    /// 403 naming the scope or the room that is missing.
    pub fn allow(&self, caller: Caller, scope: Scope, room: Option<&Name>) -> Result<(), Problem> {
        let Some(token) = self.token(caller) else {
            return Ok(());
        };
        if !token.has(scope) {
            let detail = format!("the token lacks the scope `{}`", scope.name());
            return Err(Problem::forbidden(detail));
        }
        if room.is_some_and(|room| !token.reaches(room)) {
            return Err(Problem::forbidden("the token does not reach this room"));
        }
        Ok(())
    }

    /// Whether the caller may see `room` in a list.
    #[must_use]
    pub fn sees(&self, caller: Caller, room: &Name) -> bool {
        self.token(caller).is_none_or(|token| token.reaches(room))
    }

    /// Whether the caller may change the session that `owner` made, in `room` if it is in one: the
    /// same token may, and an administrator of the room. The session's URL alone is not enough.
    #[must_use]
    pub fn covers(&self, caller: Caller, owner: Caller, room: Option<&Name>) -> bool {
        match self.token(caller) {
            None => true,
            Some(_) if caller == owner => true,
            Some(token) => {
                token.scopes.contains(&Scope::Admin)
                    && room.map_or(matches!(token.rooms, Rooms::All), |room| {
                        token.reaches(room)
                    })
            }
        }
    }

    fn token(&self, caller: Caller) -> Option<&Token> {
        match (caller, &self.tokens) {
            (Caller::Token(index), Some(tokens)) => tokens.get(index),
            _ => None,
        }
    }
}

impl Token {
    fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    fn reaches(&self, room: &Name) -> bool {
        match &self.rooms {
            Rooms::All => true,
            Rooms::Some(rooms) => rooms.iter().any(|name| name == room.as_str()),
        }
    }
}

impl Scope {
    const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }
}

fn check_entry(entry: Entry) -> Result<Token, String> {
    if entry.token.len() < TOKEN_BYTES_MIN {
        let found = entry.token.len();
        return Err(format!(
            "it has {found} characters: at least {TOKEN_BYTES_MIN} are needed"
        ));
    }
    // RFC 6750 §2.1 (b64token): nothing else can be sent.
    let sendable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !entry.token.bytes().all(sendable) {
        return Err("only letters, digits and -._~+/= can be sent in a header".to_owned());
    }
    if entry.scopes.is_empty() || entry.rooms.is_empty() {
        return Err("`scopes` and `rooms` must not be empty; rooms = [\"*\"] means all".to_owned());
    }
    let rooms = if entry.rooms.iter().any(|room| room == "*") {
        Rooms::All
    } else {
        let check = |room: String| Name::parse("a room", &room).map(|_| room);
        let checked = entry.rooms.into_iter().map(check).collect::<Result<_, _>>();
        Rooms::Some(checked.map_err(|rule| rule.to_string())?)
    };
    let expires = match entry.expires {
        None => None,
        Some(value) => Some(unix_from_toml(&value).ok_or_else(|| {
            "`expires` needs date, time and offset, such as 2027-01-31T12:00:00Z".to_owned()
        })?),
    };
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, entry.token.as_bytes()).as_ref());
    Ok(Token {
        digest: bytes,
        scopes: entry.scopes,
        rooms,
        expires,
    })
}

fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let missing = || {
        let detail = "this server asks for a token: send `Authorization: Bearer TOKEN`";
        Problem::token_missing(detail)
    };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(Problem::bad_request("send one `Authorization` header"));
    }
    let (scheme, token) = value.as_bytes().split_at_checked(7).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(missing());
    }
    Ok(token.trim_ascii())
}
