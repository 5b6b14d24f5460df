//! Chromium without a window, driven over `WebDriver`.
//!
//! Without Chromium and its driver (Debian's `chromium-driver`), [`Browser::start`] returns `None` and prints that the test
//! is skipped.
//!
//! The client is written by hand: a dozen calls over the HTTP client that the kit has anyway. `fantoccini` and `thirtyfour`
//! would add dozens of crates to each test build.

mod driver;

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use driver::Driver;

/// How long a page may take until it fits what a test waits for.
const DEADLINE: Duration = Duration::from_secs(15);

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// The name under which `WebDriver` wraps the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that are not characters, for [`Browser::press`].
pub mod keys {
    /// Moves the focus to the next control.
    pub const TAB: &str = "\u{E004}";
    /// Follows the focused link, presses the focused button, submits the focused form.
    pub const ENTER: &str = "\u{E007}";
    /// Closes a dialog.
    pub const ESCAPE: &str = "\u{E00C}";
}

/// The colours that the user prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark text on a light page.
    Light,
    /// Light text on a dark page.
    Dark,
}

/// A browser with one window and a profile of its own. It ends with this value.
#[derive(Debug)]
pub struct Browser {
    driver: Driver,
}

impl Browser {
    /// Starts a browser, which resolves no name but `localhost` and the loopback addresses.
    pub async fn start() -> Option<Self> {
        let driver = Driver::start().await?;
        let browser = Self { driver };
        browser.cdp("Network.enable", json!({})).await;
        Some(browser)
    }

    /// The folder of its profile, which its processes name.
    pub fn profile(&self) -> PathBuf {
        self.driver.profile()
    }

    /// Opens a page and waits until it has loaded.
    pub async fn open(&self, url: &str) {
        self.driver.call(Method::POST, "url", Some(&json!({"url": url}))).await;
    }

    /// The URL of the page.
    pub async fn url(&self) -> String {
        string(&self.driver.call(Method::GET, "url", None).await)
    }

    /// The path and the query of the page's URL.
    pub async fn place(&self) -> String {
        let url = url::Url::parse(&self.url().await).expect("the URL of a page");
        url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
    }

    /// The title of the page.
    pub async fn title(&self) -> String {
        string(&self.driver.call(Method::GET, "title", None).await)
    }

    /// The visible text of the first element that matches.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.element("css selector", selector).await;
        string(&self.driver.call(Method::GET, &format!("element/{element}/text"), None).await)
    }

    /// Clicks the first element that matches, once there is one, and waits for the page that it leads to.
    pub async fn click(&self, selector: &str) {
        let element = self.element("css selector", selector).await;
        self.driver.call(Method::POST, &format!("element/{element}/click"), Some(&json!({}))).await;
    }

    /// Clicks the first link with this text.
    pub async fn follow(&self, text: &str) {
        let element = self.element("link text", text).await;
        self.driver.call(Method::POST, &format!("element/{element}/click"), Some(&json!({}))).await;
    }

    /// Types into the first element that matches.
    pub async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element("css selector", selector).await;
        let body = json!({"text": text});
        self.driver.call(Method::POST, &format!("element/{element}/value"), Some(&body)).await;
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let presses: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": presses}]});
        self.driver.call(Method::POST, "actions", Some(&body)).await;
    }

    /// Runs the body of a function in the page and returns what it returns. The page's policy does not apply to it.
    pub async fn run(&self, script: &str) -> Value {
        let body = json!({"script": script, "args": []});
        self.driver.call(Method::POST, "execute/sync", Some(&body)).await
    }

    /// Like [`Self::run`], and waits for the promise that the script returns.
    pub async fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async () => {{ {script} }})().then(done, (error) => done({{error: String(error)}}));"
        );
        let body = json!({"script": script, "args": []});
        self.driver.call(Method::POST, "execute/async", Some(&body)).await
    }

    /// Waits until an expression of JavaScript is true on a page that has loaded.
    pub async fn wait_for(&self, expression: &str) {
        let script = format!("return document.readyState === 'complete' && Boolean({expression})");
        self.until(expression, async || (self.run(&script).await == json!(true)).then_some(())).await;
    }

    /// Waits until the page contains a text.
    pub async fn wait_for_text(&self, text: &str) {
        let quoted = json!(text);
        self.wait_for(&format!("document.body && document.body.innerText.includes({quoted})")).await;
    }

    /// Sets the size of the window, in CSS pixels, also below what a window can have.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Sets the colours that the user prefers. The user always prefers reduced motion, so that nothing is in between.
    pub async fn prefer(&self, scheme: Scheme) {
        let scheme = if scheme == Scheme::Dark { "dark" } else { "light" };
        let features = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        self.cdp("Emulation.setEmulatedMedia", features).await;
    }

    /// Turns the page's scripts on or off, from the next page on.
    pub async fn scripts(&self, on: bool) {
        self.cdp("Emulation.setScriptExecutionDisabled", json!({"value": !on})).await;
    }

    /// A picture of the page as PNG, from its top to `height` or its end.
    pub async fn picture(&self, height: u32) -> Vec<u8> {
        let sizes = self.cdp("Page.getLayoutMetrics", json!({})).await;
        let side = |name: &str| sizes["cssContentSize"][name].as_f64().expect("a side of the page");
        let (width, end) = (side("width"), side("height").min(height.into()));
        let clip = json!({"x": 0, "y": 0, "width": width, "height": end, "scale": 1});
        let options = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.cdp("Page.captureScreenshot", options).await;
        STANDARD.decode(string(&picture["data"])).expect("a picture in base64")
    }

    /// What the browser has complained about since the last call: errors of scripts, what the page's policy forbids, requests
    /// that failed.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.driver.call(Method::POST, "se/log", Some(&json!({"type": "browser"}))).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        let complaints = entries.iter().filter(|entry| entry["level"] != "DEBUG" && entry["level"] != "INFO");
        complaints.map(|entry| string(&entry["message"])).collect()
    }

    /// Calls Chromium's own protocol.
    pub async fn cdp(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.driver.call(Method::POST, "goog/cdp/execute", Some(&body)).await
    }

    /// Waits for an element and returns its id.
    async fn element(&self, strategy: &str, selector: &str) -> String {
        let body = json!({"using": strategy, "value": selector});
        self.until(selector, async || {
            let found = self.driver.call(Method::POST, "elements", Some(&body)).await;
            found.get(0).map(|element| string(&element[ELEMENT]))
        })
        .await
    }

    /// Polls a condition until it returns a value. Panics with the page's text if there is none by the deadline.
    async fn until<T>(&self, what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            if Instant::now() > end {
                let page = self.run("return document.body ? document.body.innerText : ''").await;
                panic!("no `{what}` at {} within {DEADLINE:?}: {page}", self.place().await);
            }
            sleep(INTERVAL).await;
        }
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a text, got {value}")).to_owned()
}
