//! Cases made by hand, for tests of layouts.
//!
//! Owns one case with all its parts. Must not know any layout. Bounded by the tests.

use std::net::SocketAddr;

use observer_core::flow::verdict::{
    Case, Causes, Deviation, Fault, Latency, Outcome, Party, Quote, Stage, Told, TriggerSeen,
};
use observer_core::flow::{Act, Recipient};
use observer_core::record::{ConnectionId, Direction};
use observer_core::time::Time;

/// A case, by default one that held: mynick on connection 2 says something to all.
#[derive(Clone, Debug)]
pub struct Made {
    pub number: u64,
    pub flow: &'static str,
    pub outcome: Outcome,
    pub trigger: TriggerSeen,
    pub expected: usize,
    pub arrived: usize,
    pub others_unknown: usize,
    pub latency: Latency,
    pub deviations: Vec<Deviation>,
    pub causes: Causes,
}

/// Somebody on a connection of this number.
pub fn party(connection: u64, name: &str) -> Party {
    let port = 40_000 + u16::try_from(connection).unwrap();
    Party {
        connection: ConnectionId(connection),
        client: SocketAddr::from(([127, 0, 0, 1], port)),
        claim: None,
        name: Some(name.into()),
        uid: None,
    }
}

impl Made {
    /// 2024-01-01T12:00:00Z.
    pub const AT: u64 = 1_704_110_400_000_000_000;

    pub fn say(&mut self, content: &str) {
        self.trigger.content = Some(Quote::of(content));
    }

    pub fn deviate(&mut self, fault: Fault, party: Party, sent: Option<Time>, received: Option<Time>) {
        self.deviations.push(Deviation { fault, party, kind: "say".into(), seen: None, sent, received });
    }

    pub fn case(&self) -> Case<'_> {
        Case {
            number: self.number,
            flow: self.flow,
            dialect: "chat",
            outcome: self.outcome,
            trigger: &self.trigger,
            time: self.trigger.time,
            expected: self.expected,
            arrived: self.arrived,
            others_unknown: self.others_unknown,
            left: 0,
            latency: self.latency,
            deviations: &self.deviations,
            deviations_more: 0,
            causes: self.causes,
        }
    }

    pub fn told(&self, stage: Stage, tell: impl FnOnce(&Told<'_>)) {
        tell(&Told { stage, case: &self.case() });
    }
}

impl Default for Made {
    fn default() -> Self {
        Self {
            number: 1,
            flow: "say",
            outcome: Outcome::Held,
            trigger: TriggerSeen {
                time: Time::from_file(Self::AT),
                party: party(2, "mynick"),
                direction: Some(Direction::ClientToServer),
                kind: "say".into(),
                does: Some(Act::Say),
                to: Some(Recipient::All),
                recipient: None,
                room: None,
                content: Some(Quote::of("hi, all !")),
                fields: [].into(),
                text: None,
            },
            expected: 2,
            arrived: 2,
            others_unknown: 0,
            latency: Latency::default(),
            deviations: Vec::new(),
            causes: Causes::NONE,
        }
    }
}
