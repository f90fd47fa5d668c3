//! A running capture as an asynchronous source of batches.
//!
//! Owns: when to wait, pause and read. Must not know: what a packet means. Bounded by: the number of events
//! that the caller asks for at once.
//!
//! One wake-up for every packet would cost more than the packets: after a wake-up everything is read, and
//! then the ring is left to fill for [`PAUSE`] at a time until it was found empty. Only then is the kernel's
//! wake-up waited for, so the first packet after silence is delivered at once.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until, timeout};

use super::live::{INCOMPLETE_PACKET_AGE_MAX, LiveCapture};
use super::packets::CapturedPacket;

/// How long the ring is left to fill between two reads.
pub const PAUSE: Duration = Duration::from_millis(2);

/// A [`LiveCapture`] in a tokio runtime.
pub struct PacketStream {
    // Duplicates: deregistering them does not depend on the capture's own life.
    events: AsyncFd<OwnedFd>,
    debug_log: Option<AsyncFd<OwnedFd>>,
    capture: LiveCapture,
    pause_until: Option<Instant>,
}

impl PacketStream {
    /// Needs a tokio runtime with its I/O and time drivers on.
    ///
    /// # Errors
    /// If the ring cannot be registered with the runtime.
    pub fn new(capture: LiveCapture) -> io::Result<Self> {
        let register = |fd: OwnedFd| {
            // SAFETY: an OwnedFd is open, and always the same descriptor, until it is dropped.
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
        };
        Ok(Self {
            events: register(capture.fd().try_clone_to_owned()?)?,
            debug_log: match capture.debug_log_fd() {
                Some(fd) => Some(register(fd.try_clone_to_owned()?)?),
                None => None,
            },
            capture,
            pause_until: None,
        })
    }

    /// Waits for packets and passes them on; returns the number of events, at most so many and at least one. Stops
    /// after a packet that `handle` says to stop at. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the runtime can no longer watch the ring.
    pub async fn next_batch(
        &mut self,
        max_events: usize,
        mut handle: impl FnMut(CapturedPacket<'_>) -> ControlFlow<()>,
    ) -> io::Result<usize> {
        loop {
            if let Some(pause_until) = self.pause_until {
                sleep_until(pause_until).await;
                self.pause_until = None;
            }
            let drained = self.capture.drain_packets(max_events, &mut handle);
            if drained.events > 0 {
                // Where the ring holds more, the caller should come back at once.
                self.pause_until = drained.emptied.then(|| Instant::now() + PAUSE);
                return Ok(drained.events);
            }
            if self.capture.has_open_packets() {
                // A packet whose rest never comes must not wait for other traffic to be given up.
                let _ = timeout(INCOMPLETE_PACKET_AGE_MAX, self.wait()).await;
            } else {
                self.wait().await?;
            }
        }
    }

    /// The capture itself.
    #[must_use]
    pub fn capture(&self) -> &LiveCapture {
        &self.capture
    }

    /// The capture itself, to change its ports or to detach it.
    pub fn capture_mut(&mut self) -> &mut LiveCapture {
        &mut self.capture
    }

    /// Leaves the runtime, to detach and drain the rest.
    #[must_use]
    pub fn into_capture(self) -> LiveCapture {
        self.capture
    }

    async fn wait(&mut self) -> io::Result<()> {
        let Some(debug_log) = &self.debug_log else {
            self.events.readable().await?.clear_ready();
            return Ok(());
        };
        tokio::select! {
            ready = self.events.readable() => ready?.clear_ready(),
            ready = debug_log.readable() => {
                ready?.clear_ready();
                self.capture.forward_debug_log();
            }
        }
        Ok(())
    }
}
