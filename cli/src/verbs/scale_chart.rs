//! The chart of `kvcap scale`: sizes and times over the window, as SVG.

use super::scale::{Point, ratio};

const COLOURS: [&str; 6] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f",
];
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 260.0;
const TOP: f64 = 50.0;

/// A panel: what it shows, its unit, and how a point is read.
type Panel = (&'static str, &'static str, fn(&Point) -> f64);

const PANELS: [Panel; 3] = [
    ("size", "MB", |point| ratio(point.size.file_len, 1) / 1e6),
    ("seal", "ms", |point| point.seal * 1e3),
    ("open", "ms", |point| point.open * 1e3),
];

/// Three panels side by side, a line an encoding.
pub(super) fn svg(model: &str, points: &[Point]) -> String {
    let mut encodings: Vec<&str> = Vec::new();
    for point in points {
        if !encodings.contains(&point.encoding) {
            encodings.push(point.encoding);
        }
    }
    let safe: String = model
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_. ".contains(*c))
        .collect();
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='1440' height='380' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n<text x='60' y='24' font-size='15'>Capsules of {safe}, by tokens</text>\n"
    );
    let most_tokens = points.iter().map(|p| p.size.tokens).max().unwrap_or(1);
    for (place, (name, unit, read)) in (0_u32..).zip(PANELS) {
        let left = 60.0 + f64::from(place) * (WIDTH + 80.0);
        let most = points.iter().map(read).fold(f64::MIN_POSITIVE, f64::max);
        let x = |tokens: u64| left + ratio(tokens, most_tokens) * WIDTH;
        let y = |value: f64| TOP + HEIGHT * (1.0 - value / most);
        svg.push_str(&format!(
            "<rect x='{left}' y='{TOP}' width='{WIDTH}' height='{HEIGHT}' fill='none' stroke='#999'/>\n\
             <text x='{left}' y='{:.0}'>{name}, {unit}</text>\n<text x='{:.0}' y='{:.0}' text-anchor='end'>{most:.0}</text>\n",
            TOP - 6.0, left - 6.0, TOP + 10.0
        ));
        let mut ticks: Vec<u64> = points.iter().map(|point| point.size.tokens).collect();
        ticks.dedup();
        for tokens in ticks {
            svg.push_str(&format!(
                "<text x='{:.1}' y='{:.0}' text-anchor='middle'>{tokens}</text>\n",
                x(tokens),
                TOP + HEIGHT + 18.0
            ));
        }
        for (encoding, colour) in encodings.iter().zip(COLOURS.iter().cycle()) {
            let of = points.iter().filter(|point| point.encoding == *encoding);
            let path: Vec<String> = of
                .map(|point| format!("{:.1},{:.1}", x(point.size.tokens), y(read(point))))
                .collect();
            svg.push_str(&format!(
                "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>\n",
                path.join(" ")
            ));
        }
    }
    for (at, (encoding, colour)) in (0_u32..).zip(encodings.iter().zip(COLOURS.iter().cycle())) {
        let x = 60.0 + 120.0 * f64::from(at);
        svg.push_str(&format!(
            "<rect x='{x}' y='352' width='14' height='4' fill='{colour}'/><text x='{:.0}' y='358'>{encoding}</text>\n",
            x + 20.0
        ));
    }
    svg.push_str("</svg>\n");
    svg
}
