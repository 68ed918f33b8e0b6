//! A JSON text that was checked, and the places of its values in it.
//!
//! No tree: a value costs 8 bytes beside the text, whatever it is, so that a hostile file of tiny values cannot
//! ask for many times its own length.

use std::borrow::Cow;

use kvcap::Result;

use super::{
    canonical::{Sink, array, head, text},
    malformed,
    nodes::{Node, Nodes},
    parser::{Parser, Tape},
    value::{Map, Value},
};

/// A checked JSON text.
pub(crate) struct Document {
    text: String,
    nodes: Nodes,
}

/// A value of a document, or a member's name.
#[derive(Clone, Copy)]
pub(crate) struct Json<'a> {
    text: &'a str,
    nodes: &'a Nodes,
    at: u32,
}

/// Whether two members of the object `at` have one name.
fn duplicate(text: &str, nodes: &Nodes, at: u32) -> bool {
    let object = Json { text, nodes, at };
    let mut names = object.names();
    names.sort_unstable_by(|a, b| object.to(*a).string().cmp(&object.to(*b).string()));
    let string = |at: &u32| object.to(*at).string();
    names
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if string(a) == string(b)))
}

impl Document {
    /// The one JSON value, of at most `limit` values, that `bytes` are.
    ///
    /// # Errors
    ///
    /// 930 where the bytes are not one JSON text, an object holds a name twice, or nesting or the
    /// number of values is over its limit.
    pub(crate) fn parse(bytes: Vec<u8>, limit: u32) -> Result<Self> {
        let text = String::from_utf8(bytes).map_err(|error| {
            malformed("the text is not utf-8", error.utf8_error().valid_up_to())
        })?;
        let mut tape = Tape {
            nodes: Nodes::default(),
            left: limit,
            duplicate,
        };
        Parser::new(&text).whole(&mut tape)?;
        Ok(Self {
            nodes: tape.nodes,
            text,
        })
    }

    /// The whole value.
    pub(crate) fn root(&self) -> Json<'_> {
        Json {
            text: &self.text,
            nodes: &self.nodes,
            at: 0,
        }
    }
}

impl<'a> Json<'a> {
    fn to(self, at: u32) -> Self {
        Self { at, ..self }
    }

    fn node(self) -> Node {
        self.nodes
            .get(self.at)
            .unwrap_or(Node { start: 0, next: 0 })
    }

    fn source(self) -> &'a str {
        let start = usize::try_from(self.node().start).unwrap_or(usize::MAX);
        self.text.get(start..).unwrap_or("")
    }

    fn parser(self) -> Parser<'a> {
        Parser {
            text: self.source(),
            pos: 0,
        }
    }

    fn starts_with(self, first: char) -> bool {
        self.source().starts_with(first)
    }

    /// The characters of a text.
    fn string(self) -> Cow<'a, str> {
        let inside = self.source().get(1..).unwrap_or("");
        let plain = inside.split(['"', '\\']).next().unwrap_or("");
        if inside
            .get(plain.len()..)
            .is_some_and(|end| end.starts_with('"'))
        {
            return Cow::Borrowed(plain);
        }
        let mut out = String::new();
        // the text was checked when it was parsed
        let _checked = self.parser().string(Some(&mut out));
        Cow::Owned(out)
    }

    pub(crate) fn is_null(self) -> bool {
        self.starts_with('n')
    }

    pub(crate) fn as_text(self) -> Option<Cow<'a, str>> {
        self.starts_with('"').then(|| self.string())
    }

    pub(crate) fn as_u64(self) -> Option<u64> {
        // a text, list or object is none of these
        self.parser().plain().ok()?.as_u64()
    }

    /// The items of a list.
    pub(crate) fn as_array(self) -> Option<impl Iterator<Item = Json<'a>>> {
        self.starts_with('[').then(|| self.children())
    }

    /// Names and values of an object, in the order of the file.
    pub(crate) fn as_map(self) -> Option<impl Iterator<Item = (Json<'a>, Json<'a>)>> {
        self.starts_with('{').then(|| {
            let mut children = self.children();
            std::iter::from_fn(move || Some((children.next()?, children.next()?)))
        })
    }

    /// A member of an object, also where it is null.
    pub(crate) fn get(self, name: &str) -> Option<Json<'a>> {
        let found = self.as_map()?.find(|(found, _)| found.string() == name);
        found.map(|(_, value)| value)
    }

    fn children(self) -> impl Iterator<Item = Json<'a>> {
        let end = self.node().next;
        let mut at = self.at.saturating_add(1);
        std::iter::from_fn(move || {
            let child = self.to(at);
            let next = child.node().next;
            let more = at < end && next > at;
            at = next;
            more.then_some(child)
        })
    }

    /// The nodes of an object's names.
    fn names(self) -> Vec<u32> {
        let members = self.as_map().into_iter().flatten();
        members.map(|(name, _)| name.at).collect()
    }

    /// The value as a tree.
    pub(super) fn tree(self) -> Value {
        if let Some(items) = self.as_array() {
            return Value::Array(items.map(Self::tree).collect());
        }
        if let Some(members) = self.as_map() {
            let member = |(name, value): (Self, Self)| (name.string().into_owned(), value.tree());
            return Value::Map(members.map(member).collect::<Map>());
        }
        match self.as_text() {
            Some(text) => Value::Text(text.into_owned()),
            None => self.parser().plain().unwrap_or(Value::Null),
        }
    }

    /// Appends the canonical bytes (model-id-v1 §2).
    pub(crate) fn canonical(self, out: &mut impl Sink) {
        if let Some(items) = self.as_array() {
            array(out, self.children().count());
            for item in items {
                item.canonical(out);
            }
        } else if self.starts_with('{') {
            self.canonical_without("", out);
        } else if let Some(value) = self.as_text() {
            text(out, &value);
        } else {
            self.tree().canonical(out);
        }
    }

    /// Appends the canonical bytes of an object without one of its members; an empty name leaves out none.
    pub(crate) fn canonical_without(self, member: &str, out: &mut impl Sink) {
        let string = |at: u32| self.to(at).string();
        let mut names = self.names();
        if !member.is_empty() {
            names.retain(|name| string(*name) != member);
        }
        // RFC 8949 §4.2.1 orders by encoded key: for texts, length first.
        names.sort_unstable_by(|a, b| {
            let (a, b) = (string(*a), string(*b));
            (a.len(), a).cmp(&(b.len(), b))
        });
        head(out, 0xa0, names.len());
        for name in names {
            text(out, &string(name));
            self.to(name.saturating_add(1)).canonical(out);
        }
    }
}
