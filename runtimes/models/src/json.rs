//! A strict JSON reader and a writer of texts.
//!
//! Not serde_json: an object's name must stand once, numbers must round correctly to binary64 whatever features
//! another crate turns on, and transformers writes `Infinity` and `NaN`.

use kvcap::{Code, Error, Result};

pub(crate) mod value;

use self::value::{Map, Value};

/// Deepest nesting.
const DEPTH: u32 = 64;

/// Most values in one file: bounds the memory that a hostile file of tiny values can ask for.
const VALUES: u32 = 1 << 23;

/// The one JSON value that `bytes` are.
///
/// # Errors
///
/// 930 where the bytes are not one JSON text, an object holds a name twice, or nesting or the
/// number of values is over its limit.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value> {
    parse_within(bytes, VALUES)
}

/// The same for a text of at most `limit` values.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn parse_within(bytes: &[u8], limit: u32) -> Result<Value> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| malformed("the text is not utf-8", error.valid_up_to()))?;
    let mut parser = Parser {
        text: text.strip_prefix('\u{feff}').unwrap_or(text),
        pos: 0,
        values: 0,
        limit,
    };
    let value = parser.value(0)?;
    parser.space();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.error("something follows the json value")),
    }
}

fn malformed(what: &'static str, pos: usize) -> Error {
    Error::new(Code::ModelMalformed, what).at(format!("byte {pos}"))
}

struct Parser<'a> {
    text: &'a str,
    pos: usize,
    values: u32,
    limit: u32,
}

impl<'a> Parser<'a> {
    fn error(&self, what: &'static str) -> Error {
        malformed(what, self.pos)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.pos += token.len();
        }
        found
    }

    fn value(&mut self, depth: u32) -> Result<Value> {
        self.values += 1;
        if depth > DEPTH || self.values > self.limit {
            return Err(self.error("json nests too deep or holds too many values"));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::Text),
            _ if self.eat("null") => Ok(Value::Null),
            _ if self.eat("true") => Ok(Value::Bool(true)),
            _ if self.eat("false") => Ok(Value::Bool(false)),
            _ if self.eat("NaN") => Ok(Value::Float(f64::NAN)),
            _ if self.eat("Infinity") => Ok(Value::Float(f64::INFINITY)),
            _ if self.eat("-Infinity") => Ok(Value::Float(f64::NEG_INFINITY)),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Value> {
        self.pos += 1;
        let mut members = Map::new();
        self.space();
        if self.eat("}") {
            return Ok(Value::Map(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            if !self.eat(":") {
                return Err(self.error("an object's name lacks its colon"));
            }
            let value = self.value(depth + 1)?;
            if members.insert(name, value).is_some() {
                return Err(self.error("an object holds a name twice"));
            }
            self.space();
            if self.eat("}") {
                return Ok(Value::Map(members));
            }
            if !self.eat(",") {
                return Err(self.error("an object is not closed"));
            }
        }
    }

    fn array(&mut self, depth: u32) -> Result<Value> {
        self.pos += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat("]") {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.eat("]") {
                return Ok(Value::Array(items));
            }
            if !self.eat(",") {
                return Err(self.error("a list is not closed"));
            }
        }
    }

    fn string(&mut self) -> Result<String> {
        if !self.eat("\"") {
            return Err(self.error("a text does not begin with a quotation mark"));
        }
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let plain = rest
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .ok_or_else(|| self.error("a text is not closed"))?;
            out.push_str(rest.get(..plain).unwrap_or(""));
            self.pos += plain;
            if self.eat("\"") {
                return Ok(out);
            }
            if !self.eat("\\") {
                return Err(self.error("a text holds a control character"));
            }
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char> {
        let c = self
            .peek()
            .ok_or_else(|| self.error("a text is not closed"))?;
        if c == b'u' {
            self.pos += 1;
            return self.unicode();
        }
        let c = match c {
            b'"' | b'\\' | b'/' => char::from(c),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            _ => return Err(self.error("a text holds an unknown escape")),
        };
        self.pos += 1;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char> {
        let unit = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&unit) && self.eat("\\u") {
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.error("a text holds half a surrogate pair"));
            }
            0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
        } else {
            unit
        };
        char::from_u32(code).ok_or_else(|| self.error("a text holds half a surrogate pair"))
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.rest().get(..4).unwrap_or("");
        if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.error("a text holds an unknown escape"));
        }
        self.pos += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.error("a text holds an unknown escape"))
    }

    fn number(&mut self) -> Result<Value> {
        let rest = self.rest();
        let len = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let token = rest.get(..len).unwrap_or("");
        if !is_number(token) {
            return Err(self.error("this is not a json value"));
        }
        self.pos += len;
        if !token.contains(['.', 'e', 'E'])
            && token != "-0"
            && let Ok(value) = token.parse()
        {
            return Ok(Value::Int(value));
        }
        match token.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::Float(value)),
            _ => Err(self.error("a number is out of range")),
        }
    }
}

/// RFC 8259 §6: an optional minus, no leading zeros, an optional fraction and exponent.
fn is_number(token: &str) -> bool {
    fn digits(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
    }
    let token = token.strip_prefix('-').unwrap_or(token);
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (token, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
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
            br#" {"a": [1, -2.5e-3, true, null, Infinity, 1e5], "b\n": "\u00e9\ud83d\ude00\"x"} "#,
        )
        .unwrap();
        let map = value.as_map().unwrap();
        assert_eq!(map["b\n"], Value::Text("\u{e9}\u{1f600}\"x".into()));
        assert_eq!(
            map["a"].as_array().unwrap()[..2],
            [Value::Int(1), Value::Float(-0.0025)]
        );
        assert_eq!(map["a"].as_array().unwrap()[5], Value::Float(100_000.0));
        assert_eq!(parse(b"-0").unwrap(), Value::Float(-0.0));
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
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code(), Code::ModelMalformed, "{text}");
        }
        assert!(parse(&[b'"', 0xff, b'"']).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn texts_come_back() {
        let text = "a\"\\\n\u{1}\u{7f}\u{e9}\u{1f600}";
        let value = Value::Text(text.into());
        assert_eq!(parse(write(&value).as_bytes()).unwrap(), value);
    }
}
