//! Edits of CBOR by a script: of decoded values, so that what comes out is still canonical where it
//! can be, and of raw bytes, so that it is not.

use ciborium::Value;

use crate::Input;

/// Changes one node of `value`.
pub fn edit_value(value: &mut Value, script: &mut Input<'_>) {
    let count = nodes(value);
    let (at, from) = (script.below(count), script.below(count));
    let operation = script.byte() % 12;
    let copy = (operation == 8)
        .then(|| node(value, &mut { from }).cloned())
        .flatten();
    let Some(target) = node(value, &mut { at }) else {
        return;
    };
    match operation {
        0 => *target = Value::Integer(script.edge().into()),
        1 => *target = Value::Integer((-1 - i64::from(script.byte())).into()),
        2 => *target = Value::Bytes(script.short().to_vec()),
        3 => *target = Value::Text(String::from_utf8_lossy(script.short()).into_owned()),
        4 => nudge(target, script),
        5 => remove(target, script),
        6 => repeat(target, script),
        7 => swap(target, script),
        8 => *target = copy.unwrap_or(Value::Null),
        9 => *target = Value::Array(vec![target.clone()]),
        10 => insert(target, script),
        _ => {
            let odd = [
                Value::Null,
                Value::Bool(false),
                Value::Float(1.5),
                Value::Array(Vec::new()),
                Value::Map(Vec::new()),
            ];
            *target = odd[usize::from(script.byte()) % odd.len()].clone();
        }
    }
}

/// Changes, inserts or removes raw bytes.
pub fn edit_bytes(bytes: &mut Vec<u8>, script: &mut Input<'_>) {
    let at = script.below(bytes.len() + 1);
    match script.byte() % 4 {
        0 => {
            let mask = script.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
        }
        1 => {
            bytes.splice(at..at, script.short().iter().copied());
        }
        2 => {
            let end = at.saturating_add(script.byte().into()).min(bytes.len());
            bytes.drain(at..end);
        }
        _ => {
            let new = script.short();
            for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
                *byte = *new;
            }
        }
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Map(entries) => entries.iter().map(|(_, value)| nodes(value)).sum(),
        _ => 0,
    }
}

/// Node `at` in the order of the bytes; keys of maps are not nodes.
fn node<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| node(item, at)),
        Value::Map(entries) => entries.iter_mut().find_map(|(_, value)| node(value, at)),
        _ => None,
    }
}

/// A small step from what stands there.
fn nudge(target: &mut Value, script: &mut Input<'_>) {
    let delta = i128::from(i64::from(script.byte()) - 128);
    match target {
        Value::Integer(number) => {
            let moved = (i128::from(*number) + delta).clamp(0, u64::MAX.into());
            *number = u64::try_from(moved).unwrap_or(0).into();
        }
        Value::Bytes(bytes) => edit_bytes(bytes, script),
        Value::Text(text) => {
            let mut bytes = text.clone().into_bytes();
            edit_bytes(&mut bytes, script);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Value::Bool(flag) => *flag = !*flag,
        _ => {}
    }
}

fn remove(target: &mut Value, script: &mut Input<'_>) {
    match target {
        Value::Array(items) if !items.is_empty() => {
            items.remove(script.below(items.len()));
        }
        Value::Map(entries) if !entries.is_empty() => {
            entries.remove(script.below(entries.len()));
        }
        _ => {}
    }
}

fn repeat(target: &mut Value, script: &mut Input<'_>) {
    match target {
        Value::Array(items) if !items.is_empty() => {
            let at = script.below(items.len());
            let times = usize::from(script.byte()) % 64 + 1;
            items.splice(at..at, vec![items[at].clone(); times]);
        }
        Value::Map(entries) if !entries.is_empty() => {
            let at = script.below(entries.len());
            entries.insert(at, entries[at].clone());
        }
        _ => {}
    }
}

fn swap(target: &mut Value, script: &mut Input<'_>) {
    match target {
        Value::Array(items) if !items.is_empty() => {
            let (a, b) = (script.below(items.len()), script.below(items.len()));
            items.swap(a, b);
        }
        Value::Map(entries) if !entries.is_empty() => {
            let (a, b) = (script.below(entries.len()), script.below(entries.len()));
            entries.swap(a, b);
        }
        _ => {}
    }
}

/// A further entry in its place, or a further element at the end.
fn insert(target: &mut Value, script: &mut Input<'_>) {
    let value = match script.byte() % 3 {
        0 => Value::Integer(script.edge().into()),
        1 => Value::Bytes(script.short().to_vec()),
        _ => Value::Array(Vec::new()),
    };
    match target {
        Value::Array(items) => items.push(value),
        Value::Map(entries) => {
            let key = i128::from(script.byte());
            let place = entries
                .iter()
                .take_while(|(k, _)| k.as_integer().is_some_and(|k| i128::from(k) < key))
                .count();
            entries.insert(place, (Value::Integer(script_key(key)), value));
        }
        _ => {}
    }
}

fn script_key(key: i128) -> ciborium::value::Integer {
    u64::try_from(key).unwrap_or(0).into()
}
