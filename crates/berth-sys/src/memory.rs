//! What this process holds in memory.
#![allow(unsafe_code)]

use std::io;

use rustix::mm::{Advice, madvise};

/// Lets this process's mapped code go: what runs again comes back from the page cache, page by page; what was needed only
/// to start does not. Answers how many bytes of mappings that were.
pub fn forget_code() -> io::Result<usize> {
    let mut total = 0;
    for (start, end) in code(&std::fs::read_to_string("/proc/self/maps")?) {
        let length = end - start;
        // SAFETY: the kernel has just said that these are mappings of a file that are executable and not writable. Their
        // content is the file's alone, which is what the next access to a dropped page gets again.
        unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) }?;
        total += length;
    }
    Ok(total)
}

/// Where `/proc/self/maps` shows private code of files: executable, not writable, with an inode.
fn code(maps: &str) -> impl Iterator<Item = (usize, usize)> {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        let inode = fields.nth(2)?;
        if rights != "r-xp" || inode == "0" {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?)).filter(|(start, end)| start < end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_data() {
        let maps = "\
            7f0000000000-7f0000001000 r--p 00000000 fe:00 12 /bin/a\n\
            7f0000001000-7f0000003000 r-xp 00001000 fe:00 12 /bin/a b\n\
            7f0000003000-7f0000004000 rw-p 00003000 fe:00 12 /bin/a\n\
            7fff00000000-7fff00001000 r-xp 00000000 00:00 0 [vdso]\n\
            torn\n";
        let found: Vec<_> = code(maps).collect();
        assert_eq!(found, [(0x7f00_0000_1000, 0x7f00_0000_3000)]);
    }

    #[test]
    fn code_goes_and_comes_back() {
        assert!(forget_code().unwrap() > 0);
        assert_eq!(code("").count(), 0);
    }
}
