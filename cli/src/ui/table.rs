//! Tables of text.

/// Lines of a table under a heading. A column of `>` is aligned to the right.
pub(crate) fn lines(head: &[(&str, char)], rows: &[Vec<String>]) -> Vec<String> {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, (name, _))| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).fold(width(name), usize::max)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((cell, width), (_, align)) in cells.zip(&widths).zip(head) {
            let width = *width;
            text.push_str("  ");
            match align {
                '>' => text.push_str(&format!("{cell:>width$}")),
                _ => text.push_str(&format!("{cell:width$}")),
            }
        }
        text.trim_end().to_owned()
    };
    let mut out = vec![line(&mut head.iter().map(|column| column.0))];
    out.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    out
}

fn width(text: &str) -> usize {
    text.chars().count()
}
