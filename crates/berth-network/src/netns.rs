//! Making, entering and ending network namespaces.
//!
//! A thread that is in another namespace is never given back to anyone: each job has a thread of its own, which ends.
//!
//! ```text
//! <run_dir>/netns/        a private mount of its own: what is bound below it is seen by this mount namespace only
//!   <sandbox id>          a namespace, bound to an empty file
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_sys::netns;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::Error;
use crate::route::{self, Route};
use crate::sandbox::Sandbox;
use crate::{Result, sysctl};

/// Index of `lo` in every namespace.
const LOOPBACK: u32 = 1;
/// `NSFS_MAGIC` of linux/magic.h.
const NAMESPACE_FILE_SYSTEM: u64 = 0x6e73_6673;

/// Runs `job` in the namespace, or in a new one.
fn inside<T: Send>(
    place: Option<BorrowedFd<'_>>,
    job: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, || {
                match place {
                    Some(fd) => netns::enter_network(fd)?,
                    None => netns::unshare_network()?,
                }
                job()
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

/// Runs `job` in the namespace.
pub(crate) fn enter<T: Send>(
    netns: BorrowedFd<'_>,
    job: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    inside(Some(netns), job)
}

/// Where an engine keeps its namespaces.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn open(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join("netns");
        let on = |e: io::Error| Error::kernel(format!("prepare {}", path.display()), e);
        fs::create_dir_all(&path).map_err(on)?;
        if !is_mount_point(&path).map_err(on)? {
            rustix::mount::mount_bind(&path, &path).map_err(|e| on(e.into()))?;
        }
        rustix::mount::mount_change(&path, MountPropagationFlags::PRIVATE)
            .map_err(|e| on(e.into()))?;
        Ok(Self(path))
    }

    /// Makes a namespace with its loopback up, bound below the directory, and a socket to configure it by.
    pub(crate) fn make(&self, id: String) -> Result<(Sandbox, Route)> {
        self.fit_out(id, None)
    }

    /// The same with a namespace that was made elsewhere.
    pub(crate) fn adopt(&self, id: String, netns: OwnedFd) -> Result<(Sandbox, Route)> {
        self.fit_out(id, Some(netns.as_fd()))
    }

    fn fit_out(&self, id: String, place: Option<BorrowedFd<'_>>) -> Result<(Sandbox, Route)> {
        let path = self.0.join(&id);
        let made = inside(place, || {
            let netns = netns::current_network()?;
            settings()?;
            let mut route = Route::open()?;
            route.batch(vec![route::set_up(LOOPBACK)])?;
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)?;
            if let Err(e) = rustix::mount::mount_bind("/proc/thread-self/ns/net", &path) {
                let _ = fs::remove_file(&path);
                return Err(e.into());
            }
            Ok((netns, route))
        });
        let (netns, route) = made.map_err(|e| Error::kernel("make a network namespace", e))?;
        let netns = Arc::new(netns);
        Ok((Sandbox { id, path, netns }, route))
    }

    /// The namespace that an earlier engine bound, if it is still there.
    pub(crate) fn find(&self, id: &str) -> Result<Option<(Sandbox, Route)>> {
        let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain {
            return Ok(None);
        }
        let path = self.0.join(id);
        let Ok(file) = fs::File::open(&path) else {
            return Ok(None);
        };
        let on = |e: io::Error| Error::kernel(format!("open network sandbox {id}"), e);
        let kind = rustix::fs::fstatfs(&file).map_err(|e| on(e.into()))?;
        if kind.f_type as u64 != NAMESPACE_FILE_SYSTEM {
            return Ok(None);
        }
        let netns = OwnedFd::from(file);
        let route = enter(netns.as_fd(), Route::open).map_err(on)?;
        let sandbox = Sandbox {
            id: id.to_owned(),
            path,
            netns: Arc::new(netns),
        };
        Ok(Some((sandbox, route)))
    }

    /// IDs of what is bound (or was) below the directory.
    pub(crate) fn list(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .collect()
    }

    /// Unbinds a namespace; it dies with the last process and descriptor in it.
    pub(crate) fn unbind(&self, id: &str) {
        let path = self.0.join(id);
        // What is not mounted needs no unmounting.
        let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        if let Err(e) = fs::remove_file(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {e}", path.display());
        }
    }

    /// Removes the directory.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
        fs::remove_dir_all(&self.0)
    }
}

/// Docker's settings of a container's namespace: no IPv6 but on loopback, ping and low ports for everyone.
fn settings() -> io::Result<()> {
    sysctl::set_if_there("ipv6/conf/default/disable_ipv6", "1");
    sysctl::set_if_there("ipv6/conf/default/accept_ra", "0");
    sysctl::set_if_there("ipv4/ping_group_range", "0\t2147483647");
    sysctl::set_if_there("ipv4/ip_unprivileged_port_start", "0");
    Ok(())
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
