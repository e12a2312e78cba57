//! Sending an archive while it is being written, and telling how far it is.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use berth_client::Body;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Archive;
use crate::archive;
use crate::format::size;

/// Bytes between two reports of progress in a terminal.
const STEP: u64 = 512 << 10;

/// Why writing failed, where it has.
#[derive(Clone, Default)]
pub struct Failed(Arc<OnceLock<String>>);

impl Failed {
    /// The reason.
    pub fn reason(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// How progress is told on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Now and then, and at the end.
    Live,
    /// At the end.
    Last,
    /// Not.
    Nothing,
}

/// The archive as the body of a request.
pub fn stream(source: Archive, compress: bool, report: Report) -> (Body, Failed) {
    let failed = Failed::default();
    let reason = failed.clone();
    let body = archive::body(move |out| {
        write(source, compress, Counter::new(out, report)).map_err(|text| {
            // Written once: nothing is there yet.
            let _ = reason.0.set(text.clone());
            io::Error::other(text)
        })
    });
    (body, failed)
}

fn write(source: Archive, compress: bool, mut out: Counter<'_>) -> Result<(), String> {
    let sending = |e: io::Error| format!("error sending the context: {e}");
    if compress {
        let mut packed = GzEncoder::new(&mut out, Compression::default());
        source.write(&mut packed)?;
        packed.finish().map_err(sending)?;
    } else {
        source.write(&mut out)?;
    }
    out.finish().map_err(sending)
}

/// Counts what is sent.
struct Counter<'a> {
    out: &'a mut dyn Write,
    sent: u64,
    /// Bytes that had been sent at the last report.
    told: u64,
    report: Report,
}

impl<'a> Counter<'a> {
    fn new(out: &'a mut dyn Write, report: Report) -> Self {
        Counter {
            out,
            sent: 0,
            told: 0,
            report,
        }
    }

    fn tell(&mut self, end: &str) -> io::Result<()> {
        self.told = self.sent;
        let mut out = io::stdout().lock();
        out.write_all(progress(self.sent, end).as_bytes())?;
        out.flush()
    }

    fn finish(mut self) -> io::Result<()> {
        if self.report != Report::Nothing {
            // Docker ends its line twice.
            self.tell("\r\r\n")?;
        }
        self.out.flush()
    }
}

impl Write for Counter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sent += written as u64;
        if self.report == Report::Live && self.sent - self.told > STEP {
            self.tell("\r")?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn progress(sent: u64, end: &str) -> String {
    let sent = size::human(sent as f64);
    format!("Sending build context to Docker daemon {sent:>8}{end}")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures_util::StreamExt;

    use super::*;

    async fn received(body: Body) -> io::Result<Vec<u8>> {
        let Body::Stream(mut pieces) = body else {
            panic!("no stream");
        };
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn everything_arrives_in_pieces() {
        let content: Vec<u8> = (0..800_007).map(|i: u32| (i % 251) as u8).collect();
        for compress in [false, true] {
            let archive = Archive::Ready(Box::new(io::Cursor::new(content.clone())));
            let (body, failed) = stream(archive, compress, Report::Nothing);
            let mut all = received(body).await.expect("all of it");
            if compress {
                let mut plain = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(&all[..]);
                decoder.read_to_end(&mut plain).expect("gzip");
                all = plain;
            }
            assert!(all == content, "{compress}");
            assert_eq!(failed.reason(), None);
        }
    }

    #[tokio::test]
    async fn a_failure_ends_the_stream_and_is_known() {
        let gone = tempfile::tempdir().expect("a directory").path().to_owned();
        let archive = Archive::Directory(crate::build_context::archive::Directory {
            path: gone.join("missing"),
            ignore: berth_build::Ignore::default(),
            kept: Vec::new(),
            extra: Vec::new(),
        });
        let (body, failed) = stream(archive, false, Report::Nothing);
        received(body).await.expect_err("it is not there");
        let reason = failed.reason().expect("a reason");
        assert!(reason.starts_with("error checking context: "), "{reason}");
        assert!(reason.contains("missing"), "{reason}");
    }

    #[test]
    fn progress_as_docker_writes_it() {
        for (sent, text) in [
            (
                2048,
                "Sending build context to Docker daemon  2.048kB\r\r\n",
            ),
            (0, "Sending build context to Docker daemon       0B\r\r\n"),
            (
                123_456_789,
                "Sending build context to Docker daemon  123.5MB\r\r\n",
            ),
        ] {
            assert_eq!(progress(sent, "\r\r\n"), text);
        }
    }
}
