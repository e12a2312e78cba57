//! What a profile says to each number of each convention.
//!
//! The meaning, which is runc's with libseccomp: a rule whose result is the default's is passed
//! over. A rule without conditions decides its calls, the first one if there are more; else the
//! first rule whose conditions hold; else the default. Conditions of one rule must all hold,
//! unless two of them are about the same argument: then each of them suffices.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use berth_spec::oci::runtime::{
    LinuxSeccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompSyscall,
};

use super::arch::{self, Arch, X32_BIT};
use super::{Error, Result};

// SECCOMP_RET_…, linux/seccomp.h.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const MAX_ERRNO: u32 = 4095;

/// What happens to a call: the first clause that holds, else the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub clauses: Vec<Clause>,
    /// A `SECCOMP_RET_…` value.
    pub otherwise: u32,
}

impl Verdict {
    fn plain(otherwise: u32) -> Rc<Verdict> {
        Rc::new(Verdict {
            clauses: Vec::new(),
            otherwise,
        })
    }
}

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub conditions: Vec<SeccompArg>,
    pub result: u32,
}

/// The verdicts of one audit architecture: each holds from its number up to the next.
#[derive(Debug)]
pub(super) struct Section {
    pub audit: u32,
    pub from: Vec<(u32, Rc<Verdict>)>,
}

/// Resolves a profile. The machine's own convention comes first.
pub(super) fn decide(profile: &LinuxSeccomp) -> Result<Vec<Section>> {
    let mut archs = vec![Arch::NATIVE];
    for arch in profile.architectures.iter().filter_map(|a| Arch::of(*a)) {
        if !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    let rules = Rules::read(profile)?;
    let mut sections: Vec<Section> = Vec::new();
    for &arch in &archs {
        let audit = arch.audit();
        if sections.iter().all(|s| s.audit != audit) {
            sections.push(rules.section(audit, &archs));
        }
    }
    Ok(sections)
}

/// Whether a rule asks for the notification descriptor.
pub(super) fn notifies(profile: &LinuxSeccomp) -> bool {
    let notify = |call: &SeccompSyscall| call.action == SeccompAction::Notify;
    profile.syscalls.iter().any(notify)
}

/// A profile's rules by the name of the call.
struct Rules<'a> {
    default: u32,
    /// For numbers that the profile cannot know.
    unknown: u32,
    by_name: HashMap<&'a str, Rule>,
}

#[derive(Default)]
struct Rule {
    clauses: Vec<Clause>,
    unconditional: Option<u32>,
}

impl<'a> Rules<'a> {
    fn read(profile: &'a LinuxSeccomp) -> Result<Rules<'a>> {
        if profile.default_action == SeccompAction::Notify {
            return Err(Error::Invalid(
                "SCMP_ACT_NOTIFY cannot be used as default action".to_owned(),
            ));
        }
        let default = result(profile.default_action, profile.default_errno_ret)?;
        let permissive = matches!(
            profile.default_action,
            SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace
        );
        let mut rules = Rules {
            default,
            unknown: if permissive { default } else { ERRNO | ENOSYS },
            by_name: HashMap::new(),
        };
        for call in &profile.syscalls {
            rules.add(call)?;
        }
        Ok(rules)
    }

    fn add(&mut self, call: &'a SeccompSyscall) -> Result<()> {
        let result = result(call.action, call.errno_ret)?;
        let clauses = clauses(call, result)?;
        for name in &call.names {
            if call.action == SeccompAction::Notify && name == "write" {
                return Err(Error::Invalid(
                    "SCMP_ACT_NOTIFY cannot be used for the write syscall".to_owned(),
                ));
            }
            // Known even if it decides nothing.
            let rule = self.by_name.entry(name.as_str()).or_default();
            if result == self.default || rule.unconditional.is_some() {
                continue;
            }
            if clauses.is_empty() {
                rule.unconditional = Some(result);
                rule.clauses.clear();
            } else {
                rule.clauses.extend(clauses.iter().cloned());
            }
        }
        Ok(())
    }

    fn verdict(&self, rule: &Rule) -> Rc<Verdict> {
        Rc::new(Verdict {
            clauses: rule.clauses.clone(),
            otherwise: rule.unconditional.unwrap_or(self.default),
        })
    }

    /// The verdicts by number for one convention.
    fn calls(&self, arch: Arch) -> BTreeMap<u32, Rc<Verdict>> {
        let mut calls = BTreeMap::new();
        let collected = if arch == Arch::X86 {
            self.collected()
        } else {
            HashMap::new()
        };
        arch.for_each(|name, number| {
            let extra = collected.get(name);
            match (self.by_name.get(name), extra) {
                (None, None) => {}
                (Some(rule), None) => drop(calls.insert(number, self.verdict(rule))),
                (rule, Some(extra)) => {
                    let mut all = Rule {
                        clauses: extra.clone(),
                        unconditional: rule.and_then(|r| r.unconditional),
                    };
                    if all.unconditional.is_some() {
                        all.clauses.clear();
                    } else if let Some(rule) = rule {
                        all.clauses.extend(rule.clauses.iter().cloned());
                    }
                    calls.insert(number, self.verdict(&all));
                }
            }
        });
        calls
    }

    /// The clauses that rules about `socket` and the like put on `socketcall` and `ipc`; rules
    /// about arguments cannot be put there, since the arguments lie in memory.
    fn collected(&self) -> HashMap<&'static str, Vec<Clause>> {
        let mut found: HashMap<&'static str, Vec<Clause>> = HashMap::new();
        for (name, rule) in &self.by_name {
            let (Some((collector, number)), Some(result)) =
                (arch::x86_collected(name), rule.unconditional)
            else {
                continue;
            };
            // The number of an ipc call has a version above it.
            let mask = if collector == "ipc" { 0xffff } else { u64::MAX };
            found.entry(collector).or_default().push(Clause {
                conditions: vec![SeccompArg {
                    index: 0,
                    value: mask,
                    op: SeccompOperator::MaskedEqual,
                    value_two: number.into(),
                }],
                result,
            });
        }
        for clauses in found.values_mut() {
            clauses.sort_by_key(|c| c.conditions[0].value_two);
        }
        found
    }

    fn section(&self, audit: u32, archs: &[Arch]) -> Section {
        let mut from = Vec::new();
        let refused = Verdict::plain(KILL_PROCESS);
        let primary = archs
            .iter()
            .find(|a| a.audit() == audit && **a != Arch::X32);
        match primary {
            Some(arch) => self.spread(*arch, 0, &mut from),
            None => push(&mut from, 0, Rc::clone(&refused)),
        }
        if audit == Arch::X32.audit() {
            if archs.contains(&Arch::X32) {
                self.spread(Arch::X32, X32_BIT, &mut from);
            } else {
                push(&mut from, X32_BIT, refused);
            }
        }
        // A tracer's way to skip a call.
        push(&mut from, u32::MAX, Verdict::plain(self.default));
        Section { audit, from }
    }

    /// Lays the verdicts of a convention out over the numbers from `start`.
    fn spread(&self, arch: Arch, start: u32, from: &mut Vec<(u32, Rc<Verdict>)>) {
        let calls = self.calls(arch);
        let default = Verdict::plain(self.default);
        push(from, start, Rc::clone(&default));
        for (&number, verdict) in &calls {
            push(from, number, Rc::clone(verdict));
            push(from, number + 1, Rc::clone(&default));
        }
        if let Some(&last) = calls.keys().next_back() {
            push(from, last + 1, Verdict::plain(self.unknown));
        }
    }
}

/// Adds a step; steps that change nothing melt into the one before.
fn push(from: &mut Vec<(u32, Rc<Verdict>)>, number: u32, verdict: Rc<Verdict>) {
    if from.last().is_some_and(|(n, _)| *n == number) {
        from.pop();
    }
    if from.last().is_none_or(|(_, v)| *v != verdict) {
        from.push((number, verdict));
    }
}

fn result(action: SeccompAction, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(EPERM);
    Ok(match action {
        SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => KILL_PROCESS,
        SeccompAction::Trap => TRAP,
        SeccompAction::Errno if data > MAX_ERRNO => {
            return Err(Error::Invalid(format!(
                "errnoRet {data} is no error number (at most {MAX_ERRNO})"
            )));
        }
        SeccompAction::Trace if data > 0xffff => {
            return Err(Error::Invalid(format!(
                "errnoRet {data} is too large for SCMP_ACT_TRACE"
            )));
        }
        SeccompAction::Errno => ERRNO | data,
        SeccompAction::Trace => TRACE | data,
        SeccompAction::Log => LOG,
        SeccompAction::Notify => NOTIFY,
        SeccompAction::Allow => ALLOW,
    })
}

fn clauses(call: &SeccompSyscall, result: u32) -> Result<Vec<Clause>> {
    let mut seen = [0; 6];
    for arg in &call.args {
        let count = seen.get_mut(arg.index as usize).ok_or_else(|| {
            Error::Invalid(format!(
                "seccomp rule for {:?} names argument {}: there are 0 to 5",
                call.names, arg.index
            ))
        })?;
        *count += 1;
    }
    if call.args.is_empty() {
        return Ok(Vec::new());
    }
    if seen.iter().any(|&n| n > 1) {
        let one = |arg: &SeccompArg| Clause {
            conditions: vec![*arg],
            result,
        };
        return Ok(call.args.iter().map(one).collect());
    }
    Ok(vec![Clause {
        conditions: call.args.clone(),
        result,
    }])
}
