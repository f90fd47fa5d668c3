//! What happens inside the guest: the script that is its first process, and the reading of what that script prints.
//!
//! Must not know QEMU or where files come from. The script and the reader agree on markers that carry a number made
//! up for the run, so nothing that a test prints is taken for one. Bounded: the reader keeps one line and one entry a
//! program; the script powers the guest off after a time limit of its own, should the host be gone.

use std::fmt;

/// How the control groups are mounted in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ControlGroups {
    /// Version 2 alone, at /sys/fs/cgroup.
    Unified,
    /// Version 1 controllers, and version 2 without any at /sys/fs/cgroup/unified, as systemd's hybrid mode has it.
    Hybrid,
    /// No control group file system mounted at all.
    None,
}

impl fmt::Display for ControlGroups {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Unified => "unified",
            Self::Hybrid => "hybrid",
            Self::None => "none",
        })
    }
}

/// One program that the guest runs.
#[derive(Debug, Clone)]
pub struct Program {
    /// Names it in reports; lies at `/tests/<name>`.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs; an absolute path.
    pub directory: String,
    /// Whether it is a Rust test harness, which must then report that it ran at least one test.
    pub is_harness: bool,
}

/// All that the guest's first process does.
#[derive(Debug)]
pub struct Plan<'plan> {
    /// Makes the markers of this run unlike any other text.
    pub nonce: &'plan str,
    /// How to mount control groups.
    pub control_groups: ControlGroups,
    /// Absolute paths of modules, in the order to load them.
    pub modules: &'plan [String],
    /// Environment of the programs, besides PATH, HOME and the like.
    pub environment: &'plan [(String, String)],
    /// What to run, one after the other.
    pub programs: &'plan [Program],
    /// Seconds after which the guest ends itself.
    pub limit: u64,
}

impl Plan<'_> {
    /// The text of `/init`, for busybox's shell.
    pub fn script(&self) -> String {
        let nonce = self.nonce;
        let mut script = String::from(
            "#!/bin/busybox sh\n\
             /bin/busybox --install -s /bin\n\
             export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root TMPDIR=/tmp\n\
             export LC_ALL=C.UTF-8 RUST_BACKTRACE=1\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sysfs /sys\n\
             mount -t devtmpfs devtmpfs /dev\n\
             mkdir -p /dev/pts /dev/shm\n\
             mount -t devpts devpts /dev/pts\n\
             mount -t tmpfs tmpfs /dev/shm\n\
             mount -t tmpfs tmpfs /run\n\
             mount -t tmpfs tmpfs /tmp\n\
             chmod 1777 /tmp /dev/shm\n\
             mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null\n\
             mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null\n\
             ln -sf /proc/self/fd /dev/fd\n\
             hostname guest\n",
        );
        script.push_str(mount_control_groups(self.control_groups));
        for module in self.modules {
            // The dummy driver would make an interface that no test asked for.
            let parameters = if module.ends_with("/dummy.ko") { " numdummies=0" } else { "" };
            script.push_str(&format!("insmod {0}{parameters} || echo \"cannot load {0}\"\n", quote(module)));
        }
        script.push_str("busybox ip link set lo up\n");
        for (name, value) in self.environment {
            script.push_str(&format!("export {name}={}\n", quote(value)));
        }
        // From here on the kernel's own messages would break into the programs' lines; a panic or an oops still shows,
        // and all of them follow at the end.
        script.push_str(&format!(
            "echo '{nonce} programs start' >/dev/kmsg\n\
             dmesg -n 1\n\
             ulimit -Hn 1048576\n\
             (sleep {limit}; echo; echo '@@{nonce} limit'; sleep 1; poweroff -f) &\n\
             echo; echo \"@@{nonce} booted $(uname -r) $(cut -d ' ' -f 1 /proc/uptime)\"\n",
            limit = self.limit
        ));
        for (index, program) in self.programs.iter().enumerate() {
            let arguments: String =
                program.arguments.iter().map(|argument| format!(" {}", quote(argument))).collect();
            script.push_str(&format!(
                "echo; echo '@@{nonce} begin {index}'\n\
                 mkdir -p {directory}\n\
                 (cd {directory} && exec {path}{arguments} </dev/null 2>&1)\n\
                 code=$?\n\
                 echo; echo \"@@{nonce} end {index} $code\"\n",
                directory = quote(&program.directory),
                path = quote(&format!("/tests/{}", program.name)),
            ));
        }
        script.push_str(&format!(
            "echo '{KERNEL_LOG}'\n\
             dmesg | sed '1,/{nonce} programs start/d'\n\
             echo; echo \"@@{nonce} finished $(cat /proc/sys/kernel/tainted)\"\n\
             sleep 1\n\
             poweroff -f\n"
        ));
        script
    }
}

fn mount_control_groups(mode: ControlGroups) -> &'static str {
    match mode {
        ControlGroups::Unified => "mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup\n",
        ControlGroups::Hybrid => {
            "mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup\n\
             for name in unified systemd cpu,cpuacct memory pids devices net_cls,net_prio; do\n\
             mkdir /sys/fs/cgroup/$name\n\
             case $name in\n\
             unified) mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup/unified ;;\n\
             systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd ;;\n\
             *) mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name ;;\n\
             esac\n\
             done\n"
        }
        ControlGroups::None => "",
    }
}

/// The line of the console after which the kernel's messages since the programs' start follow.
pub const KERNEL_LOG: &str = "---- kernel log";

/// Quotes a word for the shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What one program did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramReport {
    /// Its exit status as the shell tells it; none while it runs or if it never ended.
    pub exit: Option<i32>,
    /// Tests that passed, as its harness says.
    pub passed: u32,
    /// Tests that were ignored, as its harness says.
    pub ignored: u32,
    /// Names of the tests that failed.
    pub failed: Vec<String>,
    /// The test that runs at the moment, or ran when it all ended.
    pub running: Option<String>,
    begun: bool,
}

/// What became of a guest, read line by line from its console.
#[derive(Debug)]
pub struct Report {
    marker: String,
    /// What `uname -r` said, and the seconds since the kernel's start.
    pub booted: Option<(String, String)>,
    /// One entry for each program of the plan.
    pub programs: Vec<ProgramReport>,
    /// The kernel's first words of its own trouble.
    pub kernel_trouble: Option<String>,
    /// The kernel's taint bits at the end; some once the guest has finished all it had to do.
    pub finished: Option<u64>,
    /// Whether the guest reached its time limit.
    pub limited: bool,
    current: Option<usize>,
}

/// Bits of /proc/sys/kernel/tainted that a test may not cause, and their meaning.
const TAINTS: [(u32, &str); 4] =
    [(4, "a machine check"), (5, "a bad page"), (7, "an oops or a BUG"), (9, "a kernel warning")];

impl Report {
    /// Expects the markers of a plan with so many programs.
    pub fn new(nonce: &str, programs: usize) -> Self {
        Self {
            marker: format!("@@{nonce} "),
            booted: None,
            programs: vec![ProgramReport::default(); programs],
            kernel_trouble: None,
            finished: None,
            limited: false,
            current: None,
        }
    }

    /// Takes the next line of the console, without its end.
    pub fn line(&mut self, line: &str) {
        if let Some(words) = line.strip_prefix(&self.marker) {
            self.marked(words);
        } else if let Some(trouble) = kernel_trouble(line) {
            self.kernel_trouble.get_or_insert_with(|| trouble.to_owned());
        } else if let Some(program) = self.current.and_then(|index| self.programs.get_mut(index)) {
            program.line(line);
        }
    }

    fn marked(&mut self, words: &str) {
        let words: Vec<_> = words.split_whitespace().collect();
        match words.as_slice() {
            ["booted", release, uptime] => self.booted = Some(((*release).to_owned(), (*uptime).to_owned())),
            ["begin", index] => {
                if let Some((index, program)) = self.program(index) {
                    program.begun = true;
                    self.current = Some(index);
                }
            }
            ["end", index, code] => {
                if let Some((_, program)) = self.program(index) {
                    program.exit = code.parse().ok();
                    self.current = None;
                }
            }
            ["limit"] => self.limited = true,
            ["finished", taint] => self.finished = taint.parse().ok(),
            _ => {}
        }
    }

    fn program(&mut self, index: &str) -> Option<(usize, &mut ProgramReport)> {
        let index = index.parse().ok()?;
        Some((index, self.programs.get_mut(index)?))
    }

    /// Every reason why this run is not a success; none if it is one.
    pub fn complaints(&self, plan: &[Program]) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(trouble) = &self.kernel_trouble {
            complaints.push(format!("the kernel says: {trouble}"));
        }
        if self.booted.is_none() {
            complaints.push("the guest did not boot".to_owned());
            return complaints;
        }
        for (program, planned) in self.programs.iter().zip(plan) {
            program.complain(planned, &mut complaints);
        }
        match self.finished {
            None if self.limited => {
                complaints.push("the guest reached its time limit (see --limit)".to_owned());
            }
            None => complaints.push("the guest ended before it was finished".to_owned()),
            Some(taint) => {
                let found = TAINTS.iter().filter(|(bit, _)| taint & (1 << bit) != 0);
                complaints.extend(
                    found.map(|(_, meaning)| format!("the tests caused {meaning} (see the kernel log)")),
                );
            }
        }
        complaints
    }
}

impl ProgramReport {
    fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                let words: Vec<_> = counts.split_whitespace().collect();
                words
                    .windows(2)
                    .find(|pair| pair[1].trim_end_matches(';') == what)
                    .and_then(|pair| pair[0].parse().ok())
            };
            self.passed += count("passed").unwrap_or(0);
            self.ignored += count("ignored").unwrap_or(0);
            self.running = None;
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|test| test.split_once(" ... "))
        {
            // What the test prints may stand between its name and its outcome, so the outcome may come lines later.
            self.running = Some(name.to_owned());
            self.outcome(outcome);
        } else if let Some(name) = line.strip_prefix("test ").and_then(|test| test.strip_suffix(" ...")) {
            self.running = Some(name.to_owned());
        } else if self.running.is_some() {
            self.outcome(line);
        }
    }

    fn outcome(&mut self, text: &str) {
        if text.ends_with("FAILED") {
            self.failed.extend(self.running.take());
        } else if text == "ok" || text.starts_with("ok <") || text.starts_with("ignored") {
            self.running = None;
        }
    }

    fn complain(&self, plan: &Program, complaints: &mut Vec<String>) {
        let name = &plan.name;
        let running = self.running.as_ref().map(|test| format!(", in the test {test}")).unwrap_or_default();
        match self.exit {
            None if self.begun => complaints.push(format!("{name} did not end{running}")),
            None => complaints.push(format!("{name} was not started")),
            Some(0) if plan.is_harness && self.passed == 0 => complaints.push(format!("{name} ran no test")),
            Some(0) => {}
            Some(code @ 129..) => {
                complaints.push(format!("{name} was ended by signal {}{running}", code - 128));
            }
            Some(code) if self.failed.is_empty() => {
                complaints.push(format!("{name} ended with exit status {code}"));
            }
            Some(_) => complaints.extend(self.failed.iter().map(|test| format!("{name}: {test} failed"))),
        }
    }
}

/// The part of a console line in which the kernel tells of a panic, an oops or a BUG.
fn kernel_trouble(line: &str) -> Option<&str> {
    const SIGNS: [&str; 7] = [
        "Kernel panic - not syncing",
        "Oops: ",
        "kernel BUG at ",
        "BUG: kernel NULL pointer",
        "BUG: unable to handle",
        "general protection fault",
        "Unable to mount root fs",
    ];
    // A kernel's line starts with its time stamp; a program may well print these words.
    let stamped = line.trim_start().strip_prefix('[')?;
    let (time, text) = stamped.split_once("] ")?;
    let is_time = time.trim().split_once('.').is_some_and(|(seconds, rest)| {
        [seconds, rest]
            .iter()
            .all(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    });
    (is_time && SIGNS.iter().any(|sign| text.contains(sign))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harness() -> Vec<Program> {
        vec![Program { name: "live".into(), arguments: vec![], directory: "/".into(), is_harness: true }]
    }

    fn read(text: &str) -> Report {
        let mut report = Report::new("77", 1);
        text.lines().for_each(|line| report.line(line));
        report
    }

    const GOOD: &str = "\
[    0.000000] Linux version
@@77 booted 5.10.0-46-cloud-amd64 4.20
@@77 begin 0
running 2 tests
test loopback ... ok
test other ... some output
ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
@@77 end 0 0
@@77 finished 0
";

    #[test]
    fn a_good_run_has_no_complaints() {
        let report = read(GOOD);
        assert_eq!(report.complaints(&harness()), Vec::<String>::new());
        assert_eq!(report.booted, Some(("5.10.0-46-cloud-amd64".to_owned(), "4.20".to_owned())));
        assert_eq!((report.programs[0].passed, report.programs[0].ignored), (2, 1));
    }

    #[test]
    fn failed_tests_are_named_wherever_their_outcome_stands() {
        let text =
            GOOD.replace("loopback ... ok", "loopback ... FAILED").replace("\nok\n", "\nmore FAILED\n");
        let text = text.replace("end 0 0", "end 0 101");
        assert_eq!(read(&text).complaints(&harness()), ["live: loopback failed", "live: other failed"]);
    }

    #[test]
    fn a_harness_without_tests_fails() {
        let text = GOOD.replace("2 passed", "0 passed");
        assert_eq!(read(&text).complaints(&harness()), ["live ran no test"]);
        let mut plain = harness();
        plain[0].is_harness = false;
        assert_eq!(read(&text).complaints(&plain), Vec::<String>::new());
    }

    #[test]
    fn an_end_too_early_tells_where() {
        let text = GOOD.split("ok\ntest result").next().unwrap();
        let expected = ["live did not end, in the test other", "the guest ended before it was finished"];
        assert_eq!(read(text).complaints(&harness()), expected);
        let limited = read(&format!("{text}\n@@77 limit\n")).complaints(&harness());
        assert_eq!(limited[1], "the guest reached its time limit (see --limit)");
        assert_eq!(read("").complaints(&harness()), ["the guest did not boot"]);
        let text = GOOD.replace("@@77 end 0 0", "@@77 end 0 139");
        assert_eq!(read(&text).complaints(&harness()), ["live was ended by signal 11"]);
    }

    #[test]
    fn kernel_trouble_counts_only_from_the_kernel() {
        let panic = "[    1.234567] Kernel panic - not syncing: Attempted to kill init!";
        let complaints = read(&GOOD.replace("running 2 tests", panic)).complaints(&harness());
        assert_eq!(complaints, ["the kernel says: Kernel panic - not syncing: Attempted to kill init!"]);
        let text = GOOD.replace("running 2 tests", "Kernel panic - not syncing");
        assert_eq!(read(&text).complaints(&harness()), Vec::<String>::new());
        let text = GOOD.replace("finished 0", "finished 512");
        assert_eq!(
            read(&text).complaints(&harness()),
            ["the tests caused a kernel warning (see the kernel log)"]
        );
    }

    #[test]
    fn markers_of_another_run_mean_nothing() {
        let report = read("@@78 booted x 1\n@@77 begin 9\nx @@77 finished 0");
        assert_eq!((report.booted, report.finished, report.current), (None, None, None));
    }

    #[test]
    fn the_script_quotes_what_it_is_given() {
        let programs = [Program {
            name: "live".into(),
            arguments: vec!["it's".into()],
            directory: "/work dir".into(),
            is_harness: true,
        }];
        let plan = Plan {
            nonce: "1",
            control_groups: ControlGroups::Unified,
            modules: &["/lib/modules/x/veth.ko".to_owned()],
            environment: &[("A".to_owned(), "b c".to_owned())],
            programs: &programs,
            limit: 60,
        };
        let script = plan.script();
        for expected in [
            r"(cd '/work dir' && exec '/tests/live' 'it'\''s' </dev/null 2>&1)",
            "export A='b c'\n",
            "insmod '/lib/modules/x/veth.ko' ||",
            "mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup\n",
        ] {
            assert!(script.contains(expected), "{expected} in {script}");
        }
    }
}
