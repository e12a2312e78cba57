//! Archives that go to a file or to standard output, never to a terminal.

use std::io::{self, Write};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::failure::{Failure, Outcome, why};
use crate::terminal;

/// Where an archive goes. A file appears under its name only when it is whole.
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file, written aside.
    File(tempfile::NamedTempFile, String),
}

impl Output {
    /// Opens it; `failed` says what could not be done.
    pub fn open(path: &str, failed: &str) -> Outcome<Self> {
        if path.is_empty() {
            if terminal::stdout_is_terminal() {
                return Err(Failure::new(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            return Ok(Output::Stdout);
        }
        let parent = Path::new(path)
            .parent()
            .filter(|p| !p.as_os_str().is_empty());
        let dir = parent.unwrap_or(Path::new("."));
        if !dir.is_dir() {
            return Err(Failure::new(format!(
                "{failed}: invalid output path: stat {}: no such file or directory",
                dir.display()
            )));
        }
        if Path::new(path).is_dir() {
            return Err(Failure::new(format!(
                "{failed}: cannot write to a directory"
            )));
        }
        let file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir);
        file.map(|file| Output::File(file, path.to_owned()))
            .map_err(|e| Failure::new(format!("{failed}: {}", why(&e))))
    }

    /// Copies everything and puts the file in place.
    pub async fn fill(mut self, mut source: impl AsyncRead + Unpin) -> Outcome {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = source.read(&mut buffer).await?;
            if length == 0 {
                break;
            }
            match &mut self {
                Output::Stdout => io::stdout().lock().write_all(&buffer[..length])?,
                Output::File(file, _) => file.write_all(&buffer[..length])?,
            }
        }
        match self {
            Output::Stdout => io::stdout().flush()?,
            Output::File(file, path) => {
                file.as_file().sync_all()?;
                file.persist(path).map_err(|e| e.error)?;
            }
        }
        Ok(())
    }
}
