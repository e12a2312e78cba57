//! Waiting for a process in its place: signals sent to us are sent on to it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use berth_sys::process::send_signal;
use berth_sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions};

use super::terminal::Shown;
use crate::error::{Context, Result};

/// SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGWINCH.
const SENT_ON: [i32; 8] = [1, 2, 3, 10, 12, 15, 18, 28];
/// SIGCHLD.
const CHILD: i32 = 17;
/// SIGWINCH.
const RESIZED: i32 = 28;

/// Made before the process is, so that no signal is lost.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    pub fn new() -> Result<Self> {
        let signals = [&SENT_ON[..], &[CHILD]].concat();
        // What the container leaves behind comes to us.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context(|| "becoming a sub-reaper".to_owned())?;
        let signals = SignalFd::new(&signals).context(|| "signalfd".to_owned())?;
        Ok(Self { signals })
    }

    /// Waits for a child's end; answers its exit code, 128 + n after signal n.
    pub fn wait(
        &self,
        pid: Pid,
        pidfd: BorrowedFd<'_>,
        mut terminal: Option<Shown>,
    ) -> Result<i32> {
        loop {
            loop {
                match rustix::process::wait(WaitOptions::NOHANG) {
                    Ok(Some((ended, status))) if ended == pid => {
                        if let Some(shown) = &mut terminal {
                            shown.carry_out();
                        }
                        let signal = status.terminating_signal().map(|n| 128 + n);
                        return Ok(signal.or(status.exit_status()).unwrap_or(255));
                    }
                    Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                    Ok(None) => break,
                    Err(e) => return Err(e).context(|| "waiting".to_owned()),
                }
            }
            let signals = PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN);
            let mut polls = vec![signals];
            polls.extend(terminal.iter().flat_map(Shown::polls));
            // Interrupted or not, what is there is looked at.
            let _ = poll(&mut polls, None);
            let input = polls[1..]
                .last()
                .is_some_and(|poll| poll.as_fd().as_raw_fd() == 0 && !poll.revents().is_empty());
            if let Some(shown) = &mut terminal {
                shown.carry(input);
            }
            while let Some(signal) = self.signals.next() {
                if let (RESIZED, Some(shown)) = (signal, &terminal) {
                    shown.resize();
                }
                if signal != CHILD {
                    // It may have ended this moment.
                    let _ = send_signal(pidfd, signal);
                }
            }
        }
    }
}
