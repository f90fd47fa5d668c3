//! `cargo xtask test --kernels`: boots Debian's kernels in QEMU and runs the live tests in each.
//!
//! Owns the matrix: which kernels, which mounts of control groups, which tests, and what of the host goes along. Must
//! not know what the tests test. Bounded: a time limit a guest, 1 GiB and two processors each, as many guests at once
//! as this machine has processors; all files lie below `target/kernels` and `target/static`. KVM is not used, so that
//! a run is the same wherever it happens.

mod debian;
mod guest;
mod image;
mod machine;
mod modules;
mod programs;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};

use debian::Installed;
pub use guest::ControlGroups;
use guest::{Plan, Program, Report};
use image::Archive;
use machine::{End, Machine};
use modules::Modules;
use programs::{LiveTest, Tool};

use crate::build;
use crate::built::Built;
use crate::process::{self, find_program, target_directory};
use crate::setup::ensure_packages;

/// A kernel of the matrix.
#[derive(Debug)]
pub struct Kernel {
    /// What `--kernel` and the reports call it.
    pub name: &'static str,
    /// Debian's suite that has it.
    pub suite: &'static str,
    /// The suite of its security updates, if it has one.
    pub security: Option<&'static str>,
    /// Which package of the suite it is.
    pub package: Package,
}

/// How a kernel's package is found in its suite.
#[derive(Debug, Clone, Copy)]
pub enum Package {
    /// This package depends on the newest kernel of the suite.
    Meta(&'static str),
    /// The newest of those whose names begin and end so; for kernels that are not the newest of their suite.
    #[expect(dead_code, reason = "for 6.18 in trixie-backports, which the matrix will have")]
    Newest {
        /// Up to the version's part that varies, `linux-image-6.18.`.
        prefix: &'static str,
        /// From there on, `-cloud-amd64`.
        suffix: &'static str,
    },
}

const CLOUD: Package = Package::Meta("linux-image-cloud-amd64");

/// The kernels, oldest first. Another one is another line.
pub const KERNELS: &[Kernel] = &[
    Kernel { name: "5.10", suite: "bullseye", security: Some("bullseye-security"), package: CLOUD },
    Kernel { name: "6.1", suite: "bookworm", security: Some("bookworm-security"), package: CLOUD },
];

/// The tests that run in every guest.
const LIVE_TESTS: &[LiveTest] = &[
    LiveTest { package: "observer", features: "live-tests", target: "live_capture", skip: &[] },
    // The peers need interpreters, a browser and more, and tshark all of Wireshark; none of it is in the guests.
    LiveTest {
        package: "observer",
        features: "live-tests",
        target: "live_end_to_end",
        // What is judged is no matter of the kernel, and its time limits do not fit an emulated machine.
        skip: &["peers::", "tshark::", "flows::", "verify::"],
    },
];

/// The binaries of the workspace that lie in every guest's `/usr/local/bin`.
const TOOLS: &[Tool] = &[
    Tool { package: "observer", binary: "observer", variable: "OBSERVER_BIN" },
    Tool { package: "chat-server", binary: "chat-server", variable: "CHAT_SERVER_BIN" },
];

/// Programs of the host that the tests start, with the Debian packages that hold them.
const HOST_PROGRAMS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("tcpdump", "tcpdump")];

/// Programs that this module itself needs, with their Debian packages.
const NEEDED: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("ldd", "libc-bin"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("gzip", "gzip"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
];

/// Modules without which tests cannot run; each kernel has them built in or as files.
const NEEDED_MODULES: &[&str] = &[
    "af_packet",
    "veth",
    "dummy",
    "bridge",
    "tun",
    "nf_tables",
    "nf_conntrack",
    "nf_nat",
    "nft_chain_nat",
    "nft_nat",
    "nft_redir",
    "nft_ct",
    "nft_reject_inet",
    "inet_diag",
    "tcp_diag",
    "unix_diag",
    "sch_netem",
];

/// Modules that some kernels do not have: 5.10 has no TLS in its cloud flavour, 6.1 counts in nf_tables itself, and IPv6
/// can no longer be a module in 7.x, so that it is on no list.
const WELCOME_MODULES: &[&str] = &["tls", "nft_counter", "ipv6"];

/// The option of the command, without which all those here mean nothing.
const ENABLED_BY: &str = "kernels";

/// What to run, and where.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "With --kernels")]
pub struct Options {
    /// Only this kernel of the matrix, such as 5.10 (repeatable; all by default)
    #[arg(id = "kernel", long = "kernel", requires = ENABLED_BY, value_name = "NAME")]
    pub kernels: Vec<String>,

    /// How control groups are mounted in the guests (repeatable)
    #[arg(long = "cgroup", requires = ENABLED_BY, value_name = "HOW", value_enum, default_value = "unified")]
    pub control_groups: Vec<ControlGroups>,

    /// Run this statically linked program instead of the live tests (repeatable)
    #[arg(long = "program", requires = ENABLED_BY, value_name = "FILE")]
    pub programs: Vec<PathBuf>,

    /// Seconds that one guest may take
    #[arg(long, requires = ENABLED_BY, value_name = "SECONDS", default_value_t = 900)]
    pub limit: u64,

    /// Guests to run at once (one a processor by default)
    #[arg(long, requires = ENABLED_BY, value_name = "N")]
    pub jobs: Option<usize>,

    /// Look for newer builds of the kernels than those that are here
    #[arg(long, requires = ENABLED_BY)]
    pub refresh: bool,

    /// Show all that the guests print, not failures alone
    #[arg(long, requires = ENABLED_BY)]
    pub console: bool,

    /// Arguments for the tests, such as a part of their names
    #[arg(last = true, requires = ENABLED_BY, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// One guest to boot.
struct Job {
    kernel: &'static Kernel,
    installed: Installed,
    control_groups: ControlGroups,
}

/// Everything that is the same for all guests of a run.
struct Payload {
    nonce: String,
    programs: Vec<Program>,
    /// Host path → the paths in the guest, the first a file, the others links to it.
    files: Vec<(PathBuf, Vec<PathBuf>)>,
    environment: Vec<(String, String)>,
    /// The path in the guest, and that on the host.
    host_programs: Vec<(PathBuf, PathBuf)>,
}

/// How one guest fared.
struct Outcome {
    name: String,
    report: Report,
    complaints: Vec<String>,
    log: PathBuf,
    took: Duration,
}

/// Runs the matrix.
///
/// # Errors
/// If a kernel cannot be had, something does not compile, or any guest is not a full success.
pub fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let kernels = chosen(&options.kernels)?;
    ensure_packages(NEEDED, "to boot other kernels")?;
    ensure_packages(HOST_PROGRAMS, "for the tests in other kernels")?;
    let directory = target_directory().join("kernels");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // Two runs at once would write the same files; the lock ends with the file handle.
    let lock = File::create(directory.join("lock"))?;
    lock.lock().with_context(|| format!("cannot lock {}", directory.display()))?;

    let (payload, installed) = thread::scope(|scope| {
        let fetching: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(|| debian::install(kernel, &directory, options.refresh)))
            .collect();
        let payload = payload(options);
        let installed: Vec<_> = fetching
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("fetching a kernel panicked"))?)
            .collect();
        (payload, installed)
    });
    let payload = payload?;
    let mut jobs = VecDeque::new();
    for (kernel, installed) in kernels.into_iter().zip(installed) {
        let installed = installed.with_context(|| format!("kernel {}", kernel.name))?;
        println!("kernel {:<5} {} {}", kernel.name, installed.package, installed.version);
        for &control_groups in &options.control_groups {
            jobs.push_back(Job { kernel, installed: installed.clone(), control_groups });
        }
    }
    println!("kernels and programs are ready after {:.0} s", started.elapsed().as_secs_f64());

    let at_once = options.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let count = jobs.len();
    let queue = Mutex::new(jobs);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    // Bound on its own, so that the lock is free while the guest runs.
                    let Some(job) = locked(&queue).pop_front() else { break };
                    let outcome = boot(&job, &payload, options, &directory);
                    if let Ok(outcome) = &outcome {
                        show(outcome, options.console);
                    }
                    let outcome = outcome
                        .with_context(|| format!("kernel {} ({})", job.kernel.name, job.control_groups));
                    locked(&outcomes).push(outcome);
                }
            });
        }
    });
    let mut failed = Vec::new();
    for outcome in outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let outcome = outcome?;
        if !outcome.complaints.is_empty() {
            failed.push(outcome.name);
        }
    }
    println!(
        "{} of {count} guests passed, in {:.0} s",
        count - failed.len(),
        started.elapsed().as_secs_f64()
    );
    if !failed.is_empty() {
        failed.sort();
        bail!(
            "failed in: {}; the whole consoles are in {}/<kernel>/",
            failed.join(", "),
            directory.display()
        );
    }
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    let find = |name: &String| {
        KERNELS.iter().find(|kernel| kernel.name == name).ok_or_else(|| {
            let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
            anyhow!("no kernel {name} in the matrix; there are {}", known.join(", "))
        })
    };
    if names.is_empty() { Ok(KERNELS.iter().collect()) } else { names.iter().map(find).collect() }
}

/// Builds what runs in the guests and settles where it lies there.
fn payload(options: &Options) -> Result<Payload> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut payload = Payload {
        nonce: format!("guest-{now:x}"),
        programs: Vec::new(),
        files: Vec::new(),
        // Timing means little under emulation: tests that measure it are told.
        environment: vec![("OBSERVER_TEST_EMULATED".to_owned(), "1".to_owned())],
        host_programs: Vec::new(),
    };
    for (name, _) in HOST_PROGRAMS {
        payload.host_programs.push((Path::new("/usr/bin").join(name), host_program(name)?));
    }
    if !options.programs.is_empty() {
        for path in &options.programs {
            let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            payload.files.push((path, vec![Path::new("/tests").join(&name)]));
            let arguments = options.arguments.clone();
            payload.programs.push(Program { name, arguments, directory: "/tmp".into(), is_harness: false });
        }
        return Ok(payload);
    }
    for built in programs::build(LIVE_TESTS, TOOLS, &build::kernel_object()?)? {
        let Built { name, is_test, path, package_directory } = built;
        if is_test {
            let skipped = LIVE_TESTS.iter().filter(|test| test.target == name).flat_map(|test| test.skip);
            let mut arguments = vec!["--test-threads=1".to_owned()];
            arguments.extend(skipped.flat_map(|part| ["--skip".to_owned(), (*part).to_owned()]));
            arguments.extend(options.arguments.iter().cloned());
            let directory = package_directory.to_string_lossy().into_owned();
            payload.files.push((path, vec![Path::new("/tests").join(&name)]));
            payload.programs.push(Program { name, arguments, directory, is_harness: true });
        } else if let Some(tool) = TOOLS.iter().find(|tool| tool.binary == name) {
            let place = Path::new("/usr/local/bin").join(&name);
            payload.environment.push((tool.variable.to_owned(), place.to_string_lossy().into_owned()));
            // A test may also know it by the path that cargo gave it (CARGO_BIN_EXE_…).
            payload.files.push((path.clone(), vec![place, path]));
        }
    }
    if payload.programs.is_empty() {
        bail!("cargo built no test for the guests; does LIVE_TESTS in xtask name the right targets?");
    }
    Ok(payload)
}

fn host_program(name: &str) -> Result<PathBuf> {
    find_program(name).ok_or_else(|| anyhow!("the program {name} is gone since it was looked for; try again"))
}

/// Boots one guest and reads what it does.
fn boot(job: &Job, payload: &Payload, options: &Options, directory: &Path) -> Result<Outcome> {
    let Job { kernel, installed, control_groups } = job;
    let started = Instant::now();
    let home = directory.join(kernel.name);
    fs::create_dir_all(&home)?;
    let initramfs = home.join(format!("{control_groups}.cpio"));
    let log = home.join(format!("{control_groups}.log"));
    write_initramfs(&initramfs, job, payload, options.limit)?;

    let name = format!("{} {control_groups}", kernel.name);
    let mut report = Report::new(&payload.nonce, payload.programs.len());
    // The guest has a limit of its own for its programs; the machine's is for a guest that hangs.
    let limit = Duration::from_secs(options.limit) + Duration::from_secs(30);
    let machine = Machine { kernel: &installed.image, initramfs: &initramfs, log: &log, limit };
    let end = machine.run(|line| {
        if options.console {
            println!("[{name}] {line}");
        }
        report.line(line);
        report.finished.is_some() || report.limited
    })?;
    drop(fs::remove_file(&initramfs));

    let mut complaints = report.complaints(&payload.programs);
    if end == End::TimedOut {
        complaints.push(format!("it was ended after {} s", limit.as_secs()));
    }
    if let Some((release, _)) = report.booted.as_ref().filter(|(release, _)| *release != installed.release) {
        complaints.push(format!("it runs {release} instead of {}", installed.release));
    }
    Ok(Outcome { name, report, complaints, log, took: started.elapsed() })
}

/// Packs the guest's files.
fn write_initramfs(path: &Path, job: &Job, payload: &Payload, limit: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for directory in
        ["/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/var", "/mnt", "/usr/sbin", "/usr/bin", "/sbin"]
    {
        archive.directory(directory)?;
    }
    archive.character_device("/dev/console", 5, 1)?;
    archive.symlink("/var/run", "/run")?;
    archive.file(
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )?;
    archive.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost guest\n::1 localhost ip6-localhost\n")?;
    archive.file("/etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\nhosts: files\n")?;
    archive.host_program("/bin/busybox", &host_program("busybox")?)?;
    for (place, host) in &payload.host_programs {
        archive.host_program(place, host)?;
    }
    let modules = add_modules(&mut archive, &job.installed, job.kernel)?;
    for (host, places) in &payload.files {
        let Some((place, links)) = places.split_first() else { continue };
        archive.host_file(place, host)?;
        for link in links {
            archive.symlink(link, place)?;
        }
    }
    let plan = Plan {
        nonce: &payload.nonce,
        control_groups: job.control_groups,
        modules: &modules,
        environment: &payload.environment,
        programs: &payload.programs,
        limit,
    };
    archive.file("/init", 0o755, plan.script().as_bytes())?;
    archive.finish()?;
    Ok(())
}

/// Adds the modules that tests want, and gives their paths in the guest in the order to load them.
fn add_modules<W: std::io::Write>(
    archive: &mut Archive<W>,
    installed: &Installed,
    kernel: &Kernel,
) -> Result<Vec<String>> {
    let read = |name: &str| {
        let path = installed.modules.join(name);
        fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}; remove that kernel's directory", path.display()))
    };
    let modules = Modules::parse(&read("modules.dep")?, &read("modules.builtin")?);
    let plan = modules.plan(NEEDED_MODULES.iter().chain(WELCOME_MODULES).copied());
    let lacking: Vec<_> =
        plan.missing.iter().filter(|name| !WELCOME_MODULES.contains(&name.as_str())).collect();
    if !lacking.is_empty() {
        bail!(
            "kernel {} has no modules {lacking:?}; move them to WELCOME_MODULES in xtask if tests can do without",
            kernel.name
        );
    }
    let mut places = Vec::new();
    for path in &plan.load {
        let host = installed.modules.join(path);
        let place = format!("/lib/modules/{}/{}.ko", installed.release, modules::module_name(path));
        match decompressor(path) {
            None => archive.host_file(&place, &host)?,
            Some(program) => {
                let output = process::program(program).arg("-dc").arg(&host).output()?;
                if !output.status.success() {
                    bail!(
                        "{program} cannot unpack {}: {}",
                        host.display(),
                        String::from_utf8_lossy(&output.stderr)
                    );
                }
                archive.file(&place, 0o644, &output.stdout)?;
            }
        }
        places.push(place);
    }
    Ok(places)
}

fn decompressor(path: &str) -> Option<&'static str> {
    [(".xz", "xz"), (".zst", "zstd"), (".gz", "gzip")]
        .iter()
        .find(|(end, _)| path.ends_with(end))
        .map(|(_, program)| *program)
}

/// Tells of one guest; of a failed one, the end of its console too.
fn show(outcome: &Outcome, console_was_shown: bool) {
    let Outcome { name, report, complaints, log, took } = outcome;
    let passed: u32 = report.programs.iter().map(|program| program.passed).sum();
    let ignored: u32 = report.programs.iter().map(|program| program.ignored).sum();
    let verdict = if complaints.is_empty() { "ok" } else { "FAILED" };
    let (release, uptime) = report.booted.clone().unwrap_or_default();
    let mut text = format!(
        "kernel {name}: {verdict}; {passed} tests passed, {ignored} ignored; {:.0} s (boot {uptime} s, {release})\n",
        took.as_secs_f64()
    );
    if !complaints.is_empty() && !console_was_shown {
        let console = fs::read(log).unwrap_or_default();
        let console = String::from_utf8_lossy(&console).replace('\r', "");
        let lines: Vec<_> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown = interesting(&lines);
        text.push_str(&format!("---- {} (its end)\n", log.display()));
        for line in shown {
            text.push_str(&format!("| {line}\n"));
        }
    }
    for complaint in complaints {
        text.push_str(&format!("kernel {name}: {complaint}\n"));
    }
    print!("{text}");
}

/// The end of a console up to the kernel's log, or of all of it if there is none.
fn interesting<'line>(lines: &[&'line str]) -> Vec<&'line str> {
    const SHOWN: usize = 120;
    let end = lines.iter().position(|line| *line == guest::KERNEL_LOG).unwrap_or(lines.len());
    lines[end.saturating_sub(SHOWN)..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), KERNELS.len());
        assert_eq!(chosen(&["6.1".to_owned()]).unwrap()[0].suite, "bookworm");
        let error = chosen(&["6.6".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("5.10, 6.1"), "{error}");
    }

    #[test]
    fn the_end_of_a_console_stops_before_the_kernel_log() {
        assert_eq!(interesting(&["a", "b", guest::KERNEL_LOG, "c"]), ["a", "b"]);
        assert_eq!(interesting(&["a"; 500]).len(), 120);
    }

    #[test]
    fn compressed_modules_are_known_by_their_ends() {
        assert_eq!(decompressor("kernel/a.ko.xz"), Some("xz"));
        assert_eq!(decompressor("kernel/a.ko"), None);
    }
}
