//! A chat that behaves, with much said in it and much coming and going: all of it holds, and nothing is missed.
//!
//! Clients wait for their own words before they go on, so that nobody is flooded.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};
use std::thread;

use super::{Chat, User, Verdicts, message, text, verify};
use crate::support::Log;

const ROOMS: usize = 5;
const CLIENTS_OF_A_ROOM: usize = 10;
/// How often each client logs in, and what it says each time.
const LIVES: usize = 4;
const SAYS: usize = 50;

/// Who is in a room, so that whoever leaves leaves somebody behind.
struct Door {
    present: Mutex<Present>,
    changed: Condvar,
}

struct Present {
    members: usize,
    to_come: usize,
    /// No members any more, and perhaps connected.
    leaving: usize,
}

impl Door {
    fn new() -> Self {
        let present = Present { members: 0, to_come: CLIENTS_OF_A_ROOM * LIVES, leaving: 0 };
        Self { present: Mutex::new(present), changed: Condvar::new() }
    }

    fn enter(&self) {
        let mut present = self.present.lock().unwrap();
        present.members += 1;
        present.to_come -= 1;
        self.changed.notify_all();
    }

    /// Waits until it can be told to somebody, if anybody will come, and leaves; whether it could.
    fn leave(&self, user: User) -> Life {
        let mut present = self.present.lock().unwrap();
        while present.members == 1 && present.to_come + present.leaving > 0 {
            present = self.changed.wait(present).unwrap();
        }
        present.members -= 1;
        present.leaving += 1;
        let was_told = present.members > 0;
        drop(present);
        let log = user.leave();
        self.present.lock().unwrap().leaving -= 1;
        self.changed.notify_all();
        Life { log, was_told }
    }
}

/// What one login of one client knows.
struct Life {
    log: Log,
    was_told: bool,
}

fn live(server: SocketAddr, door: &Door, room: usize, client: usize) -> Vec<Life> {
    let live = |life: usize| {
        let name = format!("{room}-{client}-{life}");
        let mut user = User::login(server, &name, Some(&room.to_string()));
        door.enter();
        for say in 0..SAYS {
            user.say(&format!("{say} of {name}"));
        }
        door.leave(user)
    };
    (0..LIVES).map(live).collect()
}

/// How often each message came to anybody, by what tells it from others.
fn copies(lives: &[Life], kind: &str, key: &str) -> HashMap<String, u64> {
    let mut copies = HashMap::new();
    let messages = lives.iter().flat_map(|life| &life.log.received).map(|text| message(text));
    for message in messages.filter(|message| message["type"] == kind) {
        *copies.entry(text(&message[key])).or_default() += 1;
    }
    copies
}

#[test]
fn of_a_healthy_chat_everything_holds_and_is_counted_as_its_clients_count_it() {
    let chat = Chat::start(&[]);
    let observer = verify(chat.port(), &["--ring", "256MiB"]);
    let doors: Vec<_> = (0..ROOMS).map(|_| Door::new()).collect();
    let lives: Vec<Life> = thread::scope(|scope| {
        let clients: Vec<_> = doors
            .iter()
            .enumerate()
            .flat_map(|(room, door)| (0..CLIENTS_OF_A_ROOM).map(move |client| (room, door, client)))
            .map(|(room, door, client)| scope.spawn(move || live(chat.address, door, room, client)))
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let verdicts = Verdicts::of(observer);
    assert!(verdicts.stderr.contains("nothing was missed"), "{}", verdicts.stderr);
    verdicts.assert_all_held();
    let (logins, said) = (ROOMS * CLIENTS_OF_A_ROOM * LIVES, 10_000);
    let logouts = lives.iter().filter(|life| life.was_told).count();
    assert_eq!(said, logins * SAYS);

    let mut received = HashMap::new();
    for (flow, key, cases) in
        [("login", "name", logins), ("say", "content", said), ("logout", "name", logouts)]
    {
        let copies = copies(&lives, flow, key);
        assert_eq!((verdicts.of_flow(flow).count(), copies.len()), (cases, cases), "{flow}");
        for case in verdicts.of_flow(flow) {
            let what = if flow == "say" { &case["trigger"]["content"] } else { &case["user"]["name"] };
            assert_eq!(case["arrived"], copies[what.as_str().unwrap()], "{case}");
        }
        let all = copies.values().sum::<u64>();
        assert_eq!(verdicts.received(flow), all, "{flow}");
        received.insert(flow, all);
    }
    let table = verdicts.table();
    assert_eq!(table["say-order"], [received["say"], 0, 0, 0]);
    assert_eq!(table["unsolicited-say"], [received["say"], 0, 0, 0]);
    assert_eq!(table["before-login"], [received["say"] + received["logout"], 0, 0, 0]);
    assert_eq!(verdicts.cases.len(), logins + said + logouts);
    assert_eq!(chat.strikes(), []);
}
