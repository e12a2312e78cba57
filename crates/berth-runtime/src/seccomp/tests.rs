//! Programs are run by an interpreter of classic BPF and held against a direct reading of the
//! profile; and by the kernel.

use berth_spec::oci::runtime::{
    SeccompAction, SeccompArch, SeccompArg, SeccompOperator, SeccompSyscall,
};

use super::arch::{Arch, X32_BIT};
use super::*;
use crate::capability::CapSet;

/// A call as a filter sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half = |n: u64, high| if high { (n >> 32) as u32 } else { n as u32 };
        match offset {
            0 => self.number,
            4 => self.arch,
            16.. => half(
                self.args[(offset as usize - 16) / 8],
                !offset.is_multiple_of(8),
            ),
            _ => panic!("the instruction pointer is not asked for"),
        }
    }
}

/// What the kernel would do, and how many instructions it takes.
fn interpret(program: &[Instruction], call: &Call) -> (u32, usize) {
    let mut at = 0;
    let mut a = 0;
    let mut steps = 0;
    loop {
        let Instruction {
            code,
            jump_true,
            jump_false,
            k,
        } = program[at];
        steps += 1;
        at += 1;
        let mut jump = |holds| at += usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x20 => a = call.word(k),
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => jump(a == k),
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x06 => return (k, steps),
            _ => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn value(action: SeccompAction, errno: Option<u32>) -> u32 {
    match action {
        SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x3_0000,
        SeccompAction::Errno => 0x5_0000 | errno.unwrap_or(1),
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Trace => 0x7ff0_0000 | errno.unwrap_or(1),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

fn holds(arg: &SeccompArg, call: &Call) -> bool {
    let n = call.args[arg.index as usize];
    match arg.op {
        SeccompOperator::Equal => n == arg.value,
        SeccompOperator::NotEqual => n != arg.value,
        SeccompOperator::Less => n < arg.value,
        SeccompOperator::LessOrEqual => n <= arg.value,
        SeccompOperator::GreaterOrEqual => n >= arg.value,
        SeccompOperator::Greater => n > arg.value,
        SeccompOperator::MaskedEqual => n & arg.value == arg.value_two,
    }
}

fn rule_holds(rule: &SeccompSyscall, call: &Call) -> bool {
    let twice = rule
        .args
        .iter()
        .enumerate()
        .any(|(i, a)| rule.args[..i].iter().any(|b| a.index == b.index));
    match twice {
        true => rule.args.iter().any(|a| holds(a, call)),
        false => rule.args.iter().all(|a| holds(a, call)),
    }
}

/// A direct reading of the profile, for a call of `arch`.
fn read_directly(profile: &LinuxSeccomp, arch: Arch, call: &Call) -> u32 {
    let default = value(profile.default_action, profile.default_errno_ret);
    if call.number == u32::MAX {
        return default;
    }
    let mut name = None;
    let mut last = None;
    arch.for_each(|n, number| {
        if number == call.number {
            name = Some(n);
        }
        if profile
            .syscalls
            .iter()
            .any(|r| r.names.iter().any(|k| k == n))
        {
            last = last.max(Some(number));
        }
    });
    let permissive = matches!(
        profile.default_action,
        SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace
    );
    if last.is_some_and(|last| call.number > last) && !permissive {
        return 0x5_0000 | 38;
    }
    let rules = || {
        profile
            .syscalls
            .iter()
            .filter(|r| value(r.action, r.errno_ret) != default)
            .filter(|r| r.names.iter().any(|n| Some(n.as_str()) == name))
    };
    rules()
        .find(|r| r.args.is_empty())
        .or_else(|| rules().find(|r| rule_holds(r, call)))
        .map_or(default, |r| value(r.action, r.errno_ret))
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A number near those that rules compare with.
    fn number(&mut self) -> u64 {
        let high = self.one(&[0, 0, 1, 0xffff_ffff]);
        let low = self.one(&[0, 1, 2, 8, 0x2_0000, 0x7e02_0000, 0xffff_ffff]);
        high << 32 | low
    }
}

fn random_profile(draw: &mut Draw, names: &[&'static str]) -> LinuxSeccomp {
    use SeccompAction as A;
    use SeccompOperator as O;
    let actions = [
        A::Allow,
        A::Allow,
        A::Errno,
        A::KillProcess,
        A::Log,
        A::Trap,
        A::Trace,
    ];
    let operators = [
        O::Equal,
        O::NotEqual,
        O::Less,
        O::LessOrEqual,
        O::GreaterOrEqual,
        O::Greater,
        O::MaskedEqual,
    ];
    let syscalls = (0..draw.below(40))
        .map(|_| SeccompSyscall {
            names: (0..draw.below(12))
                .map(|_| draw.one(names).to_owned())
                .collect(),
            action: draw.one(&actions),
            errno_ret: draw.one(&[None, Some(38), Some(0)]),
            args: (0..draw.one(&[0, 0, 1, 2, 3]))
                .map(|_| SeccompArg {
                    index: draw.below(6) as u32,
                    value: draw.number(),
                    op: draw.one(&operators),
                    value_two: draw.number(),
                })
                .collect(),
        })
        .collect();
    LinuxSeccomp {
        default_action: draw.one(&actions),
        default_errno_ret: draw.one(&[None, Some(2)]),
        architectures: draw
            .one(&[
                &[][..],
                &[SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32],
                &[SeccompArch::Aarch64, SeccompArch::Arm],
                &[SeccompArch::X86, SeccompArch::Foreign],
            ])
            .to_vec(),
        syscalls,
        ..LinuxSeccomp::default()
    }
}

/// The conventions that a profile covers.
fn covered(profile: &LinuxSeccomp) -> Vec<Arch> {
    let mut archs = vec![Arch::NATIVE];
    archs.extend(profile.architectures.iter().filter_map(|a| Arch::of(*a)));
    archs
}

#[test]
fn programs_mean_what_profiles_say() {
    let mut draw = Draw(0x2545_f491_4f6c_dd1d);
    let mut names = Vec::new();
    Arch::X86.for_each(|n, _| names.push(n));
    // Calls through collecting ones have a test of their own.
    names.retain(|n| arch::x86_collected(n).is_none() && !["ipc", "socketcall"].contains(n));
    names.push("no_such_call");
    let mut compiled = 0;
    while compiled < 60 {
        let profile = random_profile(&mut draw, &names);
        let program = match compile(&profile) {
            Err(Error::TooLarge(_)) => continue,
            program => program.unwrap(),
        };
        compiled += 1;
        let archs = covered(&profile);
        for _ in 0..150 {
            let arch = draw.one(&[Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm]);
            let marker = if arch == Arch::X32 { X32_BIT } else { 0 };
            let number = match draw.below(50) {
                0 => u32::MAX,
                1 => 5000 | marker,
                _ => draw.below(480) as u32 | marker,
            };
            let call = Call {
                arch: arch.audit(),
                number,
                args: [(); 6].map(|()| draw.number()),
            };
            let expected = if number == u32::MAX && archs.iter().any(|a| a.audit() == call.arch) {
                value(profile.default_action, profile.default_errno_ret)
            } else if archs.contains(&arch) {
                read_directly(&profile, arch, &call)
            } else {
                0x8000_0000
            };
            let (got, _) = interpret(&program.instructions, &call);
            assert_eq!(got, expected, "{call:x?}\n{profile:?}");
        }
    }
}

fn native(name: &str, args: [u64; 6]) -> Call {
    let mut number = None;
    Arch::NATIVE.for_each(|n, nr| {
        if n == name {
            number = Some(nr);
        }
    });
    Call {
        arch: Arch::NATIVE.audit(),
        number: number.unwrap(),
        args,
    }
}

#[test]
fn docker_default_program() {
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x5_0001;
    const ENOSYS: u32 = 0x5_0026;
    let program = compile(&default_profile(CapSet::docker_default())).unwrap();
    assert!(program.instructions.len() < 1500);
    let first = |n| [n, 0, 0, 0, 0, 0];
    for (name, arg, expected) in [
        ("read", 0, ALLOW),
        ("openat", 0, ALLOW),
        ("socket", 2, ALLOW),
        ("socket", 16, ALLOW),
        ("socket", 38, EPERM),
        ("socket", 39, ALLOW),
        ("socket", 40, EPERM),
        ("socket", 41, ALLOW),
        ("personality", 0xffff_ffff, ALLOW),
        ("personality", 0x4_0000, EPERM),
        ("clone", 0x1200_0011, EPERM),
        ("clone", 0x120_0011, ALLOW),
        ("clone3", 0, ENOSYS),
        ("unshare", 0, EPERM),
        ("mount", 0, EPERM),
        ("bpf", 0, EPERM),
        ("io_uring_setup", 0, EPERM),
        ("keyctl", 0, EPERM),
        ("chroot", 0, ALLOW),
        ("reboot", 0, EPERM),
    ] {
        let call = native(name, first(arg));
        let (got, steps) = interpret(&program.instructions, &call);
        assert_eq!(got, expected, "{name} {arg:#x}");
        assert!(steps < 40, "{name} takes {steps}");
    }
    // Newer than the profile: a C library falls back.
    let unknown = Call {
        number: 900,
        ..native("read", [0; 6])
    };
    assert_eq!(interpret(&program.instructions, &unknown).0, ENOSYS);
    let all = compile(&default_profile(CapSet::all())).unwrap();
    for name in ["mount", "clone3", "unshare", "bpf", "syslog", "reboot"] {
        let got = interpret(&all.instructions, &native(name, [0x7e02_0000; 6])).0;
        assert_eq!(got, ALLOW, "{name}");
    }
}

#[test]
fn x86_cannot_walk_round_a_closed_socket() {
    let profile = LinuxSeccomp {
        default_action: SeccompAction::Allow,
        architectures: vec![SeccompArch::X86],
        syscalls: vec![SeccompSyscall {
            names: vec!["socket".to_owned(), "shmat".to_owned()],
            action: SeccompAction::Errno,
            ..SeccompSyscall::default()
        }],
        ..LinuxSeccomp::default()
    };
    let program = compile(&profile).unwrap();
    let run = |number, first| {
        let call = Call {
            arch: Arch::X86.audit(),
            number,
            args: [first, 0, 0, 0, 0, 0],
        };
        interpret(&program.instructions, &call).0
    };
    assert_eq!(run(359, 2), 0x5_0001);
    assert_eq!(run(102, 1), 0x5_0001);
    assert_eq!(run(102, 3), 0x7fff_0000);
    assert_eq!(run(117, 0x1_0015), 0x5_0001);
    assert_eq!(run(117, 22), 0x7fff_0000);
}

#[test]
fn profiles_that_cannot_be_are_refused() {
    let with = |call: SeccompSyscall| LinuxSeccomp {
        default_action: SeccompAction::Allow,
        syscalls: vec![call],
        ..LinuxSeccomp::default()
    };
    let call = |action, errno_ret, index| SeccompSyscall {
        names: vec!["write".to_owned()],
        action,
        errno_ret,
        args: vec![SeccompArg {
            index,
            ..SeccompArg::default()
        }],
    };
    for bad in [
        with(call(SeccompAction::Errno, Some(5000), 0)),
        with(call(SeccompAction::Errno, None, 6)),
        with(call(SeccompAction::Notify, None, 0)),
        LinuxSeccomp {
            default_action: SeccompAction::Notify,
            ..LinuxSeccomp::default()
        },
        LinuxSeccomp {
            flags: vec!["SECCOMP_FILTER_FLAG_MAGIC".to_owned()],
            ..LinuxSeccomp::default()
        },
    ] {
        assert!(compile(&bad).is_err(), "{bad:?}");
    }
    let many = LinuxSeccomp {
        default_action: SeccompAction::Allow,
        syscalls: (0..1100)
            .map(|n| SeccompSyscall {
                names: vec!["read".to_owned()],
                args: vec![SeccompArg {
                    value: n,
                    ..SeccompArg::default()
                }],
                ..SeccompSyscall::default()
            })
            .collect(),
        ..LinuxSeccomp::default()
    };
    assert!(matches!(compile(&many), Err(Error::TooLarge(_))));
}

#[test]
fn the_kernel_takes_the_default_and_obeys() {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};
    let program = compile(&default_profile(CapSet::docker_default())).unwrap();
    // A filter belongs to a thread, and ends with it.
    let filtered = std::thread::spawn(move || {
        if program.load().is_err() && !rustix::process::geteuid().is_root() {
            return None;
        }
        let vsock = socket(AddressFamily::VSOCK, SocketType::STREAM, None).map(drop);
        let unix = socket(AddressFamily::UNIX, SocketType::STREAM, None).map(drop);
        let open = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty()).map(drop);
        let file = std::fs::read("/proc/self/comm").is_ok();
        Some((vsock, unix, open, file))
    });
    let Some((vsock, unix, open, file)) = filtered.join().unwrap() else {
        testkit::skipped("needs root to load a filter");
        return;
    };
    assert_eq!(vsock, Err(Errno::PERM));
    assert_eq!(unix, Ok(()));
    assert_eq!(open, Err(Errno::PERM));
    assert!(file);
}

#[test]
fn flags_and_notification() {
    let mut profile = LinuxSeccomp {
        default_action: SeccompAction::Allow,
        flags: vec!["SECCOMP_FILTER_FLAG_LOG".to_owned()],
        ..LinuxSeccomp::default()
    };
    assert_eq!(compile(&profile).unwrap().flags, 2);
    profile.flags.clear();
    profile.syscalls.push(SeccompSyscall {
        names: vec!["mkdirat".to_owned()],
        action: SeccompAction::Notify,
        ..SeccompSyscall::default()
    });
    let program = compile(&profile).unwrap();
    assert!(program.notifies());
    let listener = std::thread::spawn(move || program.load());
    match listener.join().unwrap() {
        Ok(fd) => assert!(fd.is_some()),
        Err(_) => testkit::skipped("needs root to load a filter"),
    }
}
