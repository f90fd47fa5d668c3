//! What the running kernel does otherwise than others.
//!
//! Owns the versions at which it changed. Must not know what a test makes of it. Bounded: one small file is read.

use std::net::IpAddr;

/// Before Linux 6.5 the egress hook is not called for a SYN+ACK over IPv6.
pub fn sees_every_syn_ack(loopback: IpAddr) -> bool {
    loopback.is_ipv4() || version() >= (6, 5)
}

/// Packets over 64 KiB are made since Linux 6.3, on loopback too, though not by every write.
pub fn makes_packets_over_64_kib() -> bool {
    version() >= (6, 3)
}

/// The verifiers of 5.10 and 6.1 refuse the programs without CAP_PERFMON, that of 6.18 does not.
#[allow(dead_code, reason = "not every test binary asks")]
pub fn needs_perfmon() -> bool {
    version() < (6, 18)
}

fn version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}
