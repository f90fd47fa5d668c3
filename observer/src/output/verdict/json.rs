//! Verdicts as JSON lines, as docs/json.md describes them.
//!
//! Owns the keys. Must not know where lines go. Bounded: appends to the caller's buffer what the core keeps of one case,
//! or an object a rule.

use observer_core::flow::User;
use observer_core::flow::latency::Histogram;
use observer_core::flow::verdict::{
    Case, Cause, Causes, Deviation, FieldSeen, Latency, Outcome, Party, TriggerSeen,
};
use observer_core::record::{Direction, SCHEMA};
use observer_core::time::WallTime;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Verification;
use super::conclusion::{BeganNothing, Row, Silent};
use crate::losses::Lost;
use crate::output::json::{JsonCounts, JsonTime, nanoseconds, write_claim, write_line};

/// Appends a case as one line.
pub fn write(out: &mut Vec<u8>, case: &Case<'_>) {
    write_line(out, &JsonCase(case));
}

/// Appends what the run came to as one line.
pub fn write_end(out: &mut Vec<u8>, verification: &Verification) {
    write_line(out, &JsonVerification(verification));
}

struct JsonCase<'a>(&'a Case<'a>);

impl Serialize for JsonCase<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let case = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("kind", "verdict")?;
        map.serialize_entry("time", &JsonTime(case.time.wall))?;
        write_party(&mut map, &case.trigger.party)?;
        map.serialize_entry("case", &case.number)?;
        map.serialize_entry("flow", case.flow)?;
        map.serialize_entry("dialect", case.dialect)?;
        map.serialize_entry("outcome", case.outcome.name())?;
        map.serialize_entry("trigger", &JsonTrigger(case.trigger))?;
        map.serialize_entry("expected", &case.expected)?;
        map.serialize_entry("arrived", &case.arrived)?;
        map.serialize_entry("left", &case.left)?;
        map.serialize_entry("others_unknown", &case.others_unknown)?;
        map.serialize_entry("latency", &JsonLatency(case.latency))?;
        map.serialize_entry("deviations", &JsonDeviations(case))?;
        map.serialize_entry("deviations_more", &case.deviations_more)?;
        map.serialize_entry("causes", &JsonCauses(case.causes))?;
        map.end()
    }
}

/// The keys of one end of a case.
fn write_party<M: SerializeMap>(map: &mut M, party: &Party) -> Result<(), M::Error> {
    map.serialize_entry("connection", &party.connection.0)?;
    map.serialize_entry("client", &party.client)?;
    if let Some(claim) = party.claim.as_deref() {
        write_claim(map, claim)?;
    }
    let name = party.name.as_deref().map(Into::into);
    let user = User { uid: party.uid.clone(), name };
    if user.is_somebody() {
        map.serialize_entry("user", &user)?;
    }
    Ok(())
}

struct JsonParty<'a>(&'a Party);

impl Serialize for JsonParty<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_party(&mut map, self.0)?;
        map.end()
    }
}

struct JsonTrigger<'a>(&'a TriggerSeen);

impl Serialize for JsonTrigger<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let trigger = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &JsonTime(trigger.time.wall))?;
        map.serialize_entry("direction", &trigger.direction.map(Direction::name))?;
        if !trigger.kind.is_empty() {
            map.serialize_entry("type", &trigger.kind)?;
        }
        if let Some(does) = trigger.does {
            map.serialize_entry("does", does.name())?;
        }
        if let Some(to) = &trigger.to {
            map.serialize_entry("to", to)?;
        }
        if let Some(recipient) = &trigger.recipient {
            map.serialize_entry("recipient", &JsonParty(recipient))?;
        }
        if let Some(room) = &trigger.room {
            map.serialize_entry("room", room)?;
        }
        if let Some(content) = &trigger.content {
            map.serialize_entry("content", &content.text)?;
            map.serialize_entry("content_cut", &content.is_cut)?;
        }
        if !trigger.fields.is_empty() {
            map.serialize_entry("fields", &JsonFields(&trigger.fields))?;
            map.serialize_entry("fields_cut", &trigger.fields.iter().any(|field| field.is_cut))?;
        }
        if let Some(text) = &trigger.text {
            map.serialize_entry("text", &text.text)?;
            map.serialize_entry("text_cut", &text.is_cut)?;
        }
        map.end()
    }
}

struct JsonFields<'a>(&'a [FieldSeen]);

impl Serialize for JsonFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|field| (&field.name, &field.value)))
    }
}

struct JsonLatency(Latency);

impl Serialize for JsonLatency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Latency { first_sent, last_sent, first_received, last_received } = self.0;
        let mut map = serializer.serialize_map(Some(4))?;
        for (name, duration) in [
            ("first_sent_nanoseconds", first_sent),
            ("last_sent_nanoseconds", last_sent),
            ("first_received_nanoseconds", first_received),
            ("last_received_nanoseconds", last_received),
        ] {
            map.serialize_entry(name, &duration.map(nanoseconds))?;
        }
        map.end()
    }
}

struct JsonDeviations<'a>(&'a Case<'a>);

impl Serialize for JsonDeviations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.0.deviations.iter().map(|deviation| JsonDeviation { case: self.0, deviation }))
    }
}

struct JsonDeviation<'a> {
    case: &'a Case<'a>,
    deviation: &'a Deviation,
}

impl Serialize for JsonDeviation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { case, deviation } = self;
        let began = case.trigger.time;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("fault", deviation.fault.name())?;
        write_party(&mut map, &deviation.party)?;
        map.serialize_entry("type", &deviation.kind)?;
        if let Some(seen) = &deviation.seen {
            map.serialize_entry("seen", &seen.text)?;
            map.serialize_entry("seen_cut", &seen.is_cut)?;
        }
        let after = |time: observer_core::time::Time| nanoseconds(time.since(began));
        map.serialize_entry("sent", &deviation.sent.map(|time| JsonTime(time.wall)))?;
        map.serialize_entry("sent_after_nanoseconds", &deviation.sent.map(after))?;
        map.serialize_entry("received", &deviation.received.map(|time| JsonTime(time.wall)))?;
        map.serialize_entry("received_after_nanoseconds", &deviation.received.map(after))?;
        map.end()
    }
}

struct JsonCauses(Causes);

impl Serialize for JsonCauses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Cause::name))
    }
}

struct JsonVerification<'a>(&'a Verification);

impl Serialize for JsonVerification<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let verification = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("kind", "verification")?;
        if verification.time.wall != WallTime(0) {
            map.serialize_entry("time", &JsonTime(verification.time.wall))?;
        }
        map.serialize_entry("conclusion", verification.conclusion().name())?;
        map.serialize_entry("cases", &verification.cases())?;
        map.serialize_entry("cases_of_flows", &verification.of_flows().iter().sum::<u64>())?;
        map.serialize_entry("checks", &verification.of_checks().iter().sum::<u64>())?;
        let outcomes = Outcome::ALL.map(|outcome| (outcome.name(), verification.of(outcome)));
        map.serialize_entry("outcomes", &JsonCounts(outcomes.to_vec()))?;
        map.serialize_entry("refused", &verification.refused())?;
        let causes = Cause::ALL.iter().zip(&verification.causes).map(|(cause, count)| (cause.name(), *count));
        map.serialize_entry("causes", &JsonCounts(causes.collect()))?;
        map.serialize_entry("shed", &verification.shed)?;
        map.serialize_entry("delivered_by", if verification.sent_is_trusted { "sent" } else { "received" })?;
        map.serialize_entry("input_damaged", &verification.is_damaged)?;
        let Lost { packets, gaps, cut } = verification.lost;
        let lost = vec![("packets", packets), ("gaps", gaps), ("cut", cut)];
        map.serialize_entry("lost", &JsonCounts(lost))?;
        let BeganNothing { read, unread } = verification.began_nothing;
        map.serialize_entry("began_nothing", &JsonCounts(vec![("read", read), ("unread", unread)]))?;
        map.serialize_entry("saw_nothing", &JsonSilents(&verification.silent))?;
        map.serialize_entry("flows", &JsonRows(&verification.rows))?;
        map.end()
    }
}

struct JsonSilents<'a>(&'a [Silent]);

impl Serialize for JsonSilents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(JsonSilent))
    }
}

struct JsonSilent<'a>(&'a Silent);

impl Serialize for JsonSilent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Silent { dialect, rules, .. } = self.0;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("dialect", dialect)?;
        map.serialize_entry("flows", rules)?;
        map.end()
    }
}

struct JsonRows<'a>(&'a [Row]);

impl Serialize for JsonRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(JsonRow))
    }
}

struct JsonRow<'a>(&'a Row);

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Row { totals: row, rule } = self.0;
        let ([_, last_sent], [_, last]) = (&row.sent, &row.latency);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("flow", &row.flow)?;
        map.serialize_entry("dialect", &row.dialect)?;
        map.serialize_entry("rule", rule)?;
        map.serialize_entry("cases", &row.cases())?;
        map.serialize_entry(
            "outcomes",
            &JsonCounts(Outcome::ALL.map(|it| (it.name(), row.of(it))).to_vec()),
        )?;
        map.serialize_entry("refused", &row.refused)?;
        map.serialize_entry("received", &row.received)?;
        for (name, histogram) in [("sent_after_nanoseconds", last_sent), ("received_after_nanoseconds", last)]
        {
            map.serialize_entry(name, &JsonQuantiles(histogram))?;
        }
        map.end()
    }
}

struct JsonQuantiles<'a>(&'a Histogram);

impl Serialize for JsonQuantiles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            map.serialize_entry(name, &self.0.quantile(share).map(nanoseconds))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use observer_core::flow::Value;
    use observer_core::flow::verdict::{Fault, Quote};
    use observer_core::time::Time;
    use serde_json::json;

    use super::*;
    use crate::output::cases::{Made, party};

    fn written(made: &Made) -> serde_json::Value {
        let mut out = Vec::new();
        write(&mut out, &made.case());
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_case_has_who_began_it_what_was_expected_and_each_deviation() {
        let mut made = Made { outcome: Outcome::Violated, arrived: 1, ..Made::default() };
        made.deviate(Fault::Unacknowledged, party(1, "猪猪"), Some(Time::from_file(Made::AT + 1_500)), None);
        let verdict = written(&made);
        assert_eq!((&verdict["kind"], &verdict["outcome"]), (&json!("verdict"), &json!("violated")));
        assert_eq!((&verdict["connection"], &verdict["user"]["name"]), (&json!(2), &json!("mynick")));
        assert_eq!(verdict["trigger"]["content"], "hi, all !");
        assert_eq!(
            verdict["deviations"],
            json!([{
                "fault": "unacknowledged",
                "connection": 1,
                "client": "127.0.0.1:40001",
                "user": {"name": "猪猪"},
                "type": "say",
                "sent": "2024-01-01T12:00:00.000001500Z",
                "sent_after_nanoseconds": 1500,
                "received": null,
                "received_after_nanoseconds": null,
            }])
        );
    }

    #[test]
    fn what_says_nothing_has_its_fields_or_its_text_instead() {
        let mut made = Made::default();
        made.trigger.content = None;
        made.trigger.text = Some(Quote::of("{\"op\":\"refresh\"}"));
        let field = |name: &str, value| FieldSeen { name: name.into(), value, is_cut: name == "method" };
        made.trigger.fields =
            [field("id", Value::Number(7)), field("method", Value::Text("add".into()))].into();
        let trigger = &written(&made)["trigger"];
        assert_eq!((&trigger["text"], &trigger["text_cut"]), (&json!("{\"op\":\"refresh\"}"), &json!(false)));
        assert_eq!(trigger["fields"], json!({"id": 7, "method": "add"}));
        assert_eq!((&trigger["fields_cut"], trigger.get("content")), (&json!(true), None));
        let documentation = include_str!("../../../../docs/json.md");
        for key in ["fields", "fields_cut", "text", "text_cut"] {
            assert!(documentation.contains(&format!("`{key}`")), "docs/json.md does not mention {key}");
        }
    }

    #[test]
    fn a_case_that_held_is_a_line_too_and_nothing_in_it_controls_a_terminal() {
        let mut made = Made::default();
        made.say("\x1b[2J\u{202e}\u{9b}");
        assert_eq!(written(&made)["trigger"]["content"], "\x1b[2J\u{202e}\u{9b}");
        let mut out = Vec::new();
        write(&mut out, &made.case());
        let line = String::from_utf8(out).unwrap();
        assert!(!line.trim_end().chars().any(crate::output::escape::is_dangerous), "{line}");
    }
}
