//! Owns one page in one Chromium: looking at it, typing into it, waiting for it.
//!
//! Must not know which page it is. Each wait is bounded by [`PATIENCE`]; Chromium ends with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, Locator};
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::chromium::end_processes_of;

/// Stands between a page and its WebSockets.
const RECORDER: &str = "
    window.recorded = { sent: [], received: [] };
    window.WebSocket = class extends WebSocket {
        constructor(...all) {
            super(...all);
            this.addEventListener('message', (event) => recorded.received.push(event.data));
        }
        send(data) {
            recorded.sent.push(data);
            super.send(data);
        }
    };
";

/// How large a page is, in CSS pixels, and in which colours.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Whether the reader prefers dark colours.
    pub dark: bool,
}

/// A page. Dropping it ends its Chromium.
#[derive(Debug)]
pub struct Page {
    client: Client,
    profile: PathBuf,
}

impl Page {
    pub(crate) fn new(client: Client, profile: PathBuf) -> Self {
        Self { client, profile }
    }

    /// Opens an address.
    ///
    /// # Errors
    /// If nothing is there.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.client.goto(url).await.with_context(|| format!("cannot open {url}"))
    }

    /// Writes down what the pages opened from now on send and receive over WebSockets, for
    /// [`recorded`](Self::recorded).
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn record_websockets(&self) -> Result<()> {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": RECORDER })).await
    }

    /// What was sent and received since the page was loaded, in order; only where it is
    /// [written down](Self::record_websockets).
    ///
    /// # Errors
    /// If it is not.
    pub async fn recorded(&self) -> Result<(Vec<String>, Vec<String>)> {
        Ok(serde_json::from_value(self.evaluate("[recorded.sent, recorded.received]").await?)?)
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub async fn reload(&self) -> Result<()> {
        self.client.refresh().await.context("cannot load the page again")
    }

    /// Clicks on the element that a CSS selector finds.
    ///
    /// # Errors
    /// If there is none that can be clicked on.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let element = self.client.find(Locator::Css(selector)).await;
        element.with_context(|| selector.to_owned())?.click().await.with_context(|| selector.to_owned())
    }

    /// Types into whatever has the focus, as a keyboard does; keys without a character are those of
    /// [`fantoccini::key`].
    ///
    /// # Errors
    /// If nothing has the focus.
    pub async fn press(&self, keys: &str) -> Result<()> {
        self.client.active_element().await?.send_keys(keys).await.context("cannot type")
    }

    /// Enters text at the cursor in one piece, as an input method does: any character can be entered so.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn insert(&self, text: &str) -> Result<()> {
        self.devtools("Input.insertText", json!({ "text": text })).await
    }

    /// The value of a JavaScript expression.
    ///
    /// # Errors
    /// If it throws, or a dialog was opened by the page.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let script = format!("return ({expression});");
        self.client.execute(&script, Vec::new()).await.with_context(|| expression.to_owned())
    }

    /// The value of a JavaScript expression that is a string.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and if it is none.
    pub async fn text(&self, expression: &str) -> Result<String> {
        let value = self.evaluate(expression).await?;
        value.as_str().map(str::to_owned).with_context(|| format!("{expression} is {value}"))
    }

    /// Waits until a JavaScript expression is true.
    ///
    /// # Errors
    /// If it does not become true in time; the text says what the page shows instead.
    pub async fn wait_until(&self, expression: &str) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while self.evaluate(&format!("Boolean({expression})")).await? != Value::Bool(true) {
            if Instant::now() > give_up {
                let shown = self.text("document.body.innerText").await.unwrap_or_default();
                bail!("in vain: {expression}; the page shows:\n{shown}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Gives the page a size and colours.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn look(&self, look: Look) -> Result<()> {
        let metrics = json!({
            "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 600,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await?;
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await
    }

    /// Writes a picture of the page, as PNG.
    ///
    /// # Errors
    /// If it cannot be taken or written.
    pub async fn screenshot(&self, path: &Path) -> Result<()> {
        let picture = self.client.screenshot().await.context("cannot take a picture of the page")?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Ends the page's Chromium in good order.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn close(self) -> Result<()> {
        self.client.clone().close().await.context("cannot close the browser")
    }

    async fn devtools(&self, command: &'static str, parameters: Value) -> Result<()> {
        self.client.issue_cmd(DevTools { command, parameters }).await.context(command)?;
        Ok(())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        end_processes_of(&self.profile);
    }
}

/// What WebDriver has no command for, in Chromium's own protocol.
#[derive(Debug)]
struct DevTools {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.parameters });
        (http::Method::POST, Some(body.to_string()))
    }
}
