//! What another process of this machine has used, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The processor time of a process, exact to the nanosecond: `/proc/PID/stat` counts in 10 ms.
#[derive(Debug)]
pub struct CpuMeter {
    pid: u32,
    /// By thread. A thread that has ended keeps its last reading.
    seen: BTreeMap<u32, u64>,
}

impl CpuMeter {
    /// A meter of this process.
    #[must_use]
    pub const fn new(pid: u32) -> Self {
        Self {
            pid,
            seen: BTreeMap::new(),
        }
    }

    /// Time used by all threads that were alive at this or an earlier reading, since their start.
    /// Read it every second or so, lest a thread's last work is missed.
    pub fn read(&mut self) -> Duration {
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
}

/// Bytes of memory a process has resident.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// The machine's load over the last minute, as `/proc/loadavg` has it.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let mut meter = CpuMeter::new(std::process::id());
        let before = meter.read();
        let mut sum = 0_u64;
        while meter.read() < before + Duration::from_millis(5) {
            sum = (0..10_000).fold(sum, u64::wrapping_add);
        }
        assert!(resident_bytes(std::process::id()) > 100_000, "{sum}");
        assert!(load_average().parse::<f64>().is_ok());
    }
}
