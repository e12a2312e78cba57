//! A compiled system call filter on its way to the process that puts it on itself.

use std::sync::{Mutex, PoisonError};

use berth_spec::oci::runtime::{LinuxSeccomp, Spec};
use berth_sys::seccomp::Instruction;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::seccomp;

/// Instructions and the flags of seccomp(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// Each instruction as one number, which keeps the message short.
    program: Vec<u64>,
    pub flags: u32,
    pub listener: Option<Listener>,
}

/// Who decides upon the calls that the filter hands on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    /// A socket.
    pub path: String,
    /// Told with the descriptor.
    pub metadata: String,
}

impl Filter {
    pub fn new(program: &[Instruction], flags: u32) -> Self {
        Self {
            program: program
                .iter()
                .map(|i| {
                    u64::from(i.code) << 48
                        | u64::from(i.jump_true) << 40
                        | u64::from(i.jump_false) << 32
                        | u64::from(i.k)
                })
                .collect(),
            flags,
            listener: None,
        }
    }

    pub fn program(&self) -> Vec<Instruction> {
        self.program
            .iter()
            .map(|n| Instruction {
                code: (n >> 48) as u16,
                jump_true: (n >> 40) as u8,
                jump_false: (n >> 32) as u8,
                k: *n as u32,
            })
            .collect()
    }
}

/// The last profile that was compiled; nearly every container asks for the same.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Option<(LinuxSeccomp, Filter)>>);

impl Cache {
    /// Takes the profile out of the document and compiles it.
    pub fn compile(&self, spec: &mut Spec) -> Result<Option<Filter>> {
        let Some(profile) = spec.linux.as_mut().and_then(|linux| linux.seccomp.take()) else {
            return Ok(None);
        };
        // A poisoned cache is still a cache of whole entries.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, filter)) = &*last
            && *of == profile
        {
            return Ok(Some(filter.clone()));
        }
        let filter = compile(&profile)?;
        *last = Some((profile, filter.clone()));
        Ok(Some(filter))
    }
}

/// Compiles a profile.
pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Filter> {
    let program = seccomp::compile(profile).map_err(|e| Error::invalid(e.to_string()))?;
    let mut filter = Filter::new(&program.instructions, program.flags);
    if program.notifies() {
        if profile.listener_path.is_empty() {
            let text = "seccomp: SCMP_ACT_NOTIFY is used, but no listenerPath is given";
            return Err(Error::invalid(text));
        }
        filter.listener = Some(Listener {
            path: profile.listener_path.clone(),
            metadata: profile.listener_metadata.clone(),
        });
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_come_back() {
        let program = [
            Instruction {
                code: 0x20,
                jump_true: 0,
                jump_false: 255,
                k: u32::MAX,
            },
            Instruction {
                code: 0xffff,
                jump_true: 7,
                jump_false: 1,
                k: 4,
            },
        ];
        let filter = Filter::new(&program, 2);
        assert_eq!(filter.program(), program);
    }
}
