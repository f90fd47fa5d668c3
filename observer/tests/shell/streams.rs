//! What goes in and out while a run lasts: pipes that trickle, close, or are stuck, and signals.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Conversation, From, Pcap, TemporaryFile, observer, ran, start_reading};

/// Far beyond what any of these takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn wait(child: &mut Child) -> Option<i32> {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("the run does not end");
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// A capture whose text is much longer than a pipe and the output's queue take.
fn long_capture() -> Vec<u8> {
    let mut conversation = Conversation::upgraded(7272);
    for _ in 0..4_000 {
        conversation.text(From::Client, &"x".repeat(1_400));
    }
    Pcap::default().file(&conversation.packets)
}

#[test]
fn a_message_on_standard_input_is_shown_before_the_input_ends() {
    let mut child = start_reading(&[]);
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pcap = Pcap::default();
    let mut conversation = Conversation::upgraded(7272);
    conversation.text(From::Client, "first");
    stdin.write_all(&pcap.file(&conversation.packets)).unwrap();
    let first = lines.find(|line| line.as_ref().unwrap().contains("text")).unwrap().unwrap();
    assert!(first.ends_with("text 5 first"), "{first}");

    conversation.text(From::Server, "second");
    let record = pcap.record(9, conversation.packets.last().unwrap());
    let (start, end) = record.split_at(30);
    stdin.write_all(start).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stdin.write_all(end).unwrap();
    assert!(lines.next().unwrap().unwrap().ends_with("text 6 second"));
    drop(stdin);
    assert_eq!(wait(&mut child), Some(0));
}

#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    let file = TemporaryFile::new("long-head.pcap", &long_capture());
    let mut child = observer(&["read", file.path()]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    assert_eq!(wait(&mut child), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn a_full_disk_is_an_error() {
    let file = TemporaryFile::new("full.pcap", &long_capture());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = ran(observer(&["read", file.path()]).stdout(full).output().unwrap());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("standard output cannot be written"), "{}", ran.stderr);
}

#[test]
fn signals_end_a_run_that_waits_for_input_with_its_summary() {
    for name in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = start_reading(&[]);
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut conversation = Conversation::upgraded(7272);
        conversation.text(From::Client, "before");
        stdin.write_all(&Pcap::default().file(&conversation.packets)).unwrap();
        lines.find(|line| line.as_ref().unwrap().contains("before")).unwrap().unwrap();
        signal(&child, name);
        assert_eq!(wait(&mut child), Some(0));
        let last = lines.last().unwrap().unwrap();
        assert!(last.contains("open at the end of the run"), "{last}");
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(stderr.contains("1 message (→ 1, ← 0)"), "{stderr}");
    }
}

#[test]
fn a_reader_that_does_not_read_does_not_hold_up_the_end() {
    let file = TemporaryFile::new("stuck.pcap", &long_capture());
    let mut child = observer(&["read", file.path()]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "the output must not fit");
    let asked = Instant::now();
    signal(&child, Signal::SIGINT);
    assert_eq!(wait(&mut child), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(10));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("error: standard output took nothing any more"), "{stderr}");
    assert!(!stderr.contains("nothing was missed"), "{stderr}");
}

#[test]
fn a_duration_ends_a_run_whose_reader_does_not_read() {
    let file = TemporaryFile::new("stuck-for.pcap", &long_capture());
    let mut child = observer(&["read", file.path(), "--for", "300ms"]).spawn().unwrap();
    assert_eq!(wait(&mut child), Some(1));
}

/// Until it has everything full that it may fill: it takes no more processor time.
fn wait_until_idle(child: &Child) {
    // "In clock ticks", in user and in kernel mode, behind the name in parentheses: proc_pid_stat(5).
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().map(str::to_owned).collect();
        (fields[11].clone(), fields[12].clone())
    };
    let mut before = ticks();
    let mut idle = 0;
    while idle < 5 {
        std::thread::sleep(Duration::from_millis(100));
        let now = ticks();
        idle = if now == before { idle + 1 } else { 0 };
        before = now;
    }
}

#[test]
fn a_reader_that_reads_slowly_gets_whole_lines_and_the_summary() {
    let file = TemporaryFile::new("slow.pcap", &long_capture());
    let mut child = observer(&["read", file.path(), "--json"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; 64 << 10];
    let length = stdout.read(&mut buffer).unwrap();
    let mut text = buffer[..length].to_vec();
    wait_until_idle(&child);
    signal(&child, Signal::SIGTERM);
    let started = Instant::now();
    loop {
        let length = stdout.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..length]);
        // Longer altogether than a reader may take nothing.
        let pause = if started.elapsed() < Duration::from_secs(3) { 100 } else { 0 };
        std::thread::sleep(Duration::from_millis(pause));
    }
    assert_eq!(wait(&mut child), Some(0));
    assert!(started.elapsed() > Duration::from_secs(2));
    let text = String::from_utf8(text).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "summary");
}

#[test]
fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    let names: Vec<_> = (0..3_000).map(|number| format!("/nonexistent/capture-{number}.pcap")).collect();
    let arguments: Vec<_> = std::iter::once("read").chain(names.iter().map(String::as_str)).collect();
    let mut child = observer(&arguments).spawn().unwrap();
    assert_eq!(wait(&mut child), Some(1));
}

#[test]
fn two_signals_at_once_are_one() {
    for _ in 0..10 {
        let mut child = start_reading(&["--json"]);
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        stdin.write_all(&Pcap::default().file(&Conversation::upgraded(7272).packets)).unwrap();
        lines.next().unwrap().unwrap();
        signal(&child, Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(2));
        // It may have ended already.
        let _ = kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM);
        assert_eq!(wait(&mut child), Some(0));
        assert!(lines.last().unwrap().unwrap().contains(r#""kind":"summary""#));
    }
}

#[test]
fn a_pipe_that_nobody_opens_for_writing_can_be_given_up() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fifo-{}", std::process::id()));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut child = observer(&["read", path.to_str().unwrap(), "--for", "200ms"]).spawn().unwrap();
    let ended = wait(&mut child);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ended, Some(0));
}

#[test]
fn a_time_that_no_clock_reaches_is_no_end() {
    let file =
        TemporaryFile::new("for-ever.pcap", &Pcap::default().file(&Conversation::upgraded(7272).packets));
    let mut child = observer(&["read", file.path(), "--for", "18446744073709551615"]).spawn().unwrap();
    assert_eq!(wait(&mut child), Some(0));
}

/// What the observer writes to a terminal.
fn on_a_terminal(file: &TemporaryFile, environment: &[(&str, &str)]) -> String {
    let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(None, None).unwrap();
    let mut command = observer(&["read", file.path()]);
    command.envs(environment.iter().copied()).stdout(slave).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // The terminal's other end must be ours alone, for its end to be seen.
    drop(command);
    let mut master = std::fs::File::from(master);
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // A terminal whose other end is gone is an error, not an end.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(wait(&mut child), Some(0));
    String::from_utf8(text).unwrap()
}

#[test]
fn a_terminal_gets_colour_unless_no_color_or_a_dumb_terminal_forbids() {
    let file =
        TemporaryFile::new("colour.pcap", &Pcap::default().file(&Conversation::upgraded(7272).packets));
    assert!(on_a_terminal(&file, &[]).contains('\x1b'));
    for forbids in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_a_terminal(&file, &[forbids]);
        assert!(text.contains("101 Switching Protocols") && !text.contains('\x1b'), "{forbids:?}: {text:?}");
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let file = TemporaryFile::new("forced.pcap", &long_capture());
    let mut child = observer(&["read", file.path()]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::SIGINT);
    // Signals that come together are one.
    std::thread::sleep(Duration::from_millis(600));
    signal(&child, Signal::SIGINT);
    assert_eq!(wait(&mut child), Some(130));
}

#[test]
fn a_duration_ends_a_run_that_waits_for_input() {
    let mut child = observer(&["read", "-", "--for", "200ms"]).stdin(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    assert_eq!(wait(&mut child), Some(0));
    assert!(started.elapsed() >= Duration::from_millis(150));
}
