//! What `/proc` tells of a process of the host.

use std::io;

/// When a process started, in clock ticks after boot (field 22 of proc_pid_stat(5)).
pub(crate) fn start_time(pid: i32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses, which may hold anything.
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    after
        .split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn own_start_time_is_stable() {
        let pid = std::process::id() as i32;
        let first = super::start_time(pid).unwrap();
        assert!(first > 0);
        assert_eq!(super::start_time(pid).unwrap(), first);
        assert!(super::start_time(i32::MAX).is_err());
    }
}
