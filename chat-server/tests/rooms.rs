//! Owns what rooms mean to clients: who hears whom, and which rooms there can be.

mod support;

use serde_json::{Value, json};

use support::{Client, Server};

async fn member_of(server: &Server, room_id: Value, name: &str) -> Client {
    let mut client = server.client().await;
    client.send_text(&json!({"type": "login", "name": name, "room_id": room_id}).to_string()).await;
    assert_eq!(client.json().await["type"], "user_list");
    client.uid = client.json().await["uid"].as_u64().unwrap();
    client
}

#[tokio::test]
async fn a_room_has_its_own_users_and_its_own_conversation() {
    let server = Server::start(|_| ()).await;
    let mut outside = server.member("Outside").await;
    let mut ann = member_of(&server, json!("7"), "Ann").await;
    let mut bob = server.client().await;
    bob.send_text(r#"{"type":"login","name":"Bob","room_id":7}"#).await;
    let list = bob.json().await;
    let names: Vec<_> = list["user_list"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
    assert_eq!(names, ["Ann", "Bob"], "7 and \"7\" are one room");
    assert_eq!(bob.json().await["name"], "Bob");
    assert_eq!(ann.json().await["name"], "Bob");

    ann.say(json!("all"), "to the room").await;
    for member in [&mut ann, &mut bob] {
        assert_eq!(member.json().await["content"], "to the room");
    }
    outside.say(json!("all"), "to the others").await;
    assert_eq!(outside.json().await["content"], "to the others");

    drop(bob);
    assert_eq!(ann.json().await["type"], "logout");
    ann.expect_nothing().await;
    outside.expect_nothing().await;
}

#[tokio::test]
async fn a_private_message_does_not_leave_its_room() {
    let server = Server::start(|_| ()).await;
    let mut ann = member_of(&server, json!("7"), "Ann").await;
    let mut bob = member_of(&server, json!("8"), "Bob").await;
    ann.say(json!(bob.uid), "over the wall").await;
    assert_eq!(ann.error_code().await, "unknown_uid");
    bob.expect_nothing().await;
}

#[tokio::test]
async fn a_room_that_cannot_be_is_refused_and_the_login_can_be_tried_again() {
    let server = Server::start(|config| config.max_room_id_bytes = 6).await;
    let mut client = server.client().await;
    for (room_id, code) in [
        (json!(""), "room_id_empty"),
        (json!("猪猪1"), "room_id_too_long"),
        (json!(1_234_567), "room_id_too_long"),
        (json!(1.5), "bad_field"),
        (json!(["7"]), "bad_field"),
    ] {
        client.send_text(&json!({"type": "login", "name": "Ann", "room_id": room_id}).to_string()).await;
        assert_eq!(client.error_code().await, code, "{room_id}");
    }
    client.send_text(r#"{"type":"login","name":"Ann","room_id":"猪猪"}"#).await;
    assert_eq!(client.json().await["type"], "user_list");
    assert_eq!(server.stop().await.logins, 1);
}

#[tokio::test]
async fn who_asks_for_a_copy_of_a_private_message_gets_what_the_other_gets() {
    let server = Server::start(|_| ()).await;
    let mut ann = server.member("Ann").await;
    let mut bob = server.member("Bob").await;
    ann.json().await;
    let say = json!({"type": "say", "to_uid": bob.uid, "content": "psst", "copy": true});
    ann.send_text(&say.to_string()).await;
    let received = bob.text().await;
    assert_eq!(ann.text().await, received);
    let gone = bob.uid;
    drop(bob);
    ann.json().await;
    ann.send_text(&json!({"type": "say", "to_uid": gone, "content": "psst", "copy": true}).to_string()).await;
    assert_eq!(ann.error_code().await, "unknown_uid");
    ann.expect_nothing().await;
}
