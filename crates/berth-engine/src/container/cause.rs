//! Why a container ended, in words: what a bare 137 does not tell.

use super::plan::signal_name;
use super::record::Record;
use crate::task::Exit;

/// The end of a container that nobody saw.
pub(crate) const UNSEEN: &str =
    "its end was not seen: the machine or its supervisor went down meanwhile";

/// Why it ended, where that is more than its own exit or what a user asked for.
pub(super) fn of(record: &Record, exit: Exit) -> String {
    let memory = record.host.memory;
    let whole = exit.code == 137;
    match (exit.oom, exit.signal) {
        (true, _) => {
            let over = match u64::try_from(memory) {
                Ok(limit) if limit > 0 => format!("over its memory limit of {}", size(limit)),
                _ => "the machine, or a cgroup above it, was out of memory".to_owned(),
            };
            match whole {
                true => over,
                false => format!("a process of it was killed: {over}"),
            }
        }
        (false, Some(signal)) if !record.life.stopped_by_user => {
            format!("killed by {}", signal_name(signal))
        }
        _ => String::new(),
    }
}

/// Bytes in the largest unit that needs no more than one decimal.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10) / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS[unit];
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        rest => format!("{}.{rest} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told() {
        let cause = |memory: i64, code, signal, oom, stopped| {
            let mut record = Record::default();
            record.host.memory = memory;
            record.life.stopped_by_user = stopped;
            let exit = Exit {
                code,
                signal,
                oom,
                unseen: false,
                at: jiff::Timestamp::UNIX_EPOCH,
            };
            of(&record, exit)
        };
        for (found, expected) in [
            (cause(0, 0, None, false, false), ""),
            (cause(0, 3, None, false, false), ""),
            (
                cause(64 << 20, 137, Some(9), true, false),
                "over its memory limit of 64 MiB",
            ),
            (
                cause(64 << 20, 1, None, true, false),
                "a process of it was killed: over its memory limit of 64 MiB",
            ),
            (
                cause(0, 137, Some(9), true, false),
                "the machine, or a cgroup above it, was out of memory",
            ),
            (cause(0, 139, Some(11), false, false), "killed by SIGSEGV"),
            (cause(0, 143, Some(15), false, true), ""),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (512 << 10, "512 KiB"),
            (64 << 20, "64 MiB"),
            (1536 << 20, "1.5 GiB"),
            (100_000_000, "95.3 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
