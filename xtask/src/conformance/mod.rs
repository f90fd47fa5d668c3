//! `cargo xtask conformance`: the Autobahn testsuite against the chat server's `/echo` and against a client of npm's ws,
//! with a live observer beside it.
//!
//! Owns the runs: which cases, in which order things start and end, and what must hold. Must not know how frames are
//! decoded: the suite's own account is the oracle, for the server and for the observer. Bounded by the time limits of
//! the suite's cases; what it started ends with it.

mod comparison;
mod expected;
mod page;
mod seen;
mod suite;
mod watching;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::build::Artifacts;
use crate::peers::node_ws;
use crate::process::find_program;
use crate::program::{Failed, Program, sudo};
use crate::{build, lifeline};
use page::Row;
use seen::{End, Seen};
use suite::{Case, Suite};
use watching::Watching;

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

/// What a client is run against, so that the server is who does wrong; without the cases of category 13 that are no cases
/// with what ws offers.
const CLIENT_CASES: [&str; 6] = ["[1-7]", "9.[12].[1-3]", "9.[78].[1-2]", "10", "12.*.[23]", "13.[1347].2"];
const ECHO_CLIENT: &str = include_str!("echo_client.cjs");
/// What a client asks the suite for before and after the cases.
const OTHER_PATHS: [&str; 2] = ["/getCaseCount", "/updateReports?agent=ws"];

/// Options of `cargo xtask conformance`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run these cases only, such as 5.12, 6, or 12.*.1; repeatable
    #[arg(long, value_name = "CASES", conflicts_with_all = ["all", "bless"])]
    cases: Vec<String>,

    /// Run every case against the server, with optimised builds; takes half an hour, and is not in docs/conformance.md
    #[arg(long, conflicts_with = "bless")]
    all: bool,

    /// Write the result to docs/conformance.md, instead of comparing it with what is there
    #[arg(long)]
    bless: bool,
}

/// What a run takes.
struct Bench {
    suite: Suite,
    artifacts: Artifacts,
    sudo: Option<PathBuf>,
    ring: &'static str,
}

/// What came of the cases with one peer.
struct Outcome {
    cases: Vec<Case>,
    troubles: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// If anything of it cannot run, if the server does not pass a case, if the observer disagrees with the suite, or if
/// docs/conformance.md says something else.
pub fn command(arguments: &Arguments) -> Result<()> {
    let suite = Suite::install()?;
    let artifacts = build::all(arguments.all)?;
    let ring = if arguments.all { watching::RING_FOR_ALL } else { watching::RING };
    let bench = Bench { suite, artifacts, sudo: sudo()?, ring };

    let narrowed = !arguments.cases.is_empty();
    let patterns = match (narrowed, arguments.all) {
        (true, _) => arguments.cases.clone(),
        (false, true) => all_cases(),
        (false, false) => DEFAULT_CASES.map(str::to_owned).to_vec(),
    };
    let server = once_more_if_aborted(|| bench.server(&patterns))?;
    let mut tables = vec![("server", page::table(&Row::by_category(&server.cases), true))];
    let mut outcomes = vec![server];
    if !arguments.all {
        let patterns = if narrowed { patterns } else { CLIENT_CASES.map(str::to_owned).to_vec() };
        let client = once_more_if_aborted(|| bench.client(&patterns))?;
        tables.push(("client", page::table(&Row::by_category(&client.cases), false)));
        outcomes.push(client);
    }

    for (name, table) in &tables {
        println!("{name}:\n\n{table}");
    }
    println!("The suite's own reports are in {}", bench.suite.reports().display());
    let troubles: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.troubles).collect();
    for trouble in &troubles {
        println!("{trouble}");
    }
    ensure!(troubles.is_empty(), "conformance: {} troubles", troubles.len());
    if !narrowed && !arguments.all {
        page::update(&tables, arguments.bless)?;
    }
    let cases: usize = outcomes.iter().map(|outcome| outcome.cases.len()).sum();
    println!(
        "conformance: the server passes all its cases, and observer agrees with the suite on all {cases}"
    );
    Ok(())
}

/// Runs the cases with a peer, and all of them once more where a signal ended the suite: its compiled part was seen to
/// abort, which says nothing of the peer, nor of observer.
fn once_more_if_aborted(run: impl Fn() -> Result<Outcome>) -> Result<Outcome> {
    run().or_else(|error| match error.downcast_ref::<Failed>() {
        Some(failed) if failed.name == suite::NAME && failed.is_by_signal() => {
            println!("{failed}\nThat is the suite's own failure: once more, from the beginning.");
            run()
        }
        _ => Err(error),
    })
}

impl Bench {
    /// The cases against the chat server. After each pattern observer may catch up.
    fn server(&self, patterns: &[String]) -> Result<Outcome> {
        let address = free_address()?;
        let mut command = lifeline::tied(None, &self.artifacts.chat_server);
        command.args(["--quiet", "--no-web", "--echo", "--compression", "on"]);
        command.args(["--listen", &address.to_string()]);
        let mut server = Program::start(&mut command, "chat-server")?;
        server.wait_until(|| TcpStream::connect(address).is_ok())?;

        let watching = self.watch(address)?;
        let mut cases = Vec::new();
        for pattern in patterns {
            cases.extend(self.suite.drive(&format!("ws://{address}/echo"), pattern)?);
            if !watching.catches_up(cases.len()) {
                println!("{pattern}: observer does not tell how each connection ended; not going on");
                break;
            }
        }
        let seen = watching.end()?;
        let mut troubles = disagreements(&cases, End::Client, &seen);
        troubles.extend(cases.iter().filter(|case| !case.is_passed()).map(|case| {
            format!(
                "{}: the server does not pass: {}, {}; closing: {}, {}",
                case.id, case.behavior, case.result, case.behavior_close, case.result_close
            )
        }));
        Ok(Outcome { cases, troubles })
    }

    /// The cases against a client of npm's ws, whose verdicts are not ours to mend.
    fn client(&self, patterns: &[String]) -> Result<Outcome> {
        let ws = node_ws()?;
        let node = find_program("node").context("node is not installed")?;
        let address = free_address()?;
        let watching = self.watch(address)?;
        let cases = self.suite.serve(address, patterns, || {
            let mut command = lifeline::tied(None, &node);
            command.current_dir(&ws).args(["-e", ECHO_CLIENT, &format!("ws://{address}")]);
            Program::start(&mut command, "the client of npm's ws")?.wait_for_end()
        })?;
        watching.catches_up(cases.len() + OTHER_PATHS.len());
        let seen = watching.end()?;
        let troubles = disagreements(&cases, End::Server, &seen);
        Ok(Outcome { cases, troubles })
    }

    fn watch(&self, address: SocketAddr) -> Result<Watching> {
        Watching::start(&self.artifacts.observer, self.sudo.as_deref(), address.port(), self.ring)
    }
}

/// What observer says otherwise than the suite, which is this end of each connection, a line each.
fn disagreements(cases: &[Case], end: End, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    if cases.is_empty() {
        found.push("there are no such cases".to_owned());
    }
    if seen.lost_packets() != Some(0) {
        let lost = seen.lost_packets();
        found.push(format!(
            "observer lost packets ({lost:?}), so that nothing is proved; is this machine busy?"
        ));
    }
    let role = end.other().name();
    for case in cases {
        let disagreements = match seen.of_path(case.path.as_deref()) {
            [connection] => comparison::disagreements(case, end, connection),
            others => vec![format!("observer saw {} connections of it", others.len())],
        };
        found.extend(disagreements.into_iter().map(|why| format!("{} with the {role}: {why}", case.id)));
    }
    let is_of_a_case = |path: &str| cases.iter().any(|case| case.path.as_deref() == Some(path));
    let strangers = seen.paths().filter(|path| !OTHER_PATHS.contains(path) && !is_of_a_case(path));
    found
        .extend(strangers.map(|path| format!("observer saw a connection for {path:?}, which is of no case")));
    found
}

/// An address on which nobody listens.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?)
}
