//! What a live run says when it cannot be.

use std::os::unix::process::CommandExt as _;

use nix::unistd::Uid;

use crate::support::{observer, ran, run};

/// The user `nobody` of every Linux distribution.
const NOBODY: u32 = 65_534;

#[test]
fn an_unknown_interface_is_answered_with_those_there_are() {
    let ran = run(&["-i", "nonesuch0"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("nonesuch0"), "{}", ran.stderr);
    assert!(ran.stderr.contains("any, lo"), "{}", ran.stderr);
}

#[test]
fn without_root_the_error_says_what_is_missing_and_what_to_do() {
    let mut command = observer(&[]);
    if Uid::effective().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let ran = ran(command.output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    // A binary that was built without kernel programs says that first.
    let says_what_to_do = ran.stderr.contains("sudo") || ran.stderr.contains("cargo xtask build");
    assert!(ran.stderr.starts_with("observer: error: ") && says_what_to_do, "{}", ran.stderr);
}
