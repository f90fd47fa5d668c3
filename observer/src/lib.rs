//! The root shell of observer: everything that touches the kernel, files, and terminals.
//!
//! Owns: nothing but the list of its parts; a library so that tests can reach them. Must not know: how
//! packets become messages, which is observer-core's part. Bounded by: what each part states.

pub mod capture;
pub mod cli;
pub mod ending;
pub mod filter;
pub mod interfaces;
pub mod lines;
pub mod losses;
pub mod output;
pub mod read;
pub mod rules;
pub mod shell;
pub mod silence;
pub mod wall_clock;
pub mod watch;
pub mod window;
