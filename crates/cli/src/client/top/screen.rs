//! The live screen of `postrider top`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Sparkline, Table};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use super::lines::{HEAD, lines, row};
use super::look::{Look, Rates};

/// How many earlier rates are drawn, at most one for each column.
const EARLIER: usize = 512;
/// Within what time the thread that reads keys notices the end of the screen.
const NOTICED_WITHIN: Duration = Duration::from_millis(100);
/// The rows of the drawing, where the terminal is high enough for it and the rest.
const DRAWING: u16 = 4;
const HIGH_ENOUGH: u16 = 18;

/// What the screen shows.
#[derive(Default)]
pub(super) struct Shown {
    look: Option<(Look, Option<Rates>)>,
    /// Succeeded deliveries per second, the latest first.
    earlier: VecDeque<u64>,
    /// Why the last look failed.
    pub(super) trouble: Option<String>,
}

impl Shown {
    pub(super) fn add(&mut self, look: Look) {
        let rates = self.look.as_ref().map(|(before, _)| look.rates(before));
        if let Some(rates) = rates {
            // Drawn in whole numbers; a bar has eight steps.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is at least 0")]
            self.earlier.push_front((rates.succeeded * 10.0) as u64);
            self.earlier.truncate(EARLIER);
        }
        self.look = Some((look, rates));
        self.trouble = None;
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Some((look, rates)) = &self.look else { return };
        let named = lines(look, *rates);
        let high = if frame.area().height >= HIGH_ENOUGH { DRAWING } else { 0 };
        let rows = u16::try_from(named.len()).unwrap_or(u16::MAX);
        let areas =
            [Constraint::Length(1), Constraint::Length(rows), Constraint::Length(high), Constraint::Fill(1)];
        let [title, numbers, drawing, table] = Layout::vertical(areas).areas(frame.area());
        frame.render_widget(self.title(), title);
        let named =
            named.into_iter().map(|(name, line)| Line::from(vec![format!("{name:<12} ").dim(), line.into()]));
        frame.render_widget(Paragraph::new(named.collect::<Vec<_>>()), numbers);
        let earlier: Vec<u64> = self.earlier.iter().copied().take(drawing.width.into()).rev().collect();
        frame.render_widget(Sparkline::default().data(earlier).style(Color::Green), drawing);
        if look.worst.is_empty() {
            frame.render_widget("no subscriber is failing", table);
            return;
        }
        let failing = look.worst.iter().map(|failing| Row::new(row(failing)));
        let widths = [Constraint::Length(8), Constraint::Length(9), Constraint::Fill(1)];
        let head = Row::new(HEAD).style(Style::new().bold());
        frame.render_widget(Table::new(failing, widths).header(head), table);
    }

    fn title(&self) -> Line<'_> {
        match &self.trouble {
            Some(trouble) => Line::from(trouble.as_str()).red(),
            None => Line::from("postrider top; q ends it").bold(),
        }
    }
}

/// A terminal that belongs to the screen until this is dropped. A panic gives it back as well.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::Receiver<Pressed>,
    is_over: Arc<AtomicBool>,
}

/// What a person does with the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pressed {
    /// A key that ends the screen.
    End,
    /// The terminal has another size.
    Resized,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (to, keys) = mpsc::channel(16);
        let over = Arc::clone(&is_over);
        thread::spawn(move || read(&to, &over));
        Ok(Self { terminal, keys, is_over })
    }

    pub(super) fn show(&mut self, shown: &Shown) -> io::Result<()> {
        self.terminal.draw(|frame| shown.draw(frame)).map(|_| ())
    }

    /// Waits for a key that matters. The end of the terminal is the end of the screen.
    pub(super) async fn pressed(&mut self) -> Pressed {
        self.keys.recv().await.unwrap_or(Pressed::End)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        ratatui::restore();
    }
}

/// Reads keys until the screen is over.
fn read(to: &mpsc::Sender<Pressed>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let pressed = match event::poll(NOTICED_WITHIN) {
            Ok(false) => continue,
            Ok(true) => event::read().map(|event| pressed(&event)),
            Err(error) => Err(error),
        };
        match pressed {
            Ok(None) => {}
            Ok(Some(pressed)) if to.blocking_send(pressed).is_ok() => {}
            _ => return,
        }
    }
}

fn pressed(event: &Event) -> Option<Pressed> {
    match event {
        Event::Resize(..) => Some(Pressed::Resized),
        Event::Key(key) if key.kind == KeyEventKind::Press => {
            let is_end = match key.code {
                KeyCode::Char('q') | KeyCode::Esc => true,
                // The terminal sends no signal while the screen reads keys.
                KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
                _ => false,
            };
            is_end.then_some(Pressed::End)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    fn look(succeeded: u64, at: Instant) -> Look {
        let stats = json!({
            "subscribers": {"total": 3, "active": 2},
            "deliveries": {"total": 100, "pending": 1, "succeeded": succeeded, "dead": 4, "cancelled": 0,
                "avg_attempts": 1.0, "success_rate": 0.9},
            "latency_ms": {"p50": 5, "p95": 9, "p99": null},
            "queue": {"ready": 7, "scheduled": 0, "held": 0, "running": 1, "oldest_ready_seconds": 1.5},
        });
        let worst = json!([{"id": "sub_1", "uid": "shop", "url": "https://example.com/\u{1b}[2J",
            "breaker": {"state": "open", "failures": 12}}]);
        Look {
            at,
            stats: serde_json::from_value(stats).unwrap(),
            worst: serde_json::from_value(worst).unwrap(),
        }
    }

    fn drawn(shown: &Shown, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| shown.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_rates_latency_the_queue_and_the_worst() {
        let (mut shown, began) = (Shown::default(), Instant::now());
        shown.add(look(50, began));
        assert!(drawn(&shown, 100, 30).contains("created -"));
        shown.add(look(90, began + Duration::from_secs(2)));
        let text = drawn(&shown, 100, 30);
        for part in ["succeeded 20.0/s", "p95 9 ms", "7 ready", "oldest 1.5 s", "12", "open", "shop", "█"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "a server must not control the terminal");
        shown.trouble = Some("the server cannot be reached".to_owned());
        let text = drawn(&shown, 100, 30);
        assert!(text.contains("cannot be reached") && text.contains("7 ready"), "{text}");
    }

    #[test]
    fn a_small_terminal_shows_what_it_can() {
        let mut shown = Shown::default();
        shown.add(look(50, Instant::now()));
        let text = drawn(&shown, 30, 9);
        assert!(text.contains("created -") && text.contains("shop"), "{text}");
        for (width, height) in [(1, 1), (10, 3), (200, 2)] {
            drawn(&shown, width, height);
        }
    }
}
