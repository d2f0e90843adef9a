//! What a process of this machine has used, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The processor time of a process, exact to the nanosecond: `/proc/PID/stat` counts in 10 ms.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    /// By thread. A thread that has ended keeps its last reading.
    seen: BTreeMap<u32, u64>,
}

impl Process {
    pub(crate) const fn new(pid: u32) -> Self {
        Self {
            pid,
            seen: BTreeMap::new(),
        }
    }

    /// Whether there is such a process, and we may read its times.
    pub(crate) fn is_readable(&self) -> bool {
        fs::read_to_string(format!("/proc/{0}/task/{0}/schedstat", self.pid)).is_ok()
    }

    /// Time used by all threads that were alive at this or an earlier reading, since their start.
    /// Read it every second or so, lest a thread's last work is missed.
    pub(crate) fn cpu(&mut self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid));
        for thread in threads.into_iter().flatten().flatten() {
            let name = thread.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
            if let (Some(id), Some(nanos)) = (id, nanos) {
                self.seen.insert(id, nanos);
            }
        }
        Duration::from_nanos(self.seen.values().sum())
    }

    /// Nanoseconds each thread had used, as of the last reading.
    pub(crate) const fn by_thread(&self) -> &BTreeMap<u32, u64> {
        &self.seen
    }

    /// Bytes of memory it has resident.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory_and_there_is_none_without_a_number() {
        let mut process = Process::new(std::process::id());
        assert!(process.is_readable());
        let before = process.cpu();
        let mut sum = 0_u64;
        while process.cpu() < before + Duration::from_millis(5) {
            sum = (0..10_000).fold(sum, u64::wrapping_add);
        }
        assert!(process.resident_bytes() > 100_000, "{sum}");
        assert!(!Process::new(u32::MAX).is_readable());
    }
}
