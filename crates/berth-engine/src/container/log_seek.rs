//! Finding a time in a log without reading all of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use berth_runtime::log_line::{LINE_MAX, LogLine};

/// Bytes below which reading on is as quick as another jump.
const NEAR: u64 = 256 << 10;

/// Leaves of the files (the oldest first) those that have something from `since` on (nanoseconds since
/// the epoch), and puts the first of them shortly before it. Entries are taken to be in the order
/// of their times, as they are unless the machine's clock was set back.
pub(super) fn to_time(files: &mut VecDeque<File>, since: i64) -> io::Result<()> {
    for index in (0..files.len()).rev() {
        let file = &mut files[index];
        let older = line_after(file, 0)?.is_some_and(|(_, at)| at < i128::from(since));
        if older {
            let start = bisect(file, since)?;
            file.seek(SeekFrom::Start(start))?;
            files.drain(..index);
            return Ok(());
        }
        file.seek(SeekFrom::Start(0))?;
    }
    Ok(())
}

/// The beginning of a line before `since` that is near it; the first line is before it.
fn bisect(file: &mut File, since: i64) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match line_after(file, middle)? {
            Some((start, at)) if at < i128::from(since) && start < high => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first whole line that begins at or after `from` (right there only at the file's beginning):
/// where it begins, and its time.
fn line_after(file: &mut File, from: u64) -> io::Result<Option<(u64, i128)>> {
    file.seek(SeekFrom::Start(from))?;
    let mut chunk = Vec::new();
    let mut start = 0;
    // Most lines are short: the first look is.
    for size in [4 << 10, 2 * LINE_MAX as u64] {
        let more = size - chunk.len() as u64;
        file.take(more).read_to_end(&mut chunk)?;
        if from > 0 {
            match chunk.iter().position(|b| *b == b'\n') {
                Some(end) => start = end + 1,
                None => continue,
            }
        }
        let Some(len) = chunk[start..].iter().position(|b| *b == b'\n') else {
            continue;
        };
        let line = LogLine::parse(&chunk[start..=start + len]);
        let at = line.and_then(|l| l.nanos());
        return Ok(at.map(|at| (from + start as u64, at)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn file(seconds: std::ops::Range<i64>) -> File {
        let mut text = String::new();
        for second in seconds {
            let time = jiff::Timestamp::new(second, 0).unwrap();
            writeln!(
                text,
                r#"{{"log":"line {second}\n","stream":"stdout","time":"{time}"}}"#
            )
            .unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_time_is_found_near_its_place() {
        for (since, files, before) in [
            (-5, 2, 0),
            (10, 2, 10),
            (20_000, 2, 20_000),
            (90_000, 1, 10_000),
        ] {
            let mut all = VecDeque::from([file(0..80_000), file(80_000..100_000)]);
            to_time(&mut all, since * 1_000_000_000).unwrap();
            assert_eq!(all.len(), files, "{since}");
            let first = &mut all[0];
            let skipped = first.stream_position().unwrap();
            let mut text = String::new();
            first.read_to_string(&mut text).unwrap();
            let line = LogLine::parse(text.split_inclusive('\n').next().unwrap().as_bytes());
            let at = line.unwrap().nanos().unwrap();
            assert!(
                at <= i128::from(since.max(0)) * 1_000_000_000,
                "{since}: {at}"
            );
            // Not more than needed is read again.
            let bytes = before * 60;
            assert!(skipped + 2 * NEAR >= bytes, "{since}: {skipped}");
        }
        let mut none = VecDeque::new();
        to_time(&mut none, 5).unwrap();
    }
}
