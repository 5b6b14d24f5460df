//! Every screen, light and dark, at three widths: nothing is wider than the window, axe-core finds nothing that is not
//! accessible, and the browser has no complaint.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use postrider_testkit::browser::Scheme;
use serde_json::{Value, json};

use super::{HEIGHT, Person, WIDTH};

/// Where the pictures for `docs/console.md` go, if anywhere.
const PICTURES: &str = "POSTRIDER_TEST_SCREENSHOTS";

/// The screens that `docs/console.md` shows; `true` for a dark one.
const SHOWN: [(&str, bool); 18] = [
    ("now", false),
    ("now", true),
    ("events", false),
    ("event", false),
    ("deliveries", false),
    ("delivery", true),
    ("diff", false),
    ("dead-letters", false),
    ("subscribers", false),
    ("subscriber", false),
    ("event-types", false),
    ("queue", false),
    ("replay", false),
    ("keys", false),
    ("tenants", false),
    ("audit", false),
    ("settings", false),
    ("portal-endpoint", false),
];

/// The narrowest and the widest window.
const NARROW: u32 = 360;
const WIDE: u32 = 1600;

/// What is wider than the window, outside of what scrolls by itself.
const TOO_WIDE: &str = "
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = [...document.querySelectorAll('body *')].filter((element) =>
        element.getBoundingClientRect().right > width + 1 && !element.closest('.scroll, pre, nav.sections, .unseen'));
    return wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 200));";

/// Finds violations. In the dark only contrast differs.
const AXE: &str = "
    const options = DARK ? {runOnly: ['color-contrast']} : {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']};
    const found = await axe.run(document, {...options, resultTypes: ['violations'], iframes: false, preload: false});
    return found.violations.map(({id, help, nodes}) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' | ')}`);";

/// Looks at screens: a name for the picture of each, and its URL.
pub(super) async fn every_screen(person: &Person, screens: Vec<(&'static str, String)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("axe/axe.min.js");
    let axe = fs::read_to_string(folder).expect("axe-core");
    let browser = &person.browser;
    // In each new page, before its own scripts.
    let added = browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": axe})).await;
    let pictures = env::var_os(PICTURES);
    let mut wrong = Vec::new();
    for (name, url) in screens {
        browser.open(&url).await;
        for dark in [false, true] {
            browser.prefer(if dark { Scheme::Dark } else { Scheme::Light }).await;
            let found = browser.run_async(&AXE.replace("DARK", &dark.to_string())).await;
            wrong.extend(
                strings(&found).map(|found| format!("{name}{}: {found}", if dark { ", dark" } else { "" })),
            );
            if let Some(folder) = pictures.as_ref().filter(|_| SHOWN.contains(&(name, dark))) {
                let file = Path::new(folder).join(format!("{name}{}.png", if dark { "-dark" } else { "" }));
                fs::write(&file, browser.picture(HEIGHT + HEIGHT / 4).await).expect("a picture");
                // A third of the bytes, where it is installed.
                let _ = Command::new("pngquant").args(["--force", "--ext=.png", "64"]).arg(&file).status();
            }
        }
        browser.prefer(Scheme::Light).await;
        for width in [NARROW, WIDE, WIDTH] {
            browser.resize(width, HEIGHT).await;
            let found = browser.run(TOO_WIDE).await;
            wrong.extend(strings(&found).map(|found| format!("{name}, {width} wide: {found}")));
        }
        wrong.extend(browser.complaints().await.into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    browser.cdp("Page.removeScriptToEvaluateOnNewDocument", json!({"identifier": added["identifier"]})).await;
}

fn strings(found: &Value) -> impl Iterator<Item = String> {
    let Value::Array(items) = found else { panic!("expected a list, got {found}") };
    items.iter().map(|item| item.as_str().unwrap_or_default().to_owned())
}
