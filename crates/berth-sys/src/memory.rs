//! What this process holds in memory.
#![allow(unsafe_code)]

use std::io;

use rustix::mm::{Advice, madvise};

/// Bytes below the caller's frame that are left alone: what is on its way out of here.
const FRAMES: usize = 8 << 10;
const PAGE: usize = 4096;

/// Lets everything go that a process which only waits does not need: code, constants, free memory, the stack below. What
/// is used again comes back page by page. Takes some 100 microseconds.
pub fn rest() {
    // Failing costs memory only.
    let _ = forget_code();
    trim_heap();
    let _ = forget_stack();
}

/// Lets this process's mapped code and constants go: what is used again comes back from the page cache, page by page; what
/// was needed only to start does not. Answers how many bytes of mappings that were.
pub fn forget_code() -> io::Result<usize> {
    let mut total = 0;
    for (start, end) in code(&std::fs::read_to_string("/proc/self/smaps")?) {
        let length = end - start;
        // SAFETY: the kernel has just said that these are mappings of a file that are not writable and have no page of their
        // own. Their content is the file's alone, which is what the next access to a dropped page gets again.
        unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) }?;
        total += length;
    }
    Ok(total)
}

/// Where `/proc/self/smaps` shows private mappings of files that are the files' alone: not writable, with an inode, and without a
/// page that was written (by the dynamic loader, say).
fn code(smaps: &str) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (fields.next(), fields.next()) else {
            continue;
        };
        if first == "Anonymous:" && second != "0" {
            // Of the mapping before; one that was not taken is followed by a range of nothing.
            found.pop();
        } else if let Some(range) = range(first) {
            let taken =
                matches!(second, "r-xp" | "r--p") && fields.nth(2).is_some_and(|i| i != "0");
            found.push(if taken { range } else { (0, 0) });
        }
    }
    found.retain(|(start, end)| start < end);
    found
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

/// Gives memory that the allocator holds for later back to the kernel, where the program's allocator is mimalloc.
pub fn trim_heap() {
    #[cfg(feature = "mimalloc")]
    {
        use libmimalloc_sys as _;
        unsafe extern "C" {
            fn mi_collect(force: bool);
        }
        // SAFETY: it may be called at any time from any thread, and touches only memory that nobody has allocated.
        unsafe { mi_collect(true) }
    }
}

/// Gives back what deeper calls have left of the first thread's stack; does nothing in another thread.
fn forget_stack() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let local = 0_u8;
    let here = &raw const local as usize;
    let Some((start, end)) = stack.and_then(|line| range(line.split(' ').next()?)) else {
        return Ok(());
    };
    let top = here.saturating_sub(FRAMES) & !(PAGE - 1);
    if !(start..end).contains(&here) || top <= start {
        return Ok(());
    }
    // SAFETY: the kernel has just said that this is the stack, and that we are on it. The pages lie below this frame and those of
    // the calls that are made here, so nothing in them is in use.
    Ok(unsafe { madvise(start as *mut _, top - start, Advice::LinuxDontNeed) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_files_alone_is_told_from_the_rest() {
        let smaps = "\
            7f0000000000-7f0000001000 r--p 00000000 fe:00 12 /bin/a\n\
            Rss:    4 kB\n\
            Anonymous:    0 kB\n\
            7f0000001000-7f0000003000 r-xp 00001000 fe:00 12 /bin/a b\n\
            Anonymous:    0 kB\n\
            7f0000003000-7f0000004000 r--p 00003000 fe:00 12 /bin/a\n\
            Anonymous:    4 kB\n\
            7f0000004000-7f0000005000 rw-p 00003000 fe:00 12 /bin/a\n\
            Anonymous:    4 kB\n\
            7fff00000000-7fff00001000 r-xp 00000000 00:00 0 [vdso]\n\
            Anonymous:    0 kB\n\
            torn\n";
        let expected = [
            (0x7f00_0000_0000, 0x7f00_0000_1000),
            (0x7f00_0000_1000, 0x7f00_0000_3000),
        ];
        assert_eq!(code(smaps), expected);
        assert_eq!(code(""), []);
    }

    #[test]
    fn a_process_that_rested_goes_on() {
        // Deep, so that there is something to let go.
        fn deep(levels: u32) -> u64 {
            let block = std::hint::black_box([u64::from(levels); 512]);
            match levels {
                0 => block[3],
                _ => deep(levels - 1) + block[7],
            }
        }
        let (text, sum) = ("kept".repeat(1000), deep(50));
        assert!(forget_code().unwrap() > 0);
        rest();
        assert_eq!((text, deep(50)), ("kept".repeat(1000), sum));
    }
}
