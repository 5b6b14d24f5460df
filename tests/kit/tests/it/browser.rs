//! The browser.

use std::fs;
use std::time::Duration;

use postrider_testkit::browser::{Browser, Scheme, keys};
use postrider_testkit::{Behaviour, Receiver, eventually};

const PAGE: &str = r#"<!doctype html><title>One</title><p id="first">a page</p><a href="/two?a=b">to two</a>
<form action="/two"><input name="word"></form><script src="/broken"></script>"#;

const POLICY: &str = "default-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'";

fn page(html: &str, kind: &str) -> Behaviour {
    let headers = [("content-type", kind), ("content-security-policy", POLICY)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Behaviour::Respond { status: 200, headers, body: html.as_bytes().to_vec() }
}

#[tokio::test]
async fn a_browser_opens_types_clicks_and_complains() {
    let Some(browser) = Browser::start().await else { return };
    let receiver = Receiver::start().await;
    receiver.on("/one", page(PAGE, "text/html"));
    receiver.on(
        "/two",
        page("<!doctype html><title>Two</title><style>p{color:red}</style><p>the end", "text/html"),
    );
    receiver.on("/broken", page("document.body.innerHTML = 'x'", "text/javascript"));

    browser.resize(360, 500).await;
    browser.prefer(Scheme::Dark).await;
    browser.open(&receiver.url("/one")).await;
    assert_eq!(browser.title().await, "One");
    assert_eq!(browser.text("#first").await, "a page");
    assert_eq!(
        browser.run("return [innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]").await,
        serde_json::json!([360, true])
    );
    let complaints = browser.complaints().await.join("\n");
    assert!(complaints.contains("TrustedHTML"), "{complaints}");
    // What the browser runs for the test is not the page's.
    assert_eq!(browser.run_async("return await Promise.resolve(eval('1 + 1'))").await, 2);
    assert_eq!(&browser.picture(300).await[1..4], b"PNG");

    browser.follow("to two").await;
    assert_eq!(browser.place().await, "/two?a=b");
    let complaints = browser.complaints().await.join("\n");
    assert!(complaints.contains("inline style"), "{complaints}");
    browser.open(&receiver.url("/one")).await;
    browser.type_into("input", "a b").await;
    browser.press(keys::ENTER).await;
    browser.wait_for_text("the end").await;
    assert_eq!(browser.place().await, "/two?word=a+b");

    // It leaves no process behind.
    let profile = browser.profile();
    drop(browser);
    eventually(Duration::from_secs(5), async || {
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
        let profile = profile.to_string_lossy().into_owned();
        let mut left = processes.filter(|line| String::from_utf8_lossy(line).contains(&profile));
        left.next().is_none().then_some(())
    })
    .await;
    assert!(!profile.exists());
}
