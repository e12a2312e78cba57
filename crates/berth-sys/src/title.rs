//! What a process shows of itself to others.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;

/// Bytes of arguments and environment together that are written over; more than a program is
/// started with is a misreading.
const AREA_MAX: usize = 8 << 20;

/// Writes `args` over the process's own arguments and clears its environment, so that neither is
/// found in `/proc/<pid>` any more. What does not fit is cut off. `stat` is its own `/proc/self/stat`.
///
/// The standard library hands out copies of both; who asks it for them afterwards gets nothing.
///
/// # Errors
/// `EINVAL` where `stat` does not tell where they are.
pub fn replace_arguments(stat: &str, args: &[CString]) -> io::Result<()> {
    let area = Area::of(stat).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let text = area.text(args);
    // SAFETY: the kernel tells these addresses of the calling process; its loader put the strings there, above the
    // stack, in memory that is writable. Nothing of ours holds a reference into it, and one thread runs.
    unsafe {
        std::ptr::write_bytes(area.start as *mut u8, 0, area.all);
        std::ptr::copy_nonoverlapping(text.as_ptr(), area.start as *mut u8, text.len());
    }
    Ok(())
}

/// Where arguments and, right behind them, the environment are.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    start: usize,
    /// Bytes of the arguments.
    arguments: usize,
    /// Bytes of both.
    all: usize,
}

impl Area {
    /// From fields 48 to 51 of proc_pid_stat(5).
    fn of(stat: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything.
        let fields = stat.rsplit_once(") ")?.1;
        let mut fields = fields.split_ascii_whitespace().skip(48 - 3);
        let mut next = || fields.next()?.parse::<usize>().ok();
        let (start, end, env_start, env_end) = (next()?, next()?, next()?, next()?);
        let sane = start != 0 && start < end && end <= env_start && env_start <= env_end;
        let area = Self {
            start,
            arguments: end.checked_sub(start)?,
            all: env_end.checked_sub(start)?,
        };
        (sane && area.all <= AREA_MAX).then_some(area)
    }

    /// What to write. The kernel shows the arguments up to their end; where the byte there is not NUL,
    /// up to the first NUL (proc_pid_cmdline(5)), so that more is shown as one word.
    fn text(&self, args: &[CString]) -> Vec<u8> {
        let mut text: Vec<u8> = args
            .iter()
            .flat_map(|a| a.as_bytes_with_nul())
            .copied()
            .collect();
        if text.len() > self.arguments {
            text.pop();
            for byte in &mut text {
                *byte = if *byte == 0 { b' ' } else { *byte };
            }
            text.truncate(self.all - 1);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::exit;

    fn args(words: &[&str]) -> Vec<CString> {
        words.iter().map(|w| CString::new(*w).unwrap()).collect()
    }

    #[test]
    fn areas_are_read_and_checked() {
        let stat = |a, b, c, d| format!("7 (a) b) S {}{a} {b} {c} {d} 0\n", "1 ".repeat(44));
        let area = Area::of(&stat(100, 120, 120, 200)).unwrap();
        assert_eq!((area.start, area.arguments, area.all), (100, 20, 100));
        assert_eq!(Area::of(&stat(0, 0, 0, 0)), None);
        assert_eq!(Area::of(&stat(100, 90, 120, 200)), None);
        assert_eq!(Area::of("7 (a) S 1 2"), None);
    }

    #[test]
    fn what_does_not_fit_is_one_word_and_cut() {
        let area = Area {
            start: 1,
            arguments: 6,
            all: 10,
        };
        assert_eq!(area.text(&args(&["ab", "c"])), b"ab\0c\0");
        assert_eq!(area.text(&args(&["ab", "cdef"])), b"ab cdef");
        assert_eq!(area.text(&args(&["abcdef", "ghijkl"])), b"abcdef gh");
    }

    #[test]
    fn the_process_shows_it() {
        // The test runner has threads: a program of one thread is this one, run again by itself.
        if std::env::var_os("BERTH_SYS_TITLE").is_none() {
            let own = std::env::current_exe().unwrap();
            let output = std::process::Command::new(own)
                .args([
                    "title::tests::the_process_shows_it",
                    "--exact",
                    "--nocapture",
                ])
                .env("BERTH_SYS_TITLE", "1")
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            return;
        }
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        replace_arguments(&stat, &args(&["/sbin/docker-init", "--", "x"])).unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        assert!(shown.starts_with(b"/sbin/docker-init\0--\0x\0"));
        let environment = std::fs::read("/proc/self/environ").unwrap();
        assert!(environment.iter().all(|byte| *byte == 0));
        exit(0)
    }
}
