//! Owns the listeners, the set of connections, and the way from start to stop.
//!
//! Must not know what is said on a connection. Bounded by `max_connections`, for the page by `max_page_connections`, plus
//! in both cases [`MOST_REFUSALS`] connections that are being told so; what comes beyond is closed unanswered.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::budget::Budget;
use crate::config::Config;
use crate::connection;
use crate::fault::Faults;
use crate::http::Admission;
use crate::hub::Hub;
use crate::log::Log;
use crate::statistics::{Counter, Statistics, Summary};
use crate::web;

/// Connections at a time that are answered with 503.
const MOST_REFUSALS: usize = 64;
/// Pause after a failed accept, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The sockets that a server serves, already bound.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listeners {
    /// Where WebSocket clients connect.
    pub websocket: Vec<TcpListener>,
    /// Where browsers get the page.
    pub page: Vec<TcpListener>,
}

impl Listeners {
    /// Listeners for WebSocket clients; at least one.
    #[must_use]
    pub fn new(websocket: Vec<TcpListener>) -> Self {
        Self { websocket, page: Vec::new() }
    }

    /// Also serves the page, which connects to the WebSocket port at the host that it came from.
    #[must_use]
    pub fn with_page(mut self, page: Vec<TcpListener>) -> Self {
        self.page = page;
        self
    }
}

/// What the connections of one server share.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) hub: Arc<Hub>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) log: Arc<Log>,
    /// Where WebSocket clients connect.
    pub(crate) websockets: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Returns when the server stops.
    pub(crate) async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives in `self`, so it cannot be gone.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Binds a listening socket, for [`Listeners`].
///
/// # Errors
///
/// Says which address cannot be had and why: another process has it, the machine does not have it, or its port takes
/// privileges.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let port = address.port();
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another process already listens there (`ss -ltnp 'sport = :{port}'` names it); stop it or choose \
                 another port"
            ),
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address (`ip address` lists those it has)".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 take root or CAP_NET_BIND_SERVICE; choose a higher port".to_owned()
            }
            _ => return anyhow::Error::new(error).context(format!("cannot listen on {address}")),
        };
        anyhow::Error::new(error).context(format!("cannot listen on {address}: {hint}"))
    })
}

/// Serves the chat until `shutdown` is ready, then closes every connection with 1001 and returns what was done.
///
/// The stop takes no longer than the close timeout and a second; connections that have not finished by then are
/// dropped. Has to be called within a tokio runtime that has I/O and time enabled.
///
/// # Errors
///
/// Only before the first connection: an invalid configuration, no listener, or a process that cannot start a thread.
pub async fn run(
    listeners: Listeners,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary> {
    config.validate()?;
    ensure!(!listeners.websocket.is_empty(), "there is no address to listen on");
    let addresses = |listeners: &[TcpListener]| -> Result<Vec<SocketAddr>> {
        let addresses: io::Result<_> = listeners.iter().map(TcpListener::local_addr).collect();
        addresses.context("cannot read a listener's address")
    };
    let log = Arc::new(Log::start(config.verbosity).context("cannot start the thread that writes the log")?);
    let statistics = Arc::<Statistics>::default();
    let budget = Arc::new(Budget::new(config.max_total_queued_bytes));
    let faults = Faults::new(&config.faults, Arc::clone(&log), Arc::clone(&statistics));
    let server = Arc::new(Server {
        hub: Arc::new(Hub::new(Arc::clone(&statistics), Arc::clone(&budget), faults)),
        budget,
        statistics,
        log,
        websockets: addresses(&listeners.websocket)?,
        stop: watch::Sender::new(false),
        config,
    });
    let echo = if server.config.echo { ", echo at /echo" } else { "" };
    for address in &server.websockets {
        server.log.notice(format_args!("chat at ws://{address}/{echo}"));
    }
    for address in addresses(&listeners.page)? {
        server.log.notice(format_args!("page at http://{address}/"));
    }

    let mut connections = JoinSet::new();
    accept_until(&server, listeners, &mut connections, shutdown).await;

    server.log.notice(format_args!("stopping, {} connections to close", connections.len()));
    server.hub.close();
    server.stop.send_replace(true);
    let patience = server.config.close_timeout + Duration::from_secs(1);
    let _ = timeout(patience, async {
        while let Some(ended) = connections.join_next().await {
            note_panic(&server, ended);
        }
    })
    .await;
    connections.shutdown().await;

    let mut summary = server.statistics.summary();
    summary.log_lines_dropped = server.log.lines_dropped();
    summary.queues_dropped_for_total = server.budget.queues_dropped.get();
    server.log.notice(format_args!(
        "stopped: {} connections, {} logins, {} messages in, {} queued, {} slow readers dropped ({} of them by \
         the limit for all queues), {} silent clients dropped, {} violations, {} refused",
        summary.connections_accepted,
        summary.logins,
        summary.messages_received,
        summary.messages_queued,
        summary.slow_readers_dropped,
        summary.queues_dropped_for_total,
        summary.silent_clients_dropped,
        summary.violations,
        summary.connections_refused,
    ));
    server.log.flush();
    Ok(summary)
}

/// What a listener is for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Chat,
    Page,
}

/// How many connections of one purpose there may be, and where they are counted.
struct Places<'server> {
    count: usize,
    free: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    accepted: &'server Counter,
    refused: &'server Counter,
}

impl<'server> Places<'server> {
    fn new(count: usize, accepted: &'server Counter, refused: &'server Counter) -> Self {
        Self {
            count,
            free: Arc::new(Semaphore::new(count)),
            refusals: Arc::new(Semaphore::new(MOST_REFUSALS)),
            accepted,
            refused,
        }
    }

    /// A place for one connection, and whether it is one in which it is told that there is none; none where there are
    /// too many even to be told so.
    fn take(&self, server: &Server, client: SocketAddr) -> Option<(OwnedSemaphorePermit, bool)> {
        self.accepted.increment();
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some((permit, false));
        }
        self.refused.increment();
        let count = self.count;
        server.log.warning(format_args!("{client}: refused, since there are {count} connections already"));
        Arc::clone(&self.refusals).try_acquire_owned().ok().map(|permit| (permit, true))
    }
}

async fn accept_until(
    server: &Arc<Server>,
    listeners: Listeners,
    connections: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let statistics = &server.statistics;
    let chat_places = Places::new(
        server.config.max_connections,
        &statistics.connections_accepted,
        &statistics.connections_refused,
    );
    let page_places = Places::new(
        server.config.max_page_connections,
        &statistics.page_connections_accepted,
        &statistics.page_connections_refused,
    );
    let chat = listeners.websocket.into_iter().map(|listener| (Purpose::Chat, listener));
    let page = listeners.page.into_iter().map(|listener| (Purpose::Page, listener));
    let listeners: Vec<_> = chat.chain(page).collect();
    let mut first = 0;
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            Some(ended) = connections.join_next() => {
                note_panic(server, ended);
                continue;
            }
            accepted = accept(&listeners, first) => accepted,
        };
        first = (first + 1) % listeners.len();
        let (purpose, stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                statistics.accept_failures.increment();
                server.log.warning(format_args!(
                    "cannot accept connections: {error}; clients wait (is the limit of open files, `ulimit -n`, too \
                     low?)"
                ));
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let places = match purpose {
            Purpose::Chat => &chat_places,
            Purpose::Page => &page_places,
        };
        let Some((permit, is_full)) = places.take(server, client) else { continue };
        let server = Arc::clone(server);
        connections.spawn(async move {
            match purpose {
                Purpose::Chat => {
                    let Config { echo, compression, .. } = server.config;
                    let admission =
                        if is_full { Admission::Full } else { Admission::Open { echo, compression } };
                    connection::serve(server, stream, client, admission).await;
                }
                Purpose::Page => web::serve(server, stream, client, is_full).await,
            }
            drop(permit);
        });
    }
}

/// Takes a connection from whichever listener has one, beginning with `first` so that none starves.
async fn accept(
    listeners: &[(Purpose, TcpListener)],
    first: usize,
) -> io::Result<(Purpose, TcpStream, SocketAddr)> {
    poll_fn(|context| {
        let (before, after) = listeners.split_at(first);
        for (purpose, listener) in after.iter().chain(before) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, client)| (*purpose, stream, client)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Errors of accept(2) that belong to the connection and not to the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    )
}

fn note_panic(server: &Server, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        server.log.warning(format_args!("a connection ended with a defect of the server: {error}"));
    }
}
