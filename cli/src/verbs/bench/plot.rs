//! Plots of a bench, as SVG.

use std::{fs, path::Path};

use kvcap::{Error, Result, Suite};

use super::{
    capsule::{Measured, Pass},
    suites,
};

const WIDTH: f64 = 900.0;
const COLOURS: [&str; 9] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f", "#76b7b2", "#edc948",
    "#777777",
];

/// Writes `time.svg` and `stages.svg` into `folder`.
///
/// # Errors
/// KVC-940 where writing fails.
pub(super) fn write(folder: &Path, measured: &[Measured]) -> Result<()> {
    let put = |name: &str, svg: String| {
        let path = folder.join(name);
        fs::write(&path, svg).map_err(|error| Error::io(&error, path.display()))
    };
    put("time.svg", time(measured))?;
    // the longest state that was gone over more than once
    let usual = measured.iter().rev().find(|m| m.bytes < 1e9);
    usual.map_or(Ok(()), |usual| put("stages.svg", stages(usual)))
}

/// Time against size on one core, both axes logarithmic.
fn time(measured: &[Measured]) -> String {
    let mut series = vec![(
        "memcpy".to_owned(),
        measured.iter().map(|m| (m.bytes, m.memcpy)).collect(),
    )];
    for (name, encoding) in [
        ("seal", "exact"),
        ("open", "exact"),
        ("verify", "exact"),
        ("open", "q8"),
    ] {
        for suite in Suite::ALL {
            if name == "verify" && suite != Suite::ChaCha20Poly1305 {
                continue;
            }
            let is =
                |pass: &&Pass| (pass.name, pass.encoding, pass.suite) == (name, encoding, suite);
            let point = |m: &Measured| Some((m.bytes, m.passes.iter().find(is)?.one));
            let points: Vec<(f64, f64)> = measured.iter().filter_map(point).collect();
            if !points.is_empty() {
                series.push((
                    format!("{name} {encoding}, {}", suites::name(suite)),
                    points,
                ));
            }
        }
    }
    lines(&series)
}

fn lines(series: &[(String, Vec<(f64, f64)>)]) -> String {
    let (left, top, width, height) = (70.0, 40.0, 560.0, 420.0);
    let points = || series.iter().flat_map(|(_, points)| points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let ends = points()
            .map(of)
            .fold((f64::MAX, f64::MIN), |(low, high), x| {
                (low.min(x), high.max(x))
            });
        (ends.0.log10().floor(), ends.1.log10().ceil())
    };
    let (x, y) = (range(|p| p.0), range(|p| p.1));
    let across = |bytes: f64| left + (bytes.log10() - x.0) / (x.1 - x.0) * width;
    let down = |seconds: f64| top + height - (seconds.log10() - y.0) / (y.1 - y.0) * height;
    let mut svg = head(top + height + 50.0, "Time against size, one core");
    for power in powers(x) {
        let at = across(10_f64.powf(power));
        svg.push_str(&format!(
            "<path d='M{at:.1} {top}v{height}' stroke='#ddd'/>\
             <text x='{at:.1}' y='{:.1}' text-anchor='middle'>{}</text>\n",
            top + height + 18.0,
            unit(power, &["B", "kB", "MB", "GB", "TB"]),
        ));
    }
    for power in powers(y) {
        let at = down(10_f64.powf(power));
        svg.push_str(&format!(
            "<path d='M{left} {at:.1}h{width}' stroke='#ddd'/>\
             <text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>\n",
            left - 8.0,
            at + 4.0,
            unit(power + 9.0, &["ns", "µs", "ms", "s", "ks"]),
        ));
    }
    for ((at, (name, points)), colour) in (0_u32..).zip(series).zip(COLOURS.iter().cycle()) {
        let path: Vec<String> = points
            .iter()
            .map(|(bytes, seconds)| format!("{:.1},{:.1}", across(*bytes), down(*seconds)))
            .collect();
        svg.push_str(&format!(
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>\n",
            path.join(" ")
        ));
        key(
            &mut svg,
            left + width + 20.0,
            top + 22.0 * f64::from(at),
            colour,
            name,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// What each stage costs a plain byte, and what the whole pass took.
fn stages(measured: &Measured) -> String {
    const NAMES: [&str; 9] = [
        "header", "gather", "leaf", "cipher", "encode", "decode", "receipt", "write", "scatter",
    ];
    let nanoseconds = |seconds: f64| seconds / measured.bytes * 1e9;
    let passes = measured.passes.iter().filter(|pass| {
        // one key for all suites: the body is verified without one
        pass.name != "verify" || pass.suite == Suite::ChaCha20Poly1305
    });
    let passes: Vec<&Pass> = passes.collect();
    let longest = passes
        .iter()
        .map(|pass| nanoseconds(pass.one))
        .fold(0.0, f64::max);
    let (left, top, width, row) = (260.0, 70.0, 600.0, 22.0);
    let count = u32::try_from(passes.len()).unwrap_or(0);
    let title = format!(
        "Cost of each stage, ns a plain byte, {:.0} bytes, one core; the line is the whole pass",
        measured.bytes
    );
    let mut svg = head(top + row * f64::from(count) + 20.0, &title);
    for (at, (name, colour)) in (0_u32..).zip(NAMES.iter().zip(COLOURS)) {
        key(&mut svg, 20.0 + 95.0 * f64::from(at), 40.0, colour, name);
    }
    for (at, pass) in (0_u32..).zip(passes) {
        let y = top + row * f64::from(at);
        let suite = match pass.name {
            "verify" => "",
            _ => suites::name(pass.suite),
        };
        svg.push_str(&format!(
            "<text x='{:.1}' y='{:.1}' text-anchor='end'>{} {} {suite}</text>\n",
            left - 8.0,
            y + 13.0,
            pass.name,
            pass.encoding,
        ));
        let mut x = left;
        for (stage, seconds) in &pass.stages {
            let colour = NAMES.iter().zip(COLOURS).find(|(name, _)| *name == stage);
            let colour = colour.map_or("#000", |(_, colour)| colour);
            let wide = nanoseconds(*seconds) / longest * width;
            svg.push_str(&format!(
                "<rect x='{x:.1}' y='{y:.1}' width='{wide:.1}' height='16' fill='{colour}'/>\n"
            ));
            x += wide;
        }
        let whole = left + nanoseconds(pass.one) / longest * width;
        svg.push_str(&format!(
            "<path d='M{whole:.1} {:.1}v20' stroke='black' stroke-width='2'/>\
             <text x='{:.1}' y='{:.1}' font-size='10'>{:.3}</text>\n",
            y - 2.0,
            whole + 4.0,
            y + 12.0,
            nanoseconds(pass.one),
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

fn head(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' \
         font-family='sans-serif' font-size='12'>\n\
         <rect width='{WIDTH}' height='{height}' fill='white'/>\n\
         <text x='20' y='22' font-size='15'>{title}</text>\n"
    )
}

fn key(svg: &mut String, x: f64, y: f64, colour: &str, name: &str) {
    svg.push_str(&format!(
        "<rect x='{x:.1}' y='{y:.1}' width='12' height='12' fill='{colour}'/>\
         <text x='{:.1}' y='{:.1}'>{name}</text>\n",
        x + 17.0,
        y + 11.0,
    ));
}

/// Whole numbers of a range.
fn powers((low, high): (f64, f64)) -> impl Iterator<Item = f64> {
    (0_u8..30)
        .map(f64::from)
        .map(move |step| low + step)
        .take_while(move |p| *p <= high)
}

/// 10 to `power` in thousands of a unit.
fn unit(power: f64, names: &[&str]) -> String {
    let fits = |(at, _): &(u8, &&str)| f64::from(*at) * 3.0 <= power;
    let (at, name) = (0..).zip(names).take_while(fits).last().unwrap_or((0, &""));
    format!("{:.0} {name}", 10_f64.powf(power - 3.0 * f64::from(at)))
}
