//! The chat's page in Debian's Chromium: what its readers see and what they cannot be made to see.
//!
//! Needs chromium and chromium-driver, so that it is behind the feature `browser-tests`; `cargo xtask test` runs it.
//! Pictures for the eye are written to `target/screenshots`.

mod support;

use std::time::Duration;

use browser::{ChatPage, Look, PATIENCE};
use fantoccini::key::Key;
use serde_json::{Value, json};
use support::{Chat, browser, picture};

#[tokio::test]
async fn two_users_see_each_other_and_what_is_said_to_all() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let ann = chat.page(&chromium).await;
    let bob = chat.page(&chromium).await;
    ann.join("Ann").await.unwrap();
    bob.join("Bob").await.unwrap();
    ann.wait_for_notice("Bob has joined").await.unwrap();
    assert_eq!(ann.users().await.unwrap(), ["Ann", "Bob"]);
    assert_eq!(bob.users().await.unwrap(), ["Ann", "Bob"]);

    bob.say("hi, all !").await.unwrap();
    ann.wait_for_message("hi, all !").await.unwrap();
    bob.wait_for_message("hi, all !").await.unwrap();
    ann.say("hi, Bob").await.unwrap();
    bob.wait_for_message("hi, Bob").await.unwrap();
    let said = ["Bob: hi, all !", "Ann: hi, Bob"];
    assert_eq!(
        ann.lines().await.unwrap(),
        ["You are in the chat as Ann.", "Bob has joined.", said[0], said[1]]
    );
    assert_eq!(bob.lines().await.unwrap(), ["You are in the chat as Bob.", said[0], said[1]]);

    bob.click("#leave").await.unwrap();
    ann.wait_for_notice("Bob has left").await.unwrap();
    assert_eq!(ann.users().await.unwrap(), ["Ann"]);
    bob.wait_for_state("idle").await.unwrap();
}

#[tokio::test]
async fn a_private_message_is_shown_to_its_two_users_as_such_and_to_nobody_else() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let ann = chat.page(&chromium).await;
    let bob = chat.page(&chromium).await;
    let eve = chat.page(&chromium).await;
    for (page, name) in [(&ann, "Ann"), (&bob, "Bob"), (&eve, "Eve")] {
        page.join(name).await.unwrap();
    }
    ann.wait_for_notice("Eve has joined").await.unwrap();
    ann.choose("Bob").await.unwrap();
    assert_eq!(
        ann.text("document.getElementById('message-label').textContent").await.unwrap(),
        "Private message to Bob"
    );
    ann.say("psst").await.unwrap();
    ann.wait_for_message("psst").await.unwrap();
    bob.wait_for_message("psst").await.unwrap();
    ann.press_key(Key::Escape).await.unwrap();
    ann.say("and this is for all").await.unwrap();
    for page in [&ann, &bob, &eve] {
        page.wait_for_message("and this is for all").await.unwrap();
    }
    let said = "Ann: and this is for all".to_owned();
    let expected = ["Ann (privately to Bob): psst".to_owned(), said.clone()];
    assert!(ann.lines().await.unwrap().ends_with(&expected));
    let expected = ["Ann (privately to you): psst".to_owned(), said.clone()];
    assert!(bob.lines().await.unwrap().ends_with(&expected));
    assert_eq!(eve.lines().await.unwrap(), ["You are in the chat as Eve.".to_owned(), said]);
}

#[tokio::test]
async fn a_private_message_does_not_become_public_when_its_recipient_leaves() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let ann = chat.page(&chromium).await;
    let bob = chat.page(&chromium).await;
    ann.join("Ann").await.unwrap();
    bob.join("Bob").await.unwrap();
    ann.wait_for_notice("Bob has joined").await.unwrap();
    ann.choose("Bob").await.unwrap();
    bob.close().await.unwrap();
    ann.wait_for_notice("Bob has left").await.unwrap();
    ann.say("only for Bob").await.unwrap();
    let note = ann.text("document.getElementById('note').textContent").await.unwrap();
    assert_eq!(note, "Bob has left. Choose who shall get this.");
    assert_eq!(ann.text("document.getElementById('message').value").await.unwrap(), "only for Bob");
    assert_eq!(ann.users().await.unwrap(), ["Ann", "Bob"], "who was chosen stays in the list");

    ann.press_key(Key::Escape).await.unwrap();
    assert_eq!(ann.users().await.unwrap(), ["Ann"]);
    ann.press_key(Key::Enter).await.unwrap();
    ann.wait_for_message("only for Bob").await.unwrap();
}

#[tokio::test]
async fn what_looks_like_markup_or_controls_is_shown_as_text_and_does_nothing() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let ann = chat.page(&chromium).await;
    let bob = chat.page(&chromium).await;
    ann.join("Ann").await.unwrap();
    let name = "<b>B\u{202e}ob</b>\u{1b}[2J\n";
    bob.evaluate(&format!("sessionStorage.setItem('chat.name', {})", Value::from(name))).await.unwrap();
    bob.reload().await.unwrap();
    bob.wait_for_state("connected").await.unwrap();
    ann.wait_for_notice("<b>B[U+202E]ob</b>[U+001B][2J[U+000A] has joined.").await.unwrap();

    let elements = "document.querySelectorAll('img, b, script, iframe, a, svg, style').length";
    let before = ann.evaluate(elements).await.unwrap();
    for (sent, shown) in [
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("<script>alert(2)</script>", "<script>alert(2)</script>"),
        ("&lt;b&gt; {name} ${1}", "&lt;b&gt; {name} ${1}"),
        ("\u{1b}[2J", "[U+001B][2J"),
        ("\u{1b}]52;c;eA==\u{7}", "[U+001B]]52;c;eA==[U+0007]"),
        ("a\u{202e}b\u{2066}c\u{9b}d\u{0}", "a[U+202E]b[U+2066]c[U+009B]d[U+0000]"),
        ("one\n  two\n\tthree", "one\n  two\n\tthree"),
        ("one\r\ntwo\rthree", "one\ntwo[U+000D]three"),
        ("👩‍👩‍👧 猪猪 مرحبا", "👩‍👩‍👧 猪猪 مرحبا"),
        ("javascript:alert(3)", "javascript:alert(3)"),
    ] {
        // As another client could send it; a field for text would not take all of it.
        bob.evaluate(&format!(
            "new Promise((done) => {{
                const other = new WebSocket('ws://{address}/');
                other.onopen = () => other.send(JSON.stringify({{type: 'login', name: 'other'}}));
                other.onmessage = (event) => {{
                    if (JSON.parse(event.data).type === 'user_list') {{
                        other.send(JSON.stringify({{type: 'say', to_uid: 'all', content: {content}}}));
                        other.close();
                    }}
                }};
                other.onclose = () => done(true);
            }})",
            address = chat.address(),
            content = Value::from(sent),
        ))
        .await
        .unwrap();
        ann.wait_for_message(shown).await.unwrap();
    }
    // A dialog would have failed a command meanwhile.
    assert_eq!(ann.evaluate(elements).await.unwrap(), before);
    let multi_line = ann
        .evaluate("[...document.querySelectorAll('.content')].find((c) => c.textContent.startsWith('one\\n  two')).getClientRects()[0].height > 60")
        .await
        .unwrap();
    assert_eq!(multi_line, true);
    picture(&ann, "hostile").await;
}

#[tokio::test]
async fn the_page_survives_a_restart_of_the_server_and_says_so() {
    let mut chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let ann = chat.page(&chromium).await;
    let bob = chat.page(&chromium).await;
    ann.join("Ann").await.unwrap();
    bob.join("Bob").await.unwrap();

    chat.stop().await;
    for page in [&ann, &bob] {
        page.wait_for_state("waiting").await.unwrap();
        page.wait_for_notice("The server has closed the connection: the server stops.").await.unwrap();
    }
    ann.wait_until("/^in \\d+ s$/.test(document.getElementById('countdown').textContent)").await.unwrap();
    ann.wait_until("!document.getElementById('retry').hidden").await.unwrap();
    ann.say("kept").await.unwrap();
    let note = ann.text("document.getElementById('note').textContent").await.unwrap();
    assert_eq!(note, "Not connected, so nothing was sent. Your text is kept.");
    picture(&ann, "reconnecting").await;
    ann.look(Look { width: 360, height: 740, dark: true }).await.unwrap();
    picture(&ann, "reconnecting-phone").await;

    chat.restart().await;
    for (page, name) in [(&ann, "Ann"), (&bob, "Bob")] {
        page.wait_for_state("connected").await.unwrap();
        page.wait_for_notice(&format!("Connected again, as {name}.")).await.unwrap();
        page.wait_until("document.querySelectorAll('#users .name').length === 2").await.unwrap();
    }
    ann.press_key(Key::Enter).await.unwrap();
    bob.wait_for_message("kept").await.unwrap();
}

#[tokio::test]
async fn a_reload_enters_with_the_same_name() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let ann = chat.page(&chromium).await;
    ann.join("Ann").await.unwrap();
    ann.reload().await.unwrap();
    ann.wait_for_notice("You are in the chat as Ann.").await.unwrap();
    ann.click("#leave").await.unwrap();
    ann.reload().await.unwrap();
    ann.wait_until("!document.getElementById('login').hidden").await.unwrap();
    ann.wait_for_state("idle").await.unwrap();
}

#[tokio::test]
async fn the_keyboard_alone_is_enough() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let bob = chat.page(&chromium).await;
    bob.join("Bob").await.unwrap();
    let ann = chat.page(&chromium).await;
    let focus = "document.activeElement.id || document.activeElement.value";
    // The field for the name has the focus from the start, the one for messages after the login.
    ann.press("Ann").await.unwrap();
    ann.press_key(Key::Enter).await.unwrap();
    ann.wait_for_state("connected").await.unwrap();
    assert_eq!(ann.text(focus).await.unwrap(), "message");
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(ann.text(outline).await.unwrap(), "solid");

    ann.press("one").await.unwrap();
    ann.press(&format!("{}{}{}", Key::Shift, Key::Enter, Key::Null)).await.unwrap();
    ann.press("two").await.unwrap();
    ann.press_key(Key::Enter).await.unwrap();
    bob.wait_for_message("one\ntwo").await.unwrap();

    // Back to the list of users, on to Bob, and with Enter to his message.
    let back = format!("{}{}{}", Key::Shift, Key::Tab, Key::Null);
    ann.press(&back).await.unwrap();
    assert_eq!(ann.text(focus).await.unwrap(), "log");
    ann.press(&back).await.unwrap();
    assert_eq!(ann.text(focus).await.unwrap(), "all");
    ann.press_key(Key::Down).await.unwrap();
    ann.press_key(Key::Enter).await.unwrap();
    assert_eq!(ann.text(focus).await.unwrap(), "message");
    ann.press("psst").await.unwrap();
    ann.press_key(Key::Enter).await.unwrap();
    bob.wait_for_message("psst").await.unwrap();
    assert!(bob.lines().await.unwrap().contains(&"Ann (privately to you): psst".to_owned()));

    ann.press_key(Key::Tab).await.unwrap();
    assert_eq!(ann.text(focus).await.unwrap(), "send");
    // Everything that can have the focus has a name.
    let nameless = "[...document.querySelectorAll('input, textarea, button, [tabindex]')].filter((one) =>
        !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).length";
    assert_eq!(ann.evaluate(nameless).await.unwrap(), 0);
}

#[tokio::test]
async fn nothing_is_wider_than_a_phone() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let bob = chat.page(&chromium).await;
    let ann = chat.page(&chromium).await;
    let phone = Look { width: 360, height: 740, dark: false };
    let desk = Look { width: 1000, height: 700, dark: false };
    let is_narrow = "document.documentElement.scrollWidth <= innerWidth
        && [...document.querySelectorAll('body *')].every((one) => one.getBoundingClientRect().right <= innerWidth)";
    ann.look(phone).await.unwrap();
    picture(&ann, "login-phone").await;
    assert_eq!(ann.evaluate(is_narrow).await.unwrap(), true);
    bob.join("猪猪").await.unwrap();
    ann.join("mynick").await.unwrap();
    ann.say("hi, all !").await.unwrap();
    bob.say(&format!("A word that does not end: {}", "x".repeat(300))).await.unwrap();
    bob.say(
        "Several\nlines,\n  some of them indented, and 👩‍👩‍👧 as well. Nothing of this is markup: <b>bold</b>",
    )
    .await
    .unwrap();
    ann.wait_until("document.querySelectorAll('.message').length === 3").await.unwrap();
    ann.choose("猪猪").await.unwrap();
    ann.say("This is between the two of us.").await.unwrap();
    bob.choose("mynick").await.unwrap();
    bob.say("So is this.").await.unwrap();
    ann.wait_for_message("So is this.").await.unwrap();
    for dark in [false, true] {
        let colours = if dark { "dark" } else { "light" };
        ann.look(Look { dark, ..phone }).await.unwrap();
        assert_eq!(ann.evaluate(is_narrow).await.unwrap(), true);
        picture(&ann, &format!("phone-{colours}")).await;
        ann.look(Look { dark, ..desk }).await.unwrap();
        picture(&ann, &format!("desk-{colours}")).await;
    }
}

#[tokio::test]
async fn no_request_leaves_for_elsewhere_and_none_could() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let ann = chat.page(&chromium).await;
    ann.join("Ann").await.unwrap();
    let elsewhere =
        "performance.getEntriesByType('resource').filter((one) => !one.name.startsWith(origin)).length";
    assert_eq!(ann.evaluate(elsewhere).await.unwrap(), 0);
    let files = "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname).sort()";
    let files = ann.evaluate(files).await.unwrap();
    assert!(files.as_array().unwrap().contains(&json!("/chat.css")), "{files}");
    let port = chat.address().port();
    for (attempt, directive) in [
        ("fetch('/').catch(() => 0)".to_owned(), "connect-src"),
        (format!("fetch('http://127.0.0.1:{port}/').catch(() => 0)"), "connect-src"),
        ("new WebSocket('ws://127.0.0.1:1/')".to_owned(), "connect-src"),
        ("new Image().src = 'http://127.0.0.1:1/x.png'".to_owned(), "img-src"),
        (
            "document.body.append(Object.assign(document.createElement('iframe'), { src: '/' }))".to_owned(),
            "frame-src",
        ),
        ("document.body.setAttribute('style', 'color: red')".to_owned(), "style-src-attr"),
        ("document.body.innerHTML = '<p>x'".to_owned(), "require-trusted-types-for"),
    ] {
        let violated = ann
            .evaluate(&format!(
                "new Promise((done) => {{
                    addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective), {{ once: true }});
                    setTimeout(() => done('nothing'), {patience});
                    try {{ {attempt} }} catch {{}}
                }})",
                patience = PATIENCE.as_millis() / 2,
            ))
            .await
            .unwrap();
        assert_eq!(violated, directive, "{attempt}");
    }
}

#[tokio::test]
async fn the_page_works_under_every_name_of_this_machine() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    for host in ["localhost", "chat.localhost", "[::1]"] {
        let Some(url) = chat.url_at(host) else { continue };
        let page = ChatPage::open(&chromium, &url, "en").await.unwrap();
        page.join(host).await.unwrap();
        page.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_room_is_chosen_in_the_address() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let outside = chat.page(&chromium).await;
    let ann = ChatPage::open(&chromium, &format!("{}?room_id=7", chat.url()), "en").await.unwrap();
    let bob = ChatPage::open(&chromium, &format!("{}?room_id=7", chat.url()), "en").await.unwrap();
    outside.join("Outside").await.unwrap();
    ann.join("Ann").await.unwrap();
    bob.join("Bob").await.unwrap();
    bob.say("in room 7").await.unwrap();
    ann.wait_for_message("in room 7").await.unwrap();
    assert_eq!(ann.users().await.unwrap(), ["Ann", "Bob"]);
    assert_eq!(ann.text("document.querySelector('h1').innerText").await.unwrap(), "Chat room 7");
    outside.say("outside").await.unwrap();
    outside.wait_for_message("outside").await.unwrap();
    assert_eq!(outside.lines().await.unwrap(), ["You are in the chat as Outside.", "Outside: outside"]);
}

#[tokio::test]
async fn readers_of_chinese_get_chinese() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let page = ChatPage::open(&chromium, &chat.url(), "zh-CN").await.unwrap();
    page.join("猪猪").await.unwrap();
    page.wait_for_notice("你已进入聊天室，昵称 猪猪。").await.unwrap();
    assert_eq!(page.text("document.documentElement.lang").await.unwrap(), "zh");
    assert_eq!(page.text("document.getElementById('send').textContent").await.unwrap(), "发送");
    picture(&page, "chinese").await;
}

#[tokio::test]
async fn what_the_server_refuses_is_told_where_it_was_asked() {
    let chat = Chat::start(|config| config.max_message_bytes = 200).await;
    let chromium = browser().await;
    let page = chat.page(&chromium).await;
    page.insert(&"猪".repeat(30)).await.unwrap();
    page.press_key(Key::Enter).await.unwrap();
    page.wait_until("document.getElementById('login-error').textContent === 'This name is too long.'")
        .await
        .unwrap();
    page.wait_for_state("idle").await.unwrap();
    page.evaluate("document.getElementById('name').value = ''").await.unwrap();
    page.join("Ann").await.unwrap();

    page.say(&"x".repeat(300)).await.unwrap();
    let note = page.text("document.getElementById('note').textContent").await.unwrap();
    assert!(note.starts_with("This message is too long: 342 bytes, and 200"), "{note}");
    let kept = page.evaluate("document.getElementById('message').value.length").await.unwrap();
    assert_eq!(kept, 300);
    page.wait_for_state("connected").await.unwrap();
}

#[tokio::test]
async fn heartbeats_are_answered() {
    let chat = Chat::start(|config| {
        config.ping_interval = Duration::from_millis(100);
        config.ping_timeout = Duration::from_secs(1);
    })
    .await;
    let chromium = browser().await;
    let page = chat.page(&chromium).await;
    page.join("Ann").await.unwrap();
    // Long enough that a client which does not answer would be dropped several times.
    tokio::time::sleep(Duration::from_secs(4)).await;
    page.wait_for_state("connected").await.unwrap();
    assert_eq!(page.lines().await.unwrap(), ["You are in the chat as Ann."]);
    let mut chat = chat;
    let summary = chat.stop().await;
    assert_eq!(summary.silent_clients_dropped, 0);
    assert!(summary.messages_received > 10, "{summary:?}");
}

#[tokio::test]
async fn the_page_keeps_a_thousand_lines_and_five_hundred_users() {
    let chat = Chat::start(|config| config.max_queued_messages = 100_000).await;
    let chromium = browser().await;
    let page = chat.page(&chromium).await;
    page.join("Ann").await.unwrap();
    chat.crowd(600).await;
    page.wait_until("document.getElementById('count').textContent === '(601 here)'").await.unwrap();
    let shown = "document.querySelectorAll('#users .user').length";
    assert_eq!(page.evaluate(shown).await.unwrap(), 500);
    assert_eq!(page.text("document.getElementById('more-users').textContent").await.unwrap(), "and 101 more");
    chat.disperse().await;
    page.wait_until("document.getElementById('count').textContent === '(1 here)'").await.unwrap();
    assert_eq!(page.evaluate(shown).await.unwrap(), 1);
    let lines = "document.getElementById('log').childElementCount";
    assert_eq!(page.evaluate(lines).await.unwrap(), 1000);
    // The newest is in sight.
    let at_end = "(() => { const log = document.getElementById('log');
        return log.scrollHeight - log.scrollTop - log.clientHeight < 2; })()";
    page.wait_until(at_end).await.unwrap();
}

#[tokio::test]
async fn a_browser_that_is_dropped_leaves_neither_processes_nor_files() {
    let chat = Chat::start(|_| ()).await;
    let chromium = browser().await;
    let page = chat.page(&chromium).await;
    let directory = chromium.directory().to_owned();
    assert!(!support::processes_that_name(&directory).is_empty());
    assert!(directory.is_dir());
    drop(page);
    drop(chromium);
    assert_eq!(support::processes_that_name(&directory), Vec::<String>::new());
    assert!(!directory.exists());
}
