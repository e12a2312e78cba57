//! A connection to systemd's manager.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::wire::{self, Body, Message, Target};
use crate::error::{Context, Error, Result};

/// systemd's own socket, for root alone; and the bus, where there is none.
const PRIVATE: &str = "/run/systemd/private";
const BUS: &str = "/run/dbus/system_bus_socket";
/// Bytes a message may have.
const MESSAGE_MAX: usize = 1 << 20;
/// How long systemd may take for an answer, or for a job.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const DAEMON: Target = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// An open connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Signals of ended jobs that came before they were asked for: path and result.
    ended: Vec<(String, String)>,
}

impl Bus {
    pub fn connect() -> Result<Self> {
        let what = || "connecting to systemd".to_owned();
        let private = UnixStream::connect(PRIVATE);
        let by_bus = private.is_err();
        let stream = private
            .or_else(|_| UnixStream::connect(BUS))
            .context(what)?;
        stream.set_read_timeout(Some(PATIENCE)).context(what)?;
        let mut bus = Self {
            stream,
            serial: 0,
            ended: Vec::new(),
        };
        bus.authenticate()?;
        if by_bus {
            bus.ask(DAEMON, "Hello", "", &Body::default())?;
            let mut rule = Body::default();
            rule.text("type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'");
            bus.ask(DAEMON, "AddMatch", "s", &rule)?;
            bus.ask(MANAGER, "Subscribe", "", &Body::default())?;
        }
        Ok(bus)
    }

    /// SASL's EXTERNAL: the kernel says who we are. All of it goes out at once: systemd looks at what it
    /// reads together with `BEGIN` only when more comes, so that nothing may come right behind it.
    fn authenticate(&mut self) -> Result<()> {
        let what = || "systemd: authenticating".to_owned();
        let uid = rustix::process::getuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        let lines = format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n");
        self.stream.write_all(lines.as_bytes()).context(what)?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n") && answer.len() < 512 {
            self.stream.read_exact(&mut byte).context(what)?;
            answer.push(byte[0]);
        }
        if answer.starts_with(b"OK ") {
            return Ok(());
        }
        Err(Error::internal(format!("{}: refused", what())))
    }

    /// Calls a method of the manager and waits for the job that it begins.
    pub fn job(&mut self, member: &str, signature: &str, body: &Body) -> Result<()> {
        let answer = self.ask(MANAGER, member, signature, body)?;
        let job = answer.strings.first().cloned().unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.ended.iter().position(|(path, _)| *path == job) {
                let (_, result) = self.ended.swap_remove(at);
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Error::internal(format!("systemd: {member}: job {other}"))),
                };
            }
            if Instant::now() > deadline {
                let text = format!("systemd: {member}: the job does not end");
                return Err(Error::internal(text));
            }
            let message = self.receive(member)?;
            self.note(message);
        }
    }

    /// Calls a method of the manager.
    pub fn call(&mut self, member: &str, signature: &str, body: &Body) -> Result<()> {
        self.ask(MANAGER, member, signature, body).map(drop)
    }

    fn ask(&mut self, to: Target, member: &str, signature: &str, body: &Body) -> Result<Message> {
        self.serial += 1;
        let bytes = wire::call(self.serial, to, member, signature, body);
        let what = || format!("systemd: {member}");
        self.stream.write_all(&bytes).context(what)?;
        loop {
            let message = self.receive(member)?;
            match message.kind {
                2 if message.answers == self.serial => return Ok(message),
                3 if message.answers == self.serial => {
                    let text = message.strings.first().unwrap_or(&message.error);
                    return Err(Error::internal(format!("{}: {text}", what())));
                }
                _ => self.note(message),
            }
        }
    }

    fn receive(&mut self, member: &str) -> Result<Message> {
        let what = || format!("systemd: {member}: waiting for the answer");
        let mut fixed = [0; wire::FIXED];
        self.stream.read_exact(&mut fixed).context(what)?;
        let (rest, _) = wire::rest(&fixed);
        if rest > MESSAGE_MAX {
            return Err(Error::internal(format!("{}: it is too long", what())));
        }
        let mut bytes = vec![0; rest];
        self.stream.read_exact(&mut bytes).context(what)?;
        let read = wire::read(&fixed, &bytes);
        read.ok_or_else(|| Error::internal(format!("{}: it cannot be read", what())))
    }

    /// Number, job, unit, result.
    fn note(&mut self, message: Message) {
        if message.kind == 4
            && message.member == "JobRemoved"
            && let [_, job, _, result] = message.strings.as_slice()
        {
            self.ended.push((job.clone(), result.clone()));
        }
    }
}
