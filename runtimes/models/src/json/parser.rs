//! The pass over a JSON text that checks it and notes where its values are.

use kvcap::{Error, Result};

use super::{
    malformed,
    nodes::{Node, Nodes},
    value::Value,
};

/// Deepest nesting.
const DEPTH: u32 = 64;

/// A place in a JSON text.
pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    pub(super) pos: usize,
}

/// The nodes of a text, and how many values may still come.
pub(super) struct Tape {
    pub(super) nodes: Nodes,
    pub(super) left: u32,
    /// Tells whether two members of an object have one name.
    pub(super) duplicate: fn(&str, &Nodes, u32) -> bool,
}

impl<'a> Parser<'a> {
    /// The parser of a whole text, behind its byte order mark.
    pub(super) fn new(text: &'a str) -> Self {
        let pos = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self { text, pos }
    }

    /// Notes the one value that the rest of the text is.
    ///
    /// # Errors
    ///
    /// 930.
    pub(super) fn whole(&mut self, tape: &mut Tape) -> Result<()> {
        self.value(0, tape)?;
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("something follows the json value")),
        }
    }

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

    fn value(&mut self, depth: u32, tape: &mut Tape) -> Result<()> {
        self.space();
        let left = tape.left.checked_sub(1).filter(|_| depth <= DEPTH);
        tape.left =
            left.ok_or_else(|| self.error("json nests too deep or holds too many values"))?;
        let node = self.node(tape)?;
        match self.peek() {
            Some(b'{') => self.object(depth, node, tape)?,
            Some(b'[') => self.array(depth, tape)?,
            Some(b'"') => self.string(None)?,
            _ => drop(self.plain()?),
        }
        tape.nodes.close(node);
        Ok(())
    }

    /// Notes that a value or name begins here.
    fn node(&self, tape: &mut Tape) -> Result<u32> {
        let start = u32::try_from(self.pos).ok();
        let pushed = start.and_then(|start| tape.nodes.push(Node { start, next: 0 }));
        pushed.ok_or_else(|| self.error("the json text is too long"))
    }

    /// A value that holds no others and is no text.
    pub(super) fn plain(&mut self) -> Result<Value> {
        match self.peek() {
            _ if self.eat("null") => Ok(Value::Null),
            _ if self.eat("true") => Ok(Value::Bool(true)),
            _ if self.eat("false") => Ok(Value::Bool(false)),
            _ if self.eat("NaN") => Ok(Value::Float(f64::NAN)),
            _ if self.eat("Infinity") => Ok(Value::Float(f64::INFINITY)),
            _ if self.eat("-Infinity") => Ok(Value::Float(f64::NEG_INFINITY)),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32, node: u32, tape: &mut Tape) -> Result<()> {
        self.pos += 1;
        self.space();
        if self.eat("}") {
            return Ok(());
        }
        loop {
            self.space();
            let name = self.node(tape)?;
            self.string(None)?;
            tape.nodes.close(name);
            self.space();
            if !self.eat(":") {
                return Err(self.error("an object's name lacks its colon"));
            }
            self.value(depth + 1, tape)?;
            self.space();
            if self.eat("}") {
                tape.nodes.close(node);
                return match (tape.duplicate)(self.text, &tape.nodes, node) {
                    false => Ok(()),
                    true => Err(self.error("an object holds a name twice")),
                };
            }
            if !self.eat(",") {
                return Err(self.error("an object is not closed"));
            }
        }
    }

    fn array(&mut self, depth: u32, tape: &mut Tape) -> Result<()> {
        self.pos += 1;
        self.space();
        if self.eat("]") {
            return Ok(());
        }
        loop {
            self.value(depth + 1, tape)?;
            self.space();
            if self.eat("]") {
                return Ok(());
            }
            if !self.eat(",") {
                return Err(self.error("a list is not closed"));
            }
        }
    }

    /// A text, whose characters `out` gets, if it is wanted.
    pub(super) fn string(&mut self, mut out: Option<&mut String>) -> Result<()> {
        if !self.eat("\"") {
            return Err(self.error("a text does not begin with a quotation mark"));
        }
        loop {
            let rest = self.rest();
            let plain = rest
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .ok_or_else(|| self.error("a text is not closed"))?;
            if let Some(out) = &mut out {
                out.push_str(rest.get(..plain).unwrap_or(""));
            }
            self.pos += plain;
            if self.eat("\"") {
                return Ok(());
            }
            if !self.eat("\\") {
                return Err(self.error("a text holds a control character"));
            }
            let escaped = self.escape()?;
            if let Some(out) = &mut out {
                out.push(escaped);
            }
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
