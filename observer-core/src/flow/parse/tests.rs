//! What is said of rule files.

use super::flows::{
    CLOSE_KEYS, CODES, CODES_WITHOUT_FRAME, EXPECT_KEYS, FLOW_KEYS, FLOWS_MAX, KINDS_KEYS, NO_CODE,
    ORDER_KEYS, WHEN_KEYS,
};
use super::through::{CHAINS_MAX, PREFIX_KEYS, PREFIX_OF_KEYS, THROUGH_KEYS};
use super::*;
use crate::flow::flows::{Addressed, Among, Part, Times, Whom};
use crate::flow::transform::{Chain, STEPS_MAX, Step};
use crate::flow::verdict::{Cause, Fault, Outcome};

mod flows;

const HEAD: &str = "schema = 1\nname = \"x\"\n";

/// What is wrong with a file.
fn wrong(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// What is wrong with a message of which this is a part.
fn wrong_in_message(text: &str) -> String {
    wrong(&format!(
        "{HEAD}[[message]]\ntype = \"a\"\nfrom = \"server\"\nwhen = {{ \"/type\" = \"a\" }}\n{text}\n"
    ))
}

#[test]
fn a_file_has_a_name_and_a_message_at_least() {
    let dialect = parse(&format!("{HEAD}[[message]]\ntype = \"a\"\nhas = \"/a\"")).unwrap();
    assert_eq!((&*dialect.name, &*dialect.title, dialect.opcodes), ("x", "x", [true, false]));
    let [rule] = &dialect.messages[..] else { panic!("{:?}", dialect.messages) };
    assert_eq!((rule.from, rule.does, rule.own), (None, None, None));
    assert_eq!(rule.name_through, [Chain::new()]);
}

#[test]
fn a_byte_order_mark_and_any_line_ends_are_fine() {
    let text = "\u{feff}schema = 1\nname = \"x\"\n[[message]]\ntype = \"a\"\nhas = \"/a\"\n";
    assert_eq!(parse(text), parse(&text[3..]));
    assert_eq!(parse(&text.replace('\n', "\r\n")), parse(text));
    assert_eq!(wrong(&text.replace("has", "hsa").replace('\n', "\r\n")).split(',').next(), Some("line 5"));
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let told = wrong("schema = 1\nname = \"x\n");
    assert!(told.starts_with("line 2: this is not TOML: "), "{told}");
}

#[test]
fn a_key_that_stands_twice_is_named() {
    assert_eq!(wrong("schema = 1\nschema = 1\n"), "line 2: this is not TOML: duplicate key `schema`");
    assert_eq!(wrong_in_message("when = { \"/b\" = 1 }"), "line 7: this is not TOML: duplicate key `when`");
}

#[test]
fn a_file_without_schema_name_or_message_is_told_what_it_lacks() {
    assert_eq!(
        wrong("name = \"x\""),
        "line 1: the key `schema` is missing: `schema = 1` says which version of the language the file is in"
    );
    assert_eq!(wrong("schema = 1"), "line 1: the key `name` is missing: what do you call this dialect?");
    assert!(wrong(HEAD).contains("the key `message` is missing"));
    assert!(
        wrong(&format!("{HEAD}[[message]]\nhas = \"/a\""))
            .starts_with("line 3, in message 1: the key `type`")
    );
}

#[test]
fn another_schema_is_told_from_a_defect() {
    assert_eq!(
        wrong("schema = 2\nname = \"x\""),
        "line 1: `schema` is 2, and this observer knows 1 only; a newer one may know more"
    );
    assert!(wrong("schema = \"1\"").contains("`schema` has to be a whole number, and is a string"));
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_known_one() {
    assert_eq!(
        wrong(&format!("{HEAD}tilte = \"y\"\n")),
        "line 3: there is no key `tilte`; did you mean `title`?"
    );
    assert_eq!(
        wrong_in_message("contnet = \"/a\""),
        "line 7, in message 1 `a` from the server: there is no key `contnet`; did you mean `content`?"
    );
    assert_eq!(
        wrong(&format!("{HEAD}[read]\nfoo = 1\n")),
        "line 4, in `read`: there is no key `foo`; there are opcodes, strip_prefix"
    );
    assert!(wrong_in_message("users = { list = \"/a\", nmae = \"/b\" }").contains(
        "line 7, in `users` of message 1 `a` from the server: there is no key `nmae`; did you mean `name`?"
    ));
}

#[test]
fn of_several_unknown_keys_the_first_in_the_file_is_told() {
    assert!(wrong_in_message("zzz = 1\naaa = 2").starts_with("line 7,"));
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_both_types() {
    for (text, told) in [
        ("uid = 7", "`uid` has to be a JSON pointer, such as \"/data/name\", and is a whole number"),
        ("has = [[]]", "`has` has to be a JSON pointer, such as \"/data/name\", and is a list"),
        ("own = 1", "`own` has to be true or false, and is a whole number"),
        ("users = \"/a\"", "`users` has to be a table, with `list` or `map`, and is a string"),
        ("to = \"/t\"\neveryone = 1.5", "and is a number with a fraction"),
        ("fields = 2014-08-12", "and is a date or time"),
        ("does = true", "`does` has to be a string, one of \"join\", \"say\""),
        (
            "through = { name = [\"html_escape\"] }",
            "a list of lists of steps, such as [[\"html_escape\", \"nl2br\"]]",
        ),
    ] {
        let found = wrong_in_message(text);
        assert!(found.contains(told), "{text}: {found}");
    }
    assert!(
        wrong(&format!("{HEAD}message = 7")).contains("a list of tables: [[message]], and is a whole number")
    );
    assert!(
        wrong(&format!("{HEAD}message = [7]"))
            .contains("a list of tables: [[message]], and is a whole number")
    );
    assert!(wrong(&format!("{HEAD}read = []")).contains("`read` has to be a table: [read], and is a list"));
}

#[test]
fn an_unknown_word_is_told_with_the_nearest_known_one() {
    for (text, told) in [
        ("does = \"jion\"", "`does` cannot be \"jion\"; did you mean `join`?"),
        ("does = \"x\"", "`does` cannot be \"x\"; there are join, say, leave, list, ping, pong, refuse"),
        ("through = { content = [[\"nl2rb\"]] }", "`content` cannot be \"nl2rb\"; did you mean `nl2br`?"),
    ] {
        let found = wrong_in_message(text);
        assert!(found.contains(told), "{text}: {found}");
    }
    let from = wrong(&format!("{HEAD}[[message]]\ntype = \"a\"\nfrom = \"sever\"\nhas = \"/a\""));
    assert!(from.contains(
        "line 5, in message 1 `a` from the sever: `from` cannot be \"sever\"; did you mean `server`?"
    ));
    let opcode = wrong(&format!("{HEAD}[read]\nopcodes = [\"txt\"]"));
    assert!(opcode.contains("`opcodes` cannot be \"txt\"; did you mean `text`?"), "{opcode}");
}

#[test]
fn a_wrong_pointer_is_told_with_what_is_wrong_with_it() {
    assert!(
        wrong_in_message("uid = \"id\"")
            .ends_with("`uid` is the pointer \"id\", which has to begin with `/`, as in \"/data/name\"")
    );
    assert!(wrong_in_message("lacks = [\"/a\", \"/b~\"]").starts_with("line 7,"));
    let when = wrong(&format!("{HEAD}[[message]]\ntype = \"a\"\nwhen = {{ type = \"a\" }}"));
    assert!(
        when.contains("line 5, in `when` of message 1 `a`: `type` is no pointer: it has to begin with `/`"),
        "{when}"
    );
}

#[test]
fn a_message_that_is_never_reached_is_told() {
    let message = "[[message]]\ntype = \"a\"\nwhen = { \"/t\" = 1 }\n";
    let told = wrong(&format!("{HEAD}{message}{message}"));
    assert_eq!(
        told,
        "line 6, in message 2 `a`: message 1 takes all that this one would: change `when`, or leave it out"
    );
    let with = |from: &str| message.replace("type", &format!("from = \"{from}\"\ntype"));
    assert!(parse(&format!("{HEAD}{}{}", with("client"), with("server"))).is_ok());
    assert!(parse(&format!("{HEAD}{}{message}", with("client"))).is_ok());
    assert!(parse(&format!("{HEAD}{message}{}", with("client"))).is_err());
    assert!(parse(&format!("{HEAD}{message}lacks = \"/x\"\n{message}")).is_ok());
    let needing = |field: &str| format!("[[message]]\ntype = \"a\"\nhas = \"/t\"\n{field} = \"/t\"\n");
    assert!(parse(&format!("{HEAD}{}{}", needing("name"), needing("uid"))).is_ok());
}

#[test]
fn a_message_that_would_take_everything_or_nothing_is_told() {
    assert!(wrong(&format!("{HEAD}[[message]]\ntype = \"a\"")).contains("needs `when` or `has`"));
    assert!(wrong_in_message("has = \"/a\"\nlacks = \"/a\"").contains("`has` and `lacks` both name \"/a\""));
}

#[test]
fn what_makes_no_sense_together_is_told() {
    for (text, told) in [
        ("everyone = \"all\"", "there is no `to`"),
        ("does = \"join\"", "a message that does \"join\" needs `name` or `uid`"),
        ("does = \"say\"", "needs `content`"),
        ("does = \"leave\"", "needs `uid`"),
        ("does = \"list\"", "needs `users`"),
        ("does = \"subscribe\"", "a message that does \"subscribe\" needs `room`: which one?"),
        ("does = \"unsubscribe\"", "needs `room`"),
        ("users = { uid = \"/a\" }", "needs either `list`"),
        ("users = { list = \"/a\", map = \"/b\" }", "needs either `list`"),
        ("users = { list = \"/a\" }", "needs `uid` or `name`"),
        ("users = { map = \"/a\", uid = \"/b\" }", "leave `uid` out"),
        (
            "users = { map = \"/a\" }\nuid = \"/a/x\"",
            "`users` reads a list of which another pointer wants a part",
        ),
    ] {
        let found = wrong_in_message(text);
        assert!(found.contains(told), "{text}: {found}");
    }
    for (text, told) in [
        ("own = true", "needs from = \"server\""),
        ("through = { name = [[\"html_escape\"]] }", "needs from = \"server\""),
        ("does = \"refuse\"", "`does` is \"refuse\", which only a server's message does"),
        ("does = \"list\"\nusers = { list = \"/l\", name = \"\" }", "which only a server's message does"),
    ] {
        let found =
            wrong(&format!("{HEAD}[[message]]\ntype = \"a\"\nfrom = \"client\"\nhas = \"/a\"\n{text}"));
        assert!(found.contains(told), "{found}");
    }
}

#[test]
fn a_prefix_is_of_a_field_that_a_client_s_message_has() {
    let file = |step: &str| {
        format!(
            "{HEAD}[[message]]\ntype = \"a\"\nfrom = \"client\"\nhas = \"/a\"\nfields = {{ to_name = \"/n\" }}\n\
             [[message]]\ntype = \"b\"\nfrom = \"server\"\nhas = \"/b\"\nfields = {{ other = \"/o\" }}\n\
             through = {{ content = [[{step}]] }}"
        )
    };
    let dialect =
        parse(&file("{ prefix_of = \"to_name\", through = [\"nl2br\", { prefix = \"x\" }] }")).unwrap();
    let through = vec![Step::Nl2br, Step::Prefix("x".into())];
    assert_eq!(dialect.messages[1].content_through, [[Step::PrefixOf { field: "to_name".into(), through }]]);
    for (step, told) in [
        (
            "{ prefix_of = \"to_nmae\" }",
            "line 13, in `content` of `through` of message 2 `b` from the server: `prefix_of` is \"to_nmae\", and no \
             message from the client has such a field; did you mean `to_name`?",
        ),
        ("{ prefix_of = \"other\" }", "no message from the client has such a field; there are to_name"),
        ("{ prefix_of = \"to_name\", trough = [] }", "there is no key `trough`; did you mean `through`?"),
        (
            "{ prefix_of = \"to_name\", through = [{ prefix_of = \"to_name\" }] }",
            "`prefix_of` within `prefix_of`",
        ),
        ("{ prefix = \"x\", through = [] }", "there is no key `through`; there are prefix"),
    ] {
        let found = wrong(&file(step));
        assert!(found.contains(told), "{step}: {found}");
    }
}

#[test]
fn a_name_is_short_and_plain() {
    for name in ["", "a b", "a,b", "猪", &"x".repeat(65)] {
        let told = wrong(&format!("schema = 1\nname = \"{name}\""));
        assert!(told.starts_with("line 2: `name` "), "{told}");
    }
    assert!(wrong_in_message("fields = { \"a b\" = \"/a\" }").contains("`a b` has to be a name"));
    assert!(
        parse(&format!("schema = 1\nname = \"{}\"\n[[message]]\ntype = \"a\"\nhas = \"/a\"", "x".repeat(64)))
            .is_ok()
    );
}

#[test]
fn of_everything_there_is_only_so_much() {
    let list =
        |count: usize| (0..count).map(|number| format!("\"/{number}\"")).collect::<Vec<_>>().join(", ");
    assert!(
        wrong_in_message(&format!("has = [{}]", list(17))).contains("`has` has 17 elements; 16 are allowed")
    );
    assert!(wrong_in_message(&format!("lacks = [{}]", list(17))).contains("16 are allowed"));
    let table = |count: usize, key: &str| {
        let entries: Vec<_> = (0..count).map(|number| format!("\"{key}{number}\" = \"/{number}\"")).collect();
        format!("{{ {} }}", entries.join(", "))
    };
    assert!(
        wrong_in_message(&format!("fields = {}", table(17, "a")))
            .contains("`fields` has 17 keys; 16 are allowed")
    );
    let when = wrong(&format!("{HEAD}[[message]]\ntype = \"a\"\nwhen = {}", table(17, "/")));
    assert!(when.contains("`when` has 17 keys"), "{when}");
    let chains = |count: usize, steps: usize| {
        let chain = format!("[{}]", vec!["\"nl2br\""; steps].join(", "));
        wrong_in_message(&format!("through = {{ name = [{}] }}", vec![chain; count].join(", ")))
    };
    assert!(chains(9, 1).contains("`name` has 9 elements; 8 are allowed"));
    assert!(chains(1, 9).contains("`name` has 9 elements; 8 are allowed"));
    let messages: String =
        (0..65).map(|number| format!("[[message]]\ntype = \"a\"\nhas = \"/{number}\"\n")).collect();
    assert!(wrong(&format!("{HEAD}{messages}")).contains("`message` has 65 elements; 64 are allowed"));
    assert!(wrong_in_message(&format!("uid = \"/{}\"", "x".repeat(256))).contains("longer than 256 bytes"));
    assert!(wrong(&format!("{HEAD}#{}", "x".repeat(RULES_BYTES_MAX))).contains("a rule file has at most"));
    assert!(
        wrong(&format!("{HEAD}title = \"{}\"", "x".repeat(257))).contains("`title` is longer than 256 bytes")
    );
}

#[test]
fn what_is_empty_is_told() {
    for (text, told) in [
        ("has = []", "`has` is an empty list"),
        ("fields = {}", "`fields` is an empty table"),
        ("through = { name = [] }", "`name` is an empty list"),
        ("through = { name = [[{ prefix = \"\" }]] }", "`prefix` is empty"),
    ] {
        let found = wrong_in_message(text);
        assert!(found.contains(told), "{text}: {found}");
    }
}

#[test]
fn an_empty_pointer_is_the_whole_and_an_empty_chain_changes_nothing() {
    let text = format!(
        "{HEAD}[[message]]\ntype = \"a\"\nfrom = \"server\"\nhas = \"\"\nthrough = {{ name = [[], [\"nl2br\"]] }}"
    );
    let dialect = parse(&text).unwrap();
    let [rule] = &dialect.messages[..] else { panic!("{:?}", dialect.messages) };
    assert_eq!(rule.places.has, [Pointer::default()]);
    assert_eq!(rule.name_through, [vec![], vec![Step::Nl2br]]);
}

#[test]
fn numbers_may_be_written_as_toml_has_them() {
    let dialect =
        parse(&format!("{HEAD}[[message]]\ntype = \"a\"\nwhen = {{ \"/op\" = [0x10, -1_000] }}")).unwrap();
    assert_eq!(dialect.messages[0].places.when[0].1, [Scalar::Number(16), Scalar::Number(-1_000)]);
    let told =
        wrong(&format!("{HEAD}[[message]]\ntype = \"a\"\nwhen = {{ \"/op\" = 99999999999999999999 }}"));
    assert!(told.contains("too large"), "{told}");
}

/// What editors check rule files with.
fn schema() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../../docs/flows.schema.json")).unwrap()
}

fn keys(object: &serde_json::Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn sorted<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut words = words.to_vec();
    words.sort_unstable();
    words
}

#[test]
fn the_json_schema_knows_the_same_keys() {
    let schema = schema();
    for (at, known) in [
        ("", FILE_KEYS),
        ("/properties/read", READ_KEYS),
        ("/$defs/message", MESSAGE_KEYS),
        ("/$defs/users", USERS_KEYS),
        ("/$defs/message/properties/through", THROUGH_KEYS),
        ("/$defs/step/anyOf/1", PREFIX_KEYS),
        ("/$defs/step/anyOf/2", PREFIX_OF_KEYS),
        ("/properties/members", MEMBERS_KEYS),
        ("/$defs/flow", FLOW_KEYS),
        ("/$defs/flow/properties/when", WHEN_KEYS),
        ("/$defs/expect", EXPECT_KEYS),
        ("/$defs/some", KINDS_KEYS),
        ("/$defs/order", ORDER_KEYS),
        ("/$defs/close", CLOSE_KEYS),
    ] {
        let table = schema.pointer(at).unwrap();
        assert_eq!(keys(&table["properties"]), sorted(known), "{at}");
        assert_eq!(table["additionalProperties"], false, "{at}");
    }
}

#[test]
fn the_json_schema_knows_the_same_words() {
    let schema = schema();
    for (at, words) in [
        ("/$defs/message/properties/from/enum", DIRECTIONS.map(|(word, _)| word).to_vec()),
        ("/$defs/message/properties/does/enum", Act::ALL.map(Act::name).to_vec()),
        ("/$defs/opcode/enum", OPCODES.map(|(word, _)| word).to_vec()),
        ("/$defs/step/anyOf/0/enum", Step::NAMED.map(|(word, _)| word).to_vec()),
        ("/properties/members/properties/join/enum", JOINING.map(|(word, _)| word).to_vec()),
        ("/$defs/flow/properties/when/properties/from/enum", DIRECTIONS.map(|(word, _)| word).to_vec()),
        ("/$defs/flow/properties/when/properties/to/enum", Addressed::NAMED.map(|(word, _)| word).to_vec()),
        ("/$defs/expect/properties/to/enum", Whom::NAMED.map(|(word, _)| word).to_vec()),
        ("/$defs/expect/properties/times/enum", Times::NAMED.map(|(word, _)| word).to_vec()),
        ("/$defs/order/properties/among/enum", Among::NAMED.map(|(word, _)| word).to_vec()),
    ] {
        assert_eq!(schema.pointer(at).unwrap(), &serde_json::json!(words), "{at}");
    }
    let code = &schema["$defs"]["code"]["anyOf"];
    assert_eq!(code[0]["not"]["enum"], serde_json::json!(CODES_WITHOUT_FRAME));
    assert_eq!(code[1]["const"], NO_CODE);
}

#[test]
fn the_json_schema_knows_the_same_bounds() {
    let schema = schema();
    for (at, bound) in [
        ("/properties/schema/const", 1),
        ("/properties/message/maxItems", MESSAGES_MAX),
        ("/properties/read/properties/strip_prefix/maxLength", NAME_BYTES_MAX),
        ("/$defs/string/maxLength", STRING_BYTES_MAX),
        ("/$defs/scalar/anyOf/0/maxLength", STRING_BYTES_MAX),
        ("/$defs/pointer/maxLength", crate::flow::pointer::POINTER_BYTES_MAX),
        ("/$defs/pointers/anyOf/1/maxItems", ENTRIES_MAX),
        ("/$defs/message/properties/when/maxProperties", ENTRIES_MAX),
        ("/$defs/message/properties/when/additionalProperties/anyOf/1/maxItems", ENTRIES_MAX),
        ("/$defs/message/properties/fields/maxProperties", ENTRIES_MAX),
        ("/$defs/chains/maxItems", CHAINS_MAX),
        ("/$defs/chains/items/maxItems", STEPS_MAX),
        ("/$defs/step/anyOf/2/properties/through/maxItems", STEPS_MAX),
        ("/properties/flow/maxItems", FLOWS_MAX),
        ("/properties/never/maxItems", ENTRIES_MAX),
        ("/properties/unsolicited/maxItems", ENTRIES_MAX),
        ("/properties/order/maxItems", ENTRIES_MAX),
        ("/properties/close/maxItems", ENTRIES_MAX),
        ("/$defs/types/anyOf/1/maxItems", ENTRIES_MAX),
        ("/$defs/flow/properties/expect/maxItems", ENTRIES_MAX),
        ("/$defs/expect/properties/same/anyOf/1/maxItems", ENTRIES_MAX),
        ("/$defs/close/properties/codes/anyOf/1/maxItems", ENTRIES_MAX),
        ("/$defs/code/anyOf/0/minimum", (*CODES.start()).into()),
        ("/$defs/code/anyOf/0/maximum", (*CODES.end()).into()),
    ] {
        assert_eq!(schema.pointer(at).unwrap(), bound, "{at}");
    }
}

const DOCUMENTATION: &str = include_str!("../../../../docs/flows.md");

#[test]
fn every_key_of_the_language_is_documented() {
    let keys = [
        FILE_KEYS,
        READ_KEYS,
        MEMBERS_KEYS,
        MESSAGE_KEYS,
        USERS_KEYS,
        PREFIX_KEYS,
        PREFIX_OF_KEYS,
        FLOW_KEYS,
        WHEN_KEYS,
        EXPECT_KEYS,
        ORDER_KEYS,
        CLOSE_KEYS,
    ];
    for key in keys.concat() {
        let said = [
            format!("`{key}`"),
            format!("`[read] {key}`"),
            format!("`[members] {key}`"),
            format!("`[[{key}]]`"),
            format!("`[[flow.{key}]]`"),
            format!("[{key}]"),
            format!("{key} = "),
        ];
        let is_there = said.iter().any(|said| DOCUMENTATION.contains(said));
        assert!(is_there, "docs/flows.md does not mention {key}");
    }
}

#[test]
fn every_word_of_flows_and_verdicts_is_documented() {
    let words = [
        Act::ALL.map(Act::name).to_vec(),
        JOINING.map(|(word, _)| word).to_vec(),
        Addressed::NAMED.map(|(word, _)| word).to_vec(),
        Whom::NAMED.map(|(word, _)| word).to_vec(),
        Times::NAMED.map(|(word, _)| word).to_vec(),
        Part::NAMED.map(|(word, _)| word).to_vec(),
        Among::NAMED.map(|(word, _)| word).to_vec(),
        Outcome::ALL.map(Outcome::name).to_vec(),
        Fault::ALL.map(Fault::name).to_vec(),
        Cause::ALL.map(Cause::name).to_vec(),
    ];
    for word in words.concat() {
        assert!(DOCUMENTATION.contains(&format!("`{word}`")), "docs/flows.md does not mention {word}");
    }
}

/// The whole files in docs/examples.
const EXAMPLES: [&str; 4] = [
    include_str!("../../../../docs/examples/chat.toml"),
    include_str!("../../../../docs/examples/json-rpc.toml"),
    include_str!("../../../../docs/examples/topics.toml"),
    include_str!("../../../../docs/examples/socket-io.toml"),
];

#[test]
fn every_whole_file_in_the_documentation_is_an_example_and_the_other_way_round() {
    // Where the schema is differs from place to place.
    let examples = EXAMPLES.map(|text| text.split_once('\n').unwrap().1);
    let blocks = DOCUMENTATION.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let whole: Vec<_> = blocks.filter(|block| block.starts_with("schema")).collect();
    assert_eq!(whole, examples);
}

#[test]
fn every_example_is_read_and_asks_for_something() {
    for text in EXAMPLES {
        let dialect = parse(text).unwrap();
        assert!(!dialect.flows.is_empty(), "{}", dialect.name);
    }
}
