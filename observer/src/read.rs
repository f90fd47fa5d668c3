//! The run loop over files: captures, and for those who judge, observer's own JSON lines.
//!
//! Owns opening, unpacking, which of the two a file is, the order of files, and what is said of damaged ones. Must not
//! know the formats. Bounded: a thread reads ahead by `CHUNKS_AHEAD` chunks, also where a chunk of gzip unpacks to a
//! thousand times its size; of a line [`LINE_BYTES_MAX`] are kept.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use flate2::write::MultiGzDecoder;
use observer_core::engine::Report;
use observer_core::flow::Rules;
use observer_core::record::{CaptureLoss, Kind};
use observer_core::time::Time;
use observer_core::{Event, Packet, Record, Sink};
use tokio::sync::mpsc;

use crate::capture::file::{FileError, FilePacket, FileReader, Item, link_type_name};
use crate::cli::{EXIT_ERROR, EXIT_INPUT_CUT, EXIT_NOT_RUN, EXIT_OK, Request, Task};
use crate::lines::{Line, Lines};
use crate::output::summary;
use crate::shell::Shell;

/// Chunks between the reading thread and the decoder.
const CHUNKS_AHEAD: usize = 2;
/// What is read of a file at once. A pipe gives what it has.
const CHUNK_BYTES: usize = 256 << 10;
/// What is unpacked at once.
const GZIP_CHUNK_BYTES: usize = 4 << 10;
/// Interfaces of one run that get a name.
const NAMED_INTERFACES_MAX: u32 = 1_024;

/// The longest line, in bytes: a message of the largest size, every byte of it escaped.
pub const LINE_BYTES_MAX: usize = 128 << 20;
/// Blanks that a file may begin with.
const BLANKS_MAX: usize = 64 << 10;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const TOGETHER: &str = "captures and JSON lines are not read in one run, since their connections would be taken for others: read it alone";

/// Decodes `files`, one after the other, as one run. Returns the exit code.
pub fn run(request: &Request, files: &[PathBuf]) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exit_code = runtime.block_on(run_files(request, files));
    // A thread may still wait for standard input, and must not be waited for.
    runtime.shutdown_background();
    exit_code
}

async fn run_files(request: &Request, files: &[PathBuf]) -> anyhow::Result<u8> {
    // Ports that were named are known to be WebSocket's: then connections without their beginning are decoded too. And
    // what packets belong to is to be told from the first one on.
    let report = if request.ports.is_some() || request.packets { Report::All } else { Report::Upgrades };
    let mut shell = Shell::start(request, request.ports.as_deref(), report)?;
    let mut reading = Reading::new(request);
    let mut exit_code = EXIT_OK;
    let mut unreadable = false;
    for (number, path) in files.iter().enumerate() {
        if number > 0 {
            shell.note_hole();
        }
        let ended = reading.read_file(path, &mut shell).await?;
        let name = display_name(path);
        if let Some(left_out) = reading.left_out.take_words() {
            shell.diagnostics.warning(format!("{name}: {left_out}"));
            exit_code = exit_code.max(EXIT_INPUT_CUT);
        }
        if let Some(damaged) = reading.damaged_lines.take_words() {
            shell.diagnostics.warning(format!("{name}: {damaged}"));
            exit_code = exit_code.max(EXIT_INPUT_CUT);
        }
        match ended {
            Ended::OfItself => {}
            Ended::AsAsked => break,
            Ended::Unreadable(why) => {
                shell.diagnostics.error(format!("{name}: {why}"));
                unreadable = true;
            }
            Ended::Cut(why) => {
                shell.diagnostics.warning(format!("{name}: {why}; what is before that is decoded"));
                exit_code = exit_code.max(EXIT_INPUT_CUT);
            }
        }
    }
    if exit_code != EXIT_OK || unreadable {
        shell.note_damage();
    }
    if unreadable {
        exit_code = if request.task == Task::Verify { EXIT_NOT_RUN } else { EXIT_ERROR };
    }
    let is_whole = exit_code == EXIT_OK;
    let summary = match &mut reading.lines {
        Some(lines) => shell.finish_lines(lines, is_whole).await?,
        None => {
            let dropped = summary::count(reading.dropped, "packet", "packets");
            let dropped = (reading.dropped > 0)
                .then(|| format!("{dropped} dropped while it was captured, as the capture itself says"));
            shell.finish(None, dropped.as_slice(), is_whole).await?
        }
    };
    if request.ports.is_none() && summary.is_some_and(|summary| summary.connections_other > 0) {
        shell.diagnostics.note(
            "connections whose upgrade is not in the capture are decoded where --port names their port",
        );
    }
    Ok(match shell.verification() {
        Some(verification) if !unreadable => verification.conclusion().exit_code(),
        _ => exit_code,
    })
}

/// How a file ended.
#[derive(Debug)]
enum Ended {
    /// Where a record does.
    OfItself,
    /// By a signal, `--count`, `--for`, or because nobody reads the output.
    AsAsked,
    /// Before anything was decoded.
    Unreadable(String),
    /// In the middle of something.
    Cut(String),
}

/// What is kept between files.
#[derive(Debug)]
struct Reading {
    snap_length: u32,
    interfaces: Interfaces,
    left_out: LeftOut,
    damaged_lines: DamagedLines,
    /// Where the files are JSON lines.
    lines: Option<Lines>,
    has_captures: bool,
    /// Who may read lines, and by which rules.
    reads_lines: Option<Arc<Rules>>,
    ports: Option<Vec<u16>>,
    sent_is_trusted: bool,
    /// Packets that the captures say were dropped.
    dropped: u64,
    /// When the last packet passed.
    now: Time,
    records_receipts: bool,
}

/// What is read of a file, by what it is.
#[derive(Debug)]
enum Input {
    /// Nothing but blanks so far.
    Unknown(Vec<u8>),
    Capture(Box<FileReader>),
    Lines(Splitter),
}

impl Input {
    fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Capture(file) => file.push(bytes),
            Self::Lines(lines) => lines.push(bytes),
            Self::Unknown(before) => {
                before.extend_from_slice(bytes);
                let first = before.iter().find(|byte| !byte.is_ascii_whitespace());
                // pcapng begins with line ends.
                if before.starts_with(&PCAPNG_MAGIC) || (first.is_some() && first != Some(&b'{')) {
                    self.settle();
                } else if first.is_some() {
                    let mut lines = Splitter::default();
                    lines.push(before);
                    *self = Self::Lines(lines);
                } else if before.len() > BLANKS_MAX {
                    self.settle();
                }
            }
        }
    }

    /// What is nothing else is taken for a capture, which says what is wrong with it.
    fn settle(&mut self) {
        if let Self::Unknown(before) = self {
            let mut file = FileReader::new();
            file.push(before);
            *self = Self::Capture(Box::new(file));
        }
    }
}

/// Cuts input into lines.
#[derive(Debug, Default)]
struct Splitter {
    buffer: Vec<u8>,
    used: usize,
    /// Up to where no line ends.
    searched: usize,
    number: u64,
    /// Whether the line that is under way is too long, and left out.
    is_skipping: bool,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.searched -= self.used;
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line with its number; an error where it is too long.
    fn next_line(&mut self) -> Option<(u64, Result<&[u8], String>)> {
        let end = self.buffer.get(self.searched..)?.iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end) else {
            self.searched = self.buffer.len();
            if self.searched - self.used > LINE_BYTES_MAX {
                self.used = self.searched;
                if !std::mem::replace(&mut self.is_skipping, true) {
                    return Some((self.number + 1, Err(format!("it is longer than {LINE_BYTES_MAX} bytes"))));
                }
            }
            return None;
        };
        let begin = std::mem::replace(&mut self.used, end + 1);
        self.searched = end + 1;
        self.number += 1;
        let line = if std::mem::take(&mut self.is_skipping) { &[][..] } else { &self.buffer[begin..end] };
        Some((self.number, Ok(line)))
    }

    /// What stands behind the last line end.
    fn rest(&mut self) -> &[u8] {
        if self.is_skipping { &[] } else { &self.buffer[self.used..] }
    }
}

/// Lines of the current file that make no sense.
#[derive(Debug, Default)]
struct DamagedLines {
    first: Vec<String>,
    count: usize,
}

impl DamagedLines {
    const TOLD_MAX: usize = 8;

    fn note(&mut self, number: u64, why: &str) {
        self.count += 1;
        if self.first.len() < Self::TOLD_MAX {
            self.first.push(format!("line {number}: {why}"));
        }
    }

    /// What is damaged, in words, if anything is; forgets it.
    fn take_words(&mut self) -> Option<String> {
        let Self { first, count } = std::mem::take(self);
        let more = count - first.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let lines = if count == 1 { "1 line is left out" } else { &format!("{count} lines are left out") };
        (count > 0).then(|| format!("{lines}: {}{more}", first.join("; ")))
    }
}

/// Packets of the current file that are not understood: by the first few link types, of all others together, and in
/// obsolete blocks.
#[derive(Debug, Default)]
struct LeftOut {
    named: BTreeMap<u32, u64>,
    others: u64,
    obsolete: u64,
}

impl LeftOut {
    const NAMED_MAX: usize = 8;

    fn count_link(&mut self, number: u32) {
        if self.named.len() < Self::NAMED_MAX || self.named.contains_key(&number) {
            *self.named.entry(number).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    /// What was left out, in words, if anything was; forgets it.
    fn take_words(&mut self) -> Option<String> {
        let Self { named, others, obsolete } = std::mem::take(self);
        let mut types: Vec<_> = named
            .iter()
            .map(|(number, packets)| format!("{packets} of link type {}", link_type_name(*number)))
            .collect();
        if others > 0 {
            types.push(format!("{others} of other link types"));
        }
        if obsolete > 0 {
            types.push(format!("{obsolete} in obsolete packet blocks (`editcap OLD NEW` converts them)"));
        }
        let packets = others + obsolete + named.values().sum::<u64>();
        let is_any = packets > 0;
        is_any.then(|| {
            format!("{packets} packets are left out, since they are not understood: {}", types.join(", "))
        })
    }
}

impl Reading {
    fn new(request: &Request) -> Self {
        Self {
            snap_length: request.snap_length,
            interfaces: Interfaces::default(),
            left_out: LeftOut::default(),
            damaged_lines: DamagedLines::default(),
            lines: None,
            has_captures: false,
            reads_lines: (request.task != Task::Show).then(|| Arc::clone(&request.rules)),
            ports: request.ports.clone(),
            sent_is_trusted: false,
            dropped: 0,
            now: Time::default(),
            records_receipts: request.receipts,
        }
    }

    async fn read_file(&mut self, path: &Path, shell: &mut Shell) -> anyhow::Result<Ended> {
        self.interfaces.begin_file();
        let path = path.to_owned();
        let mut chunks = start_reading(move || {
            let input: Box<dyn Read> =
                if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
            Ok(input)
        })?;
        let mut input = Input::Unknown(Vec::new());
        loop {
            let chunk = tokio::select! {
                biased;
                () = shell.ending.asked() => return Ok(Ended::AsAsked),
                chunk = chunks.recv() => chunk,
            };
            let end = match chunk {
                Some(Ok(bytes)) => {
                    input.push(&bytes);
                    Ok(false)
                }
                None => {
                    input.settle();
                    Ok(true)
                }
                Some(Err(error)) => Err(error),
            };
            let ended = match &mut input {
                Input::Unknown(_) => None,
                Input::Capture(file) => self.decode(file, shell).await?,
                Input::Lines(lines) => self.read_lines(lines, shell).await?,
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
            shell.deliver().await?;
            // Where input never fails to come nothing else would let signals have their turn.
            tokio::task::yield_now().await;
            match (end, &mut input) {
                (Ok(false), _) => {}
                (Ok(true), Input::Capture(file)) => {
                    return Ok(file.end().map_or_else(|error| ended_by(&error), |()| Ended::OfItself));
                }
                (Ok(true), Input::Lines(lines)) => return Ok(self.end_lines(lines, shell)),
                (Ok(true), Input::Unknown(_)) => return Ok(Ended::OfItself),
                (Err(error), Input::Capture(file)) if file.has_read_anything() => {
                    return Ok(Ended::Cut(reason(&error)));
                }
                (Err(error), Input::Lines(lines)) => {
                    self.end_lines(lines, shell);
                    return Ok(Ended::Cut(reason(&error)));
                }
                (Err(error), _) => return Ok(Ended::Unreadable(reason(&error))),
            }
        }
    }

    /// Decodes the packets that are whole by now.
    async fn decode(&mut self, file: &mut FileReader, shell: &mut Shell) -> anyhow::Result<Option<Ended>> {
        if self.lines.is_some() {
            return Ok(Some(Ended::Unreadable(TOGETHER.to_owned())));
        }
        loop {
            match file.next_item() {
                Ok(Some(Item::Packet(packet))) => {
                    self.has_captures = true;
                    self.handle(&packet, shell);
                }
                Ok(Some(Item::UnknownLink { number })) => {
                    self.left_out.count_link(number);
                }
                Ok(Some(Item::ObsoletePacket)) => self.left_out.obsolete += 1,
                Ok(Some(Item::Dropped { packets })) => {
                    self.dropped = self.dropped.saturating_add(packets);
                    shell.output().note_lost(packets);
                    self.tell_dropped(shell.output());
                }
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(ended_by(&error))),
            }
            shell.deliver_blocks().await?;
            if shell.is_over() {
                return Ok(Some(Ended::AsAsked));
            }
        }
    }

    /// Records that packets were dropped, for who reads what is recorded.
    fn tell_dropped(&self, sink: &mut dyn Sink) {
        if self.records_receipts {
            let kind = Kind::CaptureLoss(CaptureLoss { packets: self.dropped });
            sink.handle_record(&Record { time: self.now, connection: None, stream_end: None, kind });
        }
    }

    /// Reads the lines that are whole by now.
    async fn read_lines(&mut self, lines: &mut Splitter, shell: &mut Shell) -> anyhow::Result<Option<Ended>> {
        let Some(rules) = &self.reads_lines else {
            let why = "it has observer's own JSON lines, of which `observer verify FILE` and `observer ls FILE` \
                       make something";
            return Ok(Some(Ended::Unreadable(why.to_owned())));
        };
        if self.has_captures {
            return Ok(Some(Ended::Unreadable(TOGETHER.to_owned())));
        }
        self.lines.get_or_insert_with(|| Lines::new(Arc::clone(rules)));
        while let Some((number, line)) = lines.next_line() {
            if let Err(why) = line.and_then(|line| self.read_line(line, shell)) {
                self.damaged_lines.note(number, &why);
            }
            shell.deliver_blocks().await?;
            if shell.is_over() {
                return Ok(Some(Ended::AsAsked));
            }
        }
        Ok(None)
    }

    fn read_line(&mut self, bytes: &[u8], shell: &mut Shell) -> Result<(), String> {
        let (Some(line), Some(lines)) = (Line::parse(bytes)?, &mut self.lines) else { return Ok(()) };
        if self.ports.as_ref().is_some_and(|ports| !line.is_of_port(ports)) {
            return Ok(());
        }
        if line.lacks_receipts() && !std::mem::replace(&mut self.sent_is_trusted, true) {
            shell.output().trust_sent();
            if shell.output().judges() {
                shell.diagnostics.note(
                    "these lines do not tell what was received, so that delivery is judged by what the server sent; \
                     `observer --json --receipts` records more",
                );
            }
        }
        lines.handle(&line, shell.output())
    }

    fn end_lines(&mut self, lines: &mut Splitter, shell: &mut Shell) -> Ended {
        let rest = lines.rest().to_vec();
        let is_cut = self.read_line(&rest, shell).is_err();
        if let Some(lines) = &mut self.lines {
            lines.end_file(shell.output());
        }
        if is_cut { Ended::Cut("it ends in the middle of a line".to_owned()) } else { Ended::OfItself }
    }

    fn handle(&mut self, packet: &FilePacket<'_>, shell: &mut Shell) {
        let stripped = packet.link.strip(packet.data);
        let (data, header_length) = match &stripped {
            Some(stripped) => (stripped.packet, stripped.header_length),
            // Not IP: the engine counts it with the others that it has no use for.
            None => (&[][..], packet.length),
        };
        let cooked_index = stripped.and_then(|stripped| stripped.interface_index);
        let (interface, is_new) = self.interfaces.number(packet, cooked_index);
        if let (Some((index, name)), true) = (&interface, is_new) {
            shell.handle(Event::Interface { index: *index, name });
        }
        let kept = match usize::try_from(self.snap_length) {
            Ok(snap_length) if snap_length != 0 => data.get(..snap_length).unwrap_or(data),
            _ => data,
        };
        self.now = Time::from_file(packet.unix_nanoseconds);
        shell.handle(Event::Packet(Packet {
            time: self.now,
            data: kept,
            length: packet.length.saturating_sub(header_length),
            rest_lost: false,
            interface: interface.map(|(index, _)| index),
            socket: None,
            losses: 0,
        }));
    }
}

fn ended_by(error: &FileError) -> Ended {
    match error {
        FileError::NotACapture(_) | FileError::UnknownLink(_) => Ended::Unreadable(error.to_string()),
        FileError::Damaged(_) => Ended::Cut(error.to_string()),
    }
}

/// Numbers for the interfaces of all files together, of which each file counts its own from 0.
#[derive(Debug, Default)]
struct Interfaces {
    of_file: HashMap<InterfaceKey, u32>,
    numbers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum InterfaceKey {
    /// As the file describes it.
    Described(u32),
    /// As the link header of a cooked capture numbers it.
    Cooked(u32),
}

impl Interfaces {
    fn begin_file(&mut self) {
        self.of_file.clear();
    }

    /// Number and name of a packet's interface, where it has a name, and whether the number is new.
    fn number(
        &mut self,
        packet: &FilePacket<'_>,
        cooked_index: Option<u32>,
    ) -> (Option<(u32, String)>, bool) {
        // A cooked capture is taken on `any`; its packets say where each was.
        let (key, name) = match (cooked_index, packet.interface_name) {
            (Some(index), _) => (InterfaceKey::Cooked(index), format!("ifindex {index}")),
            (None, Some(name)) => (InterfaceKey::Described(packet.interface), name.to_owned()),
            (None, None) => return (None, false),
        };
        if let Some(&number) = self.of_file.get(&key) {
            return (Some((number, name)), false);
        }
        if self.numbers >= NAMED_INTERFACES_MAX {
            return (None, false);
        }
        let number = self.numbers;
        self.numbers += 1;
        self.of_file.insert(key, number);
        (Some((number, name)), true)
    }
}

/// Opens and reads on a thread of its own, since neither can be given up otherwise where nobody writes to a pipe.
fn start_reading(
    open: impl FnOnce() -> io::Result<Box<dyn Read>> + Send + 'static,
) -> anyhow::Result<mpsc::Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let read = move || {
        if let Err(error) = open().and_then(|input| read_chunks(input, &sender)) {
            // Nobody to tell once the run is over.
            let _ = sender.blocking_send(Err(error));
        }
    };
    thread::Builder::new().name("input".to_owned()).spawn(read).context("no thread for reading")?;
    Ok(receiver)
}

fn read_chunks(mut input: impl Read, sender: &mpsc::Sender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut first = Vec::new();
    while first.len() < GZIP_MAGIC.len() {
        let mut chunk = read_some(&mut input)?;
        if chunk.is_empty() {
            break;
        }
        first.append(&mut chunk);
    }
    let mut unpacker = first.starts_with(&GZIP_MAGIC).then(|| MultiGzDecoder::new(Vec::new()));
    let mut chunk = first;
    while !chunk.is_empty() {
        match &mut unpacker {
            None => {
                if sender.blocking_send(Ok(chunk)).is_err() {
                    return Ok(());
                }
            }
            Some(unpacker) => {
                for part in chunk.chunks(GZIP_CHUNK_BYTES) {
                    let unpacked = unpacker.write_all(part).and_then(|()| unpacker.flush());
                    let bytes = std::mem::take(unpacker.get_mut());
                    if !bytes.is_empty() && sender.blocking_send(Ok(bytes)).is_err() {
                        return Ok(());
                    }
                    unpacked.map_err(|error| damaged_gzip(&error))?;
                }
            }
        }
        chunk = read_some(&mut input)?;
    }
    if let Some(mut unpacker) = unpacker {
        let ended = unpacker.try_finish();
        let bytes = std::mem::take(unpacker.get_mut());
        if !bytes.is_empty() && sender.blocking_send(Ok(bytes)).is_err() {
            return Ok(());
        }
        ended.map_err(|error| damaged_gzip(&error))?;
    }
    Ok(())
}

fn damaged_gzip(error: &io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its gzip compression is damaged or cut ({error})"))
}

/// What is there, at most a chunk; nothing at the end.
fn read_some(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match input.read(&mut chunk) {
            Ok(length) => {
                chunk.truncate(length);
                return Ok(chunk);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn display_name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Why a file cannot be read, with what to do.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "you may not read it; root may (`sudo observer read …`), or `sudo chmod a+r` it".to_owned()
        }
        io::ErrorKind::IsADirectory => "it is a directory: name the files in it".to_owned(),
        io::ErrorKind::InvalidData => error.to_string(),
        _ => format!("it cannot be read ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn unpacked(bytes: &[u8]) -> (Vec<u8>, Option<io::Error>) {
        let bytes = bytes.to_vec();
        let mut receiver = start_reading(move || Ok(Box::new(io::Cursor::new(bytes)))).unwrap();
        let (mut all, mut error) = (Vec::new(), None);
        while let Some(chunk) = receiver.blocking_recv() {
            match chunk {
                Ok(chunk) => all.extend_from_slice(&chunk),
                Err(failure) => error = Some(failure),
            }
        }
        (all, error)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_unpacked_also_where_several_were_joined_and_other_bytes_pass() {
        let noise: Vec<u8> =
            (0..300_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let joined = [packed(&noise), packed(b"and more")].concat();
        let (all, error) = unpacked(&joined);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(all, [&noise[..], b"and more"].concat());
        for plain in [&b""[..], b"\x1f", &noise] {
            assert_eq!(unpacked(plain).0, plain);
        }
    }

    #[test]
    fn gzip_that_is_cut_gives_what_it_holds_and_then_the_error() {
        let bytes = packed(&vec![7; 100_000]);
        let (all, error) = unpacked(&bytes[..bytes.len() - 9]);
        assert!(!all.is_empty());
        assert!(error.unwrap().to_string().contains("gzip"));
    }

    #[test]
    fn input_is_cut_into_lines_wherever_chunks_end_and_lines_are_numbered() {
        let text = b"{}\n\n{\"a\":1}\r\nrest";
        for size in 1..=text.len() {
            let mut splitter = Splitter::default();
            let mut lines = Vec::new();
            for chunk in text.chunks(size) {
                splitter.push(chunk);
                while let Some((number, line)) = splitter.next_line() {
                    lines.push((number, line.unwrap().to_vec()));
                }
            }
            assert_eq!(lines, [(1, b"{}".to_vec()), (2, Vec::new()), (3, b"{\"a\":1}\r".to_vec())], "{size}");
            assert_eq!(splitter.rest(), b"rest");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_left_out() {
        let mut splitter = Splitter::default();
        splitter.push(b"{}\n");
        assert!(matches!(splitter.next_line(), Some((1, Ok(b"{}")))));
        let mut wrong = 0;
        for _ in 0..3 {
            splitter.push(&vec![b'x'; LINE_BYTES_MAX / 2 + 1]);
            while let Some((number, line)) = splitter.next_line() {
                assert_eq!(number, 2);
                wrong += usize::from(line.is_err());
            }
            assert!(splitter.buffer.len() <= LINE_BYTES_MAX + LINE_BYTES_MAX / 2 + 2);
        }
        splitter.push(b"\nnext\n");
        assert!(matches!(splitter.next_line(), Some((2, Ok(b"")))));
        assert!(matches!(splitter.next_line(), Some((3, Ok(b"next")))));
        assert_eq!(wrong, 1);
    }

    #[test]
    fn what_begins_with_a_brace_is_lines_and_all_else_a_capture() {
        let what = |bytes: &[u8]| {
            let mut input = Input::Unknown(Vec::new());
            bytes.iter().for_each(|byte| input.push(&[*byte]));
            match input {
                Input::Unknown(_) => "unknown",
                Input::Capture(_) => "capture",
                Input::Lines(_) => "lines",
            }
        };
        assert_eq!(what(b" \n\t{"), "lines");
        assert_eq!(what(b" \n"), "unknown");
        for capture in [&[0xd4, 0xc3, 0xb2, 0xa1][..], b"\n\r\r\n{", b"[1]", b"x"] {
            assert_eq!(what(capture), "capture", "{capture:?}");
        }
    }
}
