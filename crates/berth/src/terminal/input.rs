//! Standard input as a stream that can be given up: a thread of its own reads it, since a
//! read of a terminal cannot be taken back.

use std::io::{self, Read};

use tokio::sync::mpsc;

/// Pieces of input that wait to be sent.
const QUEUE: usize = 8;
/// Size of a piece, in bytes.
const PIECE: usize = 32 << 10;

/// Begins to read standard input. The end of input ends the stream.
pub fn read() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => Ok(buffer[..length].to_vec()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    receiver
}
