//! Debian's Chromium, driven by a program, and the chat's page in it: for the tests of the page and for the demo.
//!
//! Owns: how the browser is started and ended, and how a page is looked at and used. Must not know: what is tested.
//! Bounded by: [`PATIENCE`] for each wait; it ends the processes that it started and removes their files.

#![forbid(unsafe_code)]

mod chat;
mod chromium;
mod page;

pub use chat::ChatPage;
pub use chromium::Chromium;
pub use page::{Look, Page};

use std::time::Duration;

/// How long anything that a page or the browser has to do may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
