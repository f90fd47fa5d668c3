//! `cargo xtask record`: records captures of testdata again, with what their ends logged.
//!
//! Owns what the recorder needs. Must not know what is recorded: testdata/record/record.sh does. Bounded by that script.

use anyhow::{Context as _, Result};

use crate::peers;
use crate::process::{find_program, is_root, program, run, workspace_root};
use crate::setup::ensure_packages;

/// Options of `cargo xtask record`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Captures to record again, without their extensions [default: all]
    names: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If something that is needed cannot be had, or a peer fails.
pub fn command(arguments: &Arguments) -> Result<()> {
    ensure_packages(
        &[("ip", "iproute2"), ("tcpdump", "tcpdump"), ("dumpcap", "wireshark-common")],
        "to record captures",
    )?;
    let script = workspace_root().join("testdata/record/record.sh");
    let mut record = if is_root() {
        std::process::Command::new(script)
    } else {
        find_program("sudo").context("the recorder needs root: run this as root, or install sudo")?;
        let mut sudo = program("sudo");
        sudo.arg("--preserve-env").arg(script);
        sudo
    };
    run(record.args(&arguments.names).envs(peers::all()?))?;
    println!("Now `cargo xtask bless`, and read the difference.");
    Ok(())
}
