//! Processes as `ps` describes them, read from `/proc` alone: no program of the host is needed, and
//! none of a container's is run.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Ticks of `/proc/PID/stat` in a second: the kernel's `USER_HZ` is 100 everywhere.
const TICKS: u64 = 100;
/// Bytes of a command line that are shown.
const COMMAND_MAX: usize = 4096;

/// A process at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: i32,
    pub uid: u32,
    /// The name that the kernel has for it.
    pub name: String,
    /// Its words; empty for one of the kernel.
    pub arguments: Vec<String>,
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// The number of its terminal; 0 for none.
    pub terminal: u32,
    /// Whether it is in the foreground of its terminal.
    pub foreground: bool,
    /// Ticks.
    pub cpu: u64,
    pub priority: i64,
    pub nice: i64,
    pub threads: u64,
    /// Ticks after the machine's start.
    pub started: u64,
    /// Bytes.
    pub virtual_size: u64,
    /// Bytes.
    pub resident: u64,
}

impl Process {
    /// What `/proc` says of a process; none if it is gone.
    pub fn read(pid: i32) -> Option<Self> {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}"));
        let stat = read("stat").ok()?;
        let mut process = Self::parse(&String::from_utf8_lossy(&stat))?;
        let status = read("status").ok()?;
        let status = String::from_utf8_lossy(&status);
        let uids = status.lines().find_map(|l| l.strip_prefix("Uid:"))?;
        // Real, effective, saved, of the file system: `ps` shows the effective one.
        process.uid = uids.split_whitespace().nth(1)?.parse().ok()?;
        // Those of the kernel have no memory of their own.
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| {
            text.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        });
        process.resident = kib.unwrap_or(0) * 1024;
        let mut command = read("cmdline").unwrap_or_default();
        command.truncate(COMMAND_MAX);
        process.arguments = command
            .split(|b| *b == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        while process.arguments.last().is_some_and(String::is_empty) {
            process.arguments.pop();
        }
        Some(process)
    }

    /// Reads `/proc/PID/stat` (proc_pid_stat(5)). The name may hold spaces and brackets: it ends with
    /// the last one.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let signed = |at: usize| fields.get(at).and_then(|f| f.parse::<i64>().ok());
        let unsigned = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
        let id = |at: usize| signed(at).and_then(|n| i32::try_from(n).ok());
        let group = id(2)?;
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: id(1)?,
            group,
            session: id(3)?,
            terminal: signed(4)?.try_into().unwrap_or(0),
            foreground: id(5)? == group,
            cpu: unsigned(11)? + unsigned(12)?,
            priority: signed(15)?,
            nice: signed(16)?,
            threads: unsigned(17)?,
            started: unsigned(19)?,
            virtual_size: unsigned(20)?,
            ..Self::default()
        })
    }

    /// Its words, or its name in brackets where it has none.
    pub fn command(&self) -> String {
        match self.arguments.is_empty() {
            true => format!("[{}]", self.name),
            // A line of a table stays a line.
            false => self
                .arguments
                .join(" ")
                .replace(|c: char| c.is_control(), "?"),
        }
    }

    /// `pts/0`, `tty1`, `?`.
    pub fn terminal_name(&self) -> String {
        let (major, minor) = (
            (self.terminal >> 8) & 0xfff,
            (self.terminal & 0xff) | ((self.terminal >> 12) & 0xfff00),
        );
        match major {
            136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
            4 if minor < 64 => format!("tty{minor}"),
            4 => format!("ttyS{}", minor - 64),
            5 if minor == 1 => "console".to_owned(),
            _ => "?".to_owned(),
        }
    }

    /// The letters that `ps` shows of its state.
    pub fn state_letters(&self) -> String {
        let mut letters = String::from(self.state);
        for (on, letter) in [
            (self.nice < 0, '<'),
            (self.nice > 0, 'N'),
            (self.session == self.pid, 's'),
            (self.threads > 1, 'l'),
            (self.terminal != 0 && self.foreground, '+'),
        ] {
            if on {
                letters.push(letter);
            }
        }
        letters
    }

    /// Seconds of processor time.
    pub fn cpu_seconds(&self) -> u64 {
        self.cpu / TICKS
    }
}

/// How long a process has been there, by the clock of the machine's start: nobody sets that.
pub(crate) fn age_of_process(pid: i32) -> Option<Duration> {
    let began = Process::read(pid)?.started;
    let now = clock_gettime(ClockId::Boottime);
    let ticks = u64::try_from(now.tv_sec).ok()? * TICKS
        + u64::try_from(now.tv_nsec).ok()? * TICKS / 1_000_000_000;
    Some(Duration::from_millis(
        ticks.saturating_sub(began) * 1000 / TICKS,
    ))
}

/// What a table of processes needs to know of the machine.
pub(super) struct Machine {
    users: HashMap<u32, String>,
    /// When it started.
    booted: Timestamp,
    now: Timestamp,
    /// Bytes.
    memory: u64,
}

impl Machine {
    /// Looks at the machine as it is now.
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let booted = text("/proc/stat")
            .lines()
            .find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        Self {
            users: users(&text("/etc/passwd")),
            booted: booted.unwrap_or_default(),
            now: Timestamp::now(),
            memory: super::stats::machine_memory().unwrap_or(0).max(1),
        }
    }

    /// The name of a user of the host; the number of one it does not know.
    pub fn user(&self, uid: u32) -> String {
        self.users
            .get(&uid)
            .cloned()
            .unwrap_or_else(|| uid.to_string())
    }

    pub fn start_of(&self, process: &Process) -> Timestamp {
        let span = jiff::SignedDuration::from_millis((process.started * 1000 / TICKS) as i64);
        self.booted.checked_add(span).unwrap_or(self.booted)
    }

    /// Seconds that a process has been there.
    pub fn age(&self, process: &Process) -> u64 {
        let age = self.now.as_second() - self.start_of(process).as_second();
        u64::try_from(age).unwrap_or(0)
    }

    /// The part of a processor that it has used since it began, in thousandths.
    pub fn cpu_share(&self, process: &Process) -> u64 {
        match self.age(process) {
            0 => 0,
            age => (process.cpu * 1000 / TICKS / age).min(99_999),
        }
    }

    /// The part of the machine's memory that it has, in thousandths.
    pub fn memory_share(&self, process: &Process) -> u64 {
        process.resident * 1000 / self.memory
    }

    /// When it began, as `ps -ef` says it: the time of today, the day of this year, the year.
    pub fn start_text(&self, process: &Process) -> String {
        let zone = jiff::tz::TimeZone::system();
        let start = self.start_of(process).to_zoned_datetime(zone.clone());
        let now = self.now.to_zoned_datetime(zone);
        let format = if start.date() == now.date() {
            "%H:%M"
        } else if start.year() == now.year() {
            "%b%d"
        } else {
            "%Y"
        };
        start.strftime(format).to_string()
    }
}

fn users(passwd: &str) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1).and_then(|u| u.parse().ok()))
        {
            // The first name of a number counts.
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let younger = age_of_process(i32::try_from(child.id()).unwrap()).unwrap();
        let elder = age_of_process(own).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(younger <= elder && elder < age_of_process(1).unwrap() + Duration::from_secs(1));
        assert!(age_of_process(i32::MAX).is_none());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "42 (a) b (c) S 1 42 40 34816 42 4194560 1 2 3 4 150 50 0 0 20 0 3 0 7000 4096000 256 18446744073709551615";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            (process.pid, &*process.name, process.state),
            (42, "a) b (c", 'S')
        );
        assert_eq!(
            (process.parent, process.group, process.session),
            (1, 42, 40)
        );
        assert_eq!(
            (process.cpu, process.threads, process.started),
            (200, 3, 7000)
        );
        assert_eq!(process.virtual_size, 4_096_000);
        assert_eq!(process.terminal_name(), "pts/0");
        assert_eq!(process.state_letters(), "Sl+");
        assert_eq!(process.command(), "[a) b (c]");
        assert_eq!(Process::parse("1 (x) S 1"), None);
    }

    #[test]
    fn terminals_have_names() {
        let name = |terminal| {
            let process = Process {
                terminal,
                ..Process::default()
            };
            process.terminal_name()
        };
        for (number, expected) in [
            (0, "?"),
            (136 << 8 | 3, "pts/3"),
            (137 << 8 | 1, "pts/257"),
            (4 << 8 | 1, "tty1"),
            (4 << 8 | 65, "ttyS1"),
            (5 << 8 | 1, "console"),
        ] {
            assert_eq!(name(number), expected, "{number}");
        }
    }

    #[test]
    fn this_process_is_described() {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = Process::read(own).unwrap();
        let machine = Machine::read();
        assert_eq!(process.pid, own);
        assert!(
            process.command().contains("berth_engine"),
            "{}",
            process.command()
        );
        assert!(process.resident > 0 && machine.memory_share(&process) < 1000);
        // Whoever built this did so within a day.
        assert!(machine.age(&process) < 86_400);
    }
}
