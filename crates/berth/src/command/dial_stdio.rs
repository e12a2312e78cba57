//! `system dial-stdio`: standard input and output as a connection to the engine; what
//! `ssh://` runs at the other end.

use std::io::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::terminal::input;

#[derive(Debug, clap::Args)]
pub struct DialStdio {
    words: Vec<String>,
}

impl Verb for DialStdio {
    const ARGUMENTS: &'static str = "";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let (mut reader, mut writer) = tokio::io::split(client.dial().await?);
        let send = async {
            let mut pieces = input::read();
            while let Some(piece) = pieces.recv().await {
                writer.write_all(&piece?).await?;
                writer.flush().await?;
            }
            writer.shutdown().await
        };
        let receive = async {
            let mut buffer = vec![0; 32 << 10];
            loop {
                let length = reader.read(&mut buffer).await?;
                if length == 0 {
                    return Ok::<_, std::io::Error>(());
                }
                let mut out = std::io::stdout().lock();
                out.write_all(&buffer[..length])?;
                out.flush()?;
            }
        };
        tokio::pin!(send, receive);
        tokio::select! {
            received = &mut receive => return Ok(received?),
            sent = &mut send => sent?,
        }
        // Our half is done; the engine's answer is not.
        Ok(receive.await?)
    }
}
