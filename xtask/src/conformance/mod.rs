//! `cargo xtask conformance`: the Autobahn testsuite against the chat server's `/echo`, with a live observer beside it.
//!
//! Owns the run: which cases, in which order things start and end, and what must hold. Must not know how frames are
//! decoded: the suite's own account is the oracle, for the server and for the observer. Bounded by the time limits of
//! the suite's cases; what it started ends with it.

mod comparison;
mod expected;
mod page;
mod seen;
mod suite;

use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::program::{Program, sudo};
use crate::{build, lifeline};
use page::{Page, Row};
use seen::Seen;
use suite::{Case, Suite};

/// What is run without options: all of categories 1 to 7 and 10, and of the others what a build without optimisation
/// has done in time. 9.1 to 9.6 are large messages, in ever smaller pieces; 9.7 and 9.8 a thousand small ones; 12 and 13
/// a thousand compressed ones each, of sizes from 16 bytes (`.1`) to 128 KiB. After each of these patterns observer may
/// catch up.
const DEFAULT_CASES: [&str; 16] = [
    "[1-7]",
    "9.[12].[1-4]",
    "9.3.[4-7]",
    "9.4.[4-7]",
    "9.[56].[4-6]",
    "9.7.[1-5]",
    "9.8.[1-5]",
    "10",
    "12.1.[1-4]",
    "12.[2-5].[1-3]",
    "13.1.[1-3]",
    "13.2.[1-3]",
    "13.[34].[1-3]",
    "13.5.[1-3]",
    "13.6.[1-3]",
    "13.7.[1-3]",
];

/// Every case, the large ones one by one.
fn all_cases() -> Vec<String> {
    let mut patterns = vec!["[1-7]".to_owned()];
    let numbered = |group: String, last: u32| (1..=last).map(move |number| format!("{group}.{number}"));
    for (group, last) in [(1, 6), (2, 6), (3, 9), (4, 9), (5, 6), (6, 6), (7, 6), (8, 6)] {
        patterns.extend(numbered(format!("9.{group}"), last));
    }
    patterns.push("10".to_owned());
    for (category, groups) in [(12, 5), (13, 7)] {
        for group in 1..=groups {
            patterns.extend(numbered(format!("{category}.{group}"), 18));
        }
    }
    patterns
}

/// Large enough for an observer that is built without optimisation.
const RING: &str = "64MiB";
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

/// Options of `cargo xtask conformance`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run these cases only, such as 5.12, 6, or 12.*.1; repeatable
    #[arg(long, value_name = "CASES", conflicts_with_all = ["all", "bless"])]
    cases: Vec<String>,

    /// Run every case, with optimised builds; takes minutes
    #[arg(long)]
    all: bool,

    /// Write the result to docs/conformance.md, instead of comparing it with what is there
    #[arg(long)]
    bless: bool,
}

/// Runs the command.
///
/// # Errors
/// If anything of it cannot run, if the server does not pass a case, if the observer disagrees with the suite, or if
/// docs/conformance.md says something else.
pub fn command(arguments: &Arguments) -> Result<()> {
    let (page, patterns) = match (arguments.cases.as_slice(), arguments.all) {
        ([], false) => (Some(Page::Default), DEFAULT_CASES.map(str::to_owned).to_vec()),
        ([], true) => (Some(Page::All), all_cases()),
        (cases, _) => (None, cases.to_vec()),
    };
    let suite = Suite::install()?;
    let artifacts = build::all(arguments.all)?;
    let sudo = sudo()?;

    let address = free_address()?;
    let mut command = lifeline::tied(None, &artifacts.chat_server);
    command.args(["--quiet", "--no-web", "--echo", "--compression", "on", "--listen", &address.to_string()]);
    let mut server = Program::start(&mut command, "chat-server")?;
    server.wait_until(|| TcpStream::connect(address).is_ok())?;

    let mut command = lifeline::tied(sudo.as_deref(), &artifacts.observer);
    command.args(["--port", &address.port().to_string(), "--ring", RING, "--json", "--frames"]);
    let mut observer = Program::start(&mut command, "observer")?;
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    let records = observer.read_output(move |output| Seen::read(BufReader::new(output), &counter))?;
    observer.wait_for_line("watching")?;

    let mut cases = Vec::new();
    for pattern in &patterns {
        cases.extend(suite.run(&format!("ws://{address}/echo"), pattern)?);
        // What is in the buffer between kernel and observer would be lost if more came than it holds.
        let has_caught_up = within(CAUGHT_UP_WITHIN, || closed.load(Ordering::Relaxed) >= cases.len());
        if !has_caught_up {
            println!("{pattern}: observer does not tell how each connection ended; not going on");
            break;
        }
    }
    observer.end_and_wait()?;
    drop(server);
    let seen = records.join().map_err(|_| anyhow!("the reader of observer's output failed"))??;

    let troubles = troubles(&cases, &seen);
    let rows = Row::by_category(&cases);
    println!("{}", page::table(&rows));
    println!("The suite's own reports are in {}", suite.reports().display());
    for trouble in &troubles {
        println!("{trouble}");
    }
    ensure!(troubles.is_empty(), "{} troubles in {} cases", troubles.len(), cases.len());
    if let Some(page) = page {
        if arguments.bless { page.write(&rows)? } else { page.check(&rows)? }
    }
    println!("conformance: the server passes all {} cases, and observer agrees on each", cases.len());
    Ok(())
}

/// Whether it becomes so in time.
fn within(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let give_up = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= give_up {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// What is wrong, of the server and of the observer, a line each.
fn troubles(cases: &[Case], seen: &Seen) -> Vec<String> {
    let mut troubles = Vec::new();
    if cases.is_empty() {
        troubles.push("there are no such cases".to_owned());
    }
    if seen.lost_packets() != Some(0) {
        troubles.push(format!(
            "observer lost packets ({:?}), so that nothing is proved; is this machine busy?",
            seen.lost_packets()
        ));
    }
    for case in cases {
        if !case.is_passed() {
            troubles.push(format!(
                "{}: the server does not pass: {}, {}; closing: {}, {}",
                case.id, case.behavior, case.result, case.behavior_close, case.result_close
            ));
        }
        let disagreements = match seen.of_path(case.path.as_deref()) {
            [connection] => comparison::disagreements(case, connection),
            others => vec![format!("observer saw {} connections of it", others.len())],
        };
        troubles.extend(disagreements.into_iter().map(|why| format!("{}: {why}", case.id)));
    }
    let strangers = seen.count().saturating_sub(cases.len());
    if strangers > 0 {
        troubles.push(format!("observer saw {strangers} connections that are of no case"));
    }
    troubles
}

/// An address on which nobody listens.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?)
}
