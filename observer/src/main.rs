//! The binary: parses the command line, starts what was asked for, and turns its end into an exit code.
//!
//! Owns nothing else. Must not know how anything is done.

use std::process::ExitCode;

use observer::cli::{self, EXIT_ERROR, EXIT_NOT_RUN, EXIT_OK, EXIT_USAGE, Source, Task};
use observer::output::diagnostics::Diagnostics;
use observer::shell::ReaderIsGone;
use observer::{read, watch};

fn main() -> ExitCode {
    let request = match cli::parse(std::env::args_os()) {
        Ok(request) => request,
        Err(error) => {
            // Nobody to tell if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    let ended = match &request.source {
        Source::Live(live) => watch::run(&request, live),
        Source::Files(files) => read::run(&request, files),
    };
    let verifies = request.task == Task::Verify;
    ExitCode::from(match ended {
        Ok(exit_code) => exit_code,
        // Without its end there is no verdict.
        Err(error) if error.is::<ReaderIsGone>() => {
            if verifies {
                EXIT_NOT_RUN
            } else {
                EXIT_OK
            }
        }
        Err(error) => {
            Diagnostics::start(false).error(format!("{error:#}"));
            if verifies { EXIT_NOT_RUN } else { EXIT_ERROR }
        }
    })
}
