//! A progress bar on standard error, for people who wait.

use std::io::{self, IsTerminal as _, Write as _};

/// Bytes of a file from which one waits: half a second's work.
const BYTES_MIN: u64 = 64 << 20;
const WIDTH: usize = 40;

/// The bar; erased when dropped.
#[derive(Debug)]
pub(super) struct Progress {
    /// Bytes of the file; `None`: nobody watches, or nobody waits.
    len: Option<u64>,
    percent: u64,
}

impl Progress {
    pub(super) fn new(len: u64) -> Self {
        let is_wanted = len >= BYTES_MIN && io::stderr().is_terminal();
        Self {
            len: is_wanted.then_some(len),
            percent: 0,
        }
    }

    /// So many bytes are done. Draws when another percent is.
    pub(super) fn note(&mut self, done: u64) {
        let Some(len) = self.len else {
            return;
        };
        let percent = (u128::from(done) * 100 / u128::from(len)).min(100) as u64;
        if percent > self.percent {
            self.percent = percent;
            // A terminal that is gone is no reason to stop.
            write!(io::stderr(), "\r{}", bar(percent, done)).ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.percent > 0 {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

fn bar(percent: u64, done: u64) -> String {
    let filled = WIDTH * percent as usize / 100;
    let mib = done >> 20;
    format!(
        "[{:=<filled$}{:WIDTH$}] {percent:3} % {mib} MiB",
        "",
        "",
        WIDTH = WIDTH - filled
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_keeps_its_width() {
        assert_eq!(bar(0, 0).len(), bar(100, 99 << 20).len() - 1);
        assert!(bar(50, 5 << 20).starts_with(&format!("[{}{}]", "=".repeat(20), " ".repeat(20))));
    }
}
