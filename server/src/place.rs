//! The server's paths, as far as they matter before routing: which methods, which label in metrics.

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The page's files.
    Page,
    /// A WHIP endpoint.
    Whip,
    /// A WHEP endpoint.
    Whep,
    /// A session's URL.
    Session,
    /// The JSON API.
    Api,
    /// Metrics.
    Metrics,
    /// Health.
    Health,
    /// What the server says of itself.
    Info,
    /// Nothing of ours.
    Elsewhere,
}

impl Place {
    /// Where a path leads, by its first part.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let first = path
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        match first {
            "whip" => Self::Whip,
            "whep" => Self::Whep,
            "session" => Self::Session,
            "api" => Self::Api,
            "metrics" => Self::Metrics,
            "health" => Self::Health,
            "info" => Self::Info,
            "" | "page" | "page.css" | "favicon.svg" => Self::Page,
            _ => Self::Elsewhere,
        }
    }

    /// Whether reading `path`, which leads here, makes a shard work.
    #[must_use]
    pub fn asks_shards(self, path: &str) -> bool {
        self == Self::Metrics
            || (self == Self::Api && path.trim_end_matches('/').ends_with("/stats"))
    }

    /// Its name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Whip => "whip",
            Self::Whep => "whep",
            Self::Session => "session",
            Self::Api => "api",
            Self::Metrics => "metrics",
            Self::Health => "health",
            Self::Info => "info",
            Self::Elsewhere => "other",
        }
    }

    /// The methods it knows, as `Allow` lists them.
    #[must_use]
    pub const fn methods(self) -> &'static str {
        match self {
            Self::Whip | Self::Whep => "POST, GET, HEAD, OPTIONS",
            Self::Session => "PATCH, DELETE, GET, HEAD, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}
