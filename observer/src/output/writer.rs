//! The way to standard output: a thread of its own behind a short queue.
//!
//! Owns the descriptor and the queue. Must not know what is written. Bounded: [`QUEUE_BYTES`] wait at most, in
//! [`QUEUE_BLOCKS`] blocks; a longer block waits alone. Then the run loop waits, a live capture's ring fills, and the
//! kernel counts what it had to drop.
//!
//! The thread keeps a reader that does not read (a pager, a stopped pipe) from holding up signals and the end of
//! the run.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// From this size on, a block is handed over without waiting for the batch to end.
pub const BLOCK_BYTES: usize = 64 << 10;

/// Blocks that may wait for the thread.
pub const QUEUE_BLOCKS: usize = 32;

/// Bytes that may wait for the thread, what it writes at the moment included.
pub const QUEUE_BYTES: usize = 4 << 20;

/// One long message must not keep its memory for the rest of the run.
const REUSED_BLOCK_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// How the thread ended.
#[derive(Debug)]
pub enum Ended {
    /// Everything is written.
    Done,
    /// Nobody reads any more: the other end of a pipe was closed.
    Closed,
    /// Standard output refuses.
    Failed(io::Error),
}

/// Hands blocks to the thread.
#[derive(Debug)]
pub struct Writer {
    blocks: mpsc::Sender<(Vec<u8>, u32)>,
    room: Arc<Semaphore>,
    written: Arc<AtomicU64>,
    ended: oneshot::Receiver<Ended>,
    used: std_mpsc::Receiver<Vec<u8>>,
}

/// Standard output takes nothing more; [`Writer::finish`] tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Writer {
    /// Starts the thread.
    pub fn start() -> anyhow::Result<Self> {
        let output = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .context("standard output cannot be used; is it closed (`>&-`)?")?;
        Self::start_on(File::from(output))
    }

    fn start_on(mut output: File) -> anyhow::Result<Self> {
        let (blocks, mut queue) = mpsc::channel::<(Vec<u8>, u32)>(QUEUE_BLOCKS);
        let (ended_sender, ended) = oneshot::channel();
        let (used_sender, used) = std_mpsc::sync_channel(QUEUE_BLOCKS);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let written = Arc::new(AtomicU64::new(0));
        let (thread_room, thread_written) = (Arc::clone(&room), Arc::clone(&written));
        let run = move || {
            let mut result = Ended::Done;
            while let Some((block, places)) = queue.blocking_recv() {
                if let Err(error) = write_all(&mut output, &block, &thread_written) {
                    let closed = error.kind() == ErrorKind::BrokenPipe;
                    result = if closed { Ended::Closed } else { Ended::Failed(error) };
                    break;
                }
                if block.capacity() <= REUSED_BLOCK_BYTES_MAX {
                    // Where nobody takes it back it is needed no more.
                    let _ = used_sender.try_send(block);
                }
                thread_room.add_permits(places as usize);
            }
            thread_room.close();
            // Whoever gave the blocks may be gone.
            let _ = ended_sender.send(result);
        };
        thread::Builder::new().name("output".to_owned()).spawn(run).context("no thread for the output")?;
        Ok(Self { blocks, room, written, ended, used })
    }

    /// A buffer to lay out into: one that was written before, where there is one.
    pub fn empty_block(&self) -> Vec<u8> {
        self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 2))
    }

    /// Counts the bytes that standard output has taken.
    pub fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    /// Hands over a block of `length` bytes, and waits for a place in the queue. Nothing is handed over if this is
    /// dropped.
    pub async fn send(&self, length: usize, block: impl FnOnce() -> Vec<u8>) -> Result<(), Gone> {
        let places = u32::try_from(length.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = self.room.acquire_many(places).await.map_err(|_| Gone)?;
        let place = self.blocks.reserve().await.map_err(|_| Gone)?;
        room.forget();
        place.send((block(), places));
        Ok(())
    }

    /// Waits until everything is written.
    pub async fn finish(self) -> Ended {
        drop(self.blocks);
        // The thread tells its end whatever happens, short of a panic.
        self.ended.await.unwrap_or_else(|_| Ended::Failed(io::Error::other("the output thread ended early")))
    }
}

fn write_all(output: &mut File, mut bytes: &[u8], total: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                total.fetch_add(written as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody who shares the terminal or pipe made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn blocks_arrive_in_order_and_are_reused() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let writer = Writer::start_on(File::from(std::os::fd::OwnedFd::from(pipe))).unwrap();
        block_on(async {
            for block in [b"one ".to_vec(), b"two ".to_vec(), b"three".to_vec()] {
                writer.send(block.len(), || block).await.unwrap();
            }
            assert!(matches!(writer.finish().await, Ended::Done));
        });
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
    }

    #[test]
    fn a_closed_pipe_is_told_apart_from_an_error() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let writer = Writer::start_on(File::from(std::os::fd::OwnedFd::from(pipe))).unwrap();
        block_on(async {
            // The thread may take the first blocks before it learns that nobody reads them.
            while writer.send(1, || b"x".to_vec()).await.is_ok() {}
            assert!(matches!(writer.finish().await, Ended::Closed));
        });
    }

    #[test]
    fn a_reader_that_does_not_read_does_not_hold_up_who_gives_up_waiting() {
        let (reader, pipe) = io::pipe().unwrap();
        let writer = Writer::start_on(File::from(std::os::fd::OwnedFd::from(pipe))).unwrap();
        block_on(async {
            let fill = async { while writer.send(1 << 20, || vec![0; 1 << 20]).await.is_ok() {} };
            assert!(tokio::time::timeout(Duration::from_millis(100), fill).await.is_err());
        });
        drop(reader);
    }

    #[test]
    fn only_so_many_bytes_wait_however_long_the_blocks_are() {
        for block_bytes in [BLOCK_BYTES, QUEUE_BYTES / 3, 2 * QUEUE_BYTES] {
            let (reader, pipe) = io::pipe().unwrap();
            let writer = Writer::start_on(File::from(std::os::fd::OwnedFd::from(pipe))).unwrap();
            let mut taken = 0;
            block_on(async {
                let fill = async {
                    while writer.send(block_bytes, || vec![0; block_bytes]).await.is_ok() {
                        taken += block_bytes;
                    }
                };
                assert!(tokio::time::timeout(Duration::from_millis(100), fill).await.is_err());
            });
            assert!(taken <= QUEUE_BYTES.max(block_bytes), "{taken} bytes in blocks of {block_bytes}");
            drop(reader);
        }
    }
}
