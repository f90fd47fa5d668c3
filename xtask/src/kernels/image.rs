//! The guest's root file system: a writer of cpio archives in the `newc` format, and what of the host goes into one.
//!
//! Must not know what the guest does with the files. Bounded by the files it is given: each is read whole, one at a
//! time, and the archive goes straight to its writer. Paths are absolute and name each file once; the first wins.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// A cpio archive under construction.
#[derive(Debug)]
pub struct Archive<W: Write> {
    writer: W,
    paths: HashSet<PathBuf>,
    inode: u32,
}

struct Header {
    mode: u32,
    links: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    /// An empty archive that is written to `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer, paths: HashSet::new(), inode: 0 }
    }

    /// Adds a directory and those it lies in.
    pub fn directory(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if path == Path::new("/") || self.paths.contains(path) {
            return Ok(());
        }
        self.parents(path)?;
        self.entry(path, &Header { mode: DIRECTORY | 0o755, links: 2, device: (0, 0) }, &[])
    }

    /// Adds a file with these contents.
    pub fn file(&mut self, path: impl AsRef<Path>, permissions: u32, contents: &[u8]) -> Result<()> {
        self.parents(path.as_ref())?;
        let header = Header { mode: REGULAR | (permissions & 0o7777), links: 1, device: (0, 0) };
        self.entry(path.as_ref(), &header, contents)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        self.parents(path.as_ref())?;
        let target = target.as_ref().as_os_str().as_encoded_bytes();
        self.entry(path.as_ref(), &Header { mode: SYMLINK | 0o777, links: 1, device: (0, 0) }, target)
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: impl AsRef<Path>, major: u32, minor: u32) -> Result<()> {
        self.parents(path.as_ref())?;
        let header = Header { mode: CHARACTER_DEVICE | 0o600, links: 1, device: (major, minor) };
        self.entry(path.as_ref(), &header, &[])
    }

    /// Adds a file of the host, symbolic links followed, under the path that it is to have in the guest.
    pub fn host_file(&mut self, path: impl AsRef<Path>, host: &Path) -> Result<()> {
        if self.paths.contains(path.as_ref()) {
            return Ok(());
        }
        let read =
            || -> std::io::Result<_> { Ok((fs::metadata(host)?.permissions().mode(), fs::read(host)?)) };
        let (mode, contents) =
            read().with_context(|| format!("cannot read {} for the guest", host.display()))?;
        self.file(path, mode, &contents)
    }

    /// Adds a program of the host, and the shared libraries it loads, these at the paths they have on the host.
    pub fn host_program(&mut self, path: impl AsRef<Path>, program: &Path) -> Result<()> {
        self.host_file(path, program)?;
        for library in shared_libraries(program)? {
            self.host_file(&library, &library)?;
        }
        Ok(())
    }

    /// Ends the archive and gives its writer back.
    pub fn finish(mut self) -> Result<W> {
        self.inode = 0;
        self.raw("TRAILER!!!".as_bytes(), &Header { mode: 0, links: 1, device: (0, 0) }, &[])?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        if !path.is_absolute() {
            bail!("the guest's files need absolute paths, not {}", path.display());
        }
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, path: &Path, header: &Header, contents: &[u8]) -> Result<()> {
        if !self.paths.insert(path.to_owned()) {
            return Ok(());
        }
        self.inode += 1;
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_encoded_bytes();
        self.raw(name, header, contents)
    }

    fn raw(&mut self, name: &[u8], header: &Header, contents: &[u8]) -> Result<()> {
        let size = u32::try_from(contents.len())
            .context("a file of 4 GiB or more does not fit in a cpio archive")?;
        let name_size = u32::try_from(name.len() + 1)?;
        let Header { mode, links, device: (major, minor) } = *header;
        write!(self.writer, "070701")?;
        // Inode, mode, uid, gid, links, time, size, device (2), special device (2), name's size, checksum.
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            write!(self.writer, "{field:08x}")?;
        }
        self.writer.write_all(name)?;
        self.writer.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.writer.write_all(contents)?;
        self.pad(contents.len())
    }

    fn pad(&mut self, length: usize) -> Result<()> {
        Ok(self.writer.write_all(&[0; 3][..length.next_multiple_of(4) - length])?)
    }
}

/// The shared libraries of a program and the dynamic loader itself, as `ldd` finds them; none for a static program.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !errors.contains("not a dynamic executable") {
        bail!("ldd {} failed: {}{}", program.display(), text.trim(), errors.trim());
    }
    parse_ldd(&text).with_context(|| format!("{} cannot be copied into the guest", program.display()))
}

fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let library = line.split_once("=>").map_or(line, |(_, found)| found.trim());
        if library.starts_with("not found") {
            bail!(
                "a shared library is missing on this machine: {line}; reinstall the package of the program"
            );
        }
        if let Some(path) = library.split(" (0x").next().filter(|path| path.starts_with('/')) {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_output_gives_libraries_and_loader_but_not_the_vdso() {
        let text = "\tlinux-vdso.so.1 (0x00007f7c52f79000)\n\
                    \tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f7c52c61000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f7c52f7b000)\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(text).unwrap(), expected);
        assert_eq!(parse_ldd("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert!(parse_ldd("\tlibgone.so.1 => not found\n").is_err());
    }

    #[test]
    fn an_archive_has_aligned_entries_parents_and_a_trailer() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/usr/bin/a", 0o755, b"hello").unwrap();
        archive.symlink("/usr/bin/b", "a").unwrap();
        archive.file("/usr/bin/a", 0o644, b"never written").unwrap();
        archive.character_device("/dev/console", 5, 1).unwrap();
        assert!(archive.file("relative", 0o644, b"").is_err());
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);

        let mut names = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let field = |index: usize| {
                let text = std::str::from_utf8(&rest[6 + 8 * index..14 + 8 * index]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&rest[..6], b"070701");
            let (size, name_size) = (field(6), field(11));
            names.push(std::str::from_utf8(&rest[110..110 + name_size - 1]).unwrap().to_owned());
            let contents = (110 + name_size).next_multiple_of(4);
            match names.last().unwrap().as_str() {
                "usr/bin/a" => {
                    assert_eq!((field(1), &rest[contents..contents + size]), (0o100_755, &b"hello"[..]));
                }
                "dev/console" => assert_eq!((field(1), field(9), field(10)), (0o020_600, 5, 1)),
                _ => {}
            }
            rest = &rest[(contents + size).next_multiple_of(4)..];
        }
        assert_eq!(names, ["usr", "usr/bin", "usr/bin/a", "usr/bin/b", "dev", "dev/console", "TRAILER!!!"]);
    }
}
