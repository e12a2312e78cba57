//! What is done off the critical path, by one thread: sandboxes made ahead, and the remains of released ones removed.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::conntrack;
use crate::kept;
use crate::names::Names;
use crate::netns::Directory;
use crate::port::{Protocol, PublishedPort};
use crate::route::Route;
use crate::state::{Fresh, new_id};
use crate::veth::{self, Plan};
use crate::{Error, Result};

/// Lets whoever took a sandbox, or gave one back, go on with the kernel for himself before the next is made or the old
/// one is ended.
const BREATH: Duration = Duration::from_millis(20);
/// How long the kernel has for removing a dead namespace's interfaces by itself.
const FADING: Duration = Duration::from_secs(2);
/// More remains than this are removed before a sandbox is made ahead.
const PATIENCE: usize = 16;

/// A bridge that sandboxes are made ahead for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its number.
    pub bridge: u32,
    pub mtu: u32,
    pub isolated: bool,
}

/// What remains of a released sandbox.
#[derive(Debug)]
pub(crate) struct Remains {
    pub id: String,
    /// The host's ends of its veths.
    pub veths: Vec<String>,
    /// Descriptors that keep the namespace alive.
    pub held: Option<Box<dyn std::any::Any + Send>>,
}

#[derive(Debug, Default)]
struct Desk {
    target: Option<Target>,
    /// For the default network, with a veth each.
    ready: VecDeque<Fresh>,
    /// With loopback only.
    bare: VecDeque<Fresh>,
    remains: VecDeque<Remains>,
    /// Ports of the host whose UDP connections are to be forgotten.
    forget: BTreeSet<u16>,
    /// Making one failed; it is tried again when somebody has missed it.
    tired: bool,
    breathe: bool,
    stop: bool,
}

impl Desk {
    /// What is to be made ahead so that there are `want` of each kind, and how many of its kind are left.
    fn wanted(&self, want: usize) -> Option<(Option<Target>, usize)> {
        if self.tired {
            return None;
        }
        let target = self.target.filter(|_| self.ready.len() < want);
        let ready = target.map(|target| (Some(target), self.ready.len()));
        let bare = (self.bare.len() < want).then_some((None, self.bare.len()));
        // The kind that has run out goes first.
        [ready, bare]
            .into_iter()
            .flatten()
            .min_by_key(|(_, left)| *left)
    }
}

#[derive(Debug)]
struct Inner {
    desk: Mutex<Desk>,
    news: Condvar,
    names: Names,
    directory: Arc<Directory>,
    want: usize,
}

/// The thread and its desk.
#[derive(Debug)]
pub(crate) struct Background {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Background {
    /// Starts the thread, which keeps `want` bare sandboxes ready, and as many for the default network once there is a target.
    pub(crate) fn start(names: Names, directory: Arc<Directory>, want: usize) -> Result<Self> {
        let on = |e| Error::kernel("start the thread for network sandboxes", e);
        let inner = Arc::new(Inner {
            desk: Mutex::default(),
            news: Condvar::new(),
            names,
            directory,
            want,
        });
        let route = Route::open().map_err(on)?;
        let worker = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("sandboxes".into())
            .spawn(move || {
                let mut route = route;
                kept::keep("sandboxes", |_| worker.work(&mut route));
            })
            .map_err(on)?;
        Ok(Self {
            inner,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Says which bridge sandboxes are made for; those made for another are given up.
    pub(crate) fn aim(&self, target: Target) {
        let mut desk = lock(&self.inner.desk);
        if desk.target != Some(target) {
            desk.target = Some(target);
            let old: Vec<_> = desk.ready.drain(..).collect();
            desk.remains.extend(old.into_iter().map(remains_of));
        }
        self.inner.news.notify_all();
    }

    /// A sandbox made ahead, with a veth for the default network or bare.
    pub(crate) fn take(&self, with_veth: bool) -> Option<Fresh> {
        let mut desk = lock(&self.inner.desk);
        let kept = match with_veth {
            true => &mut desk.ready,
            false => &mut desk.bare,
        };
        let fresh = kept.pop_front();
        desk.tired = false;
        desk.breathe = true;
        self.inner.news.notify_all();
        fresh
    }

    /// Makes one now.
    pub(crate) fn make(&self, host: &mut Route, with_veth: bool) -> Result<Fresh> {
        let target = lock(&self.inner.desk).target.filter(|_| with_veth);
        self.inner.make(host, target)
    }

    /// Makes one over a namespace that is there.
    pub(crate) fn adopt(&self, netns: OwnedFd) -> Result<Fresh> {
        let (sandbox, route) = self.inner.directory.adopt(new_id()?, netns)?;
        Ok(Fresh {
            sandbox,
            route,
            veth: None,
        })
    }

    /// Makes the kernel forget UDP connections to those of these ports that are UDP's: they lead elsewhere now.
    pub(crate) fn forget_udp(&self, ports: &[PublishedPort]) {
        let mut udp = ports
            .iter()
            .filter(|p| p.protocol == Protocol::Udp)
            .map(|p| p.host_port)
            .peekable();
        if udp.peek().is_some() {
            lock(&self.inner.desk).forget.extend(udp);
            self.inner.news.notify_all();
        }
    }

    /// Hands over what remains of a sandbox.
    pub(crate) fn bury(&self, remains: Remains) {
        let mut desk = lock(&self.inner.desk);
        desk.remains.push_back(remains);
        desk.breathe = true;
        drop(desk);
        self.inner.news.notify_all();
    }

    /// Ends the thread; what was made ahead and not used goes, all remains too.
    pub(crate) fn stop(&self) {
        lock(&self.inner.desk).stop = true;
        self.inner.news.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread for network sandboxes panicked");
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

fn remains_of(fresh: Fresh) -> Remains {
    Remains {
        id: fresh.sandbox.id().to_owned(),
        veths: fresh.veth.map(|v| v.host).into_iter().collect(),
        held: Some(Box::new((fresh.sandbox, fresh.route))),
    }
}

enum Job {
    /// Bare without a target.
    Make(Option<Target>),
    Bury(Remains),
    Forget(BTreeSet<u16>),
    Look,
    Stop,
}

impl Inner {
    fn work(&self, host: &mut Route) {
        let mut fading: Vec<String> = Vec::new();
        loop {
            match self.next(!fading.is_empty()) {
                Job::Make(target) => self.prepare(host, target),
                Job::Bury(remains) => {
                    drop(remains.held);
                    self.directory.unbind(&remains.id);
                    fading.extend(remains.veths);
                }
                Job::Forget(ports) => {
                    if let Err(e) = conntrack::forget_udp(&ports) {
                        tracing::warn!("UDP clients of {ports:?} may be led astray: {e}");
                    }
                }
                Job::Look => remove_faded(host, &mut fading),
                Job::Stop => return,
            }
        }
    }

    fn next(&self, fading: bool) -> Job {
        let mut desk = lock(&self.desk);
        loop {
            if desk.stop {
                let mut unused = std::mem::take(&mut desk.ready);
                unused.append(&mut desk.bare);
                desk.remains.extend(unused.into_iter().map(remains_of));
                return desk.remains.pop_front().map_or(Job::Stop, Job::Bury);
            }
            if !desk.forget.is_empty() {
                return Job::Forget(std::mem::take(&mut desk.forget));
            }
            if desk.remains.len() > PATIENCE
                && let Some(remains) = desk.remains.pop_front()
            {
                return Job::Bury(remains);
            }
            if let Some((target, left)) = desk.wanted(self.want) {
                if std::mem::take(&mut desk.breathe) && left > 0 {
                    desk = self.wait(desk, BREATH).0;
                    continue;
                }
                return Job::Make(target);
            }
            if !desk.remains.is_empty() {
                // Whoever handed them over is not done yet; a namespace's end keeps the kernel busy.
                if std::mem::take(&mut desk.breathe) {
                    desk = self.wait(desk, BREATH).0;
                    continue;
                }
                if let Some(remains) = desk.remains.pop_front() {
                    return Job::Bury(remains);
                }
            }
            if fading {
                let (guard, timed_out) = self.wait(desk, FADING);
                desk = guard;
                if timed_out {
                    return Job::Look;
                }
            } else {
                desk = self.news.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn wait<'a>(&self, desk: MutexGuard<'a, Desk>, time: Duration) -> (MutexGuard<'a, Desk>, bool) {
        let (desk, result) = self
            .news
            .wait_timeout(desk, time)
            .unwrap_or_else(PoisonError::into_inner);
        (desk, result.timed_out())
    }

    fn prepare(&self, host: &mut Route, target: Option<Target>) {
        let made = self.make(host, target);
        let mut desk = lock(&self.desk);
        match made {
            Ok(fresh) if target.is_none() => desk.bare.push_back(fresh),
            Ok(fresh) if desk.target == target => desk.ready.push_back(fresh),
            Ok(fresh) => desk.remains.push_back(remains_of(fresh)),
            Err(e) => {
                tracing::warn!("no network sandbox is kept ready: {}", with_cause(&e));
                desk.tired = true;
            }
        }
    }

    fn make(&self, host: &mut Route, target: Option<Target>) -> Result<Fresh> {
        let (sandbox, mut route) = self.directory.make(new_id()?)?;
        let Some(target) = target else {
            return Ok(Fresh {
                sandbox,
                route,
                veth: None,
            });
        };
        let plan = Plan {
            host: None,
            bridge: target.bridge,
            inside: "eth0",
            netns: sandbox.netns.as_fd(),
            mtu: target.mtu,
            isolated: target.isolated,
        };
        match veth::make(&self.names, &plan, host, &mut route) {
            Ok(veth) => Ok(Fresh {
                sandbox,
                route,
                veth: Some(veth),
            }),
            Err(e) => {
                self.directory.unbind(sandbox.id());
                Err(e)
            }
        }
    }
}

/// Namespaces that outlive their sandbox (a process is still in it) keep their interfaces; those go now.
fn remove_faded(host: &mut Route, fading: &mut Vec<String>) {
    let Ok(links) = host.links() else {
        return;
    };
    for name in fading.drain(..).filter(|name| links.contains_key(name)) {
        veth::remove(host, &name);
    }
}

/// An error and why.
pub(crate) fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
