//! The virtual machine: starts QEMU, follows the guest's serial console, and sees to it that QEMU ends.
//!
//! Must not know what the guest runs. Bounded by a time limit, after which the QEMU that was started here, and no other,
//! is killed; the console goes to a log file as it comes, and one line of at most 64 KiB is kept.

use std::fs::File;
use std::io::{BufWriter, Read, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::process::program;

/// What to boot.
#[derive(Debug)]
pub struct Machine<'machine> {
    /// The kernel's image.
    pub kernel: &'machine Path,
    /// Its first file system.
    pub initramfs: &'machine Path,
    /// Where the console is recorded.
    pub log: &'machine Path,
    /// How long the guest may run.
    pub limit: Duration,
}

/// How a run of QEMU ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The guest powered off, panicked or rebooted, or the reader of its console had seen enough.
    Ended,
    /// It was still running after the time limit.
    TimedOut,
}

/// Everything that QEMU can emulate, but for cmpxchg16b: emulating its form without a lock prefix, which the kernel's
/// allocator uses, QEMU 7.2 leaves rubbish in the flags, and an interrupt at that moment crashes the guest (6.12 in three
/// boots of four). Without it kernels take another way.
const PROCESSOR: &str = "max,-cx16";

const QEMU: &str = "qemu-system-x86_64";
const LONGEST_LINE: usize = 64 * 1024;

/// Ends the QEMU that it holds, whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Machine<'_> {
    /// Boots, and gives each line of the console to `reader` until that returns true or the guest ends.
    pub fn run(&self, mut reader: impl FnMut(&str) -> bool) -> Result<End> {
        let log = File::create(self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut log = BufWriter::new(log);
        let deadline = Instant::now() + self.limit;
        let mut child = program(QEMU)
            .args(["-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", "2", "-m", "1024"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", "console=ttyS0 loglevel=4 panic=-1 oops=panic"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {QEMU}: apt-get install qemu-system-x86"))?;
        let console = child.stdout.take();
        let errors = child.stderr.take();
        let _running = Running(child);

        let (sender, chunks) = mpsc::sync_channel::<Vec<u8>>(64);
        let error_sender = sender.clone();
        // Both threads end when QEMU, the only writer of their pipes, does.
        thread::spawn(move || console.map(|pipe| forward(pipe, &sender)));
        thread::spawn(move || errors.map(|pipe| forward(pipe, &error_sender)));

        let mut line = Vec::new();
        loop {
            let chunk = match chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(chunk) => chunk,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    log.flush()?;
                    return Ok(End::TimedOut);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            log.write_all(&chunk)?;
            for byte in chunk {
                if byte != b'\n' && line.len() < LONGEST_LINE {
                    line.push(byte);
                    continue;
                }
                let enough = reader(String::from_utf8_lossy(&line).trim_end_matches('\r'));
                line.clear();
                if enough {
                    log.flush()?;
                    return Ok(End::Ended);
                }
            }
        }
        reader(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        log.flush()?;
        Ok(End::Ended)
    }
}

fn forward(mut pipe: impl Read, sender: &mpsc::SyncSender<Vec<u8>>) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        if sender.send(buffer[..length].to_vec()).is_err() {
            return;
        }
    }
}
