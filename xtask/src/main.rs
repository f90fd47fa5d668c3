//! `cargo xtask`: every developer command, one module a command.
//!
//! Owns: the list of commands. Must not know: what they do. Bounded by: one command a run.

mod build;
mod process;
mod setup;

use std::process::ExitCode;

use clap::Parser;

/// Developer commands of observer.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
enum Command {
    /// Find or install what compiles the kernel programs (the other commands do it by themselves).
    Setup(setup::Arguments),
    /// Compile the kernel programs, and observer and the chat server with them.
    Build(build::Arguments),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Setup(arguments) => setup::command(&arguments),
        Command::Build(arguments) => build::command(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
