//! The users of `cargo xtask demo --browser`: the manual's scenario, typed into two pages of the chat.
//!
//! Owns the scenario and what the pages must show of it. Must not know that somebody watches. Prints what each page sent
//! and received, as JSON. Bounded by the waits of the pages; ends its browsers, also when it is told to stop.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use browser::{ChatPage, Chromium, Look};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

const DESK: Look = Look { width: 1000, height: 700, dark: false };

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, pictures] = arguments.as_slice() else {
        eprintln!("usage: browser-users URL DIRECTORY-FOR-PICTURES");
        return ExitCode::from(2);
    };
    match play_until_stopped(url, &PathBuf::from(pictures)).await {
        Ok(logs) => {
            println!("{logs}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("browser-users: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play_until_stopped(url: &str, pictures: &Path) -> Result<Value> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        logs = play(url, pictures) => logs,
        _ = terminate.recv() => bail!("stopped"),
        _ = interrupt.recv() => bail!("stopped"),
    }
}

/// One user is present, `mynick` comes and greets all.
async fn play(url: &str, pictures: &Path) -> Result<Value> {
    let chromium = Chromium::start().await?;
    let present = open(&chromium, url).await?;
    let mynick = open(&chromium, url).await?;
    present.join("猪猪").await?;
    mynick.join("mynick").await?;
    present.wait_for_notice("mynick has joined.").await?;
    mynick.say("hi, all !").await?;
    mynick.wait_for_message("hi, all !").await?;
    present.wait_for_message("hi, all !").await?;
    mynick.screenshot(&pictures.join("demo-mynick.png")).await?;
    present.screenshot(&pictures.join("demo-present.png")).await?;

    let users = present.users().await?;
    ensure!(users == ["猪猪", "mynick"], "the page of who was present lists {users:?}");
    let said_by_mynick = log(&mynick, "mynick").await?;
    mynick.close().await?;
    present.wait_for_notice("mynick has left.").await?;
    let lines = present.lines().await?;
    let expected =
        ["You are in the chat as 猪猪.", "mynick has joined.", "mynick: hi, all !", "mynick has left."];
    ensure!(lines == expected, "the page of who was present shows {lines:#?}");
    let said_by_present = log(&present, "猪猪").await?;
    present.close().await?;
    Ok(json!([said_by_present, said_by_mynick]))
}

async fn open(chromium: &Chromium, url: &str) -> Result<ChatPage> {
    let page = chromium.open("en").await?;
    page.record_websockets().await?;
    page.look(DESK).await?;
    ChatPage::open_in(page, url).await
}

async fn log(page: &ChatPage, name: &str) -> Result<Value> {
    let (sent, received) = page.recorded().await.context("nothing was written down")?;
    Ok(json!({ "name": name, "sent": sent, "received": received }))
}
