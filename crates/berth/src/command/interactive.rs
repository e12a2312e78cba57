//! What `run`, `start`, `attach` and `exec` share: waiting, resizing, passing signals on.

use berth_client::{Client, Error};
use berth_spec::docker::WaitResponse;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::failure::{Failure, Outcome};
use crate::terminal::signals;
use crate::terminal::size::{self, Size};

/// The exit code of what the kernel killed: 128 and SIGKILL.
const OUT_OF_MEMORY: i64 = 137;

/// A task that ends with this value.
pub struct Background(JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is resized with the terminal here.
#[derive(Debug, Clone, Copy)]
pub enum Resized {
    /// A container's terminal.
    Container,
    /// A further process's terminal.
    Exec,
}

/// Gives the other end the terminal's size, now and whenever it changes.
pub async fn follow_size(client: &Client, id: &str, what: Resized) -> Outcome<Background> {
    let mut changes = signal(SignalKind::window_change())?;
    let path = match what {
        Resized::Container => format!("/containers/{id}/resize"),
        Resized::Exec => format!("/exec/{id}/resize"),
    };
    resize(client, &path).await;
    let client = client.clone();
    Ok(Background(tokio::spawn(async move {
        while changes.recv().await.is_some() {
            resize(&client, &path).await;
        }
    })))
}

/// Gives a container's terminal another size than the one here, so that the next resize is
/// one.
pub async fn redraw(client: &Client, id: &str) {
    if let Some(size) = size::of_stdout() {
        let other = Size {
            rows: size.rows.saturating_add(1),
            columns: size.columns.saturating_add(1),
        };
        resize_to(client, &format!("/containers/{id}/resize"), other).await;
    }
}

async fn resize(client: &Client, path: &str) {
    if let Some(size) = size::of_stdout() {
        resize_to(client, path, size).await;
    }
}

async fn resize_to(client: &Client, path: &str, size: Size) {
    // The process may be gone already; then there is nothing to resize.
    let _ = client
        .post(path)
        .query("h", size.rows.to_string())
        .query("w", size.columns.to_string())
        .done()
        .await;
}

/// Passes this process's signals on to a container.
pub fn forward_signals(client: &Client, id: &str) -> Outcome<Background> {
    Ok(forward(client, id, signals::catch()?))
}

fn forward(client: &Client, id: &str, mut caught: mpsc::Receiver<&'static str>) -> Background {
    let client = client.clone();
    let id = id.to_owned();
    Background(tokio::spawn(async move {
        while let Some(name) = caught.recv().await {
            // A container that is gone needs no signal.
            let _ = client
                .post(format!("/containers/{id}/kill"))
                .query("signal", name)
                .done()
                .await;
        }
    }))
}

/// A wait in the background.
pub type Waiter = JoinHandle<Result<WaitResponse, Error>>;

/// Waits for a container in the background. The request is at the engine when this returns,
/// so that an exit right after cannot be missed.
pub async fn wait_in_background(client: &Client, id: &str, condition: &str) -> Outcome<Waiter> {
    let response = client
        .post(format!("/containers/{id}/wait"))
        .query("condition", condition)
        .send()
        .await?;
    Ok(tokio::spawn(async move {
        let bytes = response.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Protocol {
            what: "wait".to_owned(),
            message: e.to_string(),
        })
    }))
}

/// The exit code a waiter comes to; what went wrong is told, and 125.
pub async fn exit_code(waiter: Waiter) -> i64 {
    let failed = match waiter.await {
        Ok(Ok(answer)) => match answer.error.filter(|e| !e.message.is_empty()) {
            None => {
                // A bare 137 tells nobody anything.
                if answer.status_code == OUT_OF_MEMORY && answer.cause.contains("memory") {
                    eprintln!("berth: the container was killed: {}", answer.cause);
                }
                return answer.status_code;
            }
            Some(error) => error.message,
        },
        Ok(Err(e)) => e.message(),
        Err(e) => e.to_string(),
    };
    eprintln!("Error waiting for container: {failed}");
    125
}

/// An exit code as this program's own.
pub fn exit_with(code: i64) -> Outcome {
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::exit(code))
    }
}

/// Whether a terminal is asked for where there is none.
pub fn check_tty(attach_stdin: bool, tty: bool) -> Outcome {
    if attach_stdin && tty && !crate::terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}
