//! Charts: a sparkline as SVG, and tables that the script draws.

use std::fmt::Write as _;

use maud::{Markup, html};

/// The size of a sparkline's coordinates.
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 30.0;

/// Draws numbers as a small line, with what it shows in words.
pub(crate) fn spark(values: &[f64], label: &str, bad: bool) -> Markup {
    let most = values.iter().copied().fold(0.0, f64::max).max(f64::EPSILON);
    #[allow(clippy::cast_precision_loss, reason = "there are few points")]
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let mut line = String::new();
    let mut x = 0.0;
    for value in values {
        let y = HEIGHT - 1.0 - (value / most).clamp(0.0, 1.0) * (HEIGHT - 3.0);
        line.push_str(if line.is_empty() { "M" } else { "L" });
        // Writing to a string does not fail.
        let _ = write!(line, "{x:.1} {y:.1}");
        x += step;
    }
    let area = format!("{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z");
    html! {
        @if values.len() > 1 {
            svg class={ "spark" (if bad { " bad" } else { "" }) } viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                path.area d=(area) {}
                path.line d=(line) {}
            }
            // Beside a number of another kind, a line without a name would be read as that number's.
            small.of aria-hidden="true" { (label) }
        }
    }
}

/// One line of a chart.
pub(crate) struct Line {
    pub(crate) name: String,
    /// `good`, `bad`, `warn`, `wait`, `off`, or empty for the next colour.
    pub(crate) tone: &'static str,
    /// A value for each step; `None` where nothing was measured.
    pub(crate) values: Vec<Option<f64>>,
}

/// A chart with its table. `stacked` adds the lines up.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// The unit of the values, such as `ms`; empty for counts.
    pub(crate) unit: &'a str,
    pub(crate) stacked: bool,
    /// The steps: Unix seconds, and how they are written.
    pub(crate) steps: &'a [(i64, String)],
    pub(crate) lines: &'a [Line],
    /// What to show instead, if there is nothing.
    pub(crate) empty: &'a str,
}

impl Chart<'_> {
    pub(crate) fn show(&self) -> Markup {
        let has_values = self.lines.iter().any(|line| line.values.iter().flatten().any(|value| *value > 0.0));
        html! {
            figure.chart.panel data-unit=(self.unit) data-kind=(if self.stacked { "stack" } else { "lines" }) data-empty[!has_values] {
                figcaption { (self.title) @if !self.unit.is_empty() { " " small { "in " (self.unit) } } }
                @if has_values {
                    div.plot {}
                    details {
                        summary { "Table" }
                        div.scroll tabindex="0" role="region" aria-label=(format!("{}, as a table", self.title)) { (self.table()) }
                    }
                } @else {
                    p.quiet { (self.empty) }
                }
            }
        }
    }

    fn table(&self) -> Markup {
        // Steps in which nothing happened at all are drawn as gaps of a line or as zero; the table needs them for that.
        html! {
            table {
                caption.unseen { (self.title) }
                thead {
                    tr {
                        th scope="col" { "Time (UTC)" }
                        @for line in self.lines { th.num scope="col" data-tone=(line.tone) { (line.name) } }
                    }
                }
                tbody {
                    @for (place, (seconds, text)) in self.steps.iter().enumerate() {
                        tr {
                            th scope="row" data-value=(seconds) { (text) }
                            @for line in self.lines {
                                @let value = line.values.get(place).copied().flatten();
                                td.num data-value=[value] { @if let Some(value) = value { (value) } @else { "–" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_stays_within_its_box() {
        let svg = spark(&[0.0, 5.0, 10.0], "five", false).0;
        assert!(svg.contains("M0.0 29.0L60.0 15.5L120.0 2.0"), "{svg}");
        assert!(spark(&[1.0], "one", false).0.is_empty(), "one point is no line");
        assert!(spark(&[0.0; 24], "nothing", false).0.contains("M0.0 29.0"));
    }
}
