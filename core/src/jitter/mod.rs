//! When packets that come unevenly are played: an adaptive jitter buffer.
