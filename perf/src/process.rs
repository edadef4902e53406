//! The server as a process: started, pinned, read through /proc, stopped.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

/// A server under load.
pub struct Server {
    pub pid: u32,
    pub address: SocketAddrV4,
    child: Option<Child>,
}

impl Server {
    /// Starts `command` (words split at spaces) on `core` and waits for the line that says where it listens.
    pub fn start(command: &str, core: Option<usize>, nice: i32) -> io::Result<Self> {
        Self::start_with(command, &[], core, nice)
    }

    /// The same with variables beside those of this process.
    pub fn start_with(
        command: &str,
        environment: &[(String, String)],
        core: Option<usize>,
        nice: i32,
    ) -> io::Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().ok_or_else(|| io::Error::other("--server is empty"))?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        // SAFETY: both calls are plain system calls, allowed between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if let Some(core) = core {
                    sys::pin(core)?;
                }
                if nice != 0 {
                    sys::nice(nice)?;
                }
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start {program}: {error}")))?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let (send, receive) = std::sync::mpsc::channel();
        // Reads on for ever, so that the server never writes to a closed pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if line.to_ascii_lowercase().contains("listen")
                    && let Some(address) = address_in(&line)
                {
                    let _ = send.send(address);
                }
            }
        });
        let pid = child.id();
        match receive.recv_timeout(Duration::from_secs(10)) {
            Ok(address) => Ok(Self { pid, address, child: Some(child) }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(io::Error::other(format!("{program} never said where it listens")))
            }
        }
    }

    /// A server somebody else started.
    pub fn attach(pid: u32, address: SocketAddrV4) -> Self {
        Self { pid, address, child: None }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        sys::terminate(child.id());
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn address_in(line: &str) -> Option<SocketAddrV4> {
    line.split(|sign: char| !(sign.is_ascii_digit() || sign == '.' || sign == ':'))
        .find_map(|word| word.trim_matches(|sign| sign == ':' || sign == '.').parse().ok())
}

/// What a process has used so far.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Time on a core, all threads, from the scheduler.
    pub cpu_ns: u64,
    /// User and system time in clock ticks (coarse; for the split only).
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Times a thread gave the core away, and times it was taken.
    pub switches_voluntary: u64,
    pub switches_forced: u64,
    pub threads: u64,
}

/// Reads the usage of all threads of `pid`, kernel workers of its rings included. A thread that ends while it
/// is read is passed over.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let texts = ["schedstat", "stat", "status"]
            .map(|name| fs::read_to_string(path.join(name)))
            .into_iter()
            .collect::<io::Result<Vec<_>>>();
        let texts = match texts {
            Ok(texts) => texts,
            // Its folder is gone, or is there without a thread behind it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
            Err(error) => return Err(error),
        };
        let [schedstat, stat, status] = &texts[..] else { unreachable!("three were read") };
        usage.threads += 1;
        usage.cpu_ns +=
            schedstat.split_whitespace().next().and_then(|w| w.parse().ok()).unwrap_or(0);
        // The name may hold spaces; fields count from after its closing parenthesis.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |at: usize| -> u64 {
            rest.split_whitespace().nth(at).and_then(|w| w.parse().ok()).unwrap_or(0)
        };
        usage.user_ticks += field(11);
        usage.system_ticks += field(12);
        usage.switches_voluntary += number_after(status, "\nvoluntary_ctxt_switches:");
        usage.switches_forced += number_after(status, "nonvoluntary_ctxt_switches:");
    }
    Ok(usage)
}

impl Usage {
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
            switches_voluntary: self.switches_voluntary.saturating_sub(before.switches_voluntary),
            switches_forced: self.switches_forced.saturating_sub(before.switches_forced),
            threads: self.threads,
        }
    }
}

/// Time on a core in nanoseconds, by what a thread is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByThread {
    /// `shard-*`, and kernel workers that do what a ring was told.
    pub shards_ns: u64,
    /// `store-*`, and the threads of the database.
    pub store_ns: u64,
    /// The rest.
    pub other_ns: u64,
}

impl ByThread {
    pub fn since(self, before: Self) -> Self {
        Self {
            shards_ns: self.shards_ns.saturating_sub(before.shards_ns),
            store_ns: self.store_ns.saturating_sub(before.store_ns),
            other_ns: self.other_ns.saturating_sub(before.other_ns),
        }
    }

    pub fn all_ns(self) -> u64 {
        self.shards_ns + self.store_ns + self.other_ns
    }

    fn add(&mut self, name: &str, ns: u64) {
        let of = match name {
            _ if name.starts_with("shard-") || name.starts_with("iou-") => &mut self.shards_ns,
            _ if name.starts_with("store-") || name.starts_with("fjall") => &mut self.store_ns,
            _ => &mut self.other_ns,
        };
        *of += ns;
    }
}

/// Reads the time of all threads of `pid`, told apart by their names. One that ends meanwhile is passed over.
pub fn by_thread(pid: u32) -> io::Result<ByThread> {
    let mut sum = ByThread::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let texts = ["comm", "schedstat"].map(|name| fs::read_to_string(path.join(name)));
        if let [Ok(name), Ok(stat)] = texts {
            let ns = stat.split_whitespace().next().and_then(|word| word.parse().ok());
            sum.add(name.trim(), ns.unwrap_or(0));
        }
    }
    Ok(sum)
}

/// Bytes that `pid` had written to block devices, or will have once its pages are.
pub fn written_bytes(pid: u32) -> io::Result<u64> {
    Ok(number_after(&fs::read_to_string(format!("/proc/{pid}/io"))?, "\nwrite_bytes:"))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub rss: u64,
    pub pss: u64,
    /// Private anonymous memory: what the process itself asked for.
    pub anonymous: u64,
}

pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Memory {
        rss: number_after(&text, "\nRss:") * 1024,
        pss: number_after(&text, "\nPss:") * 1024,
        anonymous: number_after(&text, "\nPss_Anon:") * 1024,
    })
}

/// Resident memory of a process in bytes; unlike `memory`, it costs the process nothing to be looked at.
pub fn resident(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = text.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok());
    Ok(pages.unwrap_or(0) * 4096)
}

/// Kernel memory in slabs, whole machine, in bytes; both ends of a connection count.
pub fn slab_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    number_after(&text, "\nSlab:") * 1024
}

fn number_after(text: &str, name: &str) -> u64 {
    text.split_once(name)
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Non-idle time of one core in clock ticks.
pub fn core_busy_ticks(core: usize) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let Some(line) = text.lines().find(|line| line.starts_with(&name)) else { return 0 };
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0)).collect();
    // user nice system idle iowait irq softirq steal
    fields.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4).map(|(_, n)| n).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_banner_lines() {
        for (line, want) in [
            ("listening on 127.0.0.1:43211", Some("127.0.0.1:43211")),
            ("  listen   http://127.0.0.1:6001/ (2 sockets)", Some("127.0.0.1:6001")),
            ("listening on 127.0.0.1:43211.", Some("127.0.0.1:43211")),
            ("listening soon", None),
        ] {
            assert_eq!(address_in(line), want.map(|text| text.parse().unwrap()), "{line}");
        }
    }

    #[test]
    fn threads_are_told_apart_by_their_names() {
        let mut sum = ByThread::default();
        for name in ["shard-0", "iou-wrk-12", "store-write", "fjall:worker", "ringmain", "back"] {
            sum.add(name, 1);
        }
        assert_eq!(sum, ByThread { shards_ns: 2, store_ns: 2, other_ns: 2 });
        assert!(by_thread(std::process::id()).unwrap().all_ns() > 0);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.threads >= 1);
        assert!(memory(std::process::id()).unwrap().anonymous > 0);
    }
}
