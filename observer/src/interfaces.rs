//! Network interfaces: the index of one that the user names, and the names of those that packets pass.
//!
//! Owns what an index means, which it does in its network namespace only. Must not know packets. Bounded:
//! `INTERFACES_MAX` interfaces are remembered.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::bail;
use nix::net::if_::{if_indextoname, if_nameindex, if_nametoindex};

/// Interfaces whose name is told to the engine.
const INTERFACES_MAX: usize = 1_024;
/// The loopback interface has this index in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Which interfaces have a name that can be told: an index means something in its network namespace only.
pub struct InterfaceNames {
    own_netns_cookie: Option<u64>,
    told: BTreeSet<u32>,
}

/// An interface as the engine knows it.
pub struct Interface {
    /// Its number in its network namespace.
    pub index: u32,
    /// Where the engine was not told yet.
    pub new_name: Option<String>,
}

impl InterfaceNames {
    /// For a process in this thread's network namespace.
    pub fn of_this_namespace() -> Self {
        Self { own_netns_cookie: own_netns_cookie(), told: BTreeSet::new() }
    }

    /// The interface of a packet, where its name can be told.
    pub fn known(&mut self, index: u32, netns_cookie: u64) -> Option<Interface> {
        let is_own = netns_cookie != 0 && self.own_netns_cookie == Some(netns_cookie);
        if index != LOOPBACK_INDEX && !is_own {
            return None;
        }
        if self.told.contains(&index) {
            return Some(Interface { index, new_name: None });
        }
        if self.told.len() >= INTERFACES_MAX {
            return None;
        }
        let name = if index == LOOPBACK_INDEX {
            "lo".to_owned()
        } else {
            // Gone since: the next packet of that index is another interface's.
            if_indextoname(index).ok()?.to_string_lossy().into_owned()
        };
        self.told.insert(index);
        Some(Interface { index, new_name: Some(name) })
    }
}

/// The network namespace that this process is in, as the kernel programs name it; `None` before Linux 5.14.
pub fn own_netns_cookie() -> Option<u64> {
    netns_cookie(UdpSocket::bind("127.0.0.1:0").ok()?.as_fd())
}

/// The network namespace that a socket was made in, likewise.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> Option<u64> {
    /// From the kernel's asm-generic/socket.h; the libc crate does not have it.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie: u64 = 0;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).ok()?;
    // SAFETY: the descriptor is open, and both pointers are to locals of the sizes that are named.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (status == 0 && cookie != 0).then_some(cookie)
}

/// The index of an interface that the user named.
pub fn interface_index(name: &str) -> anyhow::Result<u32> {
    if let Ok(index) = if_nametoindex(name) {
        return Ok(index);
    }
    let names: Vec<String> = if_nameindex()
        .map(|interfaces| {
            interfaces.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    bail!("there is no network interface {name}; there are any, {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_answered_with_those_there_are() {
        assert!(interface_index("lo").is_ok());
        let error = interface_index("nonesuch0").unwrap_err().to_string();
        assert!(error.contains("nonesuch0") && error.contains("any, lo"), "{error}");
    }

    #[test]
    fn interfaces_of_other_namespaces_have_no_name_but_loopback_has() {
        let mut names = InterfaceNames { own_netns_cookie: Some(7), told: BTreeSet::new() };
        assert!(names.known(2, 8).is_none());
        assert!(names.known(2, 0).is_none());
        let first = names.known(1, 8).unwrap();
        assert_eq!((first.index, first.new_name.as_deref()), (1, Some("lo")));
        let again = names.known(1, 7).unwrap();
        assert_eq!((again.index, again.new_name), (1, None));
    }
}
