//! What is said of flows, and of the rules beside them.

use core::time::Duration;

use super::*;
use crate::flow::flows::{Closing, Expectation, Flow, Never, Order, Trigger, Unsolicited};
use crate::record::Direction::{ClientToServer, ServerToClient};

/// Messages of a chat, from line 3 on.
const CHAT: &str = r#"
    [[message]]
    type = "login"
    does = "join"
    when = { "/type" = "login" }
    uid = "/uid"
    name = "/name"
    [[message]]
    type = "say"
    from = "client"
    when = { "/type" = "say" }
    to = "/to"
    content = "/content"
    fields = { id = "/id" }
    [[message]]
    type = "say"
    from = "server"
    when = { "/type" = "say" }
    uid = "/uid"
    to = "/to"
    content = "/content"
    room = "/room"
    fields = { id = "/id", seen = "/seen" }
    [[message]]
    type = "ping"
    from = "server"
    when = { "/type" = "ping" }
    [[message]]
    type = "pong"
    from = "client"
    when = { "/type" = "pong" }
"#;

fn chat(rules: &str) -> Result<Dialect, RuleError> {
    parse(&format!("{HEAD}{CHAT}{rules}"))
}

/// What is wrong with rules for the chat, without the line.
fn wrong_in_chat(rules: &str) -> String {
    let error = chat(rules).unwrap_err();
    format!("{}: {}", error.place, error.problem)
}

/// What is wrong with a flow of which this is `when`, and this in its one expectation.
fn wrong_in_flow(when: &str, expect: &str) -> String {
    wrong_in_chat(&flow(when, expect))
}

fn flow(when: &str, expect: &str) -> String {
    format!("[[flow]]\nname = \"f\"\nwhen = {{ {when} }}\n[[flow.expect]]\n{expect}\n")
}

const SAY: &str = "type = \"say\"";
const SAY_TO_MEMBERS: &str = "type = \"say\"\nto = \"members\"";

#[test]
fn a_file_without_flows_asks_for_nothing() {
    let dialect = chat("").unwrap();
    assert!(dialect.flows.is_empty() && !dialect.connecting_joins);
}

#[test]
fn a_flow_has_a_trigger_and_expectations() {
    let rules = r#"
        [[flow]]
        name = "say"
        when = { type = ["say"], to = "everyone" }
        within = "500ms"
        nobody_else = true
        [[flow.expect]]
        type = "say"
        to = "members"
        times = "at_least_once"
        same = ["user", "content", "to", "room", "id"]
        [[flow.expect]]
        type = ["say", "login"]
        to = "sender"
    "#;
    let members = Expectation {
        kinds: vec!["say".into()],
        to: Whom::Members,
        times: Times::AtLeastOnce,
        same: vec![Part::User, Part::Content, Part::To, Part::Room, Part::Field("id".into())],
    };
    let sender = Expectation {
        kinds: vec!["say".into(), "login".into()],
        to: Whom::Sender,
        times: Times::Once,
        same: Vec::new(),
    };
    let flow = Flow {
        name: "say".into(),
        when: Trigger::Message {
            kinds: vec!["say".into()],
            from: ClientToServer,
            to: Some(Addressed::Everyone),
        },
        within: Duration::from_millis(500),
        expect: vec![members, sender],
        nobody_else: true,
    };
    assert_eq!(chat(rules).unwrap().flows.flows, [flow]);
}

#[test]
fn what_a_flow_does_not_say_is_two_seconds_and_anybody_else_as_well() {
    let dialect =
        chat(&flow("type = \"ping\", from = \"server\"", "type = \"pong\"\nto = \"sender\"")).unwrap();
    let [flow] = &dialect.flows.flows[..] else { panic!("{:?}", dialect.flows) };
    assert_eq!((flow.within, flow.nobody_else), (Duration::from_secs(2), false));
    let when = Trigger::Message { kinds: vec!["ping".into()], from: ServerToClient, to: None };
    assert_eq!(flow.when, when);
}

#[test]
fn whoever_leaves_begins_a_flow_of_the_others() {
    let dialect = chat(&flow("leaves = true", "type = \"say\"\nto = \"others\"\nsame = \"user\"")).unwrap();
    let [flow] = &dialect.flows.flows[..] else { panic!("{:?}", dialect.flows) };
    assert_eq!((&flow.when, &flow.expect[0].same[..]), (&Trigger::Leave, &[Part::User][..]));
}

#[test]
fn connecting_may_make_a_member() {
    let rules = "[[message]]\ntype = \"say\"\nhas = \"/say\"\n";
    let flow = flow(SAY, SAY_TO_MEMBERS);
    let members = |join: &str| parse(&format!("{HEAD}[members]\njoin = \"{join}\"\n{rules}{flow}"));
    assert!(members("connection").unwrap().connecting_joins);
    let told = members("message").unwrap_err().to_string();
    assert_eq!(
        told,
        "line 13, in expect 1 `say` of flow 1 `f`: `to` is \"members\", and nobody becomes a member: no message does \
         \"join\" or \"subscribe\", nor is there [members] join = \"connection\""
    );
    assert!(members("conection").unwrap_err().problem.ends_with("did you mean `connection`?"));
    let subscribe =
        "[[message]]\ntype = \"subscribe\"\nhas = \"/topic\"\ndoes = \"subscribe\"\nroom = \"/topic\"\n";
    assert!(parse(&format!("{HEAD}{rules}{subscribe}{flow}")).is_ok());
}

#[test]
fn the_rules_beside_the_flows_have_a_name_and_what_they_are_about() {
    let rules = flow(SAY, SAY_TO_MEMBERS)
        + r#"
        [[never]]
        name = "before-login"
        type = ["say", "ping"]
        [[unsolicited]]
        name = "unasked"
        type = "say"
        [[order]]
        name = "order"
        type = "say"
        among = "room"
        [[close]]
        name = "closed"
        codes = [1000, 0x7D0, "none"]
        [[close]]
        name = "anyhow"
    "#;
    let flows = chat(&rules).unwrap().flows;
    let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).into()).collect();
    assert_eq!(flows.nevers, [Never { name: "before-login".into(), kinds: kinds(&["say", "ping"]) }]);
    assert_eq!(flows.unsolicited, [Unsolicited { name: "unasked".into(), kinds: kinds(&["say"]) }]);
    let order = Order { name: "order".into(), kinds: kinds(&["say"]), among: Among::Room };
    assert_eq!(flows.orders, [order]);
    let closed = Closing { name: "closed".into(), codes: vec![Some(1000), Some(2000), None] };
    assert_eq!(flows.closings, [closed, Closing { name: "anyhow".into(), codes: Vec::new() }]);
    let names: Vec<_> = flows.names().collect();
    assert_eq!(names, ["f", "before-login", "unasked", "order", "closed", "anyhow"]);
}

#[test]
fn a_name_that_is_taken_is_told() {
    let taken = "`name` is taken by flow 1 `f`: their verdicts could not be told apart";
    let flow = flow(SAY, SAY_TO_MEMBERS);
    assert!(wrong_in_chat(&format!("{flow}{flow}")).starts_with(&format!("flow 2 `f`: {taken}")));
    let never = "[[never]]\nname = \"f\"\ntype = \"say\"\n";
    assert!(wrong_in_chat(&format!("{flow}{never}")).starts_with(&format!("never 1 `f`: {taken}")));
    let close = "[[close]]\nname = \"f\"\n";
    assert!(wrong_in_chat(&format!("{flow}{close}")).contains(taken));
    assert!(wrong_in_chat(&flow.replace("\"f\"", "\"a b\"")).contains("`name` has to be a name"));
}

#[test]
fn what_is_missing_of_a_flow_is_told() {
    for (rules, told) in [
        ("[[flow]]\nname = \"f\"", "flow 1 `f`: the key `when` is missing: what begins it?"),
        ("[[flow]]\nwhen = {}", "flow 1: the key `name` is missing: what are its verdicts called?"),
        (
            "[[flow]]\nname = \"f\"\nwhen = { type = \"say\" }",
            "the key `expect` is missing: [[flow.expect]] says what has to follow",
        ),
        (
            "[[flow]]\nname = \"f\"\nwhen = { from = \"client\" }",
            "`when` of flow 1 `f`: the key `type` is missing",
        ),
        (
            "[[flow]]\nname = \"f\"\nexpects = 1",
            "flow 1 `f`: there is no key `expects`; did you mean `expect`?",
        ),
        ("[flow]\nname = \"f\"", "`flow` has to be a list of tables: [[flow]], and is a table"),
        ("[[never]]\nname = \"n\"", "never 1 `n`: the key `type` is missing"),
        ("[[order]]\nname = \"n\"", "the key `type` is missing"),
    ] {
        let found = wrong_in_chat(rules);
        assert!(found.contains(told), "{rules}: {found}");
    }
    let found = wrong_in_flow(SAY, "to = \"sender\"");
    assert!(found.starts_with("expect 1 of flow 1 `f`: the key `type` is missing"), "{found}");
    let found = wrong_in_flow(SAY, SAY);
    assert!(found.starts_with("expect 1 `say` of flow 1 `f`: the key `to` is missing"), "{found}");
    let order = flow(SAY, SAY_TO_MEMBERS) + "[[order]]\nname = \"n\"\ntype = \"say\"";
    assert!(wrong_in_chat(&order).contains("the key `among` is missing"));
}

#[test]
fn a_type_that_no_message_has_in_that_direction_is_told() {
    for (when, expect, told) in [
        (
            "type = \"sya\"",
            SAY_TO_MEMBERS,
            "`when` of flow 1 `f`: `type` is \"sya\", and no [[message]] from the client is of that type; did you mean \
             `say`?",
        ),
        (
            "type = \"ping\"",
            SAY_TO_MEMBERS,
            "`type` is \"ping\", which only the server sends, and here it would come from the client",
        ),
        (
            SAY,
            "type = \"pong\"\nto = \"sender\"",
            "`type` is \"pong\", which only the client sends, and here it would come from the server",
        ),
        (
            "type = \"ping\", from = \"server\"",
            "type = \"ping\"\nto = \"sender\"",
            "`type` is \"ping\", which only the server sends, and here it would come from the client",
        ),
        ("type = []", SAY_TO_MEMBERS, "`type` is an empty list"),
        ("leaves = true", "type = \"logout\"\nto = \"others\"", "there are login, say, ping"),
    ] {
        let found = wrong_in_flow(when, expect);
        assert!(found.contains(told), "{when}, {expect}: {found}");
    }
    let never = wrong_in_chat("[[never]]\nname = \"n\"\ntype = \"pong\"");
    assert!(never.contains("which only the client sends"), "{never}");
}

#[test]
fn who_cannot_get_anything_is_told() {
    let ping = "type = \"ping\", from = \"server\"";
    for (when, to, told) in [
        (
            ping,
            "members",
            "and what the server sends is answered by the client that gets it: write \"sender\"",
        ),
        (ping, "others", "write \"sender\""),
        (ping, "recipient", "write \"sender\""),
        ("type = \"login\"", "recipient", "and message 1 `login`, which begins the flow, does not read `to`"),
        ("type = \"say\", to = \"everyone\"", "recipient", "and what is for everyone has no recipient"),
        ("leaves = true", "sender", "and whoever leaves is gone: only \"others\" can get something"),
        ("leaves = true", "members", "only \"others\""),
        (SAY, "other", "`to` cannot be \"other\"; did you mean `others`?"),
    ] {
        let found = wrong_in_flow(when, &format!("type = \"say\"\nto = \"{to}\""));
        assert!(found.starts_with("expect 1 `say` of flow 1 `f`: `to` "), "{found}");
        assert!(found.contains(told), "{when}, {to}: {found}");
    }
    let found = wrong_in_flow("type = \"login\", to = \"one\"", SAY_TO_MEMBERS);
    assert_eq!(found, "`when` of flow 1 `f`: `to` is \"one\", and message 1 `login` does not read `to`");
}

#[test]
fn a_part_that_is_not_in_both_messages_is_told() {
    let same = |part: &str| format!("{SAY_TO_MEMBERS}\nsame = \"{part}\"");
    for (when, part, told) in [
        (SAY, "name", "`same` names \"name\", and message 3 `say` from the server does not read `name`"),
        ("type = \"login\"", "content", "names \"content\", and message 1 `login` does not read `content`"),
        ("type = \"login\"", "to", "and message 1 `login` does not read `to`"),
        (
            SAY,
            "idd",
            "names \"idd\", and message 2 `say` from the client has no such field; did you mean `id`?",
        ),
        (SAY, "seen", "and message 2 `say` from the client has no such field; there are id, user, name"),
        (SAY, "contnet", "did you mean `content`?"),
    ] {
        let found = wrong_in_flow(when, &same(part));
        assert!(found.contains(told), "{when}, {part}: {found}");
    }
    let ping = |part: &str| {
        let expect = format!("type = \"pong\"\nto = \"sender\"\nsame = \"{part}\"");
        wrong_in_flow("type = \"ping\", from = \"server\"", &expect)
    };
    assert!(ping("user").contains("message 4 `ping` from the server does not read `uid`"));
    let leaves = |part: &str| {
        wrong_in_flow("leaves = true", &format!("type = \"say\"\nto = \"others\"\nsame = \"{part}\""))
    };
    for part in ["content", "to", "room", "id"] {
        let told = "of whoever leaves \"user\" and \"name\" are known, and nothing else";
        assert!(leaves(part).contains(told), "{}", leaves(part));
    }
}

#[test]
fn leaving_stands_alone_and_needs_members() {
    let others = "type = \"say\"\nto = \"others\"";
    assert!(wrong_in_flow("leaves = true, type = \"say\"", others).contains("`leaves` stands alone"));
    assert!(wrong_in_flow("leaves = true, from = \"client\"", others).contains("`leaves` stands alone"));
    assert!(wrong_in_flow("leaves = false", others).contains("`leaves` can only be true"));
    let message = "[[message]]\ntype = \"say\"\nhas = \"/say\"\n";
    let told = wrong(&format!("{HEAD}{message}{}", flow("leaves = true", others)));
    assert!(told.contains("`leaves` needs members, and nobody becomes one"), "{told}");
    let members = "[members]\njoin = \"connection\"\n";
    assert!(parse(&format!("{HEAD}{members}{message}{}", flow("leaves = true", others))).is_ok());
}

#[test]
fn a_time_is_a_number_with_its_unit_and_not_longer_than_five_minutes() {
    let within = |time: &str| {
        let rules = flow(SAY, SAY_TO_MEMBERS).replace("\nwhen", &format!("\nwithin = {time}\nwhen"));
        chat(&rules).map(|dialect| dialect.flows.flows[0].within.as_millis()).map_err(|error| error.problem)
    };
    for (time, milliseconds) in [("1ms", 1), ("2s", 2_000), ("5m", 300_000), ("300s", 300_000)] {
        assert_eq!(within(&format!("\"{time}\"")), Ok(milliseconds));
    }
    for time in ["0s", "301s", "6m", "18446744073709551615m"] {
        let told = within(&format!("\"{time}\"")).unwrap_err();
        assert_eq!(told, format!("`within` is \"{time}\": more than 0 and at most 5m are possible"));
    }
    for time in ["", "2", "s", "2 s", "2h", "1.5s", "-1s", "+1s", "99999999999999999999s", "2s "] {
        let told = within(&format!("\"{time}\"")).unwrap_err();
        assert!(told.ends_with("and has to be a time, such as \"2s\", \"500ms\" or \"1m\""), "{told}");
    }
    assert!(within("2").unwrap_err().ends_with("and is a whole number"));
}

#[test]
fn a_code_is_one_that_a_close_frame_may_hold() {
    let told = |codes: &str| wrong_in_chat(&format!("[[close]]\nname = \"c\"\ncodes = {codes}"));
    for codes in ["[999]", "[5000]", "-1", "70000"] {
        let found = told(codes);
        assert_eq!(found, "close 1 `c`: `codes` names a code that is not from 1000 to 4999");
    }
    for code in CODES_WITHOUT_FRAME {
        let found = told(&code.to_string());
        let expected =
            format!("`codes` names {code}, which no close frame holds; one without a code is \"none\"");
        assert!(found.ends_with(&expected), "{found}");
    }
    assert!(told("\"any\"").ends_with("has to be a code from 1000 to 4999, or \"none\", and is a string"));
    assert!(told("[]").ends_with("is an empty list"));
}

#[test]
fn what_no_flow_expects_has_no_order_and_cannot_be_unsolicited() {
    let pong = flow("type = \"ping\", from = \"server\"", "type = \"pong\"\nto = \"sender\"");
    let told = "is \"say\", which no flow expects from the server: write such a [[flow]], or leave it out";
    for rules in [
        "[[order]]\nname = \"o\"\ntype = \"say\"\namong = \"sender\"",
        "[[unsolicited]]\nname = \"u\"\ntype = \"say\"",
    ] {
        let found = wrong_in_chat(&format!("{pong}{rules}"));
        assert!(found.ends_with(told), "{found}");
        assert!(chat(&format!("{}{rules}", flow(SAY, SAY_TO_MEMBERS))).is_ok());
    }
}

#[test]
fn what_must_not_come_before_the_login_needs_logins() {
    let never = "[[never]]\nname = \"n\"\ntype = \"say\"\n";
    let message = "[[message]]\ntype = \"say\"\nhas = \"/say\"\n";
    let told = wrong(&format!("{HEAD}{message}{never}"));
    assert!(told.ends_with("needs to know who is logged in, and no message does \"join\""), "{told}");
    let told = wrong(&format!("{HEAD}[members]\njoin = \"connection\"\n{CHAT}{never}"));
    assert!(told.ends_with("whoever is connected is a member: leave it out"), "{told}");
}

#[test]
fn of_flows_and_the_rules_beside_them_there_are_only_so_many() {
    let many = |count: usize, rule: &dyn Fn(usize) -> String| (0..count).map(rule).collect::<String>();
    let flows =
        |count| many(count, &|number| flow(SAY, SAY_TO_MEMBERS).replace("\"f\"", &format!("\"f{number}\"")));
    assert!(chat(&flows(64)).is_ok());
    assert!(wrong_in_chat(&flows(65)).contains("`flow` has 65 elements; 64 are allowed"));
    let closes = |count| many(count, &|number| format!("[[close]]\nname = \"c{number}\"\n"));
    assert!(chat(&closes(16)).is_ok());
    assert!(wrong_in_chat(&closes(17)).contains("`close` has 17 elements; 16 are allowed"));
    let expects = many(17, &|_| format!("[[flow.expect]]\n{SAY_TO_MEMBERS}\n"));
    let found = wrong_in_chat(&format!("[[flow]]\nname = \"f\"\nwhen = {{ {SAY} }}\n{expects}"));
    assert!(found.contains("`expect` has 17 elements; 16 are allowed"), "{found}");
    let types = format!("type = [{}]", ["\"say\""; 17].join(", "));
    assert!(wrong_in_flow(&types, SAY_TO_MEMBERS).contains("`type` has 17 elements"));
}
