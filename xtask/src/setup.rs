//! `cargo xtask setup`: finds what compiles the kernel programs, and installs what is missing.
//!
//! Owns: the choice of compiler and linker, and every installation. Must not know: what is compiled.
//! Bounded by: it installs nothing that was found, changes no default toolchain, and is done in well under a
//! second when everything is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::process::{
    cargo, cargo_bin_directory, find_program, is_root, output, program, run, run_for, target_directory,
};

/// The oldest compiler that the workspace's edition and `rust-version` allow.
const RUST_RELEASE_MIN: (u32, u32) = (1, 95);
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CLIPPY: &str = "rust-web-clippy";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "cargo-web"];
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(180);

/// LLVM majors after the compiler's that are tried for the linker.
const LLVM_MAJORS_AHEAD: u32 = 4;

/// Options of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Build bpf-linker again even if it seems to fit; for one that cannot read the compiler's output.
    #[arg(long)]
    rebuild_linker: bool,
}

/// What compiles the kernel programs.
#[derive(Debug)]
pub struct KernelToolchain {
    /// The compiler, which has its library's source.
    pub rustc: PathBuf,
    /// The cargo that belongs to it.
    pub cargo: PathBuf,
    /// A stable compiler that must be allowed to use unstable features.
    pub is_stable: bool,
    /// bpf-linker.
    pub linker: PathBuf,
    /// Why this compiler.
    description: String,
    llvm_major: u32,
}

/// Runs the command.
///
/// # Errors
/// If something is missing and cannot be installed; the text says what to do by hand.
pub fn command(arguments: &Arguments) -> Result<()> {
    let compiler = compiler()?;
    if arguments.rebuild_linker {
        build_linker(compiler.llvm_major)?;
    }
    let toolchain = with_linker(compiler)?;
    println!(
        "kernel compiler: {} ({}, LLVM {}): {}",
        toolchain.rustc.display(),
        if toolchain.is_stable { "stable, with RUSTC_BOOTSTRAP=1" } else { "nightly" },
        toolchain.llvm_major,
        toolchain.description
    );
    println!(
        "kernel linker:   {} ({})",
        toolchain.linker.display(),
        match linker_llvm_major(&toolchain.linker) {
            Some(major) => format!("LLVM {major}"),
            None => "LLVM linked in; its version is not told".to_owned(),
        }
    );
    Ok(())
}

/// Finds the kernel-side toolchain, installing what is missing. Prints only when it installs.
///
/// # Errors
/// If something is missing and cannot be installed; the text says what to do by hand.
pub fn kernel_toolchain() -> Result<KernelToolchain> {
    with_linker(compiler()?)
}

/// Makes sure that these programs are there; each is named with the Debian package that has it.
///
/// # Errors
/// If one is missing and cannot be installed.
pub fn ensure_packages(programs: &[(&str, &str)], why: &str) -> Result<()> {
    let missing: BTreeSet<&str> = programs
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install_packages(&missing.into_iter().collect::<Vec<_>>(), why)?;
    for (program, package) in programs {
        if find_program(program).is_none() {
            bail!("the package {package} is installed, but has no program {program}");
        }
    }
    Ok(())
}

type Attempt = fn() -> Result<()>;

fn compiler() -> Result<KernelToolchain> {
    let mut reasons = Vec::new();
    if let Some(found) = found_compiler(&mut reasons) {
        return Ok(found);
    }
    println!(
        "The kernel programs need a Rust compiler with the source of its library. {}.",
        reasons.join("; ")
    );
    let mut failures = Vec::new();
    let attempts: [(&str, Attempt); 3] = [
        ("adding rust-src to the rustup nightly", add_rust_src),
        ("installing Debian's compiler", install_debian_compiler),
        ("installing a rustup nightly", install_nightly),
    ];
    for (what, attempt) in attempts {
        match attempt() {
            Ok(()) => match found_compiler(&mut Vec::new()) {
                Some(found) => return Ok(found),
                None => failures.push(format!("{what} did not give a usable compiler")),
            },
            Err(error) => failures.push(format!("{what}: {error:#}")),
        }
    }
    bail!(
        "no compiler for the kernel programs:\n  {}\nInstall one by hand, with either\n  \
         rustup toolchain install nightly --profile minimal --component rust-src --component clippy\nor, on \
         Debian,\n  \
         sudo apt-get install {}",
        failures.join("\n  "),
        DEBIAN_PACKAGES.join(" ")
    );
}

fn found_compiler(reasons: &mut Vec<String>) -> Option<KernelToolchain> {
    let candidates = [rustup_nightly(), Ok((DEBIAN_RUSTC.into(), DEBIAN_CARGO.into(), true))];
    for candidate in candidates {
        let result = candidate.and_then(|(rustc, cargo, is_stable)| usable_compiler(rustc, cargo, is_stable));
        match result {
            Ok(found) => return Some(found),
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    None
}

fn rustup_nightly() -> Result<(PathBuf, PathBuf, bool)> {
    find_program("rustup").context("rustup is not installed")?;
    let which = |name: &str| -> Result<PathBuf> {
        let path = output(program("rustup").args(["which", "--toolchain", "nightly", name]))
            .map_err(|_| anyhow!("rustup has no nightly"))?;
        Ok(PathBuf::from(path.trim()))
    };
    Ok((which("rustc")?, which("cargo")?, false))
}

fn usable_compiler(rustc: PathBuf, cargo: PathBuf, is_stable: bool) -> Result<KernelToolchain> {
    if !rustc.exists() || !cargo.exists() {
        bail!("{} or {} is not installed", rustc.display(), cargo.display());
    }
    let mut ask = Command::new(&rustc);
    let version = output(without_toolchain_overrides(&mut ask).arg("-vV"))?;
    let (release, llvm_major) =
        parse_rustc_version(&version).with_context(|| format!("{} tells no version", rustc.display()))?;
    if release < RUST_RELEASE_MIN {
        bail!(
            "{} is {}.{}, and {}.{} is needed",
            rustc.display(),
            release.0,
            release.1,
            RUST_RELEASE_MIN.0,
            RUST_RELEASE_MIN.1
        );
    }
    let mut ask = Command::new(&rustc);
    let sysroot = output(without_toolchain_overrides(&mut ask).args(["--print", "sysroot"]))?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !source.exists() {
        bail!("{} has no rust-src", rustc.display());
    }
    Ok(KernelToolchain {
        rustc,
        cargo,
        is_stable,
        linker: PathBuf::new(),
        description: format!("{}.{} with rust-src", release.0, release.1),
        llvm_major,
    })
}

/// Removes what would make a compiler or cargo use parts of another toolchain.
pub fn without_toolchain_overrides(command: &mut Command) -> &mut Command {
    for variable in [
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO",
    ] {
        command.env_remove(variable);
    }
    command
}

/// From `rustc -vV`: the release's first two numbers, and the major version of its LLVM.
fn parse_rustc_version(text: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut numbers = text.trim().split('.').map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    Some((numbers(field("release:")?)?, numbers(field("LLVM version:")?)?.0))
}

fn add_rust_src() -> Result<()> {
    rustup_nightly()?;
    println!("Adding rust-src to the rustup nightly that is here.");
    add_component("rust-src")
}

fn add_component(name: &str) -> Result<()> {
    run_for(program("rustup").args(["component", "add", name, "--toolchain", "nightly"]), RUSTUP_TIME_MAX)
}

/// Makes sure that the toolchain has clippy.
///
/// # Errors
/// If it has none and none can be installed.
pub fn ensure_clippy(toolchain: &KernelToolchain) -> Result<()> {
    let clippy = toolchain.cargo.with_file_name("cargo-clippy");
    if clippy.exists() {
        return Ok(());
    }
    if toolchain.is_stable {
        install_packages(&[DEBIAN_CLIPPY], "for the lints of the kernel crate")?;
    } else {
        println!("Adding clippy to the rustup nightly, for the lints of the kernel crate.");
        add_component("clippy").context(
            "the nightly has no clippy. Get one that has: rustup toolchain install nightly --profile minimal \
             --component rust-src --component clippy",
        )?;
    }
    if !clippy.exists() {
        bail!("clippy is installed, but there is no {}", clippy.display());
    }
    Ok(())
}

fn install_debian_compiler() -> Result<()> {
    install_packages(&DEBIAN_PACKAGES, "to compile the kernel programs")
}

fn install_nightly() -> Result<()> {
    find_program("rustup").context("rustup is not installed")?;
    println!("Installing a rustup nightly with rust-src; the default toolchain stays as it is.");
    run_for(
        program("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]).args([
            "--component",
            "rust-src",
            "--component",
            "clippy",
        ]),
        RUSTUP_TIME_MAX,
    )
}

fn with_linker(mut toolchain: KernelToolchain) -> Result<KernelToolchain> {
    toolchain.linker = linker(toolchain.llvm_major)?;
    Ok(toolchain)
}

fn linker(llvm_major: u32) -> Result<PathBuf> {
    let found = found_linkers();
    if let Some(fitting) = found.iter().find(|linker| fits(linker, llvm_major)) {
        return Ok(fitting.clone());
    }
    match found.first() {
        Some(old) => println!(
            "{} was built with LLVM {}, and cannot read the output of a compiler with LLVM {llvm_major}.",
            old.display(),
            linker_llvm_major(old).unwrap_or(0)
        ),
        None => println!("The kernel programs need bpf-linker, which is not installed."),
    }
    if find_program("cargo-binstall").is_some() {
        println!("Installing bpf-linker with cargo-binstall.");
        let mut install = cargo();
        install.args(["binstall", "--no-confirm", "--force", "bpf-linker", "--root"]).arg(tools_directory());
        match run(&mut install) {
            Ok(()) => {
                if let Some(linker) = found_linkers().into_iter().find(|linker| fits(linker, llvm_major)) {
                    return Ok(linker);
                }
                println!("What cargo-binstall installed does not fit, so bpf-linker is built here.");
            }
            Err(error) => println!("{error:#}; bpf-linker is built here instead."),
        }
    }
    build_linker(llvm_major)
}

/// Every bpf-linker that could be used, the one that setup installed first.
fn found_linkers() -> Vec<PathBuf> {
    let mut found = vec![tools_directory().join("bin/bpf-linker")];
    found.extend(find_program("bpf-linker"));
    found.extend(cargo_bin_directory().map(|directory| directory.join("bpf-linker")));
    found.retain(|path| path.exists());
    found
}

/// A linker that has LLVM inside does not tell its version; it is tried.
fn fits(linker: &Path, llvm_major: u32) -> bool {
    linker_llvm_major(linker).is_none_or(|major| major >= llvm_major)
}

fn linker_llvm_major(linker: &Path) -> Option<u32> {
    let libraries = output(Command::new("ldd").arg(linker)).ok()?;
    parse_llvm_library(&libraries)
}

/// The library is called libLLVM.so.22.1 or, before LLVM 18, libLLVM-17.so.1.
fn parse_llvm_library(libraries: &str) -> Option<u32> {
    let name = libraries.split_whitespace().find_map(|word| word.strip_prefix("libLLVM"))?;
    let digits: String = name
        .trim_start_matches(|character: char| !character.is_ascii_digit())
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn build_linker(llvm_major: u32) -> Result<PathBuf> {
    let (major, prefix) = llvm_development_files(llvm_major)?;
    ensure_packages(&[("cc", "gcc"), ("c++", "g++")], "to build bpf-linker")?;
    println!("Building bpf-linker with LLVM {major}; this takes a minute or more.");
    let mut install = cargo();
    install
        .args(["install", "bpf-linker", "--locked", "--force", "--no-default-features", "--features"])
        .arg(format!("llvm-{major}"))
        // Not among the user's own programs: theirs may be there for something else.
        .arg("--root")
        .arg(tools_directory())
        .env("LLVM_PREFIX", &prefix);
    run(&mut install).context("bpf-linker could not be built")?;
    let built = tools_directory().join("bin/bpf-linker");
    if !built.exists() {
        bail!("cargo install succeeded, but there is no {}", built.display());
    }
    Ok(built)
}

/// Debian's development files of the oldest LLVM that is new enough, and where they are.
fn llvm_development_files(llvm_major: u32) -> Result<(u32, PathBuf)> {
    let prefix = |major: u32| PathBuf::from(format!("/usr/lib/llvm-{major}"));
    let majors = llvm_major..=llvm_major + LLVM_MAJORS_AHEAD;
    let is_installed = |major: &u32| prefix(*major).join("include/llvm-c/Core.h").exists();
    if let Some(major) = majors.clone().find(is_installed) {
        return Ok((major, prefix(major)));
    }
    let mut failures = Vec::new();
    for major in majors {
        let package = format!("llvm-{major}-dev");
        match install_packages(&[&package], "to build bpf-linker") {
            Ok(()) if is_installed(&major) => return Ok((major, prefix(major))),
            Ok(()) => failures.push(format!("{package} has no development files")),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!(
        "bpf-linker needs the development files of LLVM {llvm_major} or newer:\n  {}\nInstall them, or \
         cargo-binstall, and run `cargo xtask setup` again.",
        failures.join("\n  ")
    );
}

/// Where programs are installed that are not the user's own.
#[must_use]
pub fn tools_directory() -> PathBuf {
    target_directory().join("tools")
}

/// Installs Debian packages, if that takes none from the user.
///
/// # Errors
/// If they cannot be installed; the text says what to do instead where that is known.
pub fn install_packages(packages: &[&str], why: &str) -> Result<()> {
    ensure_candidates(packages, why)?;
    println!("Installing {} {why}.", packages.join(" "));
    let arguments = install_arguments(packages);
    if run(&mut apt_get(&arguments)?).is_err() {
        // Lists that name versions which the archive no longer has are the usual cause.
        run(&mut apt_get(&["update", "-q"])?)?;
        run(&mut apt_get(&arguments)?)?;
    }
    Ok(())
}

/// Unpacks the files of a Debian package into a directory, and installs nothing: no service is started, and no other
/// package comes with it.
///
/// # Errors
/// If it cannot be fetched or unpacked.
pub fn unpack_package(package: &str, directory: &Path, why: &str) -> Result<()> {
    ensure_candidates(&[package], why)?;
    println!("Unpacking {package} {why}; it is not installed.");
    let download = directory.join("download");
    std::fs::create_dir_all(&download).with_context(|| format!("cannot make {}", download.display()))?;
    let mut fetch = program("apt-get");
    fetch.args(["download", "-q", package]).current_dir(&download);
    if run(&mut fetch).is_err() {
        // Lists that name versions which the archive no longer has are the usual cause.
        run(&mut apt_get(&["update", "-q"])?)?;
        run(&mut fetch)?;
    }
    for entry in std::fs::read_dir(&download)? {
        run(program("dpkg-deb").arg("--extract").arg(entry?.path()).arg(directory))?;
    }
    std::fs::remove_dir_all(&download).with_context(|| format!("cannot remove {}", download.display()))
}

/// Makes sure that apt knows these packages.
fn ensure_candidates(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if find_program("apt-get").is_none() {
        bail!("{list} ({why}): there is no apt-get here; install what your system calls these packages");
    }
    if !packages.iter().all(|package| has_candidate(package)) {
        println!("Updating the lists of packages, which do not have {list}.");
        run(&mut apt_get(&["update", "-q"])?)?;
        if let Some(unknown) = packages.iter().find(|package| !has_candidate(package)) {
            bail!("there is no package {unknown} for this system");
        }
    }
    Ok(())
}

/// Debian's compilers conflict with each other, and `-y` alone would remove the user's.
fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "-y", "-q", "--no-remove", "--no-install-recommends"];
    arguments.extend(packages);
    arguments
}

fn has_candidate(package: &str) -> bool {
    output(program("apt-cache").env("LC_ALL", "C").args(["policy", package])).is_ok_and(|policy| {
        policy
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Candidate:"))
            .any(|candidate| candidate.trim() != "(none)")
    })
}

fn apt_get(arguments: &[&str]) -> Result<Command> {
    let mut command = if is_root() {
        Command::new("env")
    } else if find_program("sudo").is_some() {
        let mut command = program("sudo");
        command.arg("env");
        command
    } else {
        bail!("apt-get needs root, and there is no sudo here. As root, run: apt-get {}", arguments.join(" "));
    };
    command.arg("DEBIAN_FRONTEND=noninteractive").arg("apt-get").args(arguments);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_release_and_llvm_are_read() {
        let stable =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_rustc_version(stable), Some(((1, 96), 22)));
        let nightly = "rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(parse_rustc_version(nightly), Some(((1, 97), 22)));
        assert_eq!(parse_rustc_version("rustc\n"), None);
    }

    #[test]
    fn the_linkers_llvm_is_read_from_its_libraries() {
        let new = "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007f)\n\tlibc.so.6 => x\n";
        assert_eq!(parse_llvm_library(new), Some(22));
        let old = "\tlinux-vdso.so.1 (0x0)\n\tlibLLVM-17.so.1 => /lib/libLLVM-17.so.1 (0x0)\n";
        assert_eq!(parse_llvm_library(old), Some(17));
        assert_eq!(parse_llvm_library("\tlibc.so.6 => /lib/libc.so.6 (0x0)\n"), None);
        assert_eq!(parse_llvm_library("\tstatically linked\n"), None);
    }

    #[test]
    fn installing_a_package_never_removes_another() {
        let arguments = install_arguments(&["rustc-web"]);
        assert!(
            arguments.contains(&"--no-remove") && arguments.last() == Some(&"rustc-web"),
            "{arguments:?}"
        );
    }

    #[test]
    fn programs_that_are_there_need_no_package() {
        ensure_packages(&[("sh", "dash"), ("ls", "coreutils")], "for a test").unwrap();
    }
}
