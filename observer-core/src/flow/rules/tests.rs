//! Reading by rules.

use proptest::prelude::*;

use super::Direction::{ClientToServer, ServerToClient};
use super::*;
use crate::flow::parse;

/// Reads a text message by the built-in rules, as long as nothing is known of the chat.
fn read(direction: Direction, text: &str) -> Option<Event<'_>> {
    static RULES: LazyLock<Arc<Rules>> = LazyLock::new(Rules::built_in);
    let reading = RULES.read(DialectSet::ALL, true, direction, Opcode::Text, text);
    reading.map(|reading| reading.event)
}

fn json(direction: Direction, text: &str) -> String {
    read(direction, text).map_or_else(|| "none".to_owned(), |event| serde_json::to_string(&event).unwrap())
}

/// Reads by one file's rules, with the built-in ones behind them; with the name of the dialect.
fn read_by(file: &str, direction: Direction, opcode: Opcode, text: &str) -> String {
    let rules = Rules::new(vec![parse(file).unwrap()]);
    let reading = rules.read(DialectSet::ALL, true, direction, opcode, text);
    reading.map_or_else(
        || "none".to_owned(),
        |Reading { event, .. }| format!("{} {}", event.dialect.name, serde_json::to_string(&event).unwrap()),
    )
}

/// The names of those that read a server's message.
fn readers(first: DialectSet, direction: Direction, text: &str) -> Vec<&str> {
    static RULES: LazyLock<Arc<Rules>> = LazyLock::new(Rules::built_in);
    let by = RULES.read(first, true, direction, Opcode::Text, text).map_or(DialectSet::NONE, |it| it.by);
    let named = RULES.dialects().iter().enumerate().filter(|(number, _)| by.has(*number));
    named.map(|(_, dialect)| dialect.name.trim_start_matches("workerman-chat-")).collect()
}

#[test]
fn a_clients_login_has_a_name_only() {
    let login = r#"{"type":"login","name":"mynick"}"#;
    assert_eq!(json(ClientToServer, login), r#"{"type":"login","user":{"name":"mynick"}}"#);
}

#[test]
fn a_servers_login_has_uid_name_and_time() {
    let login = r#"{"type":"login","uid":783700053,"name":"mynick","time":"2014-08-12 17:50:30"}"#;
    assert_eq!(
        json(ServerToClient, login),
        r#"{"type":"login","user":{"uid":783700053,"name":"mynick"},"time":"2014-08-12 17:50:30"}"#
    );
    assert_eq!(json(ServerToClient, r#"{"type":"login","name":"mynick"}"#), "none");
}

#[test]
fn a_clients_say_has_a_recipient_and_a_content() {
    let say = r#"{"type":"say","to_uid":"all","content":"hi, all !"}"#;
    assert_eq!(json(ClientToServer, say), r#"{"type":"say","to":"all","content":"hi, all !"}"#);
}

#[test]
fn a_servers_say_names_its_author() {
    let say = r#"{"type":"say","from_uid":783700053,"to_uid":"all","content":"hi","time":"t"}"#;
    assert_eq!(
        json(ServerToClient, say),
        r#"{"type":"say","user":{"uid":783700053},"to":"all","content":"hi","time":"t"}"#
    );
}

#[test]
fn a_uid_is_the_same_in_quotes_and_without() {
    let say = |uid: &str| json(ClientToServer, &format!(r#"{{"type":"say","to_uid":{uid},"content":"x"}}"#));
    assert_eq!(say("783654164"), r#"{"type":"say","to":783654164,"content":"x"}"#);
    assert_eq!(say("783654164"), say(r#""783654164""#));
}

#[test]
fn a_uid_may_be_text_and_nothing_else() {
    let say = |uid: &str| json(ClientToServer, &format!(r#"{{"type":"say","to_uid":{uid},"content":"x"}}"#));
    assert_eq!(say(r#""7f00-ab""#), r#"{"type":"say","to":"7f00-ab","content":"x"}"#);
    assert_eq!(say(r#""+7""#), r#"{"type":"say","to":"+7","content":"x"}"#);
    for uid in ["null", "1.5", "-1", "[1]", r#"{"a":1}"#, r#""""#, &format!("\"{}\"", "x".repeat(65))] {
        assert_eq!(say(uid), "none", "{uid}");
    }
}

#[test]
fn a_user_list_names_everyone() {
    let list = r#"{"type":"user_list","user_list":[{"uid":1,"name":"a"},{"uid":"2","name":"猪","x":[]}]}"#;
    assert_eq!(
        json(ServerToClient, list),
        r#"{"type":"user_list","users":[{"uid":1,"name":"a"},{"uid":2,"name":"猪"}]}"#
    );
    let empty = r#"{"type":"user_list","user_list":[]}"#;
    assert_eq!(json(ServerToClient, empty), r#"{"type":"user_list","users":[]}"#);
    for wrong in ["7", "{}", "null", r#""x""#, "[1]"] {
        let list = format!(r#"{{"type":"user_list","user_list":{wrong}}}"#);
        assert_eq!(json(ServerToClient, &list), "none");
    }
}

#[test]
fn logout_heartbeat_and_error_are_read() {
    assert_eq!(
        json(ServerToClient, r#"{"type":"logout","uid":1,"name":"a","time":"t"}"#),
        r#"{"type":"logout","user":{"uid":1,"name":"a"},"time":"t"}"#
    );
    assert_eq!(json(ServerToClient, r#"{"type":"ping"}"#), r#"{"type":"ping"}"#);
    assert_eq!(json(ClientToServer, r#"{"type":"pong"}"#), r#"{"type":"pong"}"#);
    assert_eq!(
        json(ServerToClient, r#"{"type":"error","code":"bad_json","message":"no"}"#),
        r#"{"type":"error","content":"no","code":"bad_json"}"#
    );
}

#[test]
fn escapes_are_decoded() {
    let event = read(ClientToServer, r#"{"type":"say","to_uid":"all","content":"\u732a\n"}"#).unwrap();
    assert_eq!(event.content.as_deref(), Some("猪\n"));
}

#[test]
fn unknown_keys_and_white_space_are_ignored() {
    let login = " \n{\"name\":\"a\",\"room\":{\"id\":[1,2,{\"x\":null}]},\"type\":\"login\"} ";
    assert_eq!(json(ClientToServer, login), r#"{"type":"login","user":{"name":"a"}}"#);
}

#[test]
fn other_json_has_no_meaning() {
    for text in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "3",
        r#""login""#,
        r#"["login"]"#,
        r#"{"type":"dance"}"#,
        r#"{"type":3}"#,
        r#"{"type":"say","to_uid":"all"}"#,
        r#"{"type":"login"}"#,
        r#"{"type":"login","name":7}"#,
        r#"{"type":"ping"} trailing"#,
        r#"{"type":"user_list","user_list":[]}"#,
        "hi, all !",
    ] {
        assert_eq!(json(ClientToServer, text), "none", "{text}");
    }
}

#[test]
fn a_message_beyond_the_bound_has_no_meaning() {
    let say = |length: usize| {
        let frame = r#"{"type":"say","to_uid":"all","content":""}"#.len();
        format!(r#"{{"type":"say","to_uid":"all","content":"{}"}}"#, "x".repeat(length - frame))
    };
    assert!(read(ClientToServer, &say(MAXIMUM_JSON_BYTES)).is_some());
    assert!(read(ClientToServer, &say(MAXIMUM_JSON_BYTES + 1)).is_none());
}

#[test]
fn deep_nesting_has_no_meaning() {
    let deep = format!(r#"{{"type":"ping","x":{}}}"#, "[".repeat(30_000));
    assert_eq!(read(ClientToServer, &deep), None);
}

#[test]
fn every_built_in_file_is_read() {
    for text in BUILT_IN {
        parse(text).unwrap();
    }
    let names: Vec<_> = Rules::built_in().dialects().iter().map(|dialect| dialect.name.to_string()).collect();
    assert_eq!(names, ["workerman-chat-2015-11", "workerman-chat-2014-09", "workerman-chat-2014-08"]);
    let types = ["error", "login", "logout", "ping", "pong", "say", "user_list"];
    assert_eq!(Rules::built_in().types().into_iter().collect::<Vec<_>>(), types);
}

#[test]
fn a_login_of_2014_09_has_a_list_of_all_for_all() {
    let asked = r#"{"type":"re_login","client_name":"a","room_id":7}"#;
    assert_eq!(json(ClientToServer, asked), r#"{"type":"login","user":{"name":"a"},"room":"7"}"#);
    let told = r#"{"type":"re_login","client_id":3,"client_name":"a","client_list":[{"client_id":2,"client_name":"b"},{"client_id":3,"client_name":"a"}],"time":"t"}"#;
    assert_eq!(
        json(ServerToClient, told),
        r#"{"type":"login","user":{"uid":3,"name":"a"},"users":[{"uid":2,"name":"b"},{"uid":3,"name":"a"}],"time":"t"}"#
    );
    assert_eq!(readers(DialectSet::ALL, ServerToClient, told), ["2014-09"]);
    let left = r#"{"type":"logout","from_client_id":3,"from_client_name":"a","client_list":[{"client_id":2,"client_name":"b"}],"time":"t"}"#;
    assert_eq!(
        json(ServerToClient, left),
        r#"{"type":"logout","user":{"uid":3,"name":"a"},"users":[{"uid":2,"name":"b"}],"time":"t"}"#
    );
    assert_eq!(readers(DialectSet::ALL, ServerToClient, left), ["2014-09"]);
}

#[test]
fn a_login_since_2015_11_has_an_object_of_all_for_the_newcomer() {
    let own = r#"{"type":"login","client_id":"7f0000010b5700000001","client_name":"a","time":"t","client_list":{"7f0000010b5700000002":"b","7f0000010b5700000001":"\u732a"}}"#;
    assert_eq!(
        json(ServerToClient, own),
        r#"{"type":"login","user":{"uid":"7f0000010b5700000001","name":"a"},"users":[{"uid":"7f0000010b5700000002","name":"b"},{"uid":"7f0000010b5700000001","name":"猪"}],"time":"t"}"#
    );
    assert_eq!(readers(DialectSet::ALL, ServerToClient, own), ["2015-11"]);
    assert_eq!(read(ServerToClient, own).unwrap().rule.own, Some(true));
    let others = r#"{"type":"login","client_id":"7f0000010b5700000001","client_name":"a","time":"t"}"#;
    assert_eq!(
        json(ServerToClient, others),
        r#"{"type":"login","user":{"uid":"7f0000010b5700000001","name":"a"},"time":"t"}"#
    );
    assert_eq!(readers(DialectSet::ALL, ServerToClient, others), ["2015-11"]);
    assert_eq!(read(ServerToClient, others).unwrap().rule.own, Some(false));
}

#[test]
fn a_say_with_client_ids_is_read_for_all_and_for_one() {
    let asked = r#"{"type":"say","to_client_id":"all","to_client_name":"\u6240\u6709\u4eba","content":"hi"}"#;
    assert_eq!(
        json(ClientToServer, asked),
        r#"{"type":"say","to":"all","content":"hi","fields":{"to_name":"所有人"}}"#
    );
    let told = r#"{"type":"say","from_client_id":"7f0000010b5700000001","from_client_name":"a","to_client_id":"all","content":"hi<br \/>\n","time":"t"}"#;
    assert_eq!(
        json(ServerToClient, told),
        r#"{"type":"say","user":{"uid":"7f0000010b5700000001","name":"a"},"to":"all","content":"hi<br />\n","time":"t"}"#
    );
    let one = r#"{"type":"say","from_client_id":1,"from_client_name":"a","to_client_id":"2","content":"<b>\u5bf9\u4f60\u8bf4: <\/b>hi","time":"t"}"#;
    assert_eq!(
        json(ServerToClient, one),
        r#"{"type":"say","user":{"uid":1,"name":"a"},"to":2,"content":"<b>对你说: </b>hi","time":"t"}"#
    );
    assert_eq!(readers(DialectSet::ALL, ServerToClient, one), ["2015-11", "2014-09"]);
}

#[test]
fn a_private_say_comes_back_with_the_name_of_whom_it_is_for() {
    let copies = |asked: &str, from: &str| {
        let asked = read(ClientToServer, asked).unwrap();
        let told = format!(r#"{{"type":"say","from_client_id":{from},"to_client_id":"7","content":"x"}}"#);
        let told = read(ServerToClient, &told).unwrap();
        let (said, fields) = (asked.content.clone().unwrap(), |field: &str| asked.fields.text(field));
        told.rule.contents(&said, &fields).map(Cow::into_owned).collect::<Vec<_>>()
    };
    let asked = r#"{"type":"say","to_client_id":"7","to_client_name":"O'Neil & <b>","content":"'psst'\n"}"#;
    assert_eq!(
        copies(asked, "1"),
        [
            "<b>对你说: </b>&#039;psst&#039;<br />\n",
            "<b>对你说: </b>'psst'<br />\n",
            "<b>你对O&#039;Neil &amp; &lt;b&gt;说: </b>&#039;psst&#039;<br />\n",
            "<b>你对O'Neil &amp; &lt;b&gt;说: </b>'psst'<br />\n",
            "<b>你对说: </b>&#039;psst&#039;<br />\n",
            "<b>你对说: </b>'psst'<br />\n",
        ]
    );
    let nameless = r#"{"type":"say","to_client_id":"7","content":"psst"}"#;
    let expected = ["<b>对你说: </b>psst", "<b>你对说: </b>psst"];
    assert_eq!(BTreeSet::from_iter(copies(nameless, "1")), expected.map(str::to_owned).into());
}

#[test]
fn what_each_built_in_dialect_asks_for_has_a_name() {
    let rules = Rules::built_in();
    let names = |dialect: &Dialect| dialect.flows.names().collect::<Vec<_>>().join(" ");
    let told = "login say private logout heartbeat before-login unsolicited-say";
    let in_order = format!("{told} say-order");
    assert_eq!(rules.dialects().iter().map(names).collect::<Vec<_>>(), [&*in_order, told, &in_order]);
}

#[test]
fn a_logout_of_the_manual_may_hold_uid_and_time_only() {
    let left = r#"{"type":"logout","uid":783700053,"time":"2014-08-12 :51:02"}"#;
    assert_eq!(
        json(ServerToClient, left),
        r#"{"type":"logout","user":{"uid":783700053},"time":"2014-08-12 :51:02"}"#
    );
}

#[test]
fn binary_messages_are_read_by_dialects_that_take_them() {
    let say = r#"{"type":"say","to_uid":"all","content":"x"}"#;
    let rules = Rules::built_in();
    let read = |opcode| rules.read(DialectSet::ALL, true, ClientToServer, opcode, say).is_some();
    assert_eq!([Opcode::Text, Opcode::Binary, Opcode::Continuation].map(read), [true, true, false]);
    let file = "schema = 1\nname = 'x'\n[[message]]\ntype = 'y'\nwhen = {'/y' = 1}";
    assert_eq!(read_by(file, ClientToServer, Opcode::Text, r#"{"y":1}"#), r#"x {"type":"y"}"#);
    assert_eq!(read_by(file, ClientToServer, Opcode::Binary, r#"{"y":1}"#), "none");
}

#[test]
fn the_dialects_of_a_chat_are_asked_first_and_the_others_where_none_of_these_reads() {
    let rules = Rules::built_in();
    let ping = r#"{"type":"ping"}"#;
    assert_eq!(readers(DialectSet::ALL, ServerToClient, ping), ["2015-11", "2014-09", "2014-08"]);
    let manual = DialectSet::one(2);
    assert_eq!(readers(manual, ServerToClient, ping), ["2014-08"]);
    let reading = rules.read(manual, true, ServerToClient, Opcode::Text, ping).unwrap();
    assert_eq!(&*reading.event.dialect.name, "workerman-chat-2014-08");
    let login = r#"{"type":"login","client_id":1,"client_name":"a"}"#;
    assert_eq!(readers(manual, ServerToClient, login), ["2015-11"]);
}

#[test]
fn where_one_answer_is_enough_the_first_dialect_gives_it() {
    let rules = Rules::built_in();
    let reading =
        rules.read(DialectSet::ALL, false, ClientToServer, Opcode::Text, r#"{"type":"pong"}"#).unwrap();
    assert_eq!(reading.by, DialectSet::one(0));
}

#[test]
fn one_s_own_rules_come_first_and_replace_those_of_the_same_name() {
    let say = r#"{"type":"say","to_uid":"all","content":"x"}"#;
    let own = |name: &str| {
        format!("schema = 1\nname = '{name}'\n[[message]]\ntype = 'mine'\nwhen = {{'/type' = 'say'}}")
    };
    assert_eq!(read_by(&own("x"), ClientToServer, Opcode::Text, say), r#"x {"type":"mine"}"#);
    let pong = r#"{"type":"pong"}"#;
    assert_eq!(
        read_by(&own("x"), ClientToServer, Opcode::Text, pong),
        r#"workerman-chat-2015-11 {"type":"pong"}"#
    );
    let replaced = Rules::new(vec![parse(&own("workerman-chat-2014-08")).unwrap()]);
    let names: Vec<_> = replaced.dialects().iter().map(|dialect| &*dialect.name).collect();
    assert_eq!(names, ["workerman-chat-2014-08", "workerman-chat-2015-11", "workerman-chat-2014-09"]);
    let given: Vec<_> = replaced.given().iter().map(|dialect| &*dialect.name).collect();
    assert_eq!(given, ["workerman-chat-2014-08"]);
    assert!(Rules::built_in().given().is_empty());
    let list = r#"{"type":"user_list","user_list":[]}"#;
    assert!(replaced.read(DialectSet::ALL, true, ServerToClient, Opcode::Text, list).is_none());
}

#[test]
fn of_too_many_dialects_the_last_are_left_out() {
    let dialect =
        |number| parse(&format!("schema = 1\nname = 'x{number}'\n[[message]]\ntype = 'y'\nhas = '/y'"));
    let rules = Rules::new((0..40).map(|number| dialect(number).unwrap()).collect());
    assert_eq!(rules.dialects().len(), DIALECTS_MAX);
    let reading = rules.read(DialectSet::ALL, true, ClientToServer, Opcode::Text, r#"{"y":1}"#).unwrap();
    assert_eq!((&*reading.event.dialect.name, reading.by), ("x0", DialectSet::ALL));
}

#[test]
fn a_prefix_is_stripped_and_has_to_be_there() {
    let file = r#"
        schema = 1
        name = "io"
        [read]
        strip_prefix = "42"
        [[message]]
        type = "say"
        does = "say"
        when = { "/0" = "chat message" }
        content = "/1/text"
    "#;
    let read = |text| read_by(file, ClientToServer, Opcode::Text, text);
    assert_eq!(read(r#"42["chat message",{"text":"hi"}]"#), r#"io {"type":"say","content":"hi"}"#);
    for other in
        [r#"["chat message",{"text":"hi"}]"#, r#"43["chat message",{}]"#, "42", "4", "2probe", r#"42"x""#]
    {
        assert_eq!(read(other), "none", "{other}");
    }
}

#[test]
fn what_has_names_has_to_be_of_use_to_the_field_that_reads_it() {
    let file = r#"
        schema = 1
        name = "x"
        [[message]]
        type = "needs"
        has = ["/a", "/b"]
        name = "/a"
        [[message]]
        type = "takes"
        has = "/a"
        lacks = "/c"
        content = "/d"
    "#;
    let read = |text| read_by(file, ClientToServer, Opcode::Text, text);
    assert_eq!(read(r#"{"a":"n","b":null}"#), r#"x {"type":"needs","user":{"name":"n"}}"#);
    assert_eq!(read(r#"{"a":7,"b":null}"#), r#"x {"type":"takes"}"#);
    assert_eq!(read(r#"{"a":"n","d":7}"#), r#"x {"type":"takes"}"#);
    assert_eq!(read(r#"{"a":7,"c":null}"#), "none");
}

#[test]
fn values_are_compared_with_their_types() {
    let read = |value: &str, text: &str| {
        let file = format!("schema = 1\nname = 'x'\n[[message]]\ntype = 'y'\nwhen = {{ '/v' = {value} }}");
        read_by(&file, ClientToServer, Opcode::Text, &format!("{{\"v\":{text}}}")) != "none"
    };
    for (value, text) in
        [("'7'", "\"7\""), ("7", "7"), ("-7", "-7"), ("true", "true"), ("''", "\"\""), ("['a', 7]", "7")]
    {
        assert!(read(value, text), "{value} {text}");
    }
    for (value, text) in [
        ("'7'", "7"),
        ("7", "\"7\""),
        ("7", "7.0"),
        ("7", "-7"),
        ("true", "1"),
        ("false", "null"),
        ("''", "null"),
    ] {
        assert!(!read(value, text), "{value} {text}");
    }
}

#[test]
fn free_fields_are_scalars_as_they_are() {
    let file = r#"
        schema = 1
        name = "rpc"
        [[message]]
        type = "call"
        has = "/method"
        fields = { id = "/id", method = "/method", deep = "/params/0/x", params = "/params" }
    "#;
    let read = |text| read_by(file, ClientToServer, Opcode::Text, text);
    assert_eq!(
        read(r#"{"id":-7,"method":"m","params":[{"x":1.5}]}"#),
        r#"rpc {"type":"call","fields":{"deep":1.5,"id":-7,"method":"m"}}"#
    );
    assert_eq!(
        read(r#"{"id":null,"method":false}"#),
        r#"rpc {"type":"call","fields":{"id":null,"method":false}}"#
    );
}

#[test]
fn a_code_and_a_time_may_be_numbers_and_a_list_may_hold_names_alone() {
    let file = r#"
        schema = 1
        name = "x"
        [[message]]
        type = "e"
        has = "/e"
        code = "/e"
        time = "/t"
        [[message]]
        type = "l"
        has = "/l"
        users = { list = "/l", name = "" }
    "#;
    let read = |text| read_by(file, ServerToClient, Opcode::Text, text);
    assert_eq!(
        read(r#"{"e":-32601,"t":1700000000}"#),
        r#"x {"type":"e","code":"-32601","time":"1700000000"}"#
    );
    assert_eq!(read(r#"{"l":["a","b"]}"#), r#"x {"type":"l","users":[{"name":"a"},{"name":"b"}]}"#);
}

#[test]
fn dialects_that_ask_for_the_same_list_differently_are_both_read() {
    let file = r#"
        schema = 1
        name = "x"
        [[message]]
        type = "first"
        has = "/user_list/0/y"
        name = "/user_list/0/y"
    "#;
    let read = |text| read_by(file, ServerToClient, Opcode::Text, text);
    assert_eq!(read(r#"{"user_list":[{"y":"a"}]}"#), r#"x {"type":"first","user":{"name":"a"}}"#);
    assert_eq!(
        read(r#"{"type":"user_list","user_list":[{"uid":1}]}"#),
        r#"workerman-chat-2014-08 {"type":"user_list","users":[{"uid":1}]}"#
    );
}

#[test]
fn of_a_uid_that_stands_twice_in_an_object_the_last_one_counts() {
    let own = r#"{"type":"login","client_id":"b","client_list":{"a":"x","b":"y","a":"z"}}"#;
    assert_eq!(
        json(ServerToClient, own),
        r#"{"type":"login","user":{"uid":"b"},"users":[{"uid":"b","name":"y"},{"uid":"a","name":"z"}]}"#
    );
}

#[test]
fn a_number_and_its_digits_are_the_same_room() {
    let room =
        |room: &str| json(ClientToServer, &format!(r#"{{"type":"login","name":"a","room_id":{room}}}"#));
    assert_eq!(room("7"), r#"{"type":"login","user":{"name":"a"},"room":"7"}"#);
    assert_eq!(room("7"), room("\"7\""));
    assert_eq!(room("[]"), r#"{"type":"login","user":{"name":"a"}}"#);
}

proptest! {
    #[test]
    fn any_content_is_kept_exactly(content in "\\PC*") {
        let text = serde_json::json!({"type": "say", "to_uid": 7, "content": content}).to_string();
        let event = read(ClientToServer, &text).unwrap();
        prop_assert_eq!(event.content.as_deref(), Some(&*content));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[\\[\\]{}\":,a-z0-9.\\\\ -]{0,60}") {
        read(ClientToServer, &format!("{{\"type\":{text}"));
        read(ServerToClient, &text);
    }
}
