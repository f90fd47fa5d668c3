//! `observer read`: the run loop over capture files.
//!
//! Owns opening, unpacking, the order of files, and what is said of damaged ones. Must not know the formats. Bounded:
//! a thread reads ahead by `CHUNKS_AHEAD` chunks, also where a chunk of gzip unpacks to a thousand times its size.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context as _;
use flate2::write::MultiGzDecoder;
use observer_core::engine::Report;
use observer_core::time::Time;
use observer_core::{Event, Packet};
use tokio::sync::mpsc;

use crate::capture::file::{FileError, FilePacket, FileReader, Item, link_type_name};
use crate::cli::{EXIT_ERROR, EXIT_INPUT_CUT, EXIT_NOT_RUN, EXIT_OK, Request, Task};
use crate::shell::Shell;

/// Chunks between the reading thread and the decoder.
const CHUNKS_AHEAD: usize = 2;
/// What is read of a file at once. A pipe gives what it has.
const CHUNK_BYTES: usize = 256 << 10;
/// What is unpacked at once.
const GZIP_CHUNK_BYTES: usize = 4 << 10;
/// Interfaces of one run that get a name.
const NAMED_INTERFACES_MAX: u32 = 1_024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

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
    let mut reading = Reading { snap_length: request.snap_length, ..Reading::default() };
    let mut exit_code = EXIT_OK;
    let mut unreadable = false;
    for path in files {
        let ended = reading.read_file(path, &mut shell).await?;
        let name = display_name(path);
        if let Some(left_out) = reading.left_out.take_words() {
            shell.diagnostics.warning(format!("{name}: {left_out}"));
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
    if exit_code != EXIT_OK {
        shell.note_damage();
    }
    if unreadable {
        exit_code = if request.task == Task::Verify { EXIT_NOT_RUN } else { EXIT_ERROR };
    }
    let summary = shell.finish(None, &[], exit_code == EXIT_OK).await?;
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
#[derive(Debug, Default)]
struct Reading {
    snap_length: u32,
    interfaces: Interfaces,
    left_out: LeftOut,
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
    async fn read_file(&mut self, path: &Path, shell: &mut Shell) -> anyhow::Result<Ended> {
        self.interfaces.begin_file();
        let path = path.to_owned();
        let mut chunks = start_reading(move || {
            let input: Box<dyn Read> =
                if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
            Ok(input)
        })?;
        let mut file = FileReader::new();
        loop {
            let chunk = tokio::select! {
                biased;
                () = shell.ending.asked() => return Ok(Ended::AsAsked),
                chunk = chunks.recv() => chunk,
            };
            let end = match chunk {
                Some(Ok(bytes)) => {
                    file.push(&bytes);
                    Ok(false)
                }
                None => Ok(true),
                Some(Err(error)) => Err(error),
            };
            loop {
                match file.next_item() {
                    Ok(Some(Item::Packet(packet))) => self.handle(&packet, shell),
                    Ok(Some(Item::UnknownLink { number })) => {
                        self.left_out.count_link(number);
                    }
                    Ok(Some(Item::ObsoletePacket)) => self.left_out.obsolete += 1,
                    Ok(None) => break,
                    Err(error) => return Ok(ended_by(&error)),
                }
                shell.deliver_blocks().await?;
                if shell.is_over() {
                    return Ok(Ended::AsAsked);
                }
            }
            shell.deliver().await?;
            // Where input never fails to come nothing else would let signals have their turn.
            tokio::task::yield_now().await;
            match end {
                Ok(false) => {}
                Ok(true) => {
                    return Ok(file.end().map_or_else(|error| ended_by(&error), |()| Ended::OfItself));
                }
                Err(error) if file.has_read_anything() => return Ok(Ended::Cut(reason(&error))),
                Err(error) => return Ok(Ended::Unreadable(reason(&error))),
            }
        }
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
        shell.handle(Event::Packet(Packet {
            time: Time::from_file(packet.unix_nanoseconds),
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
}
