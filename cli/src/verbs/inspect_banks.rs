//! A capsule's streams as a table: banks that are alike in one line.

use kvcap::{Outline, OutlineStream};
use serde_json::{Map, Value, json};

use crate::ui::{Report, grouped, quoted, table};

/// Banks by kind, and the sections.
pub(crate) struct Banks {
    groups: Vec<Group>,
    sections: Vec<OutlineStream>,
    tokens: u64,
}

/// Banks that differ in their layer alone.
struct Group {
    first: OutlineStream,
    layers: Vec<u32>,
    plain: u64,
    sealed: u64,
    fallbacks: usize,
}

impl Banks {
    pub(crate) fn of(outline: &Outline, all: bool) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut sections = Vec::new();
        for stream in &outline.streams {
            let Some((layer, _)) = stream.bank else {
                sections.push(stream.clone());
                continue;
            };
            let known = groups
                .iter_mut()
                .find(|group| !all && alike(&group.first, stream));
            match known {
                Some(group) => group.add(layer, stream),
                None => groups.push(Group::new(layer, stream)),
            }
        }
        Self {
            groups,
            sections,
            tokens: outline
                .positions
                .end
                .saturating_sub(outline.positions.start),
        }
    }

    /// The tables.
    pub(crate) fn describe(&self, report: &mut Report) {
        let head = [
            ("layers", '<'),
            ("bank", '<'),
            ("element", '<'),
            ("shape", '<'),
            ("codec", '<'),
            ("plain", '>'),
            ("sealed", '>'),
            ("ratio", '>'),
            ("a token", '>'),
        ];
        let mut rows: Vec<Vec<String>> = self
            .groups
            .iter()
            .map(|group| group.cells(self.tokens))
            .collect();
        let (plain, sealed) = self.totals();
        let mut total = vec![String::new(); 4];
        total.insert(0, "all banks".to_owned());
        total.extend([
            grouped(plain),
            grouped(sealed),
            ratio(plain, sealed),
            per(sealed, self.tokens),
        ]);
        rows.push(total);
        report.line("");
        for line in table::lines(&head, &rows) {
            report.line(line);
        }
        let fallbacks: usize = self.groups.iter().map(|group| group.fallbacks).sum();
        if fallbacks > 0 {
            report.line(format_args!("  {fallbacks} banks took a finer codec than asked for, to stay within their error bound"));
        }
        let sections = self.sections.iter();
        let rows: Vec<_> = sections
            .map(|s| vec![quoted(&s.name), grouped(s.plain_len)])
            .collect();
        if !rows.is_empty() {
            report.line("");
            for line in table::lines(&[("section", '<'), ("bytes", '>')], &rows) {
                report.line(line);
            }
        }
    }

    /// The same for JSON.
    pub(crate) fn facts(&self) -> Map<String, Value> {
        let (plain, sealed) = self.totals();
        let sections: Vec<Value> = self
            .sections
            .iter()
            .map(|section| json!({"name": section.name, "bytes": section.plain_len}))
            .collect();
        let banks: Vec<Value> = self
            .groups
            .iter()
            .map(|group| group.json(self.tokens))
            .collect();
        let total = json!({
            "plain_bytes": plain,
            "encoded_bytes": sealed,
            "ratio": ratio_number(plain, sealed),
            "bytes_per_token": sealed.checked_div(self.tokens),
        });
        Map::from_iter([
            ("banks".to_owned(), Value::Array(banks)),
            ("banks_total".to_owned(), total),
            ("sections".to_owned(), Value::Array(sections)),
        ])
    }

    fn totals(&self) -> (u64, u64) {
        self.groups.iter().fold((0, 0), |(plain, sealed), group| {
            (
                plain.saturating_add(group.plain),
                sealed.saturating_add(group.sealed),
            )
        })
    }
}

fn alike(a: &OutlineStream, b: &OutlineStream) -> bool {
    let index = |stream: &OutlineStream| stream.bank.map(|bank| bank.1);
    let key = |s: &OutlineStream| {
        (
            s.kind,
            s.dtype.clone(),
            s.shape.clone(),
            s.rows.clone(),
            s.codec.clone(),
        )
    };
    index(a) == index(b) && key(a) == key(b)
}

impl Group {
    fn new(layer: u32, stream: &OutlineStream) -> Self {
        let mut group = Self {
            first: stream.clone(),
            layers: Vec::new(),
            plain: 0,
            sealed: 0,
            fallbacks: 0,
        };
        group.add(layer, stream);
        group
    }

    fn add(&mut self, layer: u32, stream: &OutlineStream) {
        self.layers.push(layer);
        self.plain = self.plain.saturating_add(stream.plain_len);
        self.sealed = self.sealed.saturating_add(stream.encoded_len);
        self.fallbacks += usize::from(stream.asked.is_some());
    }

    fn name(&self) -> String {
        match self.first.bank {
            Some((_, index)) if index > 0 => format!("{} {index}", self.first.kind),
            _ => self.first.kind.to_owned(),
        }
    }

    fn cells(&self, tokens: u64) -> Vec<String> {
        let first = &self.first;
        vec![
            ranges(&self.layers),
            self.name(),
            first.dtype.clone(),
            first.shape.clone(),
            first.codec.clone(),
            grouped(self.plain),
            grouped(self.sealed),
            ratio(self.plain, self.sealed),
            per(self.sealed, tokens),
        ]
    }

    fn json(&self, tokens: u64) -> Value {
        let first = &self.first;
        json!({
            "layers": self.layers,
            "kind": first.kind,
            "index": first.bank.map(|bank| bank.1),
            "dtype": first.dtype,
            "shape": first.shape,
            "rows": first.rows,
            "codec": first.codec,
            "chunk_bytes": first.chunk_len,
            "plain_bytes": self.plain,
            "encoded_bytes": self.sealed,
            "ratio": ratio_number(self.plain, self.sealed),
            "bytes_per_token": self.sealed.checked_div(tokens),
            "fallbacks": self.fallbacks,
        })
    }
}

/// `0-5, 8`.
fn ranges(layers: &[u32]) -> String {
    let mut layers = layers.to_vec();
    layers.sort_unstable();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for layer in layers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(layer) => *last = layer,
            _ => runs.push((layer, layer)),
        }
    }
    let texts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    texts.join(", ")
}

fn ratio_number(plain: u64, sealed: u64) -> Option<f64> {
    (sealed > 0).then(|| plain as f64 / sealed as f64)
}

fn ratio(plain: u64, sealed: u64) -> String {
    ratio_number(plain, sealed).map_or(String::new(), |ratio| format!("{ratio:.3}×"))
}

fn per(sealed: u64, tokens: u64) -> String {
    sealed.checked_div(tokens).map_or(String::new(), grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shown_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(ranges(&[3]), "3");
        assert_eq!(ranges(&[1, 0]), "0-1");
    }
}
