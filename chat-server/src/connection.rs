//! Owns one connection from its accept to its end: the request, the messages, the heartbeat, the close handshake.
//!
//! Must not know other connections; what others hear goes through the hub. Bounded in time by the handshake, heartbeat
//! and close timeouts; in memory by the socket's input, by the mailbox, and by reading no further while the answers to
//! what was read have not been written.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use sockudo_ws::{Message, OpCode};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::heartbeat::{Due, Heartbeat};
use crate::http::{self, Admission, Endpoint, Outcome};
use crate::hub::{Membership, Pressure};
use crate::log::Escaped;
use crate::mailbox::{Mail, Mailbox};
use crate::message::{Refusal, Reply, Request};
use crate::server::Server;
use crate::websocket::{Close, Progress, Socket, encode_text};

const GOING_AWAY: Close = Close { code: 1001, reason: "the server stops" };
const SILENT: Close = Close { code: 1008, reason: "no answer to the heartbeat" };
const TOO_SLOW: Close = Close { code: 1013, reason: "reading too slowly" };

/// Serves one TCP connection until it is over.
pub(crate) async fn serve(server: Arc<Server>, stream: TcpStream, client: SocketAddr, admission: Admission) {
    // A chat's messages are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let outcome = tokio::select! {
        outcome = timeout(
            server.config.handshake_timeout,
            http::receive(stream, admission, &server.config.allowed_origins),
        ) => outcome,
        () = server.stopping() => return,
    };
    match outcome {
        Ok(Outcome::Upgraded(upgraded)) => {
            let (session, limit) = match upgraded.endpoint {
                Endpoint::Chat => {
                    server.statistics.chat_connections.increment();
                    (Session::Chat(Chat::new(&server)), server.config.refused_message_bytes())
                }
                Endpoint::Echo => {
                    server.statistics.echo_connections.increment();
                    (Session::Echo, server.config.max_echo_message_bytes)
                }
            };
            let socket = Socket::new(upgraded, limit);
            Connection::new(server, client, socket, session).run().await;
        }
        Ok(Outcome::Answered(status)) => {
            server.statistics.requests_answered.increment();
            server.log.detail(format_args!("{client}: request answered with {status}"));
        }
        Ok(Outcome::Foreign { origin }) => {
            server.statistics.origins_refused.increment();
            server.log.warning(format_args!(
                "{client}: refused, since a page of {} asks; --allow-origin would let it in",
                Escaped(&origin)
            ));
        }
        Ok(Outcome::Nothing) => {
            server.statistics.abrupt_ends.increment();
            server.log.detail(format_args!("{client}: left without a request"));
        }
        Err(_) => {
            server.statistics.handshakes_timed_out.increment();
            server.log.warning(format_args!(
                "{client}: dropped, since it sent no whole HTTP request within {:?}",
                server.config.handshake_timeout
            ));
        }
    }
}

/// What a connection is for.
enum Session {
    Chat(Chat),
    Echo,
}

/// A chat connection's own state.
struct Chat {
    uid: u32,
    mailbox: Arc<Mailbox>,
    membership: Option<Membership>,
    heartbeat: Option<Heartbeat>,
}

impl Chat {
    fn new(server: &Server) -> Self {
        let config = &server.config;
        Self {
            uid: server.hub.new_uid(),
            mailbox: Arc::new(Mailbox::new(
                config.max_queued_messages,
                config.max_queued_bytes,
                Arc::clone(&server.budget),
            )),
            membership: None,
            heartbeat: Heartbeat::new(config.ping_interval, config.ping_timeout, Instant::now()),
        }
    }
}

struct Connection {
    server: Arc<Server>,
    client: SocketAddr,
    socket: Socket,
    session: Session,
    /// Decoded and not yet acted on; at most what one read held.
    inbox: VecDeque<Message>,
    /// What stands behind the inbox: no more input comes.
    input_end: Option<Ending>,
}

/// How a conversation ended.
#[derive(Debug)]
enum Ending {
    /// The client sent a close frame.
    ClosedByClient,
    /// The TCP connection broke or ended without a close frame.
    Vanished(String),
    /// The client broke the protocol or a limit.
    Violation(Close),
    /// The server wants it to end.
    ClosedByServer(Close),
}

/// What has to happen before more messages can be handled.
enum Flow {
    /// All are handled.
    Drained,
    /// Output has to be written first.
    Paused,
    /// Other connections have to write first.
    Yield,
    End(Ending),
}

impl Connection {
    fn new(server: Arc<Server>, client: SocketAddr, socket: Socket, session: Session) -> Self {
        Self { server, client, socket, session, inbox: VecDeque::new(), input_end: None }
    }

    async fn run(mut self) {
        match &self.session {
            Session::Chat(chat) => {
                self.server.log.detail(format_args!("{}: joins as {}", self.client, chat.uid));
            }
            Session::Echo => self.server.log.detail(format_args!("{}: joins the echo", self.client)),
        }
        let ending = self.converse().await;
        self.report(&ending);
        // The others hear of it now, not after a close handshake that may take its time.
        if let Session::Chat(chat) = &mut self.session {
            chat.membership = None;
        }
        if !matches!(ending, Ending::Vanished(_)) {
            let patience = self.server.config.close_timeout;
            if !matches!(timeout(patience, self.close(&ending)).await, Ok(Ok(()))) {
                self.server.statistics.abrupt_ends.increment();
            }
        }
    }

    /// Exchanges messages until something ends it.
    async fn converse(&mut self) -> Ending {
        let server = Arc::clone(&self.server);
        let mut stopping = pin!(server.stopping());
        let mut timer = pin!(sleep_until(Instant::now()));
        self.decode();
        loop {
            let paused = match self.handle_inbox().await {
                Flow::Drained => false,
                Flow::Paused => true,
                Flow::Yield => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Flow::End(ending) => return ending,
            };
            if let Some(ending) = self.fetch_mail() {
                return ending;
            }
            if paused && !self.is_paused() {
                continue;
            }
            if !self.socket.has_output() {
                self.socket.release();
            }
            let read = !paused && self.input_end.is_none() && !self.socket.is_congested();
            let deadline = match &self.session {
                Session::Chat(chat) => {
                    chat.mailbox.set_blocked(self.socket.has_output());
                    chat.heartbeat.as_ref().map(Heartbeat::deadline)
                }
                Session::Echo => None,
            };
            if let Some(deadline) = deadline
                && timer.deadline() != deadline
            {
                timer.as_mut().reset(deadline);
            }
            let mailbox = match &self.session {
                Session::Chat(chat) => Some(Arc::clone(&chat.mailbox)),
                Session::Echo => None,
            };
            tokio::select! {
                progress = self.socket.progress(read) => match progress {
                    Ok(Progress::Read) => self.decode(),
                    Ok(Progress::Written) => {
                        if let Session::Chat(Chat { heartbeat: Some(heartbeat), .. }) = &mut self.session {
                            heartbeat.wrote(read);
                        }
                    }
                    Ok(Progress::End) => {
                        self.input_end = Some(Ending::Vanished("ended without a close frame".into()));
                    }
                    Err(error) => return Ending::Vanished(error.to_string()),
                },
                () = mail(mailbox.as_deref()) => {}
                () = &mut timer, if deadline.is_some() => {
                    if let Some(ending) = self.beat() {
                        return ending;
                    }
                }
                () = &mut stopping => return Ending::ClosedByServer(GOING_AWAY),
            }
        }
    }

    fn decode(&mut self) {
        if let Err(close) = self.socket.decode(&mut self.inbox) {
            self.input_end = Some(Ending::Violation(close));
        }
    }

    /// Acts on received messages, until their consequences have to be written first.
    async fn handle_inbox(&mut self) -> Flow {
        loop {
            if self.is_paused() {
                return Flow::Paused;
            }
            let Some(message) = self.inbox.pop_front() else {
                if self.input_end.is_none() && self.socket.has_undecoded() {
                    self.decode();
                    continue;
                }
                if self.inbox.capacity() > 256 {
                    self.inbox = VecDeque::new();
                }
                return self.input_end.take().map_or(Flow::Drained, Flow::End);
            };
            match self.handle(message) {
                Ok(Pressure::None) => tokio::task::coop::consume_budget().await,
                Ok(Pressure::Crowded) => return Flow::Yield,
                Err(ending) => return Flow::End(ending),
            }
        }
    }

    /// Whether this client has to take what it caused before it may cause more. So nobody runs over by its own doing.
    fn is_paused(&self) -> bool {
        self.socket.is_congested()
            || match &self.session {
                Session::Chat(chat) => chat.mailbox.is_crowded(),
                Session::Echo => false,
            }
    }

    fn handle(&mut self, message: Message) -> Result<Pressure, Ending> {
        if let Session::Chat(Chat { heartbeat: Some(heartbeat), .. }) = &mut self.session {
            heartbeat.heard();
        }
        let (opcode, payload) = match message {
            Message::Text(payload) => (OpCode::Text, payload),
            Message::Binary(payload) => (OpCode::Binary, payload),
            Message::Ping(payload) => {
                self.socket.send_pong(&payload);
                return Ok(Pressure::None);
            }
            Message::Pong(_) => return Ok(Pressure::None),
            Message::Close(_) => return Err(Ending::ClosedByClient),
        };
        self.server.statistics.messages_received.increment();
        match &mut self.session {
            Session::Echo => {
                self.socket.send(opcode, payload);
                Ok(Pressure::None)
            }
            Session::Chat(chat) => {
                Ok(chat.handle(&self.server, self.client, &payload).unwrap_or_else(|refusal| {
                    chat.refuse(&self.server, &refusal);
                    Pressure::None
                }))
            }
        }
    }

    /// Moves waiting frames to the socket, as many as it makes sense to write at once.
    fn fetch_mail(&mut self) -> Option<Ending> {
        let Session::Chat(chat) = &self.session else { return None };
        while !self.socket.is_congested() {
            match chat.mailbox.take() {
                Mail::Frame(frame) => self.socket.send_encoded(frame),
                Mail::Empty => return None,
                Mail::Overflowed => return Some(Ending::ClosedByServer(TOO_SLOW)),
            }
        }
        chat.mailbox.has_overflowed().then_some(Ending::ClosedByServer(TOO_SLOW))
    }

    fn beat(&mut self) -> Option<Ending> {
        let Session::Chat(Chat { heartbeat: Some(heartbeat), .. }) = &mut self.session else { return None };
        match heartbeat.due(Instant::now()) {
            Due::Nothing => None,
            Due::Ping => {
                self.socket.send_encoded(encode_text(&Reply::Ping.to_json()));
                None
            }
            Due::Silence => Some(Ending::ClosedByServer(SILENT)),
        }
    }

    /// Ends the WebSocket (RFC 6455 §7.1): the close frame behind all that is queued, the client's close frame where
    /// there can be one, the FIN, and the client's FIN, so that nothing the client still sends resets the connection
    /// under what it has yet to read.
    async fn close(&mut self, ending: &Ending) -> std::io::Result<()> {
        if let (Ending::Violation(Close { code: 1009, .. }), Session::Chat(chat)) = (ending, &self.session) {
            chat.refuse(&self.server, &too_long(self.server.config.max_message_bytes));
        }
        self.flush_mail().await?;
        match ending {
            Ending::Vanished(_) => return Ok(()),
            Ending::ClosedByClient => self.socket.answer_close(),
            Ending::Violation(close) | Ending::ClosedByServer(close) => self.socket.send_close(*close),
        }
        self.flush().await?;
        if matches!(ending, Ending::ClosedByServer(_)) && self.input_end.is_none() {
            self.inbox.clear();
            self.await_close().await?;
        }
        self.socket.shut_down().await?;
        while self.socket.progress(true).await? != Progress::End {
            self.socket.discard_input();
        }
        Ok(())
    }

    async fn flush_mail(&mut self) -> std::io::Result<()> {
        let Session::Chat(chat) = &self.session else { return Ok(()) };
        let mailbox = Arc::clone(&chat.mailbox);
        while let Mail::Frame(frame) = mailbox.take() {
            self.socket.send_encoded(frame);
            if self.socket.is_congested() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        while self.socket.has_output() {
            self.socket.progress(false).await?;
        }
        Ok(())
    }

    async fn await_close(&mut self) -> std::io::Result<()> {
        loop {
            let decoded = self.socket.decode(&mut self.inbox);
            if decoded.is_err() || self.inbox.drain(..).any(|message| matches!(message, Message::Close(_))) {
                return Ok(());
            }
            if self.socket.has_undecoded() {
                continue;
            }
            if self.socket.progress(true).await? == Progress::End {
                return Ok(());
            }
        }
    }

    fn report(&self, ending: &Ending) {
        let statistics = &self.server.statistics;
        let log = &self.server.log;
        match ending {
            Ending::ClosedByClient => log.detail(format_args!("{self}: leaves")),
            Ending::Vanished(why) => {
                statistics.abrupt_ends.increment();
                log.detail(format_args!("{self}: gone: {why}"));
            }
            Ending::Violation(close) => {
                statistics.violations.increment();
                log.warning(format_args!("{self}: closed with {}: {}", close.code, close.reason));
            }
            Ending::ClosedByServer(close) => {
                if *close == TOO_SLOW {
                    statistics.slow_readers_dropped.increment();
                } else if *close == SILENT {
                    statistics.silent_clients_dropped.increment();
                }
                if *close == GOING_AWAY {
                    log.detail(format_args!("{self}: closed with {}: {}", close.code, close.reason));
                } else {
                    log.warning(format_args!("{self}: closed with {}: {}", close.code, close.reason));
                }
            }
        }
    }
}

/// Names a connection in the log.
impl fmt::Display for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.client)?;
        match &self.session {
            Session::Echo => formatter.write_str(" (echo)"),
            Session::Chat(chat) => {
                write!(formatter, " ({}", chat.uid)?;
                if let Some(membership) = &chat.membership {
                    write!(formatter, " {}", Escaped(membership.name()))?;
                }
                formatter.write_str(")")
            }
        }
    }
}

impl Chat {
    /// Does what a message asks for. Binary messages are read like text ones, as the original server does.
    fn handle(&mut self, server: &Server, client: SocketAddr, json: &Bytes) -> Result<Pressure, Refusal> {
        let config = &server.config;
        if json.len() > config.max_message_bytes {
            return Err(too_long(config.max_message_bytes));
        }
        match (Request::parse(json)?, &self.membership) {
            (Request::Pong, _) => Ok(Pressure::None),
            (Request::Login { .. }, Some(_)) => Err(Refusal::new(
                "already_logged_in",
                "this connection is logged in; open another one for another name",
            )),
            (Request::Login { name, room }, None) => {
                if name.is_empty() {
                    return Err(Refusal::new("name_empty", "\"name\" must not be empty"));
                }
                if name.len() > config.max_name_bytes {
                    return Err(Refusal::new(
                        "name_too_long",
                        format!("\"name\" must not be longer than {} bytes", config.max_name_bytes),
                    ));
                }
                match &room {
                    Some(room) if room.is_empty() => {
                        return Err(Refusal::new("room_id_empty", "\"room_id\" must not be empty"));
                    }
                    Some(room) if room.len() > config.max_room_id_bytes => {
                        return Err(Refusal::new(
                            "room_id_too_long",
                            format!("\"room_id\" must not be longer than {} bytes", config.max_room_id_bytes),
                        ));
                    }
                    _ => {}
                }
                let (membership, pressure) =
                    server.hub.login(self.uid, client, &name, room.as_deref(), &self.mailbox);
                self.membership = Some(membership);
                let uid = self.uid;
                match &room {
                    None => {
                        server.log.detail(format_args!("{client} ({uid}): logs in as {}", Escaped(&name)));
                    }
                    Some(room) => server.log.detail(format_args!(
                        "{client} ({uid}): logs in to room {} as {}",
                        Escaped(room),
                        Escaped(&name)
                    )),
                }
                Ok(pressure)
            }
            (Request::Say { .. }, None) => {
                Err(Refusal::new("not_logged_in", "log in before you say something"))
            }
            (Request::Say { to, content, copy }, Some(membership)) => membership.say(to, &content, copy),
        }
    }

    /// Tells the client what was wrong. The answer goes through the mailbox, so that it stands where its cause stood.
    fn refuse(&self, server: &Server, refusal: &Refusal) {
        server.statistics.errors_sent.increment();
        let reply = Reply::Error { code: refusal.code, message: &refusal.message };
        self.mailbox.put(server.budget.frame(&reply.to_json()));
    }
}

fn too_long(max_message_bytes: usize) -> Refusal {
    Refusal::new("message_too_long", format!("a message must not be longer than {max_message_bytes} bytes"))
}

/// Waits for mail, for ever where there is no mailbox.
async fn mail(mailbox: Option<&Mailbox>) {
    match mailbox {
        Some(mailbox) => mailbox.filled().await,
        None => std::future::pending().await,
    }
}
