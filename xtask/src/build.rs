//! `cargo xtask build`: compiles the kernel programs and embeds them in `observer`.
//!
//! Owns: how the kernel crate is compiled and where results lie. Must not know: how they are used.
//! Bounded by: two cargo runs; cargo decides what is out of date, so a change of the ABI always recompiles
//! the object.
//!
//! Results are copied to `target/dist/{debug,release}`: a later plain `cargo build` or `cargo test` embeds a
//! stub, and would otherwise replace the binaries that can capture by some that cannot.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::built;
use crate::process::{cargo, cargo_bin_directory, run, target_directory, workspace_root};
use crate::setup::{self, KernelToolchain, without_toolchain_overrides};

/// Names the compiled kernel programs to the build of `observer`.
pub const OBJECT_VARIABLE: &str = "OBSERVER_EBPF_OBJECT";

const KERNEL_TARGET: &str = "bpfel-unknown-none";

/// Options of `cargo xtask build`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Optimise; the kernel programs always are.
    #[arg(long)]
    release: bool,
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The observer, with its kernel programs.
    pub observer: PathBuf,
    /// The bundled chat server.
    pub chat_server: PathBuf,
    /// The kernel programs; the value for [`OBJECT_VARIABLE`].
    pub object: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If the toolchain cannot be had or something does not compile.
pub fn command(arguments: &Arguments) -> Result<()> {
    let artifacts = all(arguments.release)?;
    let root = workspace_root();
    for path in [&artifacts.observer, &artifacts.chat_server, &artifacts.object] {
        println!("{}", path.strip_prefix(&root).unwrap_or(path).display());
    }
    Ok(())
}

/// Builds everything, setting up first.
///
/// # Errors
/// If the toolchain cannot be had or something does not compile.
pub fn all(release: bool) -> Result<Artifacts> {
    let object = kernel_object()?;
    let mut build = cargo();
    build
        .args(["build", "--package", "observer", "--package", "chat-server", "--bins"])
        .env(OBJECT_VARIABLE, &object);
    if release {
        build.arg("--release");
    }
    let built = built::executables(&mut build)?;
    let find = |name: &str| {
        let built = built.iter().find(|built| built.name == name);
        built.map(|built| built.path.as_path()).with_context(|| format!("cargo built no {name}"))
    };

    let profile = if release { "release" } else { "debug" };
    let kept = target_directory().join("dist").join(profile);
    fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
    Ok(Artifacts {
        observer: keep(find("observer")?, &kept)?,
        chat_server: keep(find("chat-server")?, &kept)?,
        object,
    })
}

/// Builds the users of the chat's page, who play in browsers, and returns where they are.
///
/// # Errors
/// If they do not compile.
pub fn browser_users() -> Result<PathBuf> {
    let name = "browser-users";
    let built = built::executables(cargo().args(["build", "--package", "browser", "--bin", name]))?;
    built.into_iter().find(|built| built.name == name).map(|built| built.path).context("cargo built no users")
}

/// Compiles the kernel programs alone, and returns where the object is.
///
/// # Errors
/// If the toolchain cannot be had or something does not compile.
pub fn kernel_object() -> Result<PathBuf> {
    let toolchain = setup::kernel_toolchain()?;
    run(kernel_cargo(&toolchain, "build").args(["--bin", "observer-ebpf"])).with_context(|| {
        format!(
            "the kernel programs do not compile with {} and {}. If the linker complains about LLVM or \
             bitcode, run `cargo xtask setup --rebuild-linker`",
            toolchain.rustc.display(),
            toolchain.linker.display()
        )
    })?;
    Ok(kernel_target_directory().join(KERNEL_TARGET).join("release/observer-ebpf"))
}

/// A cargo subcommand, such as `build` or `clippy`, for the kernel crate and its target.
#[must_use]
pub fn kernel_cargo(toolchain: &KernelToolchain, subcommand: &str) -> Command {
    let mut command = Command::new(&toolchain.cargo);
    without_toolchain_overrides(&mut command)
        .env("PATH", path_for(&toolchain.cargo))
        .current_dir(workspace_root())
        .arg(subcommand)
        .args(["--package", "observer-ebpf", "--release"])
        .args(["-Z", "build-std=core", "--target", KERNEL_TARGET])
        // A directory of its own: this compiler would invalidate what the other one compiled.
        .arg("--target-dir")
        .arg(kernel_target_directory())
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker)
        .env_remove(OBJECT_VARIABLE)
        // bpf-linker does the link-time optimisation, over all crates and the library.
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        // Without BTF nothing reads debug information, and old kernels have nothing to refuse.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    if toolchain.is_stable {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

/// A PATH on which this cargo finds the subcommands of its own toolchain first. Cargo would search `~/.cargo/bin`
/// before all of PATH if it were not named there; rustup's proxies in it are of the default toolchain.
fn path_for(cargo: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = cargo.parent().map(Path::to_owned).into_iter();
    let directories = directories.chain(env::split_paths(&path)).chain(cargo_bin_directory());
    env::join_paths(directories).unwrap_or(path)
}

fn kernel_target_directory() -> PathBuf {
    target_directory().join("bpf")
}

/// Copies under another name first: the file may be running.
fn keep(built: &Path, directory: &Path) -> Result<PathBuf> {
    let name = built.file_name().context("a binary has a name")?;
    let kept = directory.join(name);
    let fresh = directory.join(format!("{}.new-{}", name.to_string_lossy(), std::process::id()));
    fs::copy(built, &fresh)
        .and_then(|_| fs::rename(&fresh, &kept))
        .with_context(|| format!("cannot copy {} to {}", built.display(), kept.display()))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchains_own_programs_are_found_before_cargos() {
        let path = path_for(Path::new("/toolchain/bin/cargo"));
        let directories: Vec<_> = env::split_paths(&path).collect();
        assert_eq!(directories[0], Path::new("/toolchain/bin"));
        assert_eq!(directories.last(), cargo_bin_directory().as_ref());
    }
}
