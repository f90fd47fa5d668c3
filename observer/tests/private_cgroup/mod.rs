//! A cgroup to attach to, and the kernel's word on what is attached to it.
//!
//! Owns one directory below the root of the cgroup v2 hierarchy. Must not know what a test attaches. Bounded by the test.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use observer::capture::Cgroup;

/// A cgroup of this test's own, below the root; removed at the end.
pub struct PrivateCgroup {
    pub path: PathBuf,
}

impl PrivateCgroup {
    pub fn new(name: &str) -> Self {
        let root = Cgroup::open(None).unwrap();
        let root = root.path.expect("a cgroup v2 hierarchy is mounted");
        let path = root.join(format!("observer-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// How many programs are attached for ingress and for egress.
    pub fn attached(&self) -> [u32; 2] {
        const BPF_PROG_QUERY: libc::c_long = 16;
        const BPF_CGROUP_INET_INGRESS: u32 = 0;
        const BPF_CGROUP_INET_EGRESS: u32 = 1;
        #[repr(C)]
        struct Query {
            target_fd: u32,
            attach_type: u32,
            query_flags: u32,
            attach_flags: u32,
            program_ids: u64,
            program_count: u32,
            padding: u32,
        }
        let directory = std::fs::File::open(&self.path).unwrap();
        [BPF_CGROUP_INET_INGRESS, BPF_CGROUP_INET_EGRESS].map(|attach_type| {
            let mut query = Query {
                target_fd: directory.as_raw_fd().cast_unsigned(),
                attach_type,
                query_flags: 0,
                attach_flags: 0,
                program_ids: 0,
                program_count: 0,
                padding: 0,
            };
            // SAFETY: the structure is laid out as the kernel's, and asks for no list.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    BPF_PROG_QUERY,
                    &raw mut query,
                    size_of::<Query>() as libc::c_long,
                )
            };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            query.program_count
        })
    }
}

impl Drop for PrivateCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}
