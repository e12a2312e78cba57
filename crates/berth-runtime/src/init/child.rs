//! The ladder: what a container's first process does between its birth and its program.

use std::convert::Infallible;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use berth_spec::oci::runtime::State;
use berth_sys::process as sys;
use berth_sys::root::RootFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{DumpableBehavior, Pid, Signal, set_dumpable_behavior};
use rustix::thread::{Gid, Uid};

use super::message::{Channel, FromChild};
use super::plan::Plan;
use super::process::ProcessPlan;
use super::{
    Gate, Stdio, console, dev, identity, notify, program, reaper, rootfs, sysctl, take_stdio,
};
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::launcher::World;

/// Becomes the program, or tells why not and ends.
pub(super) fn run(world: &World, plan: Plan, channel: &Channel, state: &dyn Fn(Pid) -> State) -> ! {
    // What it has open is closed by number while it waits for its start.
    let mut plan = ManuallyDrop::new(plan);
    let Err(error) = climb(world, &mut plan, channel, state);
    let text = error.to_string();
    if channel.tell(&FromChild::Failed(error), &[]).is_err() {
        // Whoever started it is not whoever made it: what the program would write to is left.
        let _ = rustix::io::write(
            rustix::stdio::stderr(),
            format!("error: {text}\n").as_bytes(),
        );
    }
    sys::exit(1)
}

fn climb(
    world: &World,
    plan: &mut Plan,
    channel: &Channel,
    state: &dyn Fn(Pid) -> State,
) -> Result<Infallible> {
    let own_user = plan.namespaces.own_user();
    let score = plan.process.oom_score_adj.filter(|_| !own_user);
    let indirect = plan.namespaces.indirect();
    if indirect {
        // The parent learns of us first.
        channel.await_go()?;
    }
    begin(world, plan.bound_to_parent, score, channel)?;
    join_cgroup(plan)?;
    if !indirect {
        plan.namespaces.enter()?;
    }
    if own_user {
        become_root()?;
    }
    if plan.namespaces.new_cgroup {
        sys::unshare(sys::NEW_CGROUP).context(|| "making a cgroup namespace".to_owned())?;
    }
    let host_pid = own_pid(world)?;
    let tree = rootfs::build(plan)?;
    let hooks = std::mem::take(&mut plan.hooks);
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        tell(channel, &FromChild::Hooks)?;
        channel.await_go()?;
    }
    hooks::run("createContainer", &hooks.create_container, &state(host_pid))?;
    name(plan)?;
    sysctl::apply(&world.procfs, &plan.sysctls)?;
    standard_streams(plan, &tree, channel)?;
    tree.finish(plan)?;
    if let Some(persona) = plan.personality {
        sys::set_personality(persona).context(|| "personality".to_owned())?;
    }
    let file = prepare(&mut plan.process, &tree.root)?;
    drop(tree);
    plan.namespaces.joined.clear();
    notify::load(&plan.process, channel)?;
    wait_at_gate(world, plan, channel)?;
    let environment = Some(plan.process.env.as_slice());
    let state = state(host_pid);
    hooks::run_in(
        "startContainer",
        &hooks.start_container,
        &state,
        environment,
    )?;
    let last = Last {
        bound_to_parent: plan.bound_to_parent,
        preserve_fds: plan.preserve_fds,
    };
    match plan.init {
        true => reaper::run(world, &plan.process, &file, channel, last),
        false => execute(&plan.process, &file, channel, last),
    }
}

/// What is still to be seen to when the program is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// It dies with its parent.
    pub bound_to_parent: bool,
    /// Descriptors after standard error that it inherits.
    pub preserve_fds: u32,
}

/// What every process of a container does first.
pub(super) fn begin(
    world: &World,
    bound_to_parent: bool,
    oom_score_adj: Option<i32>,
    channel: &Channel,
) -> Result<()> {
    sys::set_title(c"berth-init");
    sys::reset_signals();
    if let Some(value) = oom_score_adj
        && let Some(warning) = super::set_oom_score(world, "self", value)?
    {
        tell(channel, &FromChild::Warning(warning))?;
    }
    if bound_to_parent {
        die_with_parent()?;
    }
    // Keys of the host's sessions are not the container's.
    sys::new_session_keyring().context(|| "making a session keyring".to_owned())?;
    // Nobody in the container looks into our memory or at our descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context(|| "dumpable".to_owned())?;
    rustix::process::setsid().context(|| "setsid".to_owned())?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

pub(super) fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context(|| "binding to the shim".to_owned())
}

/// In v1 trees, and in the v2 one where the kernel did not put us there.
fn join_cgroup(plan: &Plan) -> Result<()> {
    let unified = plan.join.unified_procs.iter();
    let unified = unified.filter(|_| plan.join.into.is_none());
    for procs in plan.join.procs.iter().chain(unified) {
        rustix::io::write(procs, b"0").context(|| "joining the cgroup".to_owned())?;
    }
    Ok(())
}

pub(super) fn become_root() -> Result<()> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_groups(&[]).context(|| "setgroups".to_owned())?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .context(|| "becoming root of the user namespace".to_owned())?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .context(|| "becoming root of the user namespace".to_owned())?;
    // Changing identity forgets both.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context(|| "dumpable".to_owned())
}

/// Our number outside, for hooks: the private procfs is of the PID namespace outside.
fn own_pid(world: &World) -> Result<Pid> {
    rustix::fs::readlinkat(&world.procfs, "self", Vec::new())
        .ok()
        .and_then(|link| link.to_str().ok().and_then(|text| text.parse().ok()))
        .and_then(Pid::from_raw)
        .ok_or_else(|| Error::internal("the procfs does not know us"))
}

fn tell(channel: &Channel, message: &FromChild) -> Result<()> {
    channel
        .tell(message, &[])
        .context(|| "telling the parent".to_owned())
}

fn name(plan: &Plan) -> Result<()> {
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes())
            .invalid(|| "sethostname".to_owned())?;
    }
    if !plan.domainname.is_empty() {
        rustix::system::setdomainname(plan.domainname.as_bytes())
            .invalid(|| "setdomainname".to_owned())?;
    }
    Ok(())
}

fn standard_streams(plan: &mut Plan, tree: &rootfs::Tree, channel: &Channel) -> Result<()> {
    match std::mem::replace(&mut plan.stdio, Stdio::Files(None)) {
        Stdio::Terminal => {
            let devpts = match &tree.devpts {
                Some(devpts) => devpts.try_clone(),
                // It may have come with a bind mount of the host's /dev.
                None => tree.root.open_dir(Path::new("/dev/pts")),
            };
            let devpts = devpts.invalid(|| "/dev/pts".to_owned())?;
            let (master, slave) = console::open(&devpts, plan.process.console_size)?;
            if let Some(target) = tree.console()? {
                console::show(&slave, target)?;
            }
            channel
                .tell(&FromChild::Terminal, &[master.as_fd()])
                .context(|| "handing the terminal over".to_owned())?;
            console::take(slave.as_fd())
        }
        Stdio::Files(Some(files)) => take_stdio(files.each_ref().map(AsFd::as_fd)),
        Stdio::Files(None) => match tree.own_dev() {
            Some(dev) => dev::replace_null(dev),
            None => Ok(()),
        },
    }
}

/// What is done with root's rights inside the root, before they are given up.
pub(super) fn prepare(process: &mut ProcessPlan, root: &RootFd) -> Result<CString> {
    identity::limit(&process.rlimits)?;
    process.scheduling.apply()?;
    console::give_own(process.uid)?;
    if !process.has_home {
        let home = program::home(root, process.uid);
        let variable = CString::new(format!("HOME={home}"));
        process.env.extend(variable.ok());
    }
    let name = process.args.first().map(|a| a.to_string_lossy());
    // A relative path is one from the working directory. That we may not go there (yet) is told later.
    program::change_directory(&process.cwd)?;
    program::find(&name.unwrap_or_default(), &process.path)
}

fn wait_at_gate(world: &World, plan: &Plan, channel: &Channel) -> Result<()> {
    match &plan.gate {
        Gate::Open => Ok(()),
        Gate::Parent => {
            tell(channel, &FromChild::Ready)?;
            channel.await_go()
        }
        Gate::Fifo(fifo) => {
            let what = || "waiting for start".to_owned();
            let first = 3 + plan.preserve_fds;
            let kept = [fifo.as_fd(), world.procfs.as_fd(), channel.as_fd()];
            // Whoever waits, perhaps for long, has nothing of the host's open.
            close_all_but(first, kept).context(what)?;
            tell(channel, &FromChild::Ready)?;
            let path = format!("self/fd/{}", fifo.as_raw_fd());
            // Opening waits for the other end.
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let fifo = openat2(
                &world.procfs,
                path,
                flags,
                Mode::empty(),
                ResolveFlags::empty(),
            );
            rustix::io::write(fifo.context(what)?, b"0").context(what)?;
            Ok(())
        }
    }
}

/// Closes every descriptor from `first` on but these. Their owners are not used again.
fn close_all_but(first: u32, kept: [BorrowedFd<'_>; 3]) -> std::io::Result<()> {
    let mut kept = kept.map(|fd| fd.as_raw_fd().unsigned_abs());
    kept.sort_unstable();
    let mut next = first;
    for fd in kept {
        if fd > next {
            sys::close_between(next, fd - 1)?;
        }
        next = next.max(fd + 1);
    }
    sys::close_between(next, u32::MAX)
}

/// Gives the rights up and runs the program.
pub(super) fn execute(
    process: &ProcessPlan,
    file: &CString,
    channel: &Channel,
    last: Last,
) -> Result<Infallible> {
    let umask = process.umask.unwrap_or(0o022);
    rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
    sys::close_on_exec_from(3 + last.preserve_fds).context(|| "close_range".to_owned())?;
    let told = tell(channel, &FromChild::Executing);
    if last.bound_to_parent {
        // One that is not does not end with its parent, which may have gone while it waited.
        told?;
    }
    identity::assume(process)?;
    if last.bound_to_parent {
        // Changing identity forgets it.
        die_with_parent()?;
    }
    let Err(error) = sys::execve(file, &process.args, &process.env);
    let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::INVAL);
    Err(program::failure(&file.to_string_lossy(), errno, false))
}
