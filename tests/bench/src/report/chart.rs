//! The chart of the README: two groups of bars, drawn by hand, because a line of SVG is a line of text.

use std::fmt::Write as _;

use super::table::number;
use crate::contestant::Route;
use crate::result::{Cell, Field, Row};

const WIDTH: f64 = 860.0;
/// Where the bars begin: the names stand before it.
const LEFT: f64 = 250.0;
/// What is left for the figure behind a bar.
const RIGHT: f64 = 90.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;

/// What a bar is as long as.
type Value = fn(&Cell) -> f64;

/// Draws how long a call takes and how many there are in a second, HTTP to stdio.
pub(super) fn chart(field: &Field) -> String {
    let rows: Vec<&Row> =
        field.rows.iter().filter(|row| row.route == Route::HttpStdio && row.void.is_none()).collect();
    let mut body = String::new();
    let mut top = 34.0;
    let groups: [(&str, &str, Value); 2] = [
        ("Time of a call, µs (median, one caller; shorter is better)", "c=1, 100 B", |cell| cell.p50_us),
        ("Calls a second (16 at once; longer is better)", "c=16, 100 B", |cell| cell.per_second),
    ];
    for (title, load, value) in groups {
        top = group(&mut body, top, title, &rows, load, value) + 30.0;
    }
    let height = top - 10.0;
    let about = &field.about;
    let foot = format!(
        "100-byte calls, HTTP client to stdio server, interleaved; {}, {}",
        about.machine, about.date
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text{{fill:#24292f}}.t{{font-weight:bold}}.f{{font-size:11px;fill:#6e7781}}.d{{fill:#8c959f}}.o{{fill:#0969da}}.p{{fill:#bf8700}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}.f{{fill:#9198a1}}}}</style>\n\
         {body}<text class=\"f\" x=\"10\" y=\"{:.0}\">{}</text>\n</svg>\n",
        height - 12.0,
        escaped(&foot)
    )
}

/// Draws one group of bars; returns where it ends.
fn group(body: &mut String, top: f64, title: &str, rows: &[&Row], load: &str, value: Value) -> f64 {
    let _ = writeln!(body, "<text class=\"t\" x=\"10\" y=\"{:.0}\">{}</text>", top - 12.0, escaped(title));
    let bars: Vec<(&Row, f64)> = rows.iter().filter_map(|row| Some((*row, value(row.cell(load)?)))).collect();
    let longest = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let mut y = top;
    for (row, value) in bars {
        let class = match row.name.as_str() {
            "direct" => "d",
            name if name.starts_with("ours") => "o",
            _ => "p",
        };
        let width = (value / longest * (WIDTH - LEFT - RIGHT)).max(1.0);
        let (text_y, text_x) = (y + BAR - 5.0, LEFT + width + 6.0);
        let _ = writeln!(
            body,
            "<text x=\"{:.0}\" y=\"{text_y:.0}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text x=\"{text_x:.0}\" y=\"{text_y:.0}\">{}</text>",
            LEFT - 8.0,
            escaped(&row.name),
            number(value)
        );
        y += STEP;
    }
    y
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::sample;
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let svg = chart(&sample());
        insta::assert_snapshot!(svg);
        assert!(!svg.contains("absent"), "who is void has no bar");
    }
}
