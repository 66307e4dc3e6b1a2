//! What a plain scalar means: YAML 1.2's core schema.

use super::node::{Node, Value};
use super::place::Span;

/// A plain scalar, of the type that it looks like.
pub(super) fn plain(span: Span, text: &str) -> Node {
    Node { written: Some(text.into()), ..Node::new(span, resolve(text)) }
}

/// Null, boolean, number or text. `yes`, `no`, `on` and `off` are text, as YAML 1.2 has it.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let valid = digits.chars().all(|digit| digit.is_digit(radix));
            return if valid { i128::from_str_radix(digits, radix).ok().map(Value::Int) } else { None };
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            return Some(Value::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(value) = text.parse()
    {
        return Some(Value::Int(value));
    }
    // Rust's floats are the core schema's, but for `inf`, `nan` and a lone dot, which cannot come here.
    let plausible = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if plausible { text.parse().ok().map(Value::Float) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_the_core_schema_says() {
        let cases = [
            ("", Value::Null),
            ("~", Value::Null),
            ("True", Value::Bool(true)),
            ("yes", Value::String("yes".into())),
            ("007", Value::Int(7)),
            ("-12", Value::Int(-12)),
            ("0x1F", Value::Int(31)),
            ("0o17", Value::Int(15)),
            ("1e-4", Value::Float(1e-4)),
            ("-.5", Value::Float(-0.5)),
            ("1.", Value::Float(1.0)),
            (".inf", Value::Float(f64::INFINITY)),
            (".", Value::String(".".into())),
            ("1_000", Value::String("1_000".into())),
            ("1.2.3", Value::String("1.2.3".into())),
            ("inf", Value::String("inf".into())),
            ("0x", Value::String("0x".into())),
            ("十二", Value::String("十二".into())),
        ];
        for (text, value) in cases {
            assert_eq!(resolve(text), value, "{text:?}");
        }
    }
}
