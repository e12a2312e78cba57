//! Which kernel this is.

/// The first two numbers of the kernel's version, as `(6, 18)`; zeros where it tells none.
pub(crate) fn version() -> (u64, u64) {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
