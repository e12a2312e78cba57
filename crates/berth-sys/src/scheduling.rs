//! How the kernel schedules the calling process: sched_setattr(2) and ioprio_set(2).
#![allow(unsafe_code)]

use std::io;

/// `struct sched_attr` of linux/sched/types.h, as far as it has no clamps.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Filled in where it is used.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    pub nice: i32,
    /// Of real-time policies, 1 (lowest) to 99.
    pub priority: u32,
    /// Nanoseconds, of `SCHED_DEADLINE`, as the two that follow.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Sets them for the calling thread.
pub fn set_attributes(attributes: &Attributes) -> io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        ..*attributes
    };
    // SAFETY: the kernel reads `size` bytes through the pointer; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) };
    check(result)
}

/// Sets the class (1 real time, 2 best effort, 3 idle) and the level within it (0 the highest to 7)
/// of what the calling process reads and writes.
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = (class << CLASS_SHIFT) | level;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, value) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn niceness_and_io_priority_are_set() {
        // Of this test's thread alone.
        let attributes = Attributes {
            nice: 3,
            ..Attributes::default()
        };
        set_attributes(&attributes).unwrap();
        set_io_priority(2, 5).unwrap();
        let unknown = Attributes {
            policy: 99,
            ..Attributes::default()
        };
        assert!(set_attributes(&unknown).is_err());
        assert!(set_io_priority(7, 0).is_err());
    }
}
