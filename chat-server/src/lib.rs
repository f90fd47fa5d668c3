//! A small WebSocket chat, the one that `observer` is shown with; [`run`] serves it until it is told to stop.
//!
//! This file owns the public face and must not hold logic. The parts, from the wire inwards: `server` (listeners, start
//! and stop), `connection` (one client), `http` (its request), `origin` (which pages may connect), `websocket` (its
//! bytes), `message` (the JSON), `hub` (who hears what, in one order), `mailbox` (what waits for a slow client), `budget`
//! (what waits for all of them). Apart from them, `web` has the page, on a port of its own, and `fault` breaks the chat
//! on purpose where a test of observer asks for it. All that peers can make grow is bounded in [`Config`].
//!
//! # Protocol
//!
//! One JSON object a message, on the path `/`, as text; binary messages that hold UTF-8 are read the same way. Unknown
//! fields are ignored. The server's fields stand in this order:
//!
//! | client | server |
//! |---|---|
//! | `{"type":"login","name":"mynick"}` | to that client `{"type":"user_list","user_list":[{"uid":783654164,"name":"…"},…]}`, in order of login and with itself; then to all, itself included, `{"type":"login","uid":783700053,"name":"mynick","time":"2014-08-12 17:50:30"}` |
//! | `{"type":"say","to_uid":"all","content":"hi, all !"}` | to all, the sender included, `{"type":"say","from_uid":783700053,"to_uid":"all","content":"hi, all !","time":"…"}` |
//! | the same with a uid in `to_uid`, a number or a string of digits | the same with that uid, a number, to that user only |
//! | the same with `"copy":true` | to the sender as well, who otherwise gets nothing of a private message |
//! | ends, in whatever way | to all who stay, `{"type":"logout","uid":783700053,"name":"mynick","time":"…"}` |
//! | `{"type":"login","name":"mynick","room_id":"7"}` | the same as a login without room, among those in room 7 |
//! | `{"type":"pong"}` | answers the heartbeat `{"type":"ping"}`, also before the login |
//! | something else | to that client only, `{"type":"error","code":"…","message":"…"}` |
//!
//! A room has its own user list, broadcasts and private messages, and is there as long as somebody is in it. Its
//! `room_id` is a string or an integer, where 7 and "7" are the same room; who names none is in the one room that has
//! none. “All” are those who are logged in to the same room. A uid is a number of nine digits that belongs to one
//! connection. Names need not be unique; names and contents are passed on as they are, escaped for JSON and nothing else.
//! `time` is the server's local time. All members of a room see all its broadcasts in the same order. Messages from one
//! client are handled in the order in which it sent them, and so are the errors that they cause.
//!
//! The codes of errors:
//!
//! | code | what was wrong |
//! |---|---|
//! | `bad_json` | not a JSON object |
//! | `missing_field`, `bad_field` | a field that the type needs is missing, or is of the wrong kind |
//! | `unknown_type` | the type is neither login, say nor pong |
//! | `not_logged_in`, `already_logged_in` | a say before the login, or a second login |
//! | `name_empty`, `name_too_long` | of a login |
//! | `room_id_empty`, `room_id_too_long` | of a login |
//! | `message_too_long` | the whole message |
//! | `unknown_uid` | nobody in the room has the uid in `to_uid` |
//!
//! An error leaves the connection open, except where a message is more than four times too long: that one is refused
//! unread, with close 1009 after the error.
//!
//! A request whose `Origin` header names a page of another site is answered with status 403, as `origin` has it; programs,
//! which name none, are let in.
//!
//! With [`Config::compression`] messages are compressed (RFC 7692) for clients that offer it.
//!
//! Close codes of the server: 1001 it stops; 1002, 1007, 1009 the client broke RFC 6455, UTF-8 or DEFLATE, a size limit;
//! 1008 no answer to the heartbeat; 1013 the client reads too slowly and lost messages.

#![forbid(unsafe_code)]

mod budget;
mod config;
mod connection;
mod fault;
mod heartbeat;
mod http;
mod hub;
mod log;
mod mailbox;
mod message;
mod origin;
mod server;
mod statistics;
mod time;
mod web;
mod websocket;

pub use config::{Compression, Config, Verbosity};
pub use fault::Fault;
pub use server::{Listeners, bind, run};
pub use statistics::Summary;
