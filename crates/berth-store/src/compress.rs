//! A layer's tar as a gzip blob, for a push that has no blob to send.
//!
//! The tar is cut into blocks that are compressed at once, on as many threads as there are
//! processors; each block knows the end of the one before it as its dictionary and ends with a sync
//! flush, so that together they are one ordinary gzip member (as pigz does it). The bytes do not
//! depend on the number of threads.

use std::io::{self, Read, Write};
use std::thread;

use berth_spec::Digest;
use berth_spec::oci::image::{Descriptor, media_type};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::{Error, Lease, Result, Store};

/// Bytes of tar per block.
const BLOCK: usize = 256 << 10;
/// Bytes before a block that deflate can refer to.
const WINDOW: usize = 32 << 10;
/// Blocks that a thread gets per round.
const ROUND: usize = 4;
/// Magic, deflate, no flags, no time, no extra flags, unknown system: the same for all.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block (fixed Huffman codes, end of block).
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

impl Store {
    /// Compresses the layer `diff_id` into a blob and remembers it. The blob is held by `lease`.
    pub fn compress_layer(&self, lease: &Lease, diff_id: &Digest) -> Result<Descriptor> {
        let failed = |e| Error::io(format_args!("cannot compress layer {diff_id}"), e);
        let mut tar = self.layers().open_tar(diff_id)?;
        let mut blob = self.content().ingest(lease, None)?;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        gzip(&mut tar, &mut blob, threads).map_err(failed)?;
        let (digest, size) = blob.commit()?;
        let descriptor = Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, size);
        self.layers().record_blob(diff_id, &descriptor)?;
        Ok(descriptor)
    }
}

/// Compresses `source` to `out` as one gzip member.
fn gzip(mut source: &mut dyn Read, out: &mut dyn Write, threads: usize) -> io::Result<()> {
    out.write_all(&HEADER)?;
    let mut crc = Crc::new();
    // The window of what came before, and then this round's bytes.
    let mut buffer: Vec<u8> = Vec::with_capacity(WINDOW + threads * ROUND * BLOCK);
    let mut dictionary = 0;
    loop {
        let round = (threads * ROUND * BLOCK) as u64;
        let read = (&mut source).take(round).read_to_end(&mut buffer)?;
        if read == 0 {
            break;
        }
        crc.update(&buffer[dictionary..]);
        for block in compress_round(&buffer, dictionary, threads) {
            out.write_all(&block?)?;
        }
        let keep = buffer.len().min(WINDOW);
        buffer.drain(..buffer.len() - keep);
        dictionary = keep;
    }
    out.write_all(&LAST_BLOCK)?;
    out.write_all(&crc.sum().to_le_bytes())?;
    out.write_all(&crc.amount().to_le_bytes())
}

/// The compressed blocks of `buffer[from..]`, in order.
fn compress_round(buffer: &[u8], from: usize, threads: usize) -> Vec<io::Result<Vec<u8>>> {
    let starts: Vec<usize> = (from..buffer.len()).step_by(BLOCK).collect();
    let block = |start: usize| {
        let end = (start + BLOCK).min(buffer.len());
        let window = &buffer[start.saturating_sub(WINDOW)..start];
        deflate(window, &buffer[start..end])
    };
    thread::scope(|scope| {
        let per_thread = starts.len().div_ceil(threads).max(1);
        let workers: Vec<_> = starts
            .chunks(per_thread)
            .map(|part| scope.spawn(move || part.iter().map(|s| block(*s)).collect::<Vec<_>>()))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker.join().unwrap_or_else(|_| {
                    vec![Err(io::Error::other("a compression thread has panicked"))]
                })
            })
            .collect()
    })
}

/// One block of raw deflate, closed by a sync flush.
fn deflate(window: &[u8], block: &[u8]) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::default(), false);
    if !window.is_empty() {
        compress.set_dictionary(window).map_err(io::Error::other)?;
    }
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = block.get(done..).unwrap_or_default();
        let room = out.capacity() - out.len();
        let status = compress
            .compress_vec(rest, &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        // Room left over means that everything, the flush included, is out.
        let finished = compress.total_in() == block.len() as u64 && out.len() < out.capacity();
        if finished || status == Status::StreamEnd {
            return Ok(out);
        }
        out.reserve(room.max(4096));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..len)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Half of it compresses, half does not.
                if i % 4096 < 2048 {
                    (state >> 24) as u8
                } else {
                    (i / 4096) as u8
                }
            })
            .collect()
    }

    #[test]
    fn it_is_ordinary_gzip_whatever_the_threads() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 9 * BLOCK + 77] {
            let data = noise(len);
            let mut forms = Vec::new();
            for threads in [1, 2, 3] {
                let mut out = Vec::new();
                gzip(&mut &data[..], &mut out, threads).unwrap();
                forms.push(out);
            }
            assert!(forms.windows(2).all(|w| w[0] == w[1]), "{len}");
            let mut back = Vec::new();
            flate2::bufread::GzDecoder::new(&forms[0][..])
                .read_to_end(&mut back)
                .unwrap();
            assert!(back == data, "{len}");
        }
    }
}
