//! Owns the command line of the chat server: options, signals, exit statuses.
//!
//! Must not know the chat; everything else is in the library. Bounded by the library's limits.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chat_server::{Compression, Config, Fault, Listeners, Verbosity, bind, run};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const DEFAULT_ADDRESSES: [&str; 2] = ["127.0.0.1:7272", "[::1]:7272"];
const DEFAULT_WEB_ADDRESSES: [&str; 2] = ["127.0.0.1:55151", "[::1]:55151"];

/// A small WebSocket chat, for trying out observer.
#[derive(Debug, Parser)]
#[command(
    name = "chat-server",
    version,
    max_term_width = 100,
    after_help = "\
Sizes are in bytes. Durations are written like 500ms, 30s or 2m.

SIGINT or SIGTERM closes every connection with status 1001 and ends the server; a second one ends it at once.

Exit status: 0 stopped by a signal; 1 failed; 2 wrong usage; 3 an address cannot be listened on."
)]
struct Arguments {
    /// Where to listen, repeatable [default: 127.0.0.1:7272 and [::1]:7272]
    ///
    /// The default is reachable from this machine only, since the chat asks nobody who they are. Give
    /// 0.0.0.0:7272 or [::]:7272 to open it to the network. Port 0 takes a free port; the log names it.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_address)]
    listen: Vec<SocketAddr>,

    /// Where the chat's web page is, repeatable [default: 127.0.0.1:55151 and [::1]:55151]
    ///
    /// Open http://127.0.0.1:55151/ in a browser, or http://127.0.0.1:55151/?room_id=7 for room 7. The page connects to
    /// the port of --listen at the host that it came from; so to open the chat to the network, give both options an
    /// address there. If a default address is taken, the chat starts without it and says so.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_address)]
    web_listen: Vec<SocketAddr>,

    /// Have no web page
    #[arg(long, conflicts_with = "web_listen")]
    no_web: bool,

    /// How often each client is asked for a sign of life; 0 never
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    ping_interval: Duration,

    /// How long a client may take to answer before it is dropped
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    ping_timeout: Duration,

    /// How long a client may take from connecting to the end of its HTTP request
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    handshake_timeout: Duration,

    /// How long a close handshake, and so the end of the server, may take
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    close_timeout: Duration,

    /// Longest chat message; more is answered with an error, and four times as much with close 1009
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_message_bytes)]
    max_message_bytes: usize,

    /// Longest name, in bytes of UTF-8
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_name_bytes)]
    max_name_bytes: usize,

    /// Longest room_id, in bytes of UTF-8
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_room_id_bytes)]
    max_room_id_bytes: usize,

    /// Most connections at a time; more are answered with HTTP status 503
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_connections)]
    max_connections: usize,

    /// Most connections to the web page's port at a time; more are answered with HTTP status 503
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_page_connections)]
    max_page_connections: usize,

    /// Most messages that wait for one client; with more it is closed with status 1013
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_queued_messages)]
    max_queued_messages: usize,

    /// Most bytes that wait for one client; with more it is closed with status 1013
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_queued_bytes)]
    max_queued_bytes: usize,

    /// Most bytes that wait for all clients; with more, those that do not read are closed with status 1013
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_total_queued_bytes)]
    max_total_queued_bytes: usize,

    /// Let pages of this origin connect, repeatable; * for all
    ///
    /// A browser lets every web page connect to every WebSocket, and names the page's origin. Pages that came from the
    /// host which they connect to are let in, and so is who names no origin, as programs do. Others get HTTP status
    /// 403, unless they are listed here as browsers write them, for example https://chat.example.org, or null.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Compress messages (permessage-deflate) for clients that offer it
    #[arg(long, value_name = "HOW", value_enum, default_value_t = CompressionOption::Off)]
    compression: CompressionOption,

    /// Offer the path /echo, which sends messages back as they are (for conformance and load tests)
    #[arg(long)]
    echo: bool,

    /// For tests of observer: breaks the chat on purpose, repeatable
    #[arg(long, value_name = "SPEC", hide_short_help = true, long_help = FAULT_HELP)]
    fault: Vec<Fault>,

    /// Also write a line for each connection, login and logout
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,

    /// Write warnings only
    #[arg(short, long)]
    quiet: bool,
}

const FAULT_HELP: &str = "\
For tests of observer: breaks the chat on purpose, repeatable. SPEC is FAULT or FAULT:KEY=VALUE,…, and FAULT one of

  drop            one recipient of a say to all does not get it
  duplicate       one recipient of a say to all gets it twice
  reorder         one recipient of a say to all gets it behind the next one of its sender
  delay           one recipient of a say gets it later; needs ms=N, 1 to 60000
  misdeliver      a member who is neither sender nor addressee gets a private say, too
  alter           one recipient of a say gets it with * behind its content
  skip-user-list  a newcomer gets no user list
  unsolicited     one recipient of a say gets another one behind it, which nobody said
  silent-login    a member who was there before a newcomer does not get its login
  wrong-room      a member of another room gets a say to all, too

With every=N it strikes each Nth of the messages with which it could hit somebody, else each of them; others do not count. \
It hits the member who joined last of those that it can hit, with name=NAME of those called so, and never the sender. Of \
one message a member is hit once, by the fault that was given first: the strike of another one is lost. A copy that waits for its sender's next say comes \
when one of the two leaves, at the latest.

The log says so at the start, and has a line for each strike, also with --quiet: which fault, who is hit, in what.

Example: --fault drop:every=7,name=Bob --fault delay:ms=500,every=10";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompressionOption {
    /// Never
    Off,
    /// Each message may refer to earlier ones
    On,
    /// Each message by itself
    NoContextTakeover,
}

impl Arguments {
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.ping_interval = self.ping_interval;
        config.ping_timeout = self.ping_timeout;
        config.handshake_timeout = self.handshake_timeout;
        config.close_timeout = self.close_timeout;
        config.max_message_bytes = self.max_message_bytes;
        config.max_name_bytes = self.max_name_bytes;
        config.max_room_id_bytes = self.max_room_id_bytes;
        config.max_connections = self.max_connections;
        config.max_page_connections = self.max_page_connections;
        config.max_queued_messages = self.max_queued_messages;
        config.max_queued_bytes = self.max_queued_bytes;
        config.max_total_queued_bytes = self.max_total_queued_bytes;
        config.allowed_origins.clone_from(&self.allow_origin);
        config.compression = match self.compression {
            CompressionOption::Off => Compression::Off,
            CompressionOption::On => Compression::On,
            CompressionOption::NoContextTakeover => Compression::WithoutContextTakeover,
        };
        config.echo = self.echo;
        config.faults.clone_from(&self.fault);
        config.verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        };
        config
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime") {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    runtime.block_on(async {
        let config = arguments.config();
        if let Err(error) = config.validate() {
            return fail(&error, 2);
        }
        raise_open_files_limit(config.max_connections, config.max_page_connections);
        let listeners = match listen(&arguments).await {
            Ok(listeners) => listeners,
            Err(error) => return fail(&error, 3),
        };
        match serve(listeners, config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        }
    })
}

fn fail(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("chat-server: {error:#}");
    ExitCode::from(status)
}

async fn listen(arguments: &Arguments) -> Result<Listeners> {
    let websocket = if arguments.listen.is_empty() {
        listen_by_default(&DEFAULT_ADDRESSES, |error| {
            Err(error.context("--listen was not given, so the default applies"))
        })
        .await?
    } else {
        listen_on(&arguments.listen).await.context("--listen")?
    };
    let page = if arguments.no_web {
        Vec::new()
    } else if arguments.web_listen.is_empty() {
        // Another chat on other ports, or a connection that happens to have this port, is no reason to have no chat.
        listen_by_default(&DEFAULT_WEB_ADDRESSES, |error| {
            eprintln!(
                "chat-server: without the web page there: {error:#}; or choose with --web-listen, or say --no-web"
            );
            Ok(())
        })
        .await?
    } else {
        listen_on(&arguments.web_listen).await.context("--web-listen")?
    };
    Ok(Listeners::new(websocket).with_page(page))
}

async fn listen_on(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(bind(*address).await?);
    }
    Ok(listeners)
}

/// Listens on those addresses that there are; `failed` decides about the others.
async fn listen_by_default(
    addresses: &[&str],
    failed: impl Fn(anyhow::Error) -> Result<()>,
) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let address: SocketAddr = address.parse().context("a default address is malformed")?;
        match bind(address).await {
            Ok(listener) => listeners.push(listener),
            // A machine without IPv6 has a chat all the same.
            Err(error) if address.is_ipv6() && lacks_address(&error) => {}
            Err(error) => failed(error)?,
        }
    }
    Ok(listeners)
}

fn lacks_address(error: &anyhow::Error) -> bool {
    let Some(error) = error.root_cause().downcast_ref::<std::io::Error>() else { return false };
    error.kind() == std::io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

async fn serve(listeners: Listeners, config: Config) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut next_signal = async move || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let signals = async {
        next_signal().await;
        let _ = stop.send(());
        next_signal().await;
    };
    tokio::select! {
        result = run(listeners, config, async { let _ = stopped.await; }) => result.map(drop),
        () = signals => Ok(()),
    }
}

/// A soft limit of 1,024 open files is common and would stop the server far below its own limit.
fn raise_open_files_limit(max_connections: usize, max_page_connections: usize) {
    const OTHER_FILES: u64 = 128;
    let limit = getrlimit(Resource::Nofile);
    let wanted = max_connections as u64 + max_page_connections as u64 + OTHER_FILES;
    let Some(current) = limit.current.filter(|current| *current < wanted) else { return };
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let reached = if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_ok() {
        raised
    } else {
        current
    };
    if reached < wanted {
        eprintln!(
            "chat-server: {reached} open files are allowed (`ulimit -Hn`), which is too few for {max_connections} \
             connections; clients beyond that will wait"
        );
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write ADDRESS:PORT, for example 127.0.0.1:7272 or [::1]:7272".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let help = || "write a number with a unit, for example 500ms, 30s or 2m".to_owned();
    let duration: jiff::SignedDuration = text.parse().map_err(|_| help())?;
    Duration::try_from(duration).map_err(|_| help())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_defaults_are_the_librarys() {
        assert_eq!(Arguments::parse_from(["chat-server"]).config(), Config::default());
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "-3s", "soon"] {
            parse_duration(wrong).unwrap_err();
        }
    }
}
