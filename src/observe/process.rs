//! The process as the kernel sees it, read from `/proc`.

use std::fs;
use std::time::Duration;

use super::Process;
use crate::base::time::UnixMillis;

/// Ticks of a second in `/proc`: a constant of Linux's interface to programs, whatever the kernel's own.
const TICKS_PER_SECOND: u64 = 100;

impl Process {
    /// Looks at this process now. What cannot be read is zero. Source: proc(5).
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let status = text("/proc/self/status");
        let stat = text("/proc/self/stat");
        // The command's name may hold spaces, and ends at the last parenthesis.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        // Numbered from the state, which is field 3 of proc(5).
        let ticks = |field: usize| -> u64 {
            fields.get(field - 3).and_then(|it| it.parse().ok()).unwrap_or_default()
        };
        let millis = |ticks: u64| ticks.saturating_mul(1000) / TICKS_PER_SECOND;
        let booted = number(&text("/proc/stat"), "btime ");
        let memory = text("/proc/meminfo");
        let machine = number(&memory, "MemTotal:") * 1024;
        let group = text("/sys/fs/cgroup/memory.max").trim().parse::<u64>().ok();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started: UnixMillis(booted * 1000 + millis(ticks(22))),
            cpu: Duration::from_millis(millis(ticks(14) + ticks(15))),
            resident_bytes: number(&status, "VmRSS:") * 1024,
            memory_bytes: group.map_or(machine, |it| it.min(machine)),
            memory_available_bytes: number(&memory, "MemAvailable:") * 1024,
            descriptors_open: descriptors_open(),
            descriptors_max: number(&text("/proc/self/limits"), "Max open files"),
            threads: number(&status, "Threads:"),
        }
    }
}

/// The directory's size is the count, without a look at each. Source: Linux 6.2, fs/proc/fd.c.
fn descriptors_open() -> u64 {
    let size = fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    if size > 0 {
        return size;
    }
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// The first number behind `name` at the start of a line.
fn number(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let word = rest.and_then(|rest| rest.split_ascii_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let process = Process::read();
        assert!(process.started.0 > 1_500_000_000_000, "{process:?}");
        assert!(process.resident_bytes > 100_000, "{process:?}");
        assert!(process.threads >= 1 && process.descriptors_open >= 3, "{process:?}");
        assert!(process.descriptors_max >= process.descriptors_open, "{process:?}");
    }

    #[test]
    fn a_number_is_found_behind_its_name() {
        assert_eq!(number("a 1\nbtime 7 x\n", "btime "), 7);
        assert_eq!(number("btime x", "btime "), 0);
        assert_eq!(number("", "btime "), 0);
    }
}
