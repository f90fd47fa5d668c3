//! Programs that end with this one, however it ends.
//!
//! Owns: how such a program is started, with or without sudo, and how it is ended. Must not know: any program in
//! particular. Bounded by: [`PATIENCE_SECONDS`] between asking it to end and killing it.
//!
//! A shell between the two holds the reading end of a pipe, and nobody but this process the writing end. When that
//! closes, the shell ends the program. Signals would not do: what sudo starts is root's, and whoever is killed sends
//! none.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// From SIGTERM to SIGKILL.
const PATIENCE_SECONDS: u32 = 10;

/// The first argument is the patience in seconds, the others are the program and its arguments.
///
/// A background job of a shell has no standard input but what it is given by name, so the pipe is kept as descriptor 3.
/// The watcher keeps none of the program's outputs open: their ends mean that the program has ended. The shell says
/// nothing, since a broken pipe would end it, and stays through Ctrl-C until the program has ended: whoever kills by
/// number has to be gone before the number is another's.
const SCRIPT: &str = r#"
patience=$1
shift
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{
    trap '' HUP INT
    read -r _
    kill -TERM "$program"
    while [ "$patience" -gt 0 ] && kill -0 "$program"; do
        sleep 1
        patience=$((patience - 1))
    done
    kill -KILL "$program"
} <&3 >/dev/null 2>&1 &
watcher=$!
exec 2>/dev/null
trap '' HUP INT
wait "$program"
status=$?
kill "$watcher"
exit "$status"
"#;

/// A command that runs the program for as long as this process, or whoever else holds the writing end of the
/// command's standard input, keeps that open; with the status of the program as its own.
///
/// `sudo` is the path of sudo where the program needs rights that this process has not. It fails where it would have
/// to ask for a password, since nobody could end it meanwhile: see to it before that it need not.
#[must_use]
pub fn tied(sudo: Option<&Path>, program: &Path) -> Command {
    tied_with(PATIENCE_SECONDS, sudo, program)
}

fn tied_with(patience_seconds: u32, sudo: Option<&Path>, program: &Path) -> Command {
    let shell = OsStr::new("/bin/sh");
    let mut command = match sudo {
        Some(sudo) => {
            let mut command = Command::new(sudo);
            command.arg("-n").arg(shell);
            command
        }
        None => Command::new(shell),
    };
    command.args(["-c", SCRIPT, "sh", &patience_seconds.to_string()]).arg(program).stdin(Stdio::piped());
    command
}

/// Asks the program of a [`tied`] command to end; it is killed if it does not, so that a wait for it is bounded.
pub fn cut(child: &mut Child) {
    drop(child.stdin.take());
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    /// Runs a shell script, waits for its first line, cuts the lifeline, and gives the exit status once nobody has
    /// standard output open.
    fn status_when_cut(patience_seconds: u32, script: &str) -> Option<i32> {
        let mut command = tied_with(patience_seconds, None, Path::new("/bin/sh"));
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        cut(&mut child);
        output.read_to_end(&mut Vec::new()).unwrap();
        child.wait().unwrap().code()
    }

    #[test]
    fn a_program_is_asked_to_end_when_its_lifeline_is_cut() {
        assert_eq!(status_when_cut(60, "echo ready; exec sleep 60"), Some(128 + 15));
        let polite = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
        assert_eq!(status_when_cut(60, polite), Some(7));
    }

    #[test]
    fn a_program_that_does_not_end_when_asked_is_killed() {
        let deaf = "trap '' TERM; echo ready; exec sleep 60";
        assert_eq!(status_when_cut(1, deaf), Some(128 + 9));
    }

    #[test]
    fn a_program_that_ends_by_itself_tells_its_status() {
        let mut child = tied(None, Path::new("/bin/sh")).args(["-c", "exit 3"]).spawn().unwrap();
        let lifeline = child.stdin.take();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        drop(lifeline);
    }

    #[test]
    fn arguments_reach_the_program_as_they_are() {
        let mut command = tied(None, Path::new("/bin/echo"));
        let mut child = command.args(["a b", "$HOME", "*"]).stdout(Stdio::piped()).spawn().unwrap();
        let lifeline = child.stdin.take();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"a b $HOME *\n");
        drop(lifeline);
    }
}
