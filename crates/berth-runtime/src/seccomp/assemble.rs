//! Verdicts as classic BPF.
//!
//! Classic BPF jumps forward only, by at most 255 instructions. The program is therefore put
//! together from its end: when a jump is made, both its targets stand already, and one that is too
//! far gets a stepping stone (or another copy of its return). Within a section the number is found
//! by halving.

use std::collections::HashMap;
use std::rc::Rc;

use berth_spec::oci::runtime::{SeccompArg, SeccompOperator};
use berth_sys::seccomp::Instruction;

use super::verdict::{Clause, KILL_PROCESS, Section, Verdict};

// Opcodes, linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in seccomp_data; both our architectures are little endian.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Leaves room below 255 for the stones of the other target.
const NEAR: usize = 250;

/// A place in the program, counted from its end.
type Label = usize;

/// The program for these sections; calls of no section kill.
pub(super) fn program(sections: &[Section]) -> Vec<Instruction> {
    let mut out = Assembler::default();
    let mut labels = Vec::new();
    for section in sections {
        out.search(&section.from);
        labels.push((section.audit, out.load(NUMBER)));
    }
    let mut next = out.result(KILL_PROCESS);
    // The first section's test comes first.
    for (audit, label) in labels.into_iter().rev() {
        next = out.test(JUMP_EQUAL, audit, label, next);
    }
    out.load(ARCH);
    out.reversed.reverse();
    out.reversed
}

#[derive(Default)]
struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// Where each return was put last.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jumps: (u8, u8), k: u32) -> Label {
        self.reversed.push(Instruction {
            code,
            jump_true: jumps.0,
            jump_false: jumps.1,
            k,
        });
        self.reversed.len()
    }

    fn load(&mut self, offset: u32) -> Label {
        self.push(LOAD, (0, 0), offset)
    }

    /// A return of this value that is near.
    fn result(&mut self, value: u32) -> Label {
        match self.returns.get(&value) {
            Some(&label) if self.reversed.len() - label < NEAR / 2 => label,
            _ => {
                let label = self.push(RETURN, (0, 0), value);
                self.returns.insert(value, label);
                label
            }
        }
    }

    /// A place near enough to jump to, from which `label` is reached.
    fn near(&mut self, label: Label) -> Label {
        let distance = self.reversed.len() - label;
        if distance <= NEAR {
            label
        } else {
            // Programs are checked against 4096 instructions.
            self.push(JUMP, (0, 0), distance as u32)
        }
    }

    fn test(&mut self, code: u16, k: u32, holds: Label, fails: Label) -> Label {
        let fails = self.near(fails);
        let holds = self.near(holds);
        let distance = |label| (self.reversed.len() - label) as u8;
        let jumps = (distance(holds), distance(fails));
        self.push(code, jumps, k)
    }

    /// Finds the verdict for the number in the accumulator.
    fn search(&mut self, from: &[(u32, Rc<Verdict>)]) -> Label {
        if let [(_, verdict)] = from {
            return self.verdict(verdict);
        }
        let (low, high) = from.split_at(from.len() / 2);
        let above = self.search(high);
        let below = self.search(low);
        self.test(JUMP_GREATER_EQUAL, high[0].0, above, below)
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        let mut next = self.result(verdict.otherwise);
        for clause in verdict.clauses.iter().rev() {
            next = self.clause(clause, next);
        }
        next
    }

    fn clause(&mut self, clause: &Clause, fails: Label) -> Label {
        let mut holds = self.result(clause.result);
        for condition in clause.conditions.iter().rev() {
            holds = self.condition(condition, holds, fails);
        }
        holds
    }

    /// Compares 64 bits, half by half.
    fn condition(&mut self, arg: &SeccompArg, holds: Label, fails: Label) -> Label {
        let value = Halves::of(arg.value);
        match arg.op {
            SeccompOperator::Equal => self.equal(arg.index, None, value, holds, fails),
            SeccompOperator::NotEqual => self.equal(arg.index, None, value, fails, holds),
            SeccompOperator::MaskedEqual => {
                let wanted = Halves::of(arg.value_two);
                self.equal(arg.index, Some(value), wanted, holds, fails)
            }
            SeccompOperator::Greater => self.order(arg.index, JUMP_GREATER, value, holds, fails),
            SeccompOperator::GreaterOrEqual => {
                self.order(arg.index, JUMP_GREATER_EQUAL, value, holds, fails)
            }
            SeccompOperator::Less => self.order(arg.index, JUMP_GREATER_EQUAL, value, fails, holds),
            SeccompOperator::LessOrEqual => {
                self.order(arg.index, JUMP_GREATER, value, fails, holds)
            }
        }
    }

    fn equal(
        &mut self,
        index: u32,
        mask: Option<Halves>,
        value: Halves,
        holds: Label,
        fails: Label,
    ) -> Label {
        self.test(JUMP_EQUAL, value.low, holds, fails);
        let low = self.load_half(index, false, mask.map(|m| m.low));
        self.test(JUMP_EQUAL, value.high, low, fails);
        self.load_half(index, true, mask.map(|m| m.high))
    }

    /// `compare` decides between equal high halves.
    fn order(
        &mut self,
        index: u32,
        compare: u16,
        value: Halves,
        holds: Label,
        fails: Label,
    ) -> Label {
        self.test(compare, value.low, holds, fails);
        let low = self.load_half(index, false, None);
        let same = self.test(JUMP_EQUAL, value.high, low, fails);
        self.test(JUMP_GREATER, value.high, holds, same);
        self.load_half(index, true, None)
    }

    fn load_half(&mut self, index: u32, high: bool, mask: Option<u32>) -> Label {
        if let Some(mask) = mask {
            self.push(AND, (0, 0), mask);
        }
        self.load(ARGUMENTS + 8 * index + if high { 4 } else { 0 })
    }
}

#[derive(Clone, Copy)]
struct Halves {
    low: u32,
    high: u32,
}

impl Halves {
    fn of(value: u64) -> Halves {
        Halves {
            low: value as u32,
            high: (value >> 32) as u32,
        }
    }
}
