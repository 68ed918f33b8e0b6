//! Tables of text.

use super::width;

/// Lines of a table under a heading. A column of `>` is aligned to the right. On a terminal that is too
/// narrow, the widest column of `<` takes more than one line; where that does not help, every cell has a
/// line of its own.
pub(crate) fn lines(head: &[(&str, char)], rows: &[Vec<String>]) -> Vec<String> {
    lines_within(width::of_stdout(), head, rows)
}

fn lines_within(
    columns: Option<usize>,
    head: &[(&str, char)],
    rows: &[Vec<String>],
) -> Vec<String> {
    let mut widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, (name, _))| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| count(cell)).fold(count(name), usize::max)
        })
        .collect();
    let over = columns.map_or(0, |columns| {
        let total: usize = widths.iter().map(|width| width + 2).sum();
        total.saturating_sub(columns)
    });
    let of_texts = widths.iter_mut().enumerate();
    let of_texts =
        of_texts.filter(|(column, _)| head.get(*column).is_some_and(|head| head.1 != '>'));
    if let Some((column, widest)) = of_texts.max_by_key(|(_, width)| **width) {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let words = cells.flat_map(|cell| cell.split(' ')).map(count);
        let least = words
            .chain(head.get(column).map(|head| count(head.0)))
            .max();
        let narrow = widest.saturating_sub(over);
        if least.is_none_or(|least| least > narrow) {
            return records(head, rows);
        }
        *widest = narrow;
    }
    let line = |cells: &[&str]| {
        let mut text = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(head) {
            let width = *width;
            text.push_str("  ");
            match align {
                '>' => text.push_str(&format!("{cell:>width$}")),
                _ => text.push_str(&format!("{cell:width$}")),
            }
        }
        text.trim_end().to_owned()
    };
    let heading: Vec<&str> = head.iter().map(|column| column.0).collect();
    let mut out = vec![line(&heading)];
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<Vec<&str>> = cells
            .map(|(cell, width)| width::wrapped(cell, *width))
            .collect();
        for part in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let parts = cells
                .iter()
                .map(|cell| cell.get(part).copied().unwrap_or(""));
            out.push(line(&parts.collect::<Vec<_>>()));
        }
    }
    out
}

/// Every cell that is not empty in a line of its own, after its column's name.
fn records(head: &[(&str, char)], rows: &[Vec<String>]) -> Vec<String> {
    let width = head.iter().map(|(name, _)| count(name)).max().unwrap_or(0);
    let mut out = Vec::new();
    for row in rows {
        if !out.is_empty() {
            out.push(String::new());
        }
        let cells = head.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        out.extend(cells.map(|((name, _), cell)| format!("  {name:width$}  {cell}")));
    }
    out
}

fn count(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_wraps_the_widest_text() {
        let head = [("step", '<'), ("answer", '<'), ("took", '>')];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["seal", "every byte is encrypted", "1 ms"]),
            row(["open", "back", "20 ms"]),
        ];
        let whole = [
            "  step  answer                    took",
            "  seal  every byte is encrypted   1 ms",
            "  open  back                     20 ms",
        ];
        assert_eq!(lines_within(None, &head, &rows), whole);
        assert_eq!(lines_within(Some(38), &head, &rows), whole);
        let narrow = [
            "  step  answer             took",
            "  seal  every byte is      1 ms",
            "        encrypted",
            "  open  back              20 ms",
        ];
        assert_eq!(lines_within(Some(31), &head, &rows), narrow);
        let records = [
            "  step    seal",
            "  answer  every byte is encrypted",
            "  took    1 ms",
            "",
            "  step    open",
            "  answer  back",
            "  took    20 ms",
        ];
        assert_eq!(lines_within(Some(20), &head, &rows), records);
    }
}
