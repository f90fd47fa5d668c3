//! Finds the cgroup v2 directory that the programs are attached to.
//!
//! Owns: reading the mount table, and a hierarchy of its own where none is mounted. Must not know: BPF.
//! Bounded by: one pass over /proc/self/mountinfo. It never changes the host's mounts.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::StartError;

/// Every cgroup but the root of the hierarchy has this file, also where a namespace calls it `/`.
const ONLY_BELOW_ROOT: &CStr = c"cgroup.events";

/// An open cgroup v2 directory.
#[derive(Debug)]
pub struct Cgroup {
    directory: File,
    /// Where it is mounted; `None` if it was opened without a mount.
    pub path: Option<PathBuf>,
    /// Only traffic of sockets in this cgroup and below it is seen, not that of the whole host.
    pub below_root: bool,
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Cgroup {
    /// Opens the given directory, or else the root of the cgroup v2 hierarchy, wherever it is mounted.
    ///
    /// # Errors
    /// [`StartError::NoCgroup2`] if none can be had.
    pub fn open(path: Option<&Path>) -> Result<Self, StartError> {
        if let Some(path) = path {
            return Self::open_path(path).map_err(|error| StartError::NoCgroup2 {
                detail: format!("{} cannot be used: {error}", path.display()),
            });
        }
        let table = fs::read("/proc/self/mountinfo").map_err(|error| StartError::NoCgroup2 {
            detail: format!("/proc/self/mountinfo cannot be read: {error}"),
        })?;
        let mut best: Option<Self> = None;
        let mut refused = Vec::new();
        for mount in parse_mountinfo(&table) {
            match Self::open_path(&mount.path) {
                Ok(cgroup) if !cgroup.below_root => return Ok(cgroup),
                Ok(cgroup) => best = best.or(Some(cgroup)),
                Err(error) => refused.push(format!("{}: {error}", mount.path.display())),
            }
        }
        if let Some(cgroup) = best {
            return Ok(cgroup);
        }
        match Self::open_unmounted() {
            Ok(cgroup) => Ok(cgroup),
            Err(error) => {
                refused.push(format!(
                    "none could be opened without a mount, for which CAP_SYS_ADMIN is needed: {error}"
                ));
                Err(StartError::NoCgroup2 { detail: refused.join("; ") })
            }
        }
    }

    /// The ids of this cgroup and of those below it, at most so many; `None` where there are more.
    ///
    /// # Errors
    /// If a directory cannot be read that still exists.
    pub fn ids(&self, max: usize) -> io::Result<Option<BTreeSet<u64>>> {
        // Right wherever it is mounted, and where it is not.
        let own = PathBuf::from(format!("/proc/thread-self/fd/{}", self.directory.as_raw_fd()));
        let mut ids = BTreeSet::from([self.directory.metadata()?.ino()]);
        let mut unread = vec![own];
        while let Some(directory) = unread.pop() {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let Ok(entry) = entry else { break };
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if ids.len() >= max {
                    return Ok(None);
                }
                // Where the kernel tells the ids of sockets, they are these numbers.
                ids.insert(entry.ino());
                unread.push(entry.path());
            }
        }
        Ok(Some(ids))
    }

    fn open_path(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        if !is_cgroup2(directory.as_fd())? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a cgroup v2 directory"));
        }
        Ok(Self {
            below_root: contains(directory.as_fd(), ONLY_BELOW_ROOT)?,
            directory,
            path: Some(path.to_owned()),
        })
    }

    /// A mount that is attached nowhere: nobody else sees it, and it is gone with its descriptor.
    fn open_unmounted() -> io::Result<Self> {
        const FSCONFIG_CMD_CREATE: libc::c_long = 6;
        let context = new_descriptor(|| {
            // SAFETY: the name is a C string; the call creates a descriptor or fails.
            unsafe {
                libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), libc::c_long::from(libc::FSOPEN_CLOEXEC))
            }
        })?;
        // SAFETY: the command takes neither key nor value.
        let created = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                libc::c_long::from(context.as_raw_fd()),
                FSCONFIG_CMD_CREATE,
                std::ptr::null::<u8>(),
                std::ptr::null::<u8>(),
                0 as libc::c_long,
            )
        };
        if created < 0 {
            return Err(io::Error::last_os_error());
        }
        let mount = new_descriptor(|| {
            // SAFETY: the descriptor is open; the call creates another or fails.
            unsafe {
                libc::syscall(
                    libc::SYS_fsmount,
                    libc::c_long::from(context.as_raw_fd()),
                    libc::c_long::from(libc::FSMOUNT_CLOEXEC),
                    0 as libc::c_long,
                )
            }
        })?;
        // fsmount gives a descriptor of the O_PATH kind, which bpf(2) refuses on older kernels.
        let directory = new_descriptor(|| {
            // SAFETY: the path is a C string and the descriptor is open.
            libc::c_long::from(unsafe {
                libc::openat(
                    mount.as_raw_fd(),
                    c".".as_ptr(),
                    libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC,
                )
            })
        })?;
        let directory = File::from(directory);
        Ok(Self { below_root: contains(directory.as_fd(), ONLY_BELOW_ROOT)?, directory, path: None })
    }
}

fn new_descriptor(call: impl FnOnce() -> libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = call();
    match i32::try_from(descriptor) {
        // SAFETY: the call just created this descriptor and nobody else knows of it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_cgroup2(directory: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: all-zero is a valid statfs.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `status` is valid for writing.
    if unsafe { libc::fstatfs(directory.as_raw_fd(), &raw mut status) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.f_type == libc::CGROUP2_SUPER_MAGIC as libc::__fsword_t)
}

fn contains(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    // SAFETY: the descriptor is open and the name is a C string.
    if unsafe { libc::faccessat(directory.as_raw_fd(), name.as_ptr(), libc::F_OK, 0) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::NotFound => Ok(false),
        error => Err(error),
    }
}

/// A mounted cgroup v2 hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    path: PathBuf,
    /// The directory of the hierarchy that is mounted, seen from this process's cgroup namespace.
    root: PathBuf,
}

/// The cgroup v2 mounts, those of the hierarchy's visible root first.
fn parse_mountinfo(table: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = table.split(|byte| *byte == b'\n').filter_map(parse_mount).collect();
    mounts.sort_by_key(|mount| mount.root != Path::new("/"));
    mounts
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let path = fields.next()?;
    // Optional fields of any number end with a lone hyphen; the type follows.
    let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
    (file_system == b"cgroup2").then(|| Mount { path: unescape(path), root: unescape(root) })
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(table: &str) -> Vec<(String, String)> {
        parse_mountinfo(table.as_bytes())
            .into_iter()
            .map(|mount| (mount.path.display().to_string(), mount.root.display().to_string()))
            .collect()
    }

    fn pair(path: &str, root: &str) -> (String, String) {
        (path.to_owned(), root.to_owned())
    }

    #[test]
    fn a_unified_host_has_it_at_sys_fs_cgroup() {
        let table = "\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
31 22 0:27 / /sys/fs/bpf rw,nosuid,nodev,noexec,relatime shared:10 - bpf bpf rw,mode=700
";
        assert_eq!(found(table), [pair("/sys/fs/cgroup", "/")]);
    }

    #[test]
    fn a_hybrid_host_has_it_beside_version_1() {
        let table = "\
32 24 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
33 32 0:29 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
34 32 0:30 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
40 32 0:36 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:17 - cgroup cgroup rw,memory
";
        assert_eq!(found(table), [pair("/sys/fs/cgroup/unified", "/")]);
    }

    #[test]
    fn a_container_without_a_cgroup_namespace_shows_its_own_directory_last() {
        let table = "\
1201 1200 0:26 /system.slice/docker-4f.scope /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
1300 1100 0:26 / /host/sys/fs/cgroup rw,relatime master:9 - cgroup2 cgroup2 rw
";
        assert_eq!(
            found(table),
            [pair("/host/sys/fs/cgroup", "/"), pair("/sys/fs/cgroup", "/system.slice/docker-4f.scope")]
        );
    }

    #[test]
    fn a_host_with_version_1_only_has_none() {
        let table = "\
34 32 0:30 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
35 32 0:31 / /mnt/cgroup2 rw shared:12 - tmpfs cgroup2 rw

";
        assert_eq!(found(table), []);
    }

    #[test]
    fn escaped_characters_and_several_optional_fields_are_read() {
        let table = "33 32 0:29 / /mnt/a\\040b\\134c rw shared:10 master:2 propagate_from:3 unbindable - cgroup2 none rw\n";
        assert_eq!(found(table), [pair("/mnt/a b\\c", "/")]);
    }

    #[test]
    fn a_mount_point_named_like_the_type_is_not_taken_for_one() {
        let table = "33 32 0:29 / /cgroup2 rw - tmpfs none rw\nnonsense\n33 32\n";
        assert_eq!(found(table), []);
    }

    #[test]
    fn the_ids_of_a_cgroup_are_those_of_its_directories_as_far_as_there_are_not_too_many() {
        let below = std::env::temp_dir().join(format!("observer-cgroup-ids-{}", std::process::id()));
        fs::create_dir_all(below.join("one/two")).unwrap();
        fs::write(below.join("a-file"), "").unwrap();
        let directory = File::open(&below).unwrap();
        let cgroup = Cgroup { directory, path: None, below_root: true };
        let expected = ["", "one", "one/two"].map(|path| below.join(path).metadata().unwrap().ino());
        let (all, more) = (cgroup.ids(3).unwrap(), cgroup.ids(2).unwrap());
        fs::remove_dir_all(&below).unwrap();
        assert_eq!((all, more), (Some(BTreeSet::from(expected)), None));
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused_by_name() {
        let error = Cgroup::open(Some(Path::new("/proc"))).expect_err("/proc is no cgroup");
        assert!(matches!(error, StartError::NoCgroup2 { .. }));
        assert!(error.to_string().contains("/proc"), "{error}");
    }
}
