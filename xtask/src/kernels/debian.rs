//! Debian's kernels on disk: found by meta package, fetched and verified by apt, unpacked, and kept.
//!
//! Must not know what is booted or tested. It uses a private apt configuration below its own directory and never
//! touches the host's. Bounded: one kernel package (about 30 MB, 120 MB unpacked) a suite; once one is there nothing
//! goes over the network until `refresh` asks for a newer one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::{Kernel, Package};
use crate::process::{self, program};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where a suite's packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    main: String,
    security: String,
}

/// A kernel that is unpacked and ready to boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Debian's package, `linux-image-5.10.0-46-cloud-amd64`.
    pub package: String,
    /// Debian's version of it, `5.10.262-1`.
    pub version: String,
    /// What `uname -r` says in it.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// The directory with `modules.dep`.
    pub modules: PathBuf,
}

/// Gives the kernel from `directory/<name>`, after fetching it there if it is not there yet or a newer one is asked for.
pub fn install(kernel: &Kernel, directory: &Path, refresh: bool) -> Result<Installed> {
    let home = directory.join(kernel.name);
    let state = home.join("kernel.json");
    let previous = remembered(&state);
    if let (false, Some(installed)) = (refresh, &previous) {
        return Ok(installed.clone());
    }
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;

    let apt = PrivateApt::update(kernel, &directory.join("apt").join(kernel.name))?;
    let parts = apt.parts(kernel)?;
    let (package, version) = parts.first().cloned().unwrap_or_default();
    if let Some(previous) = &previous
        && (previous.package.as_str(), previous.version.as_str()) == (package.as_str(), version.as_str())
    {
        return Ok(previous.clone());
    }

    let download = home.join("download");
    remove(&download)?;
    fs::create_dir_all(&download)?;
    let wanted: Vec<_> = parts.iter().map(|(name, version)| format!("{name}={version}")).collect();
    let mut arguments = vec!["--quiet", "download"];
    arguments.extend(wanted.iter().map(String::as_str));
    apt.run_in(&download, "apt-get", &arguments)?;

    let unpacked = home.join("unpacking");
    remove(&unpacked)?;
    for archive in entries(&download)? {
        run(program("dpkg-deb").arg("--extract").arg(&archive).arg(&unpacked))?;
    }
    // Newer packages have /usr/lib/modules.
    let prefix = if unpacked.join("usr/lib/modules").is_dir() { "usr" } else { "" };
    let release = match entries(&unpacked.join(prefix).join("lib/modules"))?.as_slice() {
        [only] => only.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        other => bail!("{package} holds modules of {} kernels instead of one", other.len()),
    };
    // Debian makes modules.dep when the package is installed; nothing is installed here.
    run(program("depmod").arg("--basedir").arg(unpacked.join(prefix)).arg(&release))?;

    let root = home.join(format!("{package}_{version}"));
    remove(&root)?;
    fs::rename(&unpacked, &root)?;
    remove(&download)?;
    let modules = root.join(prefix).join("lib/modules").join(&release);
    let images = [root.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
    let Some(image) = images.into_iter().find(|image| image.is_file()) else {
        bail!("{package} holds no vmlinuz in a place that xtask knows; look into {}", root.display());
    };
    let installed = Installed { package, version, release, image, modules };
    let new_state = state.with_extension("json.new");
    fs::write(&new_state, serde_json::to_vec_pretty(&installed)?)?;
    fs::rename(&new_state, &state)?;
    if let Some(previous) = previous {
        remove(&home.join(format!("{}_{}", previous.package, previous.version)))?;
    }
    Ok(installed)
}

/// The kernel that an earlier run left, if its files are still there.
fn remembered(state: &Path) -> Option<Installed> {
    let installed: Installed = serde_json::from_slice(&fs::read(state).ok()?).ok()?;
    let complete = installed.image.is_file() && installed.modules.join("modules.dep").is_file();
    complete.then_some(installed)
}

/// apt with its own sources, lists and cache, and an empty dpkg status.
struct PrivateApt {
    configuration: PathBuf,
}

impl PrivateApt {
    /// Writes the configuration and fetches the suite's lists from the first mirror that has them.
    fn update(kernel: &Kernel, home: &Path) -> Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing: apt-get install debian-archive-keyring");
        }
        for needed in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(needed))?;
        }
        fs::write(home.join("status"), "")?;
        let apt = Self { configuration: home.join("apt.conf") };
        fs::write(&apt.configuration, configuration(home))?;

        let mut failures = Vec::new();
        for mirror in mirrors(&host_sources()) {
            for with_security in [true, false] {
                if with_security && kernel.security.is_none() {
                    continue;
                }
                let security = kernel.security.filter(|_| with_security);
                fs::write(home.join("sources.list"), sources(&mirror, kernel.suite, security))?;
                match apt.run("apt-get", &["--quiet", "-o", "APT::Update::Error-Mode=any", "update"]) {
                    Ok(_) => return Ok(apt),
                    Err(failure) => failures.push(format!("{failure:#}")),
                }
            }
        }
        bail!(
            "apt found no mirror with Debian's {} (is the network there? is debian-archive-keyring new enough?):\n{}",
            kernel.suite,
            failures.join("\n")
        )
    }

    /// The packages that a kernel consists of, with their versions; the image that names it is the first.
    fn parts(&self, kernel: &Kernel) -> Result<Vec<(String, String)>> {
        let (package, wanted) = match kernel.package {
            Package::Meta(meta) => {
                let shown = self.run("apt-cache", &["show", "--no-all-versions", meta])?;
                dependencies(&shown)
                    .into_iter()
                    .find(|(name, _)| name.starts_with("linux-image-"))
                    .ok_or_else(|| {
                        anyhow!(
                            "{meta} in {} depends on no kernel; is the table in xtask right?",
                            kernel.suite
                        )
                    })?
            }
            Package::Newest { prefix, suffix } => {
                let names = self.run("apt-cache", &["pkgnames", prefix])?;
                let package = newest(&names, prefix, suffix).ok_or_else(|| {
                    anyhow!("{} has no {prefix}*{suffix}; is the table in xtask right?", kernel.suite)
                })?;
                (package, None)
            }
        };
        let shown = self.run("apt-cache", &["show", &package])?;
        let stanza = pick_version(&shown, wanted.as_deref())
            .ok_or_else(|| anyhow!("{} has no {package} ({wanted:?}); try again later", kernel.suite))?;
        let version = field(stanza, "Version").unwrap_or_default().to_owned();
        let mut parts = vec![(package, version)];
        // Since 7.x the image is an empty package that depends on its parts in the exact version. Earlier ones hold all
        // that is needed here, but some name a part, too, that the archive no longer has.
        for (name, version) in dependencies(stanza) {
            let is_part =
                ["linux-binary-", "linux-modules-", "linux-base-"].iter().any(|part| name.starts_with(part));
            if let (true, Some(version)) = (is_part, version)
                && let Ok(shown) = self.run("apt-cache", &["show", &name])
                && pick_version(&shown, Some(&version)).is_some()
            {
                parts.push((name, version));
            }
        }
        Ok(parts)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_in(Path::new("."), program, arguments)
    }

    fn run_in(&self, directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = process::program(program);
        command.arg("--config-file").arg(&self.configuration).args(arguments).current_dir(directory);
        run(&mut command)
    }
}

fn configuration(home: &Path) -> String {
    let home = home.display();
    // The host's own configuration is read before this one, for its proxies; its sources and hooks are taken out.
    format!(
        "Dir::Etc::sourcelist \"{home}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::State::lists \"{home}/lists\";\n\
         Dir::State::status \"{home}/status\";\n\
         Dir::Cache \"{home}/cache\";\n\
         APT::Architecture \"amd64\";\n\
         #clear APT::Architectures;\n\
         APT::Architectures:: \"amd64\";\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         #clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear Acquire::IndexTargets::deb::DEP-11;\n"
    )
}

fn sources(mirror: &Mirror, suite: &str, security: Option<&str>) -> String {
    // An old release's lists outlive their Valid-Until once its support ends; the signature is checked all the same.
    let options = format!("[arch=amd64 signed-by={KEYRING} check-valid-until=no]");
    let mut text = format!("deb {options} {} {suite} main\n", mirror.main);
    if let Some(security) = security {
        text.push_str(&format!("deb {options} {} {security} main\n", mirror.security));
    }
    text
}

/// The host's own mirror first, then Debian's public one, then Debian's archive of releases that left the mirrors.
fn mirrors(host_sources: &str) -> Vec<Mirror> {
    let public = Mirror {
        main: "http://deb.debian.org/debian".into(),
        security: "http://deb.debian.org/debian-security".into(),
    };
    let archive = Mirror {
        main: "http://archive.debian.org/debian".into(),
        security: "http://archive.debian.org/debian-security".into(),
    };
    let (main, security) = debian_uris(host_sources);
    let host = Mirror {
        main: main.unwrap_or_else(|| public.main.clone()),
        security: security.unwrap_or_else(|| public.security.clone()),
    };
    let mut mirrors = vec![host];
    for mirror in [public, archive] {
        if !mirrors.contains(&mirror) {
            mirrors.push(mirror);
        }
    }
    mirrors
}

/// The host's apt sources as one text, an empty line between any two files.
fn host_sources() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let listed =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut listed: Vec<_> =
        listed.filter(|path| path.extension().is_some_and(|end| end == "list" || end == "sources")).collect();
    listed.sort();
    files.extend(listed);
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().join("\n\n")
}

/// The addresses of Debian's main and security archives in apt sources of either format.
fn debian_uris(sources: &str) -> (Option<String>, Option<String>) {
    const SUITES: [&str; 9] =
        ["bullseye", "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable"];
    let (mut main, mut security) = (None, None);
    let mut consider = |address: &str, suites: &str, components: &str| {
        if !components.split_whitespace().any(|component| component == "main") {
            return;
        }
        for suite in suites.split_whitespace() {
            if SUITES.contains(&suite) {
                main.get_or_insert_with(|| address.to_owned());
            } else if suite.strip_suffix("-security").is_some_and(|suite| SUITES.contains(&suite)) {
                security.get_or_insert_with(|| address.to_owned());
            }
        }
    };
    for stanza in sources.split("\n\n") {
        let field = |name| field(stanza, name).unwrap_or_default();
        if let Some(address) = field("URIs").split_whitespace().next()
            && field("Types").split_whitespace().any(|kind| kind == "deb")
            && field("Enabled") != "no"
        {
            consider(address, field("Suites"), field("Components"));
        }
        for line in stanza.lines() {
            let Some(line) = line.trim().strip_prefix("deb ") else { continue };
            let line = line.trim_start();
            let line =
                line.strip_prefix('[').and_then(|line| Some(line.split_once(']')?.1)).unwrap_or(line).trim();
            let mut words = line.split_whitespace();
            if let (Some(address), Some(suite)) = (words.next(), words.next()) {
                consider(address, suite, &words.collect::<Vec<_>>().join(" "));
            }
        }
    }
    (main, security)
}

/// A field of a stanza as `apt-cache show` prints it.
fn field<'text>(stanza: &'text str, name: &str) -> Option<&'text str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What the first stanza depends on: each package, and its version where it is exact.
fn dependencies(show: &str) -> Vec<(String, Option<String>)> {
    let first = show.split("\n\n").next().unwrap_or_default();
    let one = |dependency: &str| {
        // Of alternatives the first is Debian's own choice.
        let dependency = dependency.split('|').next().unwrap_or_default().trim();
        let (name, version) = match dependency.split_once('(') {
            Some((name, version)) => (name.trim(), version.trim_end_matches(')').trim().strip_prefix('=')),
            None => (dependency, None),
        };
        let name = name.split(':').next().unwrap_or_default();
        (name.to_owned(), version.map(|version| version.trim().to_owned()))
    };
    field(first, "Depends")
        .unwrap_or_default()
        .split(',')
        .map(one)
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

/// The stanza to take, out of those that `apt-cache show` prints, best first.
fn pick_version<'text>(show: &'text str, wanted: Option<&str>) -> Option<&'text str> {
    show.split("\n\n").find(|stanza| {
        field(stanza, "Version").is_some_and(|version| wanted.is_none_or(|wanted| version == wanted))
    })
}

/// The name with the highest numbers between prefix and suffix.
fn newest(names: &str, prefix: &str, suffix: &str) -> Option<String> {
    let numbers = |name: &str| -> Option<Vec<u64>> {
        let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        let (numbers, _) = middle.split_once('+').unwrap_or((middle, ""));
        numbers.split(['.', '-']).map(|number| number.parse().ok()).collect()
    };
    names.lines().filter_map(|name| Some((numbers(name)?, name))).max().map(|(_, name)| name.to_owned())
}

/// Runs a command to its end and gives what it printed; if it fails, the error holds all it said.
fn run(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    listing.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_package_leads_to_its_image_in_the_exact_version() {
        let show = "Package: linux-image-cloud-amd64\nVersion: 5.10.262-1\n\
                    Depends: linux-image-5.10.0-46-cloud-amd64 (= 5.10.262-1)\n\nDepends: linux-image-older\n";
        let expected = ("linux-image-5.10.0-46-cloud-amd64".to_owned(), Some("5.10.262-1".to_owned()));
        assert_eq!(dependencies(show), [expected]);
    }

    #[test]
    fn dependencies_may_have_alternatives_architectures_and_ranges() {
        let show = "Depends: dracut | initramfs-tools (>= 0.1), linux-image-6.1.0-56-cloud-amd64:amd64, \
                    linux-base-7.3.4 (= 7.3.4-1~bpo13+1), linux-base (>= 4.3)\n";
        let found = dependencies(show);
        let found: Vec<_> = found.iter().map(|(name, version)| (name.as_str(), version.as_deref())).collect();
        assert_eq!(
            found,
            [
                ("dracut", None),
                ("linux-image-6.1.0-56-cloud-amd64", None),
                ("linux-base-7.3.4", Some("7.3.4-1~bpo13+1")),
                ("linux-base", None)
            ]
        );
        assert_eq!(dependencies("N: Unable to locate package\n"), []);
    }

    #[test]
    fn the_version_asked_for_is_picked_else_the_best() {
        let show = "Package: a\nVersion: 2-1\n\nPackage: a\nVersion: 1-1\n";
        let version = |wanted| pick_version(show, wanted).and_then(|stanza| field(stanza, "Version"));
        assert_eq!(version(Some("1-1")), Some("1-1"));
        assert_eq!(version(None), Some("2-1"));
        assert_eq!(version(Some("3-1")), None);
    }

    #[test]
    fn the_newest_name_is_the_one_with_the_highest_numbers() {
        let names = "linux-image-6.18.5+deb13-cloud-amd64\nlinux-image-6.18.15+deb13-cloud-amd64\n\
                     linux-image-6.18.15+deb13-cloud-amd64-unsigned\nlinux-image-6.18.9+deb13-amd64\n\
                     linux-image-6.18.x-cloud-amd64\n";
        let found = newest(names, "linux-image-6.18.", "-cloud-amd64");
        assert_eq!(found.as_deref(), Some("linux-image-6.18.15+deb13-cloud-amd64"));
        assert_eq!(newest(names, "linux-image-6.19.", "-cloud-amd64"), None);
    }

    #[test]
    fn the_hosts_mirror_is_read_from_both_formats() {
        let stanzas = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
                       Components: main\n\nTypes: deb\nURIs: http://mirror.example/debian-security\n\
                       Suites: bookworm-security\nComponents: main\n";
        let lines = "# deb http://commented.example/debian bookworm main\n\
                     deb https://other.example/apt tool-bookworm main\n\
                     deb [arch=amd64 signed-by=/x.gpg] http://mirror.example/debian trixie main contrib\n\
                     deb http://mirror.example/debian-security trixie-security main\n";
        let expected = (
            Some("http://mirror.example/debian".to_owned()),
            Some("http://mirror.example/debian-security".to_owned()),
        );
        assert_eq!(debian_uris(stanzas), expected);
        assert_eq!(debian_uris(lines), expected);
        assert_eq!(debian_uris("deb http://ubuntu.example/ubuntu jammy main\n"), (None, None));
    }

    #[test]
    fn debians_own_mirrors_follow_the_hosts_each_once() {
        assert_eq!(mirrors("").len(), 2);
        let all = mirrors("deb http://mirror.example/debian bookworm main\n");
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].main, "http://mirror.example/debian");
    }

    #[test]
    fn sources_are_verified_with_debians_keyring() {
        let text = sources(&mirrors("")[0], "bullseye", Some("bullseye-security"));
        assert_eq!(text.lines().filter(|line| line.contains(&format!("signed-by={KEYRING}"))).count(), 2);
    }
}
