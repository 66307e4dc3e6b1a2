//! One way to write a JSON value: object keys in order, no spaces. Whatever is hashed goes through here.

use serde_json::Value;

/// The canonical text of a value. Numbers are written as `serde_json` writes them: shortest form that reads back equal.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, field)) in fields.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(field, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_does_not_matter() {
        let a = serde_json::from_str(r#"{"b": [1, {"d": 2.5, "c": null}], "a": "x\n中"}"#);
        let b = serde_json::from_str(r#"{"a": "x\n中", "b": [1, {"c": null, "d": 2.5}]}"#);
        let (a, b): (Value, Value) = (a.unwrap(), b.unwrap());
        assert_eq!(canonical_json(&a), canonical_json(&b));
        assert_eq!(canonical_json(&a), r#"{"a":"x\n中","b":[1,{"c":null,"d":2.5}]}"#);
    }
}
