//! Bodies as they were written: a template shows tools in the order of their members, and another order is another
//! prompt.

use std::{fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Value, value::RawValue};

/// Body of a request: a JSON, whose members are passed on as they were written.
#[derive(Clone, Debug)]
pub struct Body {
    value: Value,
    /// Of an object, each member's name and text.
    written: Vec<(String, Box<RawValue>)>,
}

impl Body {
    /// Reads a body. Of members of one name the last counts.
    ///
    /// # Errors
    /// Those of JSON.
    pub fn read(text: &[u8]) -> serde_json::Result<Self> {
        let value: Value = serde_json::from_slice(text)?;
        let written = match &value {
            Value::Object(_) => serde_json::from_slice::<Written>(text)?.0,
            _ => Vec::new(),
        };
        Ok(Self { value, written })
    }

    /// Keeps the members of some names.
    pub fn retain(&mut self, keeps: impl Fn(&str) -> bool) {
        if let Value::Object(members) = &mut self.value {
            members.retain(|name, _| keeps(name));
        }
        self.written.retain(|(name, _)| keeps(name));
    }

    /// Sets a member.
    pub fn set(&mut self, name: &str, value: Value) {
        self.write(name, value.to_string());
        if let Value::Object(members) = &mut self.value {
            members.insert(name.to_owned(), value);
        }
    }

    /// Appends to the list that a member is.
    pub fn push(&mut self, name: &str, item: Value) {
        let Some(list) = self.value[name].as_array_mut() else {
            return;
        };
        let separator = if list.is_empty() { "" } else { "," };
        let written = self.written.iter().find(|member| member.0 == name);
        let list_text = written.map_or("[]", |member| member.1.get());
        let list_text = list_text.strip_suffix(']').unwrap_or_default();
        let text = format!("{list_text}{separator}{item}]");
        list.push(item);
        self.write(name, text);
    }

    fn write(&mut self, name: &str, text: String) {
        let Ok(text) = RawValue::from_string(text) else {
            return;
        };
        match self.written.iter_mut().find(|member| member.0 == name) {
            Some(member) => member.1 = text,
            None => self.written.push((name.to_owned(), text)),
        }
    }
}

impl Deref for Body {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        let members = value.as_object().into_iter().flatten();
        let written = members.filter_map(|(name, value)| {
            let text = RawValue::from_string(value.to_string()).ok()?;
            Some((name.clone(), text))
        });
        Self {
            written: written.collect(),
            value,
        }
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !self.value.is_object() {
            return self.value.serialize(to);
        }
        let mut map = to.serialize_map(Some(self.written.len()))?;
        for (name, text) in &self.written {
            map.serialize_entry(name, text)?;
        }
        map.end()
    }
}

/// Members in their order, each once.
struct Written(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Reading).map(Self)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = Vec::new();
        while let Some((name, text)) = pairs.next_entry::<String, Box<RawValue>>()? {
            match members.iter_mut().find(|member| member.0 == name) {
                Some(member) => member.1 = text,
                None => members.push((name, text)),
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_written_is_passed_on_as_it_was_written() {
        let text = r#"{"tools": [{"type": 1.0, "name": "b"}], "slot": 3, "list": [ ], "tools": [{"z": 1, "a": 2}]}"#;
        let mut body = Body::read(text.as_bytes()).unwrap();
        body.retain(|name| name != "slot");
        body.set("stream", true.into());
        body.push("list", json!({"b": 1}));
        body.push("list", json!("c"));
        body.push("tools", json!([3]));
        body.push("tools", json!(4));
        let passed = r#"{"tools":[{"z": 1, "a": 2},[3],4],"list":[ {"b":1},"c"],"stream":true}"#;
        assert_eq!(serde_json::to_string(&body).unwrap(), passed);
        // what is read of it is the same
        assert_eq!(*body, serde_json::from_str::<Value>(passed).unwrap());
        assert_eq!(body, Body::from((*body).clone()));
        assert_eq!(
            serde_json::to_string(&Body::read(b"[1]").unwrap()).unwrap(),
            "[1]"
        );
        assert!(Body::read(b"{").is_err());
    }
}
