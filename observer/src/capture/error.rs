//! Why a live capture cannot start, in words that say what to do.
//!
//! Owns: the error type and its texts. Must not know: how the causes are found out.
//! Bounded by: the verifier's log, which the kernel limits, is the only long part.

use std::io;

use thiserror::Error;

/// Why a live capture cannot start. The text of each says what is missing and what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The binary was built without kernel programs.
    #[error(
        "this binary was built without its kernel programs. \
         Build it with `cargo xtask build`, which compiles and embeds them."
    )]
    NotBuilt,

    /// The embedded object was compiled from other ABI sources than this loader.
    #[error(
        "the embedded kernel programs do not belong to this binary (ABI {expected:016x} is expected, \
         {} is embedded). Run `cargo xtask build` to compile both from the same sources.",
        found.map_or_else(|| "none".to_owned(), |hash| format!("{hash:016x}"))
    )]
    AbiMismatch {
        /// The hash that this loader was compiled with.
        expected: u64,
        /// The hash that the object carries, if any.
        found: Option<u64>,
    },

    /// An option has a value that cannot work.
    #[error("{0}")]
    InvalidOption(String),

    /// A capability is missing.
    #[error(
        "not permitted to {step} ({reason}). Run with sudo, or give the process the capabilities \
         CAP_BPF and CAP_NET_ADMIN (and CAP_PERFMON for debug logs, and before Linux 6.18). In a container, run it on the \
         host or with those capabilities in the host's user namespace."
    )]
    NotPermitted {
        /// What was refused.
        step: &'static str,
        /// Which capability is missing, or what the kernel said.
        reason: String,
    },

    /// No cgroup v2 can be had.
    #[error(
        "no cgroup v2 hierarchy to attach to: {detail}. Mount one with \
         `sudo mount -t cgroup2 none /mnt`, or name one with --cgroup."
    )]
    NoCgroup2 {
        /// What was tried.
        detail: String,
    },

    /// Another program has the cgroup for itself.
    #[error(
        "the cgroup cannot be attached to ({reason}): another program sits there that lets no other beside it. \
         `bpftool cgroup tree` names it; --cgroup chooses a cgroup below or beside it."
    )]
    CgroupIsTaken {
        /// What the kernel said.
        reason: String,
    },

    /// The kernel has no BPF ring buffer.
    #[error(
        "this kernel ({release}) is too old for live capture: Linux 5.8 or newer is needed for BPF ring \
         buffers. Record with `tcpdump -w FILE` here and show it with `observer read FILE`."
    )]
    KernelTooOld {
        /// What `uname -r` says.
        release: String,
    },

    /// The kernel's verifier refused a program.
    #[error(
        "the kernel ({release}) refused the program {program}: {reason}. Please report this with the \
         verifier's log, which follows.\n{verifier_log}"
    )]
    Refused {
        /// What `uname -r` says.
        release: String,
        /// Which program was refused.
        program: &'static str,
        /// What the system call returned.
        reason: io::Error,
        /// The verifier's own words.
        verifier_log: String,
    },

    /// Anything else, with the step that failed as its source.
    #[error("live capture cannot start")]
    Other(#[source] anyhow::Error),
}
