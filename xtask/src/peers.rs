//! Servers and clients that are not ours, which the live tests watch, and of which testdata has recordings.
//!
//! Owns which there are, in which versions, and where they lie. Must not know what they do. Bounded by what is missing:
//! what was found is not installed again.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{find_program, output, program, run, target_directory};
use crate::setup::{ensure_packages, install_packages, unpack_package};
use crate::test::ensure_browser;

const NODE_WS: &str = "ws@8";
const PYTHON_WEBSOCKETS: PythonPeer = PythonPeer {
    name: "websockets",
    module: "websockets.sync.server",
    requirements: &["websockets>=13,<17"],
};
/// With what it imports, but not with what it needs for TLS. Later versions are compiled, for some machines only.
const PYTHON_AUTOBAHN: PythonPeer = PythonPeer {
    name: "autobahn",
    module: "autobahn.asyncio.websocket",
    requirements: &["autobahn==24.4.2", "txaio==23.1.1", "hyperlink==21.0.0", "idna==3.10"],
};

/// The Autobahn testsuite's cases. Pinned, since its script uses parts of it that are not its public interface.
const KOSOKU: PythonPeer = PythonPeer { name: "kosoku", module: "kosoku", requirements: &["kosoku==0.1.0"] };

/// A package of PyPI that the live tests use, in an environment of its own.
struct PythonPeer {
    name: &'static str,
    /// What is imported to see whether it is there.
    module: &'static str,
    /// Everything that it needs.
    requirements: &'static [&'static str],
}

/// Makes sure that all are there, and gives the variables that name them to tests and scripts.
///
/// # Errors
/// If one is missing and cannot be had.
pub fn all() -> Result<[(&'static str, PathBuf); 4]> {
    ensure_browser()?;
    ensure_packages(
        &[("libwebsockets-test-server", "libwebsockets-test-server")],
        "for its server and its client, which are watched",
    )?;
    Ok([
        ("NODE_WS_DIR", node_ws()?),
        ("NGINX_BIN", nginx()?),
        ("PYTHON_WEBSOCKETS", python(&PYTHON_WEBSOCKETS)?),
        ("PYTHON_AUTOBAHN", python(&PYTHON_AUTOBAHN)?),
    ])
}

/// A Python interpreter that has the Autobahn testsuite's cases.
///
/// # Errors
/// If it cannot be had.
pub fn kosoku() -> Result<PathBuf> {
    python(&KOSOKU)
}

fn peers_directory() -> PathBuf {
    target_directory().join("peers")
}

/// A directory whose `node_modules` holds npm's `ws`.
///
/// # Errors
/// If it is missing and cannot be installed.
pub fn node_ws() -> Result<PathBuf> {
    let directory = peers_directory().join("node-ws");
    if !directory.join("node_modules/ws/package.json").is_file() {
        ensure_packages(
            &[("node", "nodejs"), ("npm", "npm")],
            "for servers and clients of npm's ws, which are watched",
        )?;
        std::fs::create_dir_all(&directory)?;
        run(program("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", NODE_WS, "--prefix"])
            .arg(&directory))?;
    }
    Ok(directory)
}

/// The program nginx. Where it is not installed it is not installed either: Debian's package would start a server on
/// port 80, and with each boot; its program alone needs nothing but libraries that node has brought along.
fn nginx() -> Result<PathBuf> {
    if let Some(installed) = find_program("nginx") {
        return Ok(installed);
    }
    let directory = peers_directory().join("nginx");
    let nginx = directory.join("usr/sbin/nginx");
    if !nginx.is_file() {
        unpack_package("nginx", &directory, "for a proxy that is watched")?;
    }
    output(Command::new(&nginx).arg("-v")).context("Debian's nginx does not start here; install nginx")?;
    Ok(nginx)
}

/// A Python interpreter that has this package.
fn python(peer: &PythonPeer) -> Result<PathBuf> {
    let directory = peers_directory().join(format!("python-{}", peer.name));
    let python = directory.join("bin/python");
    if output(Command::new(&python).arg("-c").arg(format!("import {}", peer.module))).is_err() {
        let why = format!("for servers and clients of Python's {}, which are watched", peer.name);
        ensure_packages(&[("python3", "python3")], &why)?;
        if output(program("python3").args(["-m", "venv", "--clear"]).arg(&directory)).is_err() {
            install_packages(&["python3-venv"], &why)?;
            run(program("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
        }
        let install = ["-m", "pip", "install", "--quiet", "--no-deps"];
        run(Command::new(&python).args(install).args(peer.requirements))?;
    }
    Ok(python)
}
