//! The curve of mAP over runs: in a terminal with braille dots, for a page or a report as SVG.

use std::fmt::Write;

use crate::store::{EndedRun, RunEnd};

use super::when;

/// Cells of the terminal's curve, each of 2 by 4 dots.
const COLUMNS: usize = 60;
const ROWS: usize = 8;

/// A run on the curve.
struct Point<'a> {
    run: &'a EndedRun,
    before: Option<f64>,
    after: f64,
}

/// The runs that measured a candidate.
fn points(runs: &[EndedRun]) -> Vec<Point<'_>> {
    runs.iter()
        .filter_map(|run| {
            let before = run.before.map(|scores| scores.map50_95);
            Some(Point { run, before, after: run.after?.map50_95 })
        })
        .collect()
}

/// The top of the scale: a round number above all of them.
fn top(points: &[Point]) -> f64 {
    let values = points.iter().flat_map(|point| [Some(point.after), point.before]).flatten();
    let most = values.fold(0.0, f64::max);
    [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8].into_iter().find(|top| most <= *top).unwrap_or(1.0)
}

/// The candidates' hold-out mAP50-95, run by run, as lines for a terminal; none before there is a curve.
pub(super) fn braille(runs: &[EndedRun]) -> Vec<String> {
    let points = points(runs);
    if points.len() < 2 {
        return Vec::new();
    }
    let top = top(&points);
    let (width, height) = (COLUMNS * 2, ROWS * 4);
    let mut cells = vec![[0u8; COLUMNS]; ROWS];
    for x in 0..width {
        // Between two runs a straight line.
        let place = x as f64 / (width - 1) as f64 * (points.len() - 1) as f64;
        let (left, share) = (place.floor() as usize, place.fract());
        let right = (left + 1).min(points.len() - 1);
        let value = points[left].after * (1.0 - share) + points[right].after * share;
        let y = ((1.0 - value / top).clamp(0.0, 1.0) * (height - 1) as f64).round() as usize;
        cells[y / 4][x / 2] |= dot(x % 2, y % 4);
    }
    let mut lines: Vec<String> = Vec::with_capacity(ROWS + 1);
    for (index, row) in cells.iter().enumerate() {
        let label = match index {
            0 => format!("{top:.2}"),
            last if last == ROWS - 1 => "0.00".into(),
            _ => String::new(),
        };
        let dots: String = row.iter().map(|dots| braille_char(*dots)).collect();
        lines.push(format!("{label:>5} ┤{}", dots.trim_end_matches('\u{2800}')));
    }
    let (first, last) = (when::utc(points[0].run.time), when::utc(points[points.len() - 1].run.time));
    lines.push(format!("{:7}{first}{last:>rest$}", "", rest = COLUMNS.saturating_sub(first.len())));
    lines
}

/// A dot's bit in a braille character (Unicode, block 2800): three rows of two columns, and the fourth
/// row's two behind them.
fn dot(column: usize, row: usize) -> u8 {
    match row {
        3 => 0x40 << column,
        row => 1 << (row + 3 * column),
    }
}

fn braille_char(dots: u8) -> char {
    char::from_u32(0x2800 + u32::from(dots)).expect("the block has 256 characters")
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;

/// The same as a picture: each run's candidate is a dot, filled where it was promoted, and the line is the
/// model that was current after it. Pointed at, a dot tells of its run.
pub(super) fn svg(runs: &[EndedRun]) -> String {
    let points = points(runs);
    let top = top(&points);
    let x = |index: usize| {
        let share = (index as f64 + 0.5) / points.len().max(1) as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let y = |value: f64| HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
    let mut svg = Svg::new();
    svg.text(LEFT, 22.0, "start", "Hold-out mAP50-95 over runs", "font-weight=\"bold\" fill=\"#222\"");
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        svg.line((LEFT, y(value)), (WIDTH - RIGHT, y(value)), "stroke=\"#ddd\"");
        svg.text(LEFT - 8.0, y(value) + 4.0, "end", &format!("{value:.3}"), "fill=\"#555\"");
    }
    if points.is_empty() {
        svg.text(WIDTH / 2.0, HEIGHT / 2.0, "middle", "no run has been measured yet", "fill=\"#555\"");
        return svg.end();
    }
    let mut current = points[0].before;
    let mut steps = String::new();
    for (index, point) in points.iter().enumerate() {
        // A rollback in between shows in what the next run was compared with.
        if let Some(before) = point.before.or(current) {
            let command = if steps.is_empty() { 'M' } else { 'L' };
            let from = if index == 0 { LEFT } else { x(index - 1) };
            write!(steps, "{command}{from:.1} {:.1}H{:.1}", y(before), x(index)).expect("a string");
            current = Some(before);
        }
        if point.run.event == RunEnd::Finished {
            let command = if steps.is_empty() { 'M' } else { 'L' };
            write!(steps, "{command}{:.1} {:.1}", x(index), y(point.after)).expect("a string");
            current = Some(point.after);
        }
    }
    write!(steps, "H{:.1}", WIDTH - RIGHT).expect("a string");
    svg.path(&steps);
    for (index, point) in points.iter().enumerate() {
        let fill = if point.run.event == RunEnd::Finished { "#2a7f3f" } else { "#fff" };
        let title = format!(
            "{}: {}, {:.4} to {:.4}. {}",
            when::utc(point.run.time),
            point.run.event.name(),
            point.before.unwrap_or_default(),
            point.after,
            point.run.reason
        );
        svg.dot((x(index), y(point.after)), fill, &title);
    }
    let below = HEIGHT - BOTTOM + 20.0;
    svg.text(LEFT, below, "start", &when::utc(points[0].run.time), "fill=\"#555\"");
    if let [_, .., last] = points.as_slice() {
        svg.text(WIDTH - RIGHT, below, "end", &when::utc(last.run.time), "fill=\"#555\"");
    }
    let legend = "● promoted   ○ refused   ─ the current model";
    svg.text(WIDTH - RIGHT, 22.0, "end", legend, "fill=\"#555\"");
    svg.end()
}

/// Writes SVG.
struct Svg(String);

impl Svg {
    fn new() -> Self {
        Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        ))
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(&format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str, style: &str) {
        let text = escaped(text);
        self.push(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{text}</text>"));
    }

    fn path(&mut self, steps: &str) {
        self.push(&format!("<path d=\"{steps}\" fill=\"none\" stroke=\"#2a7f3f\" stroke-width=\"2\"/>"));
    }

    fn dot(&mut self, (x, y): (f64, f64), fill: &str, title: &str) {
        let title = escaped(title);
        self.push(&format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"#2a7f3f\"><title>{title}</title></circle>"
        ));
    }

    fn push(&mut self, element: &str) {
        self.0 += element;
        self.0.push('\n');
    }

    fn end(mut self) -> String {
        self.push("</svg>");
        self.0
    }
}

/// Class names and reasons come from outside. Control characters may not be in XML at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Scores;

    fn run(event: RunEnd, scores: Option<(f64, f64)>) -> EndedRun {
        let score = |map50_95| Scores { map50: 0.0, map50_95 };
        EndedRun {
            time: 1_764_000_000.0,
            run: "019a".into(),
            event,
            reason: "class \"<b>\u{7}\" & co".into(),
            before: scores.map(|(before, _)| score(before)),
            after: scores.map(|(_, after)| score(after)),
            samples: None,
            holdout: None,
            epochs: None,
            seconds: None,
            slot: None,
        }
    }

    fn history() -> Vec<EndedRun> {
        vec![
            run(RunEnd::Finished, Some((0.0, 0.1))),
            run(RunEnd::Failed, None),
            run(RunEnd::Refused, Some((0.1, 0.05))),
            run(RunEnd::Finished, Some((0.1, 0.2))),
        ]
    }

    #[test]
    fn the_curve_begins_and_ends_where_the_runs_do() {
        let lines = braille(&history());
        assert_eq!(lines.len(), ROWS + 1);
        assert!(lines[0].starts_with(" 0.20 ┤") && lines[ROWS - 1].starts_with(" 0.00 ┤"), "{lines:#?}");
        // The last run's dot is in the upper right corner.
        assert_eq!(lines[0].chars().count(), 7 + COLUMNS);
        assert!(lines[0].ends_with(|last: char| (last as u32 - 0x2800) & 0x08 != 0), "{lines:#?}");
        assert!(braille(&history()[..2]).is_empty(), "one point is no curve");
        assert!(braille(&[]).is_empty());
    }

    #[test]
    fn each_measured_run_is_a_dot() {
        let svg = svg(&history());
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("fill=\"#2a7f3f\" stroke").count(), 2, "those that were promoted");
        assert!(svg.contains("class &quot;&lt;b&gt; &quot; &amp; co"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        // The line: from the first before, up to 0.1, along it, and up to 0.2 at the top of the scale.
        let path = svg.split("<path d=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
        let (bottom, middle) = (HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2.0);
        assert!(path.starts_with(&format!("M{LEFT:.1} {bottom:.1}H")), "{path}");
        assert!(path.contains(&format!(" {middle:.1}H")) && path.contains(&format!(" {TOP:.1}H")), "{path}");
    }

    #[test]
    fn no_run_is_a_picture_that_says_so() {
        assert!(svg(&[]).contains("no run has been measured yet"));
    }
}
