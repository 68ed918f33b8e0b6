//! JSON compared with a schema: the part of JSON Schema 2020-12 that the program's own schema uses. A keyword
//! that is not known here is a fault of the schema, so that none is passed over.

use serde_json::Value;

/// Compares a value with a schema; `Err` says where they differ.
///
/// # Errors
/// The first place at which they differ, or a keyword of the schema that is not known.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    Checker { root: schema }.check(schema, value, "$")
}

struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let Value::Object(keywords) = schema else {
            return match schema {
                Value::Bool(true) => Ok(()),
                _ => Err(format!("{at}: not allowed")),
            };
        };
        // an error about a member that is there says more than that another one is missing or too many
        let last = |keyword: &str| ["additionalProperties", "required"].contains(&keyword);
        let (after, before): (Vec<_>, Vec<_>) = keywords.iter().partition(|(name, _)| last(name));
        for (keyword, wanted) in before.into_iter().chain(after) {
            match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" => Ok(()),
                "$ref" => self.check(self.named(wanted)?, value, at),
                "oneOf" => self.one_of(wanted, value, at),
                "type" => is_of(wanted, value, at),
                "const" => same(wanted == value, at, wanted, value),
                "enum" => same(list(wanted).contains(value), at, wanted, value),
                "minimum" if value.is_number() => {
                    same(value.as_f64() >= wanted.as_f64(), at, schema, value)
                }
                "minItems" => same(length(value) >= wanted.as_u64(), at, schema, value),
                "maxItems" => same(length(value) <= wanted.as_u64(), at, schema, value),
                "minimum" => Ok(()),
                "items" => self.items(wanted, value, at),
                "required" => required(wanted, value, at),
                "properties" => self.properties(wanted, value, at),
                "additionalProperties" => {
                    self.additional(wanted, schema.get("properties"), value, at)
                }
                _ => Err(format!("the schema's keyword {keyword} is not known here")),
            }?;
        }
        Ok(())
    }

    fn named(&self, reference: &Value) -> Result<&Value, String> {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        pointer
            .and_then(|pointer| self.root.pointer(pointer))
            .ok_or_else(|| format!("the schema has no {reference}"))
    }

    fn one_of(&self, schemas: &Value, value: &Value, at: &str) -> Result<(), String> {
        // the error of the schema that the value's constants name says most
        let mut said = format!("{at}: no schema is of this verb");
        let mut fit = 0;
        for schema in list(schemas) {
            match self.check(schema, value, at) {
                Ok(()) => fit += 1,
                Err(error) if self.is_meant(schema, value)? => said = error,
                Err(_) => {}
            }
        }
        match fit {
            0 => Err(said),
            1 => Ok(()),
            _ => Err(format!("{at}: {fit} schemas fit")),
        }
    }

    fn is_meant(&self, schema: &Value, value: &Value) -> Result<bool, String> {
        let schema = match schema.get("$ref") {
            Some(reference) => self.named(reference)?,
            None => schema,
        };
        let mut properties = schema["properties"].as_object().into_iter().flatten();
        Ok(properties.all(|(name, schema)| {
            let constant = schema.get("const");
            constant.is_none_or(|constant| value.get(name) == Some(constant))
        }))
    }

    fn items(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let mut items = list(value).iter().enumerate();
        items.try_for_each(|(index, item)| self.check(schema, item, &format!("{at}[{index}]")))
    }

    fn properties(&self, schemas: &Value, value: &Value, at: &str) -> Result<(), String> {
        let mut there = schemas.as_object().into_iter().flatten();
        there.try_for_each(|(name, schema)| match value.get(name) {
            Some(value) => self.check(schema, value, &format!("{at}.{name}")),
            None => Ok(()),
        })
    }

    fn additional(
        &self,
        schema: &Value,
        known: Option<&Value>,
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let mut others = value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| known.is_none_or(|known| known.get(name).is_none()));
        others.try_for_each(|(name, value)| {
            self.check(schema, value, &format!("{at}.{name} = {value}"))
        })
    }
}

fn required(names: &Value, value: &Value, at: &str) -> Result<(), String> {
    let missing = |name: &&Value| name.as_str().is_none_or(|name| value.get(name).is_none());
    match list(names).iter().find(missing) {
        Some(name) if value.is_object() => Err(format!("{at}: {name} is missing")),
        _ => Ok(()),
    }
}

fn is_of(wanted: &Value, value: &Value, at: &str) -> Result<(), String> {
    let is = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        _ => false,
    };
    let fits = match wanted {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    };
    same(fits, at, wanted, value)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn length(value: &Value) -> Option<u64> {
    u64::try_from(value.as_array()?.len()).ok()
}

fn same(fits: bool, at: &str, wanted: &Value, value: &Value) -> Result<(), String> {
    match fits {
        true => Ok(()),
        false => Err(format!("{at}: {value} is not {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_keyword_refuses_what_does_not_fit() {
        let schema = json!({
            "oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
            "$defs": {
                "a": {
                    "type": "object",
                    "properties": {
                        "verb": {"const": "a"},
                        "n": {"type": ["integer", "null"], "minimum": 1},
                        "l": {"type": "array", "items": {"enum": ["x"]}, "minItems": 1, "maxItems": 2},
                    },
                    "required": ["verb", "n"],
                    "additionalProperties": false,
                },
                "b": {"type": "object", "required": ["verb"], "properties": {"verb": {"const": "b"}}},
            },
        });
        for good in [
            json!({"verb": "a", "n": 1}),
            json!({"verb": "a", "n": null, "l": ["x", "x"]}),
            json!({"verb": "b", "other": 1}),
        ] {
            assert_eq!(check(&schema, &good), Ok(()));
        }
        for (bad, place) in [
            (json!({"verb": "a"}), "\"n\" is missing"),
            (json!({"verb": "a", "n": 0}), "$.n"),
            (json!({"verb": "a", "n": 1.5}), "$.n"),
            (json!({"verb": "a", "n": 1, "m": 1}), "$.m"),
            (json!({"verb": "a", "n": 1, "l": []}), "$.l"),
            (json!({"verb": "a", "n": 1, "l": ["x", "y"]}), "$.l[1]"),
            (json!({"verb": "a", "n": 1, "l": ["x", "x", "x"]}), "$.l"),
            (json!({"verb": "c"}), "$"),
            (json!([]), "$"),
        ] {
            let error = check(&schema, &bad).unwrap_err();
            assert!(error.contains(place), "{bad}: {error}");
        }
        let unknown = check(&json!({"pattern": "a"}), &json!("b"));
        assert!(unknown.unwrap_err().contains("pattern"));
    }
}
