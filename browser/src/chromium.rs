//! Owns the processes: one chromedriver, and a Chromium for each page, with a profile of its own.
//!
//! Must not know what the pages are. Everything it starts ends with it, a test's panic included, and everything that
//! Chromium writes is removed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fantoccini::ClientBuilder;
use fantoccini::wd::Capabilities;
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::PATIENCE;
use crate::page::Page;

/// For a browser that nobody sees, that may be root's, and that talks to nobody but the page's server.
const ARGUMENTS: [&str; 13] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--window-size=1000,700",
];

/// Chromium, ready to open pages.
#[derive(Debug)]
pub struct Chromium {
    driver: Child,
    url: String,
    /// Everything that is written, profiles and temporary files.
    directory: PathBuf,
    opened: AtomicU32,
    // The driver would end with a closed standard output.
    _output: BufReader<ChildStdout>,
}

impl Chromium {
    /// Starts chromedriver, which has to be installed (Debian's package chromium-driver).
    ///
    /// # Errors
    /// If it is not there or does not start.
    pub async fn start() -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        // Not under target: Chromium has a socket in here, whose path must be short.
        let name = format!("observer-chromium-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", &directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start chromedriver; Debian's packages are chromium and chromium-driver")?;
        let mut output = BufReader::new(driver.stdout.take().context("standard output is piped")?);
        let port = timeout(PATIENCE, port(&mut output)).await.context("chromedriver does not start")??;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self { driver, url, directory, opened: AtomicU32::new(0), _output: output })
    }

    /// Where everything lies that the browsers write, until they end.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens a Chromium with nothing in it, for a reader of this language (`en`, `zh-CN`).
    ///
    /// # Errors
    /// If it does not start.
    pub async fn open(&self, language: &str) -> Result<Page> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let profile = self.directory.join(number.to_string());
        std::fs::create_dir_all(&profile).with_context(|| format!("cannot create {}", profile.display()))?;
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--accept-lang={language}"));
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".to_owned(), json!({ "args": arguments }));
        // A dialog is never wanted: every command after one fails with its text.
        capabilities.insert("unhandledPromptBehavior".to_owned(), json!("dismiss and notify"));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = timeout(2 * PATIENCE, builder.capabilities(capabilities).connect(&self.url))
            .await
            .context("Chromium does not start")?
            .context("cannot start Chromium")?;
        Ok(Page::new(client, profile))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.driver.start_kill();
        wait_until(|| !matches!(self.driver.try_wait(), Ok(None)));
        wait_until(|| {
            end_processes_of(&self.directory);
            let _ = std::fs::remove_dir_all(&self.directory);
            // A process that was being started just then comes late, and makes its directory again.
            std::thread::sleep(Duration::from_millis(100));
            !self.directory.exists() && processes_of(&self.directory).is_empty()
        });
    }
}

/// Ends every process of Chromium that writes to this directory, which nobody else has: also those of one that did not
/// answer, so that its process was never told. Returns when they are gone, since they write until then.
pub(crate) fn end_processes_of(directory: &Path) {
    wait_until(|| {
        let processes = processes_of(directory);
        for process in &processes {
            let _ = kill_process(*process, Signal::KILL);
        }
        processes.is_empty()
    });
}

fn processes_of(directory: &Path) -> Vec<Pid> {
    let profile = format!("--user-data-dir={}", directory.display());
    // The processes that Chromium starts do not all name the profile, but have the environment.
    let temporary = format!("TMPDIR={}", directory.display());
    let names = |strings: &[u8], beginning: &str| {
        strings.split(|byte| *byte == 0).any(|string| {
            let rest = string.strip_prefix(beginning.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let id = Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?;
            let arguments = std::fs::read(process.path().join("cmdline")).ok()?;
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            (names(&arguments, &profile) || names(&environment, &temporary)).then_some(id)
        })
        .collect()
}

fn wait_until(mut is_over: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(5);
    while !is_over() && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads which port the driver took.
async fn port(output: &mut BufReader<ChildStdout>) -> Result<u16> {
    let mut line = String::new();
    while output.read_line(&mut line).await? > 0 {
        if let Some((_, rest)) = line.split_once("successfully on port ") {
            return rest.trim().trim_end_matches('.').parse().context("chromedriver tells no port");
        }
        line.clear();
    }
    bail!("chromedriver ended")
}
