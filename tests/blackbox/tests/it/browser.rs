//! The web console in a real browser: what people do there, with mouse and keyboard, and how every screen looks.

mod look;
mod story;

use std::time::{Duration, Instant};

use postrider_testkit::browser::{Scheme, keys};
use postrider_testkit::{Browser, eventually};
use serde_json::{Value, json};

use crate::client::{dispatch_with, list, read, text};
use crate::deployment::DEADLINE;
use crate::dev::Dev;
use story::Story;

/// The width of the pictures, and the height of the window.
const WIDTH: u32 = 1024;
const HEIGHT: u32 = 800;

/// Somebody who uses the console.
struct Person {
    browser: Browser,
    /// The URL of the console.
    console: String,
}

impl Person {
    /// Opens a page of the console.
    async fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.console)).await;
    }

    /// Signs in by keyboard: the field has the focus when the form opens.
    async fn sign_in(&self, key: &str) {
        self.open("/login").await;
        self.browser.press(key).await;
        self.browser.press(keys::ENTER).await;
        self.browser.wait_for("document.querySelector('nav.sections')").await;
    }

    /// The browser has found nothing to complain about since the last time.
    async fn complains_of_nothing(&self, doing: &str) {
        let complaints = self.browser.complaints().await;
        assert!(complaints.is_empty(), "{doing}: {complaints:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_works_in_a_browser() {
    let Some(browser) = Browser::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    // No breaker: what fails becomes a dead letter.
    let dev = Dev::with(&folder.path().join("data"), &[("POSTRIDER_BREAKER_FAILURES", "0")]).await;
    let story = Story::tell(&dev.api().await).await;
    browser.resize(WIDTH, HEIGHT).await;
    browser.prefer(Scheme::Light).await;
    let person = Person { browser, console: format!("{}/console", dev.url()) };

    someone_with_few_scopes_sees_little(&person, &story).await;
    another_tenant_sees_nothing(&person, &story).await;
    person.sign_in(dev.key()).await;
    a_failing_delivery_is_three_clicks_away(&person, &story).await;
    two_attempts_are_compared(&person).await;
    the_keyboard_is_enough(&person, &story).await;
    the_tail_shows_an_event_within_a_second(&person, &story).await;
    forms_change_what_they_show(&person, &story).await;
    dead_letters_are_requeued(&person, &story).await;
    look::every_screen(&person, story.screens_below(&person.console)).await;
    owners_look_after_their_endpoints(&person, &story, dev.url()).await;
    // Last, because nothing is dead afterwards.
    all_that_match_are_replayed(&person, &story).await;
    nothing_needs_a_script(&person).await;
    drop(person);
    dev.stop("TERM").await;
}

/// A link to the portal works through the script, and its pages can be read by everyone.
async fn owners_look_after_their_endpoints(person: &Person, story: &Story, url: &str) {
    let link = story.portal_link().await;
    person.browser.open(&link).await;
    person.browser.wait_for("document.querySelector('main table')").await;
    person.complains_of_nothing("opening a link to the portal").await;
    look::every_screen(person, story.portal_below(&format!("{url}/portal"))).await;
}

async fn someone_with_few_scopes_sees_little(person: &Person, story: &Story) {
    let key = story
        .key(json!({"name": "watches", "tenant": "default", "scopes": ["deliveries:read", "stats:read"]}))
        .await;
    person.sign_in(&key).await;
    let sections = person.browser.text("nav.sections").await;
    assert!(sections.contains("Deliveries") && sections.contains("Dead letters"), "{sections}");
    for hidden in ["Keys", "Tenants", "Audit", "Subscribers", "Settings"] {
        assert!(!sections.contains(hidden), "{sections}");
    }
    person.complains_of_nothing("signing in").await;
    person.open("/subscribers").await;
    let page = person.browser.text("main").await;
    assert!(page.contains("Not allowed") && page.contains("subscribers:read"), "{page}");
    // That the answer was 403.
    person.browser.complaints().await;
    person.open("/dead-letters").await;
    let actions = "return document.querySelectorAll('main [href*=requeue], main [href*=delete], main [href*=replay]').length";
    assert_eq!(person.browser.run(actions).await, 0, "nothing that it may not do");
}

/// Another tenant's key, on the address of every page.
async fn another_tenant_sees_nothing(person: &Person, story: &Story) {
    let key = story.key(json!({"name": "other", "tenant": "globex", "scopes": ["tenant_admin"]})).await;
    person.sign_in(&key).await;
    for (name, path) in story.screens() {
        let script =
            format!("return await (await fetch({})).text()", json!(format!("{}{path}", person.console)));
        let html = person.browser.run_async(&script).await;
        let html = text(&html);
        for secret in story.secrets() {
            // What it asked for may be repeated.
            assert!(path.contains(&secret) || !html.contains(&secret), "{name} shows {secret}: {html}");
        }
    }
    person.browser.complaints().await;
}

async fn a_failing_delivery_is_three_clicks_away(person: &Person, story: &Story) {
    let browser = &person.browser;
    person.open("").await;
    assert!(browser.text("main").await.contains("dead letter"));
    // One: the dead letters. Two: the newest of them.
    browser.click(".attention a[href*='status=dead']").await;
    browser.click("table.rows tbody tr:first-child a.id").await;
    let place = browser.place().await;
    assert!(story.dead().await.iter().any(|id| place.contains(id.as_str())), "{place}");
    browser.wait_for_text("503").await;
    person.complains_of_nothing("looking at a failing delivery").await;
}

async fn two_attempts_are_compared(person: &Person) {
    let browser = &person.browser;
    browser.click("form[action*='/diff'] button").await;
    browser.wait_for("document.querySelector('.diff .minus') && document.querySelector('.diff .plus')").await;
    person.complains_of_nothing("comparing attempts").await;
}

/// From any page to an event, through a list, and to the help.
async fn the_keyboard_is_enough(person: &Person, story: &Story) {
    let browser = &person.browser;
    person.open("/deliveries").await;
    browser.press("/").await;
    browser.press(&story.event).await;
    browser.press(keys::ENTER).await;
    browser
        .wait_for(&format!("location.pathname.endsWith({})", json!(format!("/events/{}", story.event))))
        .await;
    browser.press("/").await;
    browser.press("status:dead type:user.*").await;
    browser.press(keys::ENTER).await;
    browser.wait_for("location.search.includes('status=dead')").await;
    // The second row, which Enter opens.
    browser.press("jj").await;
    let id = text(&browser.run("return document.querySelector('tr.chosen').dataset.id").await).to_owned();
    browser.press(keys::ENTER).await;
    browser.wait_for(&format!("location.pathname.endsWith({})", json!(id))).await;
    browser.press("?").await;
    browser.wait_for("document.querySelector('#help').open").await;
    browser.press(keys::ESCAPE).await;
    browser.wait_for("!document.querySelector('#help').open").await;
    // `r` retries, and `x` asks before it cancels.
    browser.press("r").await;
    browser.wait_for_text("The delivery is pending again.").await;
    person.complains_of_nothing("using the keyboard").await;
    eventually(DEADLINE, async || {
        let delivery = read(&story.api, &format!("/v1/deliveries/{id}")).await;
        (delivery["status"] == "dead").then_some(())
    })
    .await;
    // The first thing that Tab reaches leads past the navigation.
    person.open("/queue").await;
    browser.press(keys::TAB).await;
    assert_eq!(browser.run("return document.activeElement.getAttribute('href')").await, "#main");
}

async fn the_tail_shows_an_event_within_a_second(person: &Person, story: &Story) {
    let browser = &person.browser;
    person.open("/tail").await;
    browser.wait_for("document.querySelector('.live[data-state=on]')").await;
    let mut times = Vec::new();
    for _ in 0..3 {
        let event = dispatch_with(&story.api, json!({"event": "order.watched", "data": {}})).await;
        let acknowledged = Instant::now();
        let id = text(&event["id"]);
        browser.wait_for(&format!("document.querySelector('tr[data-id=\"{id}\"]')")).await;
        times.push(acknowledged.elapsed());
    }
    println!("the tail showed events after {times:?}");
    // One of them may fall into a moment in which the machine was busy.
    times.sort_unstable();
    assert!(times[1] < Duration::from_secs(1), "{times:?}");
    person.complains_of_nothing("following the tail").await;
}

/// A subscriber is created, changed and paused, and a key is shown once.
async fn forms_change_what_they_show(person: &Person, story: &Story) {
    let browser = &person.browser;
    person.open("/subscribers/new").await;
    browser.type_into("#url", "nonsense").await;
    browser.type_into("#events", "order.*").await;
    browser.click("form.stack button.primary").await;
    browser.wait_for("document.querySelector('[role=alert]')").await;
    // That the answer was 422.
    browser.complaints().await;
    assert_eq!(
        browser.run("return document.querySelector('#events').value").await,
        "order.*",
        "what was typed stays"
    );
    browser.run("document.querySelector('#url').value = ''").await;
    browser.type_into("#url", &story.receiver.url("/made-in-a-browser")).await;
    browser.type_into("#uid", "made-in-a-browser").await;
    browser.click("form.stack button.primary").await;
    browser.wait_for_text("Created.").await;
    browser.click("form[action*='/pause'] button").await;
    browser.wait_for_text("Paused.").await;
    browser.click("a[href*='/edit']").await;
    browser.type_into("#max_attempts", "7").await;
    browser.click("form.stack button.primary").await;
    browser.wait_for_text("Saved.").await;
    let made = read(&story.api, "/v1/subscribers/made-in-a-browser").await;
    assert_eq!((&made["policy"], &made["events"]), (&json!({"max_attempts": 7}), &json!(["order.*"])));
    assert_ne!(made["paused_at"], Value::Null);
    browser.click("form[action*='/secret'] button").await;
    browser.wait_for_text("whsec_").await;
    let trail = list(&story.api, "/v1/audit?action=secret.read").await;
    assert!(trail.iter().any(|entry| entry["target"] == made["id"]), "{trail:?}");

    person.open("/keys/new").await;
    browser.type_into("#name", "made in a browser").await;
    browser.click("#preset-support").await;
    browser.click("form.stack button.primary").await;
    browser.wait_for_text("Copy the key now").await;
    let keys = list(&story.api, "/v1/keys").await;
    let made = keys.iter().find(|key| key["name"] == "made in a browser").expect("the key");
    assert!(
        made["scopes"].as_array().is_some_and(|scopes| scopes.contains(&json!("deliveries:retry"))),
        "{made}"
    );
    person.complains_of_nothing("filling forms in").await;
}

/// A group of dead letters, whose count is confirmed. They fail again.
async fn dead_letters_are_requeued(person: &Person, story: &Story) {
    let browser = &person.browser;
    let dead = story.dead().await.len();
    let sent = story.receiver.requests_to("/failing").len();
    person.open("/dead-letters").await;
    browser.click("td.act a[href*=requeue]").await;
    browser.wait_for_text(&format!("Requeue {dead} dead letters")).await;
    browser.click(".confirm button").await;
    browser.wait_for_text("The dead letters are pending again.").await;
    // Each has two attempts.
    story.receiver.wait_for_path("/failing", sent + 2 * dead, DEADLINE).await;
    eventually(DEADLINE, async || (story.dead().await.len() == dead).then_some(())).await;
    person.complains_of_nothing("requeueing dead letters").await;
}

/// The count that is confirmed is the count that is delivered, whatever dies in between.
async fn all_that_match_are_replayed(person: &Person, story: &Story) {
    let browser = &person.browser;
    let dead = story.dead().await.len();
    let sent = story.receiver.requests_to("/failing").len();
    person.open("/deliveries?status=dead").await;
    browser.press("r").await;
    browser.wait_for_text(&format!("Replay {dead} deliveries")).await;
    // This one is dispatched too late to belong to it.
    story.receiver.on("/failing", postrider_testkit::Behaviour::Status(200));
    dispatch_with(&story.api, json!({"event": "user.created", "data": {"late": true}})).await;
    browser.click(".confirm button").await;
    browser.wait_for("location.pathname.includes('/replays/')").await;
    let place = browser.place().await;
    let id = place.rsplit('/').next().and_then(|id| id.split('?').next()).expect("an id").to_owned();
    let replay = eventually(DEADLINE, async || {
        let replay = read(&story.api, &format!("/v1/replays/{id}")).await;
        (replay["status"] == "done").then_some(replay)
    })
    .await;
    assert_eq!((&replay["total"], &replay["done"]), (&json!(dead), &json!(dead)), "{replay}");
    eventually(DEADLINE, async || story.dead().await.is_empty().then_some(())).await;
    story.receiver.wait_for_path("/failing", sent + dead + 1, DEADLINE).await;
    person.open(&format!("/replays/{id}")).await;
    browser.wait_for_text("done").await;
    person.complains_of_nothing("replaying").await;
}

/// Lists, filters and forms, without the script.
async fn nothing_needs_a_script(person: &Person) {
    let browser = &person.browser;
    browser.scripts(false).await;
    person.open("/subscribers").await;
    browser.type_into("#uid", "made-in-a-browser").await;
    browser.click("form.filters button").await;
    let found = async || browser.place().await.contains("uid=made-in-a-browser").then_some(());
    eventually(DEADLINE, found).await;
    browser.click("table.rows tbody a").await;
    browser.click("form[action*='/resume'] button").await;
    assert!(browser.text(".notice").await.contains("Resumed."));
    browser.scripts(true).await;
}
