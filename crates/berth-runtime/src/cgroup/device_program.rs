//! Device rules as an eBPF program for cgroup v2 (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The program walks the rules from the last to the first. Register 3 holds the access bits that
//! no rule has decided yet: a matching rule that refuses one of them ends with 0, one that allows
//! takes its bits out, and with none left the program ends with 1.

use berth_sys::bpf::Instruction;

use super::device::Rule;

// Opcodes, linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
/// Compares the low 32 bits, so that the immediate is not sign-extended.
const JUMP_NOT_EQUAL_32: u8 = 0x56;
const EXIT: u8 = 0x95;

// Types of bpf_cgroup_dev_ctx.access_type.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const OPEN_BITS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        immediate,
    }
}

/// The program for these rules.
pub(super) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_WORD, KIND, CONTEXT, 0, 0),
        op(MOVE_REGISTER, OPEN_BITS, KIND, 0, 0),
        op(AND, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT, OPEN_BITS, 0, 0, 16),
        op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(rule));
    }
    program.extend([op(MOVE, RESULT, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    program
}

/// One rule: tests that jump behind the block when the node does not match, then the verdict.
fn block(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    let verdict = if rule.allow {
        vec![
            op(AND, OPEN_BITS, 0, 0, !access),
            op(JUMP_NOT_EQUAL, OPEN_BITS, 0, 2, 0),
            op(MOVE, RESULT, 0, 0, 1),
            op(EXIT, 0, 0, 0, 0),
        ]
    } else {
        vec![
            op(MOVE_REGISTER, SCRATCH, OPEN_BITS, 0, 0),
            op(AND, SCRATCH, 0, 0, access),
            op(JUMP_EQUAL, SCRATCH, 0, 2, 0),
            op(MOVE, RESULT, 0, 0, 0),
            op(EXIT, 0, 0, 0, 0),
        ]
    };
    let kind = rule.block.map(|b| (KIND, if b { BLOCK } else { CHAR }));
    let tests: Vec<(u8, i32)> = [
        kind,
        rule.major.map(|n| (MAJOR, n.cast_signed())),
        rule.minor.map(|n| (MINOR, n.cast_signed())),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut out = Vec::new();
    for (at, (register, value)) in tests.iter().enumerate() {
        // At most eight instructions, so the offset fits.
        let behind = (tests.len() - at - 1 + verdict.len()) as i16;
        out.push(op(JUMP_NOT_EQUAL_32, *register, 0, behind, *value));
    }
    out.extend(verdict);
    out
}

#[cfg(test)]
mod tests {
    use super::super::device::{self, MKNOD, READ, WRITE};
    use super::*;
    use crate::defaults;

    /// The program's verdict, by an interpreter of eBPF.
    fn run(program: &[Instruction], block: bool, major: u32, minor: u32, access: u8) -> bool {
        let mut code = Vec::new();
        for i in program {
            code.extend([i.code, i.registers]);
            code.extend(i.offset.to_le_bytes());
            code.extend(i.immediate.to_le_bytes());
        }
        let kind: u32 = if block { 1 } else { 2 };
        let mut context = Vec::new();
        context.extend((u32::from(access) << 16 | kind).to_le_bytes());
        context.extend(major.to_le_bytes());
        context.extend(minor.to_le_bytes());
        let vm = rbpf::EbpfVmRaw::new(Some(&code)).unwrap();
        vm.execute_program(&mut context).unwrap() == 1
    }

    #[test]
    fn docker_default() {
        let rules = device::with_implied(&defaults::device_rules()).unwrap();
        let program = compile(&rules);
        assert!(run(&program, false, 1, 3, READ | WRITE));
        assert!(run(&program, false, 136, 7, READ | WRITE));
        assert!(run(&program, true, 8, 0, MKNOD));
        assert!(!run(&program, true, 8, 0, READ));
        assert!(!run(&program, false, 10, 229, READ | WRITE));
        assert!(!run(&program, false, 1, 1, READ));
        assert!(!run(&program, true, 1, 3, READ));
    }

    #[test]
    fn programs_mean_what_the_rules_say() {
        let mut seed = 7_u32;
        let mut draw = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % n
        };
        for _ in 0..200 {
            let rules: Vec<Rule> = (0..draw(8))
                .map(|_| Rule {
                    allow: draw(2) == 0,
                    block: [None, Some(true), Some(false)][draw(3) as usize],
                    major: [None, Some(1), Some(u32::MAX)][draw(3) as usize],
                    minor: [None, Some(1), Some(1 << 19)][draw(3) as usize],
                    access: (draw(7) + 1) as u8,
                })
                .collect();
            let program = compile(&rules);
            for major in [0, 1, u32::MAX] {
                for minor in [0, 1, 1 << 19] {
                    for (block, access) in (1..=7).flat_map(|a| [(true, a), (false, a)]) {
                        assert_eq!(
                            run(&program, block, major, minor, access),
                            device::allowed(&rules, block, major, minor, access),
                            "{rules:?} {block} {major}:{minor} {access}"
                        );
                    }
                }
            }
        }
    }
}
