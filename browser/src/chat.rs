//! Owns what a reader of the chat's page does and sees, in words of the chat.
//!
//! Must not know the chat's protocol: it reads what is shown, and types. The selectors are those of
//! `chat-server/web/index.html`. Bounded as the page is.

use std::ops::Deref;

use anyhow::{Result, ensure};
use fantoccini::key::Key;
use serde_json::Value;

use crate::chromium::Chromium;
use crate::page::Page;

/// The chat's page, open in a Chromium of its own.
#[derive(Debug)]
pub struct ChatPage {
    page: Page,
}

impl ChatPage {
    /// Opens the page at this address, for a reader of this language.
    ///
    /// # Errors
    /// If the browser does not start or the page is not there.
    pub async fn open(chromium: &Chromium, url: &str, language: &str) -> Result<Self> {
        Self::open_in(chromium.open(language).await?, url).await
    }

    /// Opens the page at this address in a browser that is already there.
    ///
    /// # Errors
    /// If the page is not there.
    pub async fn open_in(page: Page, url: &str) -> Result<Self> {
        page.open(url).await?;
        page.wait_until("document.querySelector('#login label').textContent !== ''").await?;
        Ok(Self { page })
    }

    /// Types a nickname and waits until the chat lets this user in.
    ///
    /// # Errors
    /// If it does not.
    pub async fn join(&self, name: &str) -> Result<()> {
        self.click("#name").await?;
        self.insert(name).await?;
        self.press_key(Key::Enter).await?;
        self.wait_for_state("connected").await
    }

    /// Types a message to whoever is chosen, and sends it.
    ///
    /// # Errors
    /// If the page takes no message.
    pub async fn say(&self, content: &str) -> Result<()> {
        self.click("#message").await?;
        self.insert(content).await?;
        self.press_key(Key::Enter).await
    }

    /// Chooses the user of this name for the next messages.
    ///
    /// # Errors
    /// If nobody of that name can be chosen.
    pub async fn choose(&self, name: &str) -> Result<()> {
        let name = Value::from(name);
        let chosen = self
            .evaluate(&format!(
                "(() => {{ const labels = [...document.querySelectorAll('label.user')];
                    const label = labels.find((one) => one.querySelector('.name')?.textContent === {name});
                    label?.click(); return label?.control.checked ?? false; }})()"
            ))
            .await?;
        ensure!(chosen == Value::Bool(true), "nobody called {name} can be chosen");
        Ok(())
    }

    /// Waits for a state of the connection, as `data-state` has it.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn wait_for_state(&self, state: &str) -> Result<()> {
        self.wait_until(&format!("document.getElementById('state').dataset.state === '{state}'")).await
    }

    /// Waits until a message with exactly this content is shown.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn wait_for_message(&self, content: &str) -> Result<()> {
        let content = Value::from(content);
        self.wait_until(&format!(
            "[...document.querySelectorAll('.message .content')].some((one) => one.textContent === {content})"
        ))
        .await
    }

    /// Waits until a notice contains these words.
    ///
    /// # Errors
    /// If none does.
    pub async fn wait_for_notice(&self, words: &str) -> Result<()> {
        let words = Value::from(words);
        self.wait_until(&format!(
            "[...document.querySelectorAll('#log .notice')].some((one) => one.textContent.includes({words}))"
        ))
        .await
    }

    /// The conversation as it is shown, a line an entry, without times: a message as `who: content` or, where it is
    /// private, `who (remark): content`; a notice as it stands.
    ///
    /// # Errors
    /// If the page does not answer.
    pub async fn lines(&self) -> Result<Vec<String>> {
        self.strings(
            "[...document.querySelectorAll('#log .line')].map((line) => {
                const part = (selector) => line.querySelector(selector)?.textContent;
                if (line.classList.contains('message')) {
                    const remark = part('.remark');
                    return part('.name') + (remark ? ` (${remark})` : '') + ': ' + part('.content');
                }
                return line.textContent.slice(part('time').length).trim();
            })",
        )
        .await
    }

    /// The users in the list, as they are called there.
    ///
    /// # Errors
    /// If the page does not answer.
    pub async fn users(&self) -> Result<Vec<String>> {
        self.strings("[...document.querySelectorAll('#users .name')].map((name) => name.textContent)").await
    }

    /// Presses a key that has no character, on whatever has the focus.
    ///
    /// # Errors
    /// If nothing has the focus.
    pub async fn press_key(&self, key: Key) -> Result<()> {
        self.press(&char::from(key).to_string()).await
    }

    /// Ends the page's browser.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn close(self) -> Result<()> {
        self.page.close().await
    }

    async fn strings(&self, expression: &str) -> Result<Vec<String>> {
        let value = self.evaluate(expression).await?;
        Ok(serde_json::from_value(value)?)
    }
}

impl Deref for ChatPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}
