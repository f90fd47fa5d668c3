//! Owns how a fault is written: `FAULT[:KEY=VALUE[,KEY=VALUE]…]`, for example `drop:every=7,name=Bob`.
//!
//! Must not know members or messages. Nothing here grows; a copy waits for at most [`Fault::MOST_DELAY`].
//!
//! | key | value |
//! |---|---|
//! | `every` | strikes each so-manieth of the messages that it can hit, counted from the start of the server; default 1 |
//! | `name` | hits a member of this name only, and counts only what such a member can be hit by; no comma can be in it |
//! | `ms` | of `delay`, which needs it: for how many milliseconds, 1 to 60,000 |
//!
//! What each fault does stands at `Kind`, and whom it hits and what it counts at the top of the module above this one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// What breaks the chat, for tests of observer. It is read from its spec, for example `drop:every=7,name=Bob`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(super) kind: Kind,
    /// At least one.
    pub(super) every: u64,
    pub(super) name: Option<String>,
    /// Zero for all but [`Kind::Delay`].
    pub(super) delay: Duration,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One recipient of a say to all does not get it.
    Drop,
    /// One recipient of a say to all gets it twice.
    Duplicate,
    /// One recipient of a say to all gets it right behind the same sender's next say to all, or when one of the two leaves.
    Reorder,
    /// One recipient of a say, to all or private, gets it later, or not at all if it leaves before. What follows is not
    /// held up.
    Delay,
    /// A member of the room who is neither sender nor addressee gets a private say, too.
    Misdeliver,
    /// One recipient of a say, to all or private, gets it with `*` behind its content.
    Alter,
    /// A newcomer gets no user list.
    SkipUserList,
    /// One recipient of a say, to all or private, gets another one behind it, `nobody said this (1)`, which differs
    /// from that say in its content only. The number counts the strikes of all faults of this kind.
    Unsolicited,
    /// A member who was there before a newcomer does not get its login.
    SilentLogin,
    /// A member of another room gets a say to all, too.
    WrongRoom,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Drop,
        Self::Duplicate,
        Self::Reorder,
        Self::Delay,
        Self::Misdeliver,
        Self::Alter,
        Self::SkipUserList,
        Self::Unsolicited,
        Self::SilentLogin,
        Self::WrongRoom,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Delay => "delay",
            Self::Misdeliver => "misdeliver",
            Self::Alter => "alter",
            Self::SkipUserList => "skip-user-list",
            Self::Unsolicited => "unsolicited",
            Self::SilentLogin => "silent-login",
            Self::WrongRoom => "wrong-room",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Fault {
    const MOST_DELAY: Duration = Duration::from_secs(60);
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(spec: &str) -> Result<Self> {
        let (kind, settings) = match spec.split_once(':') {
            Some((kind, settings)) => (kind, Some(settings)),
            None => (spec, None),
        };
        let Some(kind) = Kind::ALL.into_iter().find(|known| known.name() == kind) else {
            bail!("{kind:?} is no fault; there are {}", Kind::ALL.map(Kind::name).join(", "));
        };
        let (mut every, mut name, mut ms) = (None, None, None);
        for setting in settings.into_iter().flat_map(|settings| settings.split(',')) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let known = match key {
                "every" => &mut every,
                "name" => &mut name,
                "ms" if kind == Kind::Delay => &mut ms,
                _ if kind == Kind::Delay => bail!("delay has no {key:?}; it has every=N, name=NAME and ms=N"),
                _ => bail!("{kind} has no {key:?}; it has every=N and name=NAME"),
            };
            ensure!(!value.is_empty(), "{key} of {kind} needs a value, as in {key}=7");
            ensure!(known.replace(value).is_none(), "{key} of {kind} is given twice");
        }
        let number = |key: &str, value: &str, most: u64| {
            let number = value.parse().ok().filter(|number| (1..=most).contains(number));
            number
                .with_context(|| format!("{key} of {kind} must be a number from 1 to {most}, not {value:?}"))
        };
        let delay = match (kind, ms) {
            (Kind::Delay, None) => bail!("delay needs to know for how many milliseconds, as in delay:ms=500"),
            (_, None) => 0,
            (_, Some(ms)) => number("ms", ms, Self::MOST_DELAY.as_secs() * 1000)?,
        };
        Ok(Self {
            kind,
            every: every.map_or(Ok(1), |every| number("every", every, u32::MAX.into()))?,
            name: name.map(str::to_owned),
            delay: Duration::from_millis(delay),
        })
    }
}

/// The spec, with all that was left to its default.
impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:every={}", self.kind, self.every)?;
        if let Some(name) = &self.name {
            write!(formatter, ",name={name}")?;
        }
        if !self.delay.is_zero() {
            write!(formatter, ",ms={}", self.delay.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_written_as_it_is_read_with_its_defaults() {
        for (spec, whole) in [
            ("drop", "drop:every=1"),
            ("duplicate:every=7", "duplicate:every=7"),
            ("misdeliver:name=猪 =,every=2", "misdeliver:every=2,name=猪 ="),
            ("delay:ms=60000,name=Bob", "delay:every=1,name=Bob,ms=60000"),
        ] {
            let fault: Fault = spec.parse().unwrap();
            assert_eq!(fault.to_string(), whole);
            assert_eq!(whole.parse::<Fault>().unwrap(), fault);
        }
    }

    #[test]
    fn a_spec_that_is_none_is_refused_with_what_would_be_one() {
        for (spec, why) in [
            ("", "there are drop, duplicate, reorder, delay, misdeliver, alter, skip-user-list"),
            ("Drop", "\"Drop\" is no fault"),
            ("drop:", "drop has no \"\"; it has every=N and name=NAME"),
            ("drop:ms=5", "drop has no \"ms\""),
            ("delay:to=Bob,ms=5", "it has every=N, name=NAME and ms=N"),
            ("drop:every", "every of drop needs a value"),
            ("drop:name=", "name of drop needs a value"),
            ("drop:every=2,every=3", "every of drop is given twice"),
            ("drop:every=0", "from 1 to 4294967295, not \"0\""),
            ("drop:every=-1", "not \"-1\""),
            ("delay", "as in delay:ms=500"),
            ("delay:ms=60001", "from 1 to 60000"),
        ] {
            let error = spec.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(why), "{spec}: {error}");
        }
    }
}
