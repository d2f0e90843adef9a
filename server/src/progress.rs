//! A progress bar on standard error, for people who wait.

use std::io::{self, IsTerminal as _, Write as _};

const WIDTH: usize = 40;

/// The bar; erased when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What there is to do; `None`: nobody watches, or nobody waits.
    total: Option<u64>,
    percent: u64,
}

impl Progress {
    /// A bar for so much to do, drawn on a terminal if one `waits` for it at all.
    pub(crate) fn new(total: u64, waits: bool) -> Self {
        let is_wanted = waits && total > 0 && io::stderr().is_terminal();
        Self {
            total: is_wanted.then_some(total),
            percent: 0,
        }
    }

    /// So much is done. Draws when another percent is, with `text` behind.
    pub(crate) fn note(&mut self, done: u64, text: impl FnOnce() -> String) {
        let Some(total) = self.total else {
            return;
        };
        let percent = (u128::from(done) * 100 / u128::from(total)).min(100) as u64;
        if percent > self.percent {
            self.percent = percent;
            // A terminal that is gone is no reason to stop.
            write!(io::stderr(), "\r{} {}\x1b[K", bar(percent), text()).ok();
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

fn bar(percent: u64) -> String {
    let filled = WIDTH * percent as usize / 100;
    format!(
        "[{:=<filled$}{:WIDTH$}] {percent:3} %",
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
        assert_eq!(bar(0).len(), bar(100).len());
        assert!(bar(50).starts_with(&format!("[{}{}]", "=".repeat(20), " ".repeat(20))));
    }
}
