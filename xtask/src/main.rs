//! `cargo xtask`: every developer command, one module a command.
//!
//! Owns: the list of commands. Must not know: what they do. Bounded by: one command a run.

mod bless;
mod build;
mod built;
mod check;
mod conformance;
mod demo;
mod fuzz;
mod kernels;
mod lifeline;
mod peers;
mod process;
mod program;
mod record;
mod setup;
mod test;

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
    /// Play a chat before a live observer, and prove that it read all of it.
    Demo(demo::Arguments),
    /// Run the Autobahn testsuite against the chat server, and prove that a live observer agrees with it.
    Conformance(conformance::Arguments),
    /// Run every test, or the live ones in virtual machines with Debian's kernels.
    Test(test::Arguments),
    /// Check formatting, lints and documentation.
    Check,
    /// Fuzz the decoder, and compare it with oracles.
    Fuzz(fuzz::Arguments),
    /// Make today's output the expected one of the golden tests.
    Bless,
    /// Record captures of testdata again; the golden tests have to be blessed after.
    Record(record::Arguments),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Setup(arguments) => setup::command(&arguments),
        Command::Build(arguments) => build::command(&arguments),
        Command::Demo(arguments) => demo::command(&arguments),
        Command::Conformance(arguments) => conformance::command(&arguments),
        Command::Test(arguments) => test::command(&arguments),
        Command::Check => check::command(),
        Command::Fuzz(arguments) => fuzz::command(&arguments),
        Command::Bless => bless::command(),
        Command::Record(arguments) => record::command(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
