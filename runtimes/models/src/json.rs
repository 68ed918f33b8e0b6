//! A strict JSON reader and a writer of texts.
//!
//! Not serde_json: an object's name must stand once, numbers must round correctly to binary64 whatever features
//! another crate turns on, and transformers writes `Infinity` and `NaN`.

use kvcap::{Code, Error, Result};

pub(crate) mod canonical;
pub(crate) mod document;
pub(crate) mod list;
mod nodes;
mod parser;
pub(crate) mod value;

use self::{document::Document, value::Value};

/// Most values of a file that is read into a tree, which takes some 150 bytes a value.
const TREE: u32 = 1 << 18;

/// The one JSON value that `bytes` are, as a tree: for files whose members are looked up by name.
///
/// # Errors
///
/// 930 where the bytes are not one JSON text, an object holds a name twice, or nesting or the
/// number of values (2^18) is over its limit.
pub(crate) fn parse(bytes: Vec<u8>) -> Result<Value> {
    Ok(Document::parse(bytes, TREE)?.root().tree())
}

fn malformed(what: &'static str, pos: usize) -> Error {
    Error::new(Code::ModelMalformed, what).at(format!("byte {pos}"))
}

/// The value as JSON text: members in order of their names, a line each; lists of plain values on
/// one line.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out.push('\n');
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&format!("{value:?}")),
        Value::Text(text) => write_text(out, text),
        Value::List(list) => {
            write_items(out, ['[', ']'], false, depth, list.items(), |out, item| {
                write_value(out, &Value::from(item), depth + 1);
            });
        }
        Value::Array(items) => {
            let plain = |item: &Value| !matches!(item, Value::Array(_) | Value::Map(_));
            let lines = !items.iter().all(plain);
            write_items(out, ['[', ']'], lines, depth, items, |out, item| {
                write_value(out, item, depth + 1);
            });
        }
        Value::Map(members) => {
            let lines = !members.is_empty();
            write_items(
                out,
                ['{', '}'],
                lines,
                depth,
                members,
                |out, (name, value)| {
                    write_text(out, name);
                    out.push_str(": ");
                    write_value(out, value, depth + 1);
                },
            );
        }
    }
}

fn write_items<T>(
    out: &mut String,
    [open, close]: [char; 2],
    lines: bool,
    depth: usize,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut String, T),
) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(if lines { "," } else { ", " });
        }
        if lines {
            line(out, depth + 1);
        }
        write(out, item);
    }
    if lines {
        line(out, depth);
    }
    out.push(close);
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_json_is() {
        let value = parse(
            br#" {"a": [1, -2.5e-3, true, null, Infinity, 1e5], "b\n": "\u00e9\ud83d\ude00\"x"} "#
                .to_vec(),
        )
        .unwrap();
        let map = value.as_map().unwrap();
        assert_eq!(map["b\n"], Value::Text("\u{e9}\u{1f600}\"x".into()));
        assert_eq!(
            map["a"].as_array().unwrap()[..2],
            [Value::Int(1), Value::Float(-0.0025)]
        );
        assert_eq!(map["a"].as_array().unwrap()[5], Value::Float(100_000.0));
        assert_eq!(parse(b"-0".to_vec()).unwrap(), Value::Float(-0.0));
    }

    #[test]
    fn refuses_what_it_is_not() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "--1",
            "nul",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"a",
            "\"\n\"",
            "1 2",
            "{1:2}",
            "1e999",
            "\"\\u+123\"",
        ] {
            let error = parse(text.into()).unwrap_err();
            assert_eq!(error.code(), Code::ModelMalformed, "{text}");
        }
        assert!(parse(vec![b'"', 0xff, b'"']).is_err());
        assert!(parse("[".repeat(100_000).into()).is_err());
    }

    #[test]
    fn texts_come_back() {
        let text = "a\"\\\n\u{1}\u{7f}\u{e9}\u{1f600}";
        let value = Value::Text(text.into());
        assert_eq!(parse(write(&value).into()).unwrap(), value);
    }
}
