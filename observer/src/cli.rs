//! The command line.
//!
//! Owns the options, their defaults, which go together, and their texts. Must not know how anything is done.
//! Bounded: parses once.
//!
//! One flat set of options instead of clap's subcommands: every option works with and without the word `watch`, on
//! either side of it, and `-r FILE` is the same as `read FILE`; with subcommands each option would exist several
//! times. Which options go with `verify` and `ls` is checked behind that, so that what is said tells why.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory as _, Parser, ValueEnum};

use ipnet::IpNet;
use observer_core::flow::Rules;
use observer_core::record::{ConnectionId, Direction};
use observer_core::websocket::frame::Opcode;
use regex::bytes::Regex;

use crate::capture::{RING_BYTES_DEFAULT, Side};
use crate::filter::Filter;
use crate::output::clock::TimeStyle;
use crate::output::explain::Language;
use crate::output::packets::Layout;
use crate::output::palette::ColorChoice;
use crate::rules;
use crate::window::{Bound, Window};

/// The port that is watched where none is named.
pub const DEFAULT_PORT: u16 = 7272;

/// Ended as asked: by Ctrl-C, SIGTERM, `--count`, `--for`, the end of the input, or a closed pipe.
pub const EXIT_OK: u8 = 0;
/// Could not be done.
pub const EXIT_ERROR: u8 = 1;
/// The command line, or a rule file, makes no sense.
pub const EXIT_USAGE: u8 = 2;
/// Done, but an input file ends in the middle, is damaged, or holds packets of an unknown kind.
pub const EXIT_INPUT_CUT: u8 = 3;
/// `verify`: all that was judged held.
pub const EXIT_HELD: u8 = 0;
/// `verify`: something was violated, or came late.
pub const EXIT_VIOLATED: u8 = 1;
/// `verify`: it could not be run at all; as of `grep`.
pub const EXIT_NOT_RUN: u8 = 2;
/// `verify`: nothing was violated, but not everything could be judged, or nothing could: cases are inconclusive, the
/// capture lost packets, the input is damaged, or nothing was seen that a rule knows.
pub const EXIT_INCONCLUSIVE: u8 = 3;
/// A second Ctrl-C or SIGTERM did not wait for the end.
pub const EXIT_FORCED: u8 = 130;

const FILTERS: &str = "What is shown (everything is decoded and counted all the same)";

const VERIFYING: &str = "Judging a chat: observer verify";

const USAGE: &str = "observer [watch] [OPTIONS]\n       observer read [OPTIONS] FILE...\n       \
                     observer verify [OPTIONS] [FILE...]\n       observer ls [OPTIONS] [FILE...]";

/// How long `ls` watches where nothing is said.
const LIST_DURATION: Duration = Duration::from_secs(2);

const AFTER_HELP: &str = "\
Try `sudo observer`, `observer read FILE`, or --help for examples and exit codes.";

const AFTER_LONG_HELP: &str = "\
Examples:
  sudo observer                          watch port 7272
  sudo observer --port 8080 --port 8081  watch two other ports
  sudo observer -i lo -c 10              only loopback, end after ten messages
  sudo observer --json --for 5m | jq 'select(.kind == \"message\").payload'
  observer read chat.pcap                any WebSocket in a capture of tcpdump or Wireshark
  ssh host sudo tcpdump -i any -U -s 0 -w - port 7272 | observer read -
  sudo observer verify --for 5m          did everybody get what they should have got, and how late?
  observer verify --format junit chat.pcap > chat.xml
  sudo observer ls                       who is connected

Reading a line:
  12:00:00.123456 mynick → all \"hi\" 2/2 1.6 ms
  when it was said, who, to whom, what; how many of those who were to get it acknowledged it, and how long
  until it was sent to the last.
  `missing` names who did not; ↳ begins a further line of the same. Messages that belong to no such line (their first
  1,024 bytes), and all of them, text whole, with --each or a filter:
  12:00:00.123456 #1 127.0.0.1:60584 → 127.0.0.1:7272 text 33 {\"type\":\"login\",\"name\":\"mynick\"}
  time, connection, client, who sends (→ client, ← server), server, opcode, bytes of payload, payload.
  What a terminal could obey is shown as an escape (\\x1b, \\u{202e}); `--json` has the exact payload.

Exit codes:
  0    ended as asked: end of input, --count, --for, Ctrl-C, SIGTERM, or a closed pipe
  1    could not be done: no permission, no such file or interface, not a capture, output refused
  2    the command line, or a rule file, makes no sense
  3    done, but an input file ends in the middle, is damaged, or has packets of an unknown link type;
       what could be decoded was
  130  a second Ctrl-C or SIGTERM did not wait for the end
and of `observer verify`:
  0    all that was judged held
  1    something was violated, or came late
  2    the command line, or a rule file, makes no sense; or it could not be run: no permission,
       no such file, ...
  3    nothing was violated, but cases are inconclusive, the capture lost packets, the input is
       damaged, or nothing was seen that a rule knows
Losses do not change the exit code, but of `verify`, where they make it inconclusive; they are in the summary on standard error and in --json.";

/// Shows WebSocket traffic in clear: live from the kernel, or from capture files.
///
/// Without a FILE, watches TCP port 7272 of this machine, all network namespaces and containers included, until
/// Ctrl-C. That needs root. Clients' frames are unmasked, fragments put together, and what was not seen is said.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "observer",
    version,
    override_usage = USAGE,
    after_help = AFTER_HELP,
    after_long_help = AFTER_LONG_HELP,
    max_term_width = 110,
    styles = Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default().bold())
        .placeholder(AnsiColor::Cyan.on_default())
)]
struct Arguments {
    /// `watch` (as without it); `read` and the files to read; `verify` or `ls`, with files or without.
    #[arg(value_name = "COMMAND", hide = true)]
    words: Vec<OsString>,

    /// Decode pcap or pcapng files, gzip too, instead of watching; - is standard input
    ///
    /// The same as `read FILE...`. Needs no privileges. Several files are decoded one after the other as one run, in
    /// the order given, so name the parts of a rotated capture oldest first. Packets of standard input are shown as
    /// they arrive.
    #[arg(short = 'r', long = "read", value_name = "FILE")]
    read_files: Vec<PathBuf>,

    /// Server port; repeat for more [default: 7272, and any when reading files]
    #[arg(short, long = "port", value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,

    /// Watch only this network interface, or any
    #[arg(short, long, value_name = "INTERFACE")]
    interface: Option<String>,

    /// Look at only so many bytes of each packet, counted from its IP header; 0 is everything
    ///
    /// As tcpdump counts for cooked captures (-i any). A message that is cut by it is marked as truncated; the decoder
    /// stays in step, since a frame's header says how long it is.
    #[arg(short, long = "snaplen", value_name = "BYTES", default_value_t = 0)]
    snap_length: u32,

    /// End after so many messages, of both directions together
    ///
    /// Handshakes, frames of --frames, gaps and ends of connections are shown but not counted.
    #[arg(short, long, value_name = "MESSAGES")]
    count: Option<NonZeroU64>,

    /// End after this time: 10s, 5m, 1h30m; a plain number is seconds
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Format of standard output: text, json, explain; of `verify` text, json, junit
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    format: Format,

    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// How text shows times: local, utc, relative (to the first line), delta (to the line before)
    #[arg(long, value_name = "STYLE", value_enum, default_value_t, hide_possible_values = true)]
    time: TimeStyle,

    /// Colours in text: auto, always, never. Auto obeys NO_COLOR
    #[arg(
        long,
        visible_alias = "colour",
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    color: ColorChoice,

    /// Show each message of a chat, instead of one line for each thing that is said and all its copies
    #[arg(long)]
    each: bool,

    /// Show every frame besides the messages, control frames included
    #[arg(long)]
    frames: bool,

    /// Show every TCP segment as `tcpdump -n` prints it, pure acknowledgements included
    ///
    /// Live, these are the segments of sockets that are open: what goes to a closed port and its answer, what reaches
    /// sockets in TIME_WAIT, and what a firewall drops is seen by tcpdump only; to have those too:
    /// `tcpdump -i any -U -w - port 7272 | observer read --packets -`. Before Linux 6.5 the server's SYN+ACK over IPv6
    /// is not seen either, and what follows is numbered as tcpdump does without it. What tcpdump guesses behind the
    /// length of packets of well-known ports (`: HTTP: …`) is left out.
    #[arg(long)]
    packets: bool,

    /// Show payloads, with --packets packets, in hexadecimal and ASCII, as `tcpdump -X` does
    #[arg(short = 'X', long)]
    hex: bool,

    /// Show payloads, with --packets packets, in ASCII, as `tcpdump -A` does
    ///
    /// Line ends are as they were sent, so that a payload may look like lines of observer's own.
    #[arg(short = 'A', long)]
    ascii: bool,

    /// Show every frame with its bytes as they were on the wire, header and mask included
    #[arg(long)]
    wire: bool,

    /// Read messages by the rules of this file, as docs/flows.md describes; repeat for more
    ///
    /// The rules of the files are tried in their order, then those of workerman-chat's three dialects, which are built
    /// in. A file that has the name of one of these replaces it.
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,

    /// Language of --format explain: en, zh
    #[arg(long, value_name = "LANGUAGE", value_enum, default_value_t, hide_possible_values = true)]
    lang: Language,

    /// Show only connections with this address at one end, or one in this network (10.0.0.0/8); repeat for more
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = parse_net, help_heading = FILTERS)]
    host: Vec<IpNet>,

    /// Show only what claims to be for a client of this address or network, by a header that a proxy (or anybody) wrote
    ///
    /// The header of the PROXY protocol, X-Forwarded-For, Forwarded or X-Real-IP: each address in any of them counts.
    /// Who connects is --host.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = parse_net, help_heading = FILTERS)]
    client_claimed: Vec<IpNet>,

    /// Show only connections of these numbers
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', help_heading = FILTERS)]
    connection: Vec<u64>,

    /// Show only what goes this way: client_to_server, server_to_client
    #[arg(
        long,
        value_name = "WAY",
        value_parser = named(DIRECTIONS, Direction::name),
        hide_possible_values = true,
        help_heading = FILTERS
    )]
    direction: Option<Direction>,

    /// Show only messages and frames of these opcodes: text, binary, close, ping, pong, continuation
    #[arg(
        long,
        value_name = "OPCODE",
        value_delimiter = ',',
        value_parser = named(OPCODES, Opcode::name),
        hide_possible_values = true,
        help_heading = FILTERS
    )]
    opcode: Vec<Opcode>,

    /// Show only messages that match this regular expression, as sent or with JSON's escapes decoded
    #[arg(long, value_name = "REGEX", value_parser = Regex::new, help_heading = FILTERS)]
    grep: Vec<Regex>,

    /// Show only messages of these types: login, say, logout, user_list, ping, pong, error, and those of --rules
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', help_heading = FILTERS)]
    types: Vec<String>,

    /// Do not show messages of these types
    #[arg(long = "not-type", value_name = "TYPE", value_delimiter = ',', help_heading = FILTERS)]
    not_types: Vec<String>,

    /// Show only connections of chat users of this name or uid, from their login on: what they send and what they get
    #[arg(long = "user", value_name = "NAME", help_heading = FILTERS)]
    users: Vec<String>,

    /// Show only connections of chat users in this room
    #[arg(long = "room", value_name = "ROOM", help_heading = FILTERS)]
    rooms: Vec<String>,

    /// With --json, also write what each end has received, and when the capture lost packets
    ///
    /// Then `observer verify` judges the lines as exactly as a live run or a capture file: by what was acknowledged,
    /// and not by what was sent.
    #[arg(long)]
    receipts: bool,

    /// Judge only what began from this time on: 2026-01-31T14:02:00Z, or 14:02 of the first day, local time
    ///
    /// What came before shows who is who.
    #[arg(long, value_name = "TIME", value_parser = Bound::parse, help_heading = VERIFYING)]
    since: Option<Bound>,

    /// Judge only what happened until this time
    #[arg(long, value_name = "TIME", value_parser = Bound::parse, help_heading = VERIFYING)]
    until: Option<Bound>,

    /// Which end of the connections is on this machine: server or client
    ///
    /// With `server`, sockets that have the port themselves are watched; with `client`, sockets that are connected to
    /// the port, wherever the server is.
    #[arg(long, value_name = "SIDE", value_enum, hide_possible_values = true)]
    side: Option<SideChoice>,

    /// Leave pure acknowledgements in the kernel
    ///
    /// They prove delivery and show where bytes were lost. Without them less is to do, and a hole is known as one only
    /// when later bytes tell.
    #[arg(long)]
    no_acks: bool,

    /// Size of the buffer between kernel and observer: 64KiB, 16MiB; rounded up to a power of two
    #[arg(long = "ring", value_name = "SIZE", value_parser = parse_ring_bytes)]
    ring_bytes: Option<u32>,

    /// Attach to this cgroup v2 directory instead of the root of its hierarchy
    #[arg(long, value_name = "DIRECTORY")]
    cgroup: Option<PathBuf>,

    /// Accepted for habit: names are never looked up
    #[arg(short = 'n', action = ArgAction::Count)]
    numeric: u8,

    /// Accepted for habit: lines are never held back
    #[arg(short = 'l', action = ArgAction::Count)]
    line_buffered: u8,

    /// No notes and no summary on standard error; warnings, losses and errors are still told
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Show headers of handshakes, the account of each connection, and at once those open before; twice: the kernel programs' log
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

/// Format of standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One readable line a message.
    #[default]
    Text,
    /// One JSON object a line, as docs/json.md describes.
    Json,
    /// Each packet with a sentence that says what it is, and what is in it in clear.
    Explain,
    /// Verdicts as JUnit's XML.
    Junit,
}

const DIRECTIONS: [Direction; 2] = [Direction::ClientToServer, Direction::ServerToClient];

const OPCODES: [Opcode; 6] =
    [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];

/// Takes what the core has a name for by that name.
fn named<T, const N: usize>(values: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(values.map(name))
        .try_map(move |said| values.into_iter().find(|value| name(*value) == said).ok_or("no such name"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SideChoice {
    Server,
    Client,
}

/// What is to be done with what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Show it.
    Show,
    /// Judge it.
    Verify,
    /// Say who is connected.
    List,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub task: Task,
    /// Where packets come from.
    pub source: Source,
    /// Server ports; `None` for any.
    pub ports: Option<Vec<u16>>,
    /// Bytes of each packet, from its IP header; 0 for all.
    pub snap_length: u32,
    /// Messages to end after.
    pub count: Option<NonZeroU64>,
    /// Time to end after.
    pub duration: Option<Duration>,
    /// Format of standard output.
    pub format: Format,
    /// Whether text has one line for a message and all its copies.
    pub folds: bool,
    /// Whether JSON has what each end received.
    pub receipts: bool,
    /// What is judged of a file.
    pub window: Window,
    /// Times in text.
    pub time: TimeStyle,
    /// Colours in text.
    pub color: ColorChoice,
    /// Whether to report frames.
    pub frames: bool,
    /// Whether to report packets.
    pub packets: bool,
    /// Whether frames come with their bytes as on the wire.
    pub wire: bool,
    /// What to show of bytes.
    pub bytes: Layout,
    /// Language of explanations.
    pub language: Language,
    /// What messages mean.
    pub rules: Arc<Rules>,
    /// What is shown.
    pub filter: Filter,
    /// No notes on standard error.
    pub quiet: bool,
    /// How much more to tell than usual.
    pub verbose: u8,
}

/// Where packets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel.
    Live(LiveOptions),
    /// Files, in this order. `-` is standard input.
    Files(Vec<PathBuf>),
}

/// What only a live capture knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveOptions {
    /// Name of the only interface to watch.
    pub interface: Option<String>,
    /// Which end is on this machine.
    pub side: Side,
    /// Leave pure acknowledgements in the kernel.
    pub no_acks: bool,
    /// Size of the ring buffer, a power of two.
    pub ring_bytes: u32,
    /// The cgroup to attach to.
    pub cgroup: Option<PathBuf>,
}

/// Reads the command line. An error knows how to print itself and its exit code, `--help` and `--version` included.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, clap::Error> {
    let arguments = Arguments::try_parse_from(arguments).map_err(advise_tcpdumps_hands)?;
    let (task, source) = source(&arguments)?;
    let ports = match (&source, arguments.ports.is_empty()) {
        (_, false) => Some(arguments.ports.clone()),
        (Source::Live(_), true) => Some(vec![DEFAULT_PORT]),
        (Source::Files(_), true) => None,
    };
    let format = if arguments.json { Format::Json } else { arguments.format };
    if format == Format::Explain && arguments.no_acks {
        let why = "--no-acks leaves out what --format explain tells of: who has received what";
        return Err(error(ErrorKind::ArgumentConflict, why));
    }
    check_task(task, format, &arguments)?;
    check_receipts(format, &arguments)?;
    let looks_into_messages = !(arguments.types.is_empty() && arguments.grep.is_empty());
    if looks_into_messages && format != Format::Explain {
        for (given, option) in
            [(arguments.packets, "--packets"), (arguments.wire, "--wire"), (arguments.frames, "--frames")]
        {
            if given {
                let why = format!(
                    "{option} shows what comes before it is known what --type and --grep look for; --format explain \
                     shows the packets and frames of what they find"
                );
                return Err(error(ErrorKind::ArgumentConflict, &why));
            }
        }
    }
    let control = [Opcode::Close, Opcode::Ping, Opcode::Pong, Opcode::Continuation];
    let asks_for_frames = arguments.opcode.iter().any(|opcode| control.contains(opcode));
    let bytes = Layout { hex: arguments.hex, ascii: arguments.ascii };
    if format == Format::Json && bytes.shows_bytes() {
        return Err(error(
            ErrorKind::ArgumentConflict,
            "-X and -A are for text: JSON has every byte without them",
        ));
    }
    let rules = rules::load(&arguments.rules)
        .map_err(|why| clap::Error::raw(ErrorKind::ValueValidation, why + "\n"))?;
    for (option, types) in [("--type", &arguments.types), ("--not-type", &arguments.not_types)] {
        let known = rules.types();
        if let Some(unknown) = types.iter().find(|it| !known.contains(it.as_str())) {
            let known: Vec<_> = known.into_iter().collect();
            let why =
                format!("no message is of the type '{unknown}' of {option}: there are {}", known.join(", "));
            return Err(clap::Error::raw(ErrorKind::InvalidValue, why + "\n"));
        }
    }
    let filter = Filter {
        hosts: arguments.host,
        claimed: arguments.client_claimed,
        connections: arguments.connection.into_iter().map(ConnectionId).collect(),
        users: arguments.users,
        rooms: arguments.rooms,
        direction: arguments.direction,
        opcodes: arguments.opcode,
        types: arguments.types,
        not_types: arguments.not_types,
        patterns: arguments.grep,
    };
    let asks_for_details =
        arguments.each || arguments.frames || arguments.wire || arguments.packets || bytes.shows_bytes();
    let is_live = matches!(source, Source::Live(_));
    Ok(Request {
        task,
        source,
        ports,
        snap_length: arguments.snap_length,
        count: arguments.count,
        duration: arguments.duration.or_else(|| (task == Task::List && is_live).then_some(LIST_DURATION)),
        format,
        folds: format == Format::Text && !asks_for_details && !filter.hides() && !arguments.no_acks,
        receipts: arguments.receipts,
        window: Window::new(arguments.since, arguments.until),
        time: arguments.time,
        color: arguments.color,
        frames: arguments.frames || arguments.wire || asks_for_frames || format == Format::Explain,
        wire: arguments.wire,
        packets: arguments.packets || format == Format::Explain,
        bytes,
        language: arguments.lang,
        rules,
        filter,
        quiet: arguments.quiet,
        verbose: arguments.verbose,
    })
}

/// Refuses what does not go with a task.
fn check_task(task: Task, format: Format, arguments: &Arguments) -> Result<(), clap::Error> {
    let conflict = |why: &str| Err(error(ErrorKind::ArgumentConflict, why));
    if task != Task::Verify {
        for (given, option) in
            [(arguments.since.is_some(), "--since"), (arguments.until.is_some(), "--until")]
        {
            if given {
                return conflict(&format!(
                    "{option} goes with `verify` only: `observer verify {option} … FILE`"
                ));
            }
        }
        if format == Format::Junit {
            return conflict("--format junit is for verdicts, and goes with `verify` only");
        }
    }
    let word = match task {
        Task::Show => return Ok(()),
        Task::Verify => "verify",
        Task::List => "ls",
    };
    if format == Format::Explain || (task == Task::List && format == Format::Junit) {
        let formats = if task == Task::Verify { "text, json and junit" } else { "text and json" };
        return conflict(&format!("`{word}` has the formats {formats}"));
    }
    if task == Task::Verify && arguments.no_acks {
        return conflict("--no-acks leaves out what `verify` judges by: who has received what, and when");
    }
    let filters = [
        (!arguments.host.is_empty(), "--host"),
        (!arguments.client_claimed.is_empty(), "--client-claimed"),
        (!arguments.connection.is_empty(), "--connection"),
        (arguments.direction.is_some(), "--direction"),
        (!arguments.opcode.is_empty(), "--opcode"),
        (!arguments.grep.is_empty(), "--grep"),
        (!arguments.types.is_empty(), "--type"),
        (!arguments.not_types.is_empty(), "--not-type"),
        (!arguments.users.is_empty(), "--user"),
        (!arguments.rooms.is_empty(), "--room"),
    ];
    let details = [
        (arguments.each, "--each"),
        (arguments.frames, "--frames"),
        (arguments.wire, "--wire"),
        (arguments.packets, "--packets"),
        (arguments.hex, "-X"),
        (arguments.ascii, "-A"),
        (arguments.receipts, "--receipts"),
    ];
    for (given, option) in filters.into_iter().chain(details) {
        if given {
            return conflict(&format!(
                "{option} chooses which records are shown, of which `{word}` shows none: it looks at all of them"
            ));
        }
    }
    Ok(())
}

fn check_receipts(format: Format, arguments: &Arguments) -> Result<(), clap::Error> {
    let why = match format {
        _ if arguments.receipts && arguments.no_acks => {
            "--no-acks leaves out what --receipts writes: what each end has received"
        }
        Format::Json if arguments.each => "--each is for text: JSON always has each message",
        Format::Explain if arguments.each => "--each is for text: a transcript always has each message",
        Format::Text | Format::Explain if arguments.receipts => {
            "--receipts is for programs: it goes with --json"
        }
        _ => return Ok(()),
    };
    Err(error(ErrorKind::ArgumentConflict, why))
}

fn source(arguments: &Arguments) -> Result<(Task, Source), clap::Error> {
    let mut words = arguments.words.iter();
    let mut files = arguments.read_files.clone();
    let mut task = Task::Show;
    match words.next().map(|word| (word, word.to_str())) {
        None => {}
        Some((_, Some("watch"))) if !files.is_empty() => {
            return Err(error(
                ErrorKind::ArgumentConflict,
                "`watch` captures live and -r reads a file: choose one",
            ));
        }
        Some((_, Some("watch"))) => {
            if let Some(word) = words.next() {
                return Err(unknown_word(&word.to_string_lossy(), arguments));
            }
        }
        Some((_, Some(word @ ("read" | "verify" | "ls")))) => {
            task = match word {
                "verify" => Task::Verify,
                "ls" => Task::List,
                _ => Task::Show,
            };
            files.extend(words.map(PathBuf::from));
            let is_filter = |file: &&PathBuf| {
                file.to_str().is_some_and(|word| filter_advice(word).is_some()) && !file.exists()
            };
            if let Some(word) = files.iter().find(is_filter) {
                return Err(unknown_word(&word.to_string_lossy(), arguments));
            }
            if files.is_empty() && word == "read" {
                return Err(error(
                    ErrorKind::MissingRequiredArgument,
                    "which file? `observer read FILE...`, with - for standard input",
                ));
            }
        }
        Some((_, Some("help"))) => {
            return Err(error(ErrorKind::DisplayHelp, &Arguments::command().render_long_help().to_string()));
        }
        Some((word, _)) => return Err(unknown_word(&word.to_string_lossy(), arguments)),
    }
    if files.is_empty() {
        for (given, option) in
            [(arguments.since.is_some(), "--since"), (arguments.until.is_some(), "--until")]
        {
            if given && task == Task::Verify {
                let why =
                    format!("{option} chooses a part of a file; a live run begins now, and ends with --for");
                return Err(error(ErrorKind::ArgumentConflict, &why));
            }
        }
        let live = LiveOptions {
            interface: arguments.interface.clone().filter(|name| name != "any"),
            side: match arguments.side {
                Some(SideChoice::Client) => Side::Client,
                _ => Side::Server,
            },
            no_acks: arguments.no_acks,
            ring_bytes: arguments.ring_bytes.unwrap_or(RING_BYTES_DEFAULT),
            cgroup: arguments.cgroup.clone(),
        };
        return Ok((task, Source::Live(live)));
    }
    for (given, option, why) in [
        (
            arguments.interface.as_deref().is_some_and(|name| name != "any"),
            "--interface",
            "a file has the interfaces that it was captured on",
        ),
        (arguments.side.is_some(), "--side", "a file shows who opened a connection"),
        (arguments.no_acks, "--no-acks", "the file is already captured"),
        (arguments.ring_bytes.is_some(), "--ring", "the file is already captured"),
        (arguments.cgroup.is_some(), "--cgroup", "a file belongs to none"),
    ] {
        if given {
            let message =
                format!("{option} is for a live capture and cannot be used while reading files: {why}");
            return Err(error(ErrorKind::ArgumentConflict, &message));
        }
    }
    if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(error(ErrorKind::ArgumentConflict, "standard input (-) can be read only once"));
    }
    Ok((task, Source::Files(files)))
}

/// For a word that is no command: most likely a file, or tcpdump's filter language.
fn unknown_word(word: &str, arguments: &Arguments) -> clap::Error {
    let all = arguments.words.iter().map(|word| word.to_string_lossy());
    let rest: Vec<_> = all.skip_while(|candidate| candidate != word).collect();
    let advice = match filter_advice(&rest.join(" ")) {
        Some(advice) => advice,
        None if word.parse::<u16>().is_ok() => format!("for port {word} say --port {word}"),
        None if std::path::Path::new(word).exists() => {
            format!("to decode a capture file say `observer read {word}`")
        }
        None => "the commands are `watch`, `read FILE...`, `verify [FILE...]` and `ls [FILE...]`".to_owned(),
    };
    error(ErrorKind::InvalidSubcommand, &format!("unexpected word '{word}': {advice}"))
}

/// What to say instead of words that are tcpdump's filter language; `None` where they do not look like it.
fn filter_advice(words: &str) -> Option<String> {
    const WORDS: [&str; 24] = [
        "port",
        "portrange",
        "host",
        "net",
        "src",
        "dst",
        "tcp",
        "udp",
        "ip",
        "ip6",
        "arp",
        "icmp",
        "ether",
        "proto",
        "and",
        "or",
        "not",
        "less",
        "greater",
        "len",
        "vlan",
        "broadcast",
        "multicast",
        "inbound",
    ];
    let words: Vec<_> = words.split_whitespace().collect();
    let first = *words.first()?;
    if !WORDS.contains(&first) && !first.contains('[') && !first.starts_with(['(', '!']) {
        return None;
    }
    let behind = |name: &'static str| {
        words.windows(2).filter(move |pair| pair[0] == name).map(|pair| pair[1].trim_matches(['(', ')']))
    };
    let ports =
        behind("port").filter(|port| port.parse::<u16>().is_ok()).map(|port| format!("--port {port}"));
    let nets = behind("host").chain(behind("net")).filter(|net| parse_net(net).is_ok());
    let flags: Vec<_> = ports.chain(nets.map(|net| format!("--host {net}"))).collect();
    Some(if flags.is_empty() {
        "tcpdump's filter language is not understood; --port chooses the ports, --host shows only connections of an \
         address or network"
            .to_owned()
    } else {
        format!("for tcpdump's `{}` say {}", words.join(" "), flags.join(" "))
    })
}

/// Where an option is tcpdump's, says what to do instead.
fn advise_tcpdumps_hands(found: clap::Error) -> clap::Error {
    let Some(ContextValue::String(option)) = found.get(ContextKind::InvalidArg) else { return found };
    let advice = match option.as_str() {
        "-x" => "-X shows hexadecimal",
        "-w" => "observer shows what tcpdump wrote: `tcpdump -w FILE`, then `observer read FILE`",
        "-t" => "--time chooses how times are shown",
        "-e" | "-S" | "-K" => "--packets shows packets from their IP header on, in one way",
        "-U" | "-B" | "-Z" | "-O" => "it is not needed here",
        "-D" => "`-i` with a wrong name lists the interfaces",
        "-F" | "-E" | "-G" | "-C" | "-W" | "-y" | "-j" | "-Q" => "it has no counterpart here",
        _ => return found,
    };
    error(found.kind(), &format!("tcpdump's {option} is no option of observer: {advice}"))
}

fn error(kind: ErrorKind, message: &str) -> clap::Error {
    Arguments::command().error(kind, message)
}

/// An address is a network of one.
fn parse_net(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| {
        "expected an address or a network, such as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32; names are not looked up".to_owned()
    })
}

/// A duration as people write it; a plain number is seconds, as for `sleep`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected something like 10s, 5m, 1h30m, or a number of seconds";
    let duration = if let Ok(seconds) = text.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let parsed: jiff::SignedDuration = text.parse().map_err(|_| EXPECTED.to_owned())?;
        parsed.try_into().map_err(|_| EXPECTED.to_owned())?
    };
    if duration.is_zero() {
        return Err("no time to see anything in".to_owned());
    }
    Ok(duration)
}

fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    const SMALLEST: u64 = 4 << 10;
    const LARGEST: u64 = 1 << 30;
    let bytesize::ByteSize(bytes) =
        text.parse().map_err(|_| "expected a size like 65536, 64KiB or 16MiB".to_owned())?;
    let rounded = bytes.max(1).checked_next_power_of_two().unwrap_or(u64::MAX);
    match u32::try_from(rounded) {
        Ok(rounded) if (SMALLEST..=LARGEST).contains(&u64::from(rounded)) => Ok(rounded),
        _ => Err("a ring holds from 4KiB to 1GiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Request, clap::Error> {
        parse(std::iter::once("observer").chain(line.split_whitespace()).map(OsString::from))
    }

    fn parsed(line: &str) -> Request {
        parse_words(line).unwrap_or_else(|error| panic!("`observer {line}`: {error}"))
    }

    fn refused(line: &str) -> (ErrorKind, String) {
        let error = parse_words(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "`observer {line}`");
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn alone_it_watches_port_7272_on_any_interface() {
        for line in ["", "watch"] {
            let request = parsed(line);
            assert_eq!(request.ports.as_deref(), Some(&[7272][..]));
            let Source::Live(live) = request.source else { panic!("{line} does not watch") };
            assert_eq!(live.interface, None);
            assert_eq!(live.side, Side::Server);
            assert_eq!(live.ring_bytes, RING_BYTES_DEFAULT);
            assert_eq!((request.snap_length, request.count, request.duration), (0, None, None));
        }
    }

    #[test]
    fn every_option_works_without_watch_and_on_both_sides_of_it() {
        let options = "--port 1 --port 2,3 -i lo -s 96 -c 5 --for 1h30m -n -l -vv --format json --time utc \
            --color never --side client --frames --no-acks --ring 1MiB --cgroup /x";
        for line in [options.to_owned(), format!("watch {options}"), format!("{options} watch")] {
            let request = parsed(&line);
            assert_eq!(request.ports, Some(vec![1, 2, 3]));
            assert_eq!((request.snap_length, request.count), (96, NonZeroU64::new(5)));
            assert_eq!(request.duration, Some(Duration::from_secs(5400)));
            assert_eq!((request.format, request.time), (Format::Json, TimeStyle::Utc));
            assert_eq!(request.color, ColorChoice::Never);
            assert!(request.frames);
            assert_eq!(request.verbose, 2);
            let expected = LiveOptions {
                interface: Some("lo".to_owned()),
                side: Side::Client,
                no_acks: true,
                ring_bytes: 1 << 20,
                cgroup: Some("/x".into()),
            };
            assert_eq!(request.source, Source::Live(expected));
        }
        let request = parsed("--port 1 watch --port 2 -v -v");
        assert_eq!((request.ports, request.verbose), (Some(vec![1, 2]), 2));
    }

    #[test]
    fn any_is_no_interface_and_json_is_short_for_its_format() {
        assert!(matches!(parsed("-i any").source, Source::Live(live) if live.interface.is_none()));
        assert_eq!(parsed("--json").format, Format::Json);
        assert_eq!(refused("--json --format text").0, ErrorKind::ArgumentConflict);
    }

    #[test]
    fn the_flags_of_a_tcpdump_command_are_taken_bundled() {
        let request = parsed("-nli any -s0 -c3");
        assert_eq!((request.snap_length, request.count), (0, NonZeroU64::new(3)));
    }

    #[test]
    fn reading_takes_files_in_order_and_any_port() {
        for line in ["read a b -", "-r a -r b -r -", "-r a read b -", "read -r a b -"] {
            let request = parsed(line);
            assert_eq!(request.source, Source::Files(vec!["a".into(), "b".into(), "-".into()]), "{line}");
            assert_eq!(request.ports, None);
        }
        assert_eq!(parsed("read watch --port 80").ports, Some(vec![80]));
        // It asks for nothing.
        assert!(matches!(parsed("-r a -i any").source, Source::Files(_)));
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_the_reason() {
        for (line, said) in [
            ("read a -i lo", "--interface"),
            ("-r a --side client", "--side"),
            ("-r a --no-acks", "--no-acks"),
            ("-r a --ring 1MiB", "--ring"),
            ("-r a --cgroup /x", "--cgroup"),
            ("watch -r a", "choose one"),
            ("--format explain --no-acks", "who has received what"),
            ("--json -X", "every byte"),
            ("--packets --type say", "--format explain"),
            ("--wire --grep hi", "--format explain"),
            ("read - -", "only once"),
            ("-q -v", "--quiet"),
        ] {
            let (kind, message) = refused(line);
            assert_eq!(kind, ErrorKind::ArgumentConflict, "{line}");
            assert!(message.contains(said), "{line}: {message}");
        }
        assert_eq!(refused("read").0, ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn verify_and_ls_are_live_without_files_and_take_them_as_read_does() {
        for (word, task) in [("verify", Task::Verify), ("ls", Task::List)] {
            let request = parsed(&format!("{word} --port 8080"));
            assert_eq!((request.task, request.ports), (task, Some(vec![8080])));
            assert!(matches!(request.source, Source::Live(_)));
            for line in [format!("{word} a b"), format!("-r a {word} b")] {
                let request = parsed(&line);
                assert_eq!(request.source, Source::Files(vec!["a".into(), "b".into()]), "{line}");
                assert_eq!((request.task, request.duration), (task, None));
            }
        }
        assert_eq!(parsed("verify").duration, None);
        assert_eq!(parsed("ls").duration, Some(LIST_DURATION));
        assert_eq!(parsed("verify a --format junit").format, Format::Junit);
    }

    #[test]
    fn what_does_not_go_with_verify_and_ls_is_refused_with_the_reason() {
        for (line, said) in [
            ("verify --no-acks", "who has received what"),
            ("verify --format explain", "text, json and junit"),
            ("verify --user a", "--user"),
            ("verify a --each", "--each"),
            ("verify --receipts --json", "--receipts"),
            ("verify --since 14:02", "--for"),
            ("read a --since 14:02", "`verify` only"),
            ("--until 14:02", "`verify` only"),
            ("--format junit", "`verify` only"),
            ("ls --format junit", "`verify` only"),
            ("ls --grep a", "--grep"),
        ] {
            let (kind, message) = refused(line);
            assert_eq!(kind, ErrorKind::ArgumentConflict, "{line}");
            assert!(message.contains(said), "{line}: {message}");
        }
    }

    #[test]
    fn text_folds_unless_single_messages_are_asked_for() {
        for line in ["", "watch", "read a", "-v", "--port 1 -c 3", "--time utc"] {
            assert!(parsed(line).folds, "{line}");
        }
        for line in [
            "--each",
            "--type say",
            "--not-type say",
            "--grep a",
            "--user a",
            "--room a",
            "--host 10.0.0.1",
            "--connection 1",
            "--client-claimed 10.0.0.1",
            "--direction client_to_server",
            "--opcode text",
            "--frames",
            "--wire",
            "--packets",
            "-X",
            "-A",
            "--no-acks",
            "--json",
            "--format explain",
        ] {
            assert!(!parsed(line).folds, "{line}");
        }
    }

    #[test]
    fn receipts_are_for_json_and_need_acknowledgments() {
        assert!(parsed("--json --receipts").receipts);
        for (line, said) in [
            ("--receipts", "--json"),
            ("--json --receipts --no-acks", "--no-acks"),
            ("--json --each", "JSON always"),
        ] {
            assert!(refused(line).1.contains(said), "{line}");
        }
    }

    #[test]
    fn trailing_words_are_refused_with_what_to_say_instead() {
        for (line, said) in [
            ("port 8080", "--port 8080"),
            ("watch port 8080", "--port 8080"),
            ("8080", "--port 8080"),
            ("tcp and port 80", "--port 80"),
            ("-r Cargo.toml tcp port 8080", "--port 8080"),
            ("read Cargo.toml port 8080", "--port 8080"),
            ("host 10.0.0.1", "say --host 10.0.0.1"),
            ("tcp port 80 and host 10.0.0.1", "say --port 80 --host 10.0.0.1"),
            ("portrange 1-2", "filter language"),
            ("tcp[13]&2!=0", "filter language"),
            ("Cargo.toml", "observer read Cargo.toml"),
            ("frobnicate", "`watch`, `read FILE...`, `verify [FILE...]` and `ls [FILE...]`"),
        ] {
            let (_, message) = refused(line);
            assert!(message.contains(said), "{line}: {message}");
        }
    }

    #[test]
    fn a_filter_in_one_word_is_known_as_one() {
        for arguments in [&["observer", "tcp port 7272"][..], &["observer", "-r", "Cargo.toml", "port 7272"]]
        {
            let error = parse(arguments.iter().map(OsString::from)).expect_err("it is no command");
            assert!(error.to_string().contains("say --port 7272"), "{error}");
        }
    }

    #[test]
    fn tcpdumps_options_are_refused_with_what_to_do_instead() {
        for (line, said) in [("-x", "-X shows"), ("-w out.pcap", "observer read FILE"), ("-tttt", "--time")] {
            let (kind, message) = refused(line);
            assert_eq!(kind, ErrorKind::UnknownArgument, "{line}");
            assert!(message.contains(said), "{line}: {message}");
        }
        assert!(refused("--nonesuch").1.contains("--nonesuch"));
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for line in [
            "--port 0",
            "--port 65536",
            "-c 0",
            "-c -1",
            "--for 0s",
            "--for soon",
            "--for -5s",
            "--ring 1",
            "--ring 8GiB",
            "--ring x",
            "-s -1",
            "--time noon",
            "--format xml",
            "--side middle",
            "--color red",
        ] {
            refused(line);
        }
    }

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_ring_bytes("65536"), Ok(65_536));
        assert_eq!(parse_ring_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_ring_bytes("16M"), Ok(16 << 20));
        assert_eq!(parse_ring_bytes("5000"), Ok(8192));
    }

    #[test]
    fn help_is_no_error_and_has_examples_and_exit_codes() {
        for line in ["--help", "help"] {
            let help = parse_words(line).expect_err("help is printed");
            assert_eq!(help.exit_code(), 0, "{line}");
            let text = help.to_string();
            for part in ["sudo observer", "Exit codes", "observer read -", "--snaplen"] {
                assert!(text.contains(part), "{line} lacks {part:?}");
            }
        }
    }
}
