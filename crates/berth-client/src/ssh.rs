//! An engine at the other end of ssh: `ssh HOST docker system dial-stdio`, whose standard
//! input and output are the connection. Where there is no `docker`, it is `berth`.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// For `sh -c` behind ssh's other shell: runs the arguments with whichever is there.
const DOCKER_OR_BERTH: &str = r#"'exec "$(command -v docker || echo berth)" "$@"'"#;

/// A running `ssh`; it ends with this value.
pub(crate) struct SshStream {
    input: Option<ChildStdin>,
    output: ChildStdout,
    _child: Child,
}

impl SshStream {
    pub(crate) fn open(
        user: Option<&str>,
        name: &str,
        port: Option<u16>,
        socket: Option<&str>,
    ) -> io::Result<Self> {
        let mut command = Command::new("ssh");
        if let Some(user) = user {
            command.args(["-l", user]);
        }
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["-o", "ConnectTimeout=30", "-T", "--", name]);
        command.args(["sh", "-c", DOCKER_OR_BERTH, "sh"]);
        if let Some(socket) = socket {
            command.arg(format!("--host=unix://{socket}"));
        }
        let mut child = command
            .args(["system", "dial-stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(SshStream {
                input: Some(input),
                output,
                _child: child,
            }),
            _ => Err(io::Error::other("ssh: no pipes")),
        }
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe is what the other end sees as our half being done.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}
