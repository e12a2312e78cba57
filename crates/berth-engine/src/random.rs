//! Random IDs.

use berth_spec::id::Id;

/// Random bytes from the kernel.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let flags = rustix::rand::GetRandomFlags::empty();
        // The kernel's generator is seeded long before an engine runs; an interrupted call is made again.
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags).unwrap_or(0);
    }
    bytes
}

/// 64 hexadecimal digits, of which the first twelve are not all decimal: such a short ID would read
/// as a number.
pub(crate) fn id() -> String {
    loop {
        let id = Id::from_bytes(&bytes::<32>());
        if !id.short().bytes().all(|b| b.is_ascii_digit()) {
            return id.as_str().to_owned();
        }
    }
}
