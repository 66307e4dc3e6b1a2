//! JSON as YAML, as people read manifests.

use serde_json::Value as Json;

/// A document.
pub(super) fn text(value: &Json) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

/// Writes the lines of a table or a list, each this deep.
fn block(value: &Json, depth: usize, text: &mut String) {
    let margin = " ".repeat(depth);
    match value {
        Json::Object(table) => {
            for (key, value) in table {
                text.push_str(&format!("{margin}{}:", scalar(key)));
                under(value, depth + 2, text);
            }
        }
        Json::Array(items) => {
            for item in items {
                text.push_str(&format!("{margin}-"));
                match item {
                    Json::Object(table) if !table.is_empty() => {
                        // The first key stands behind the dash.
                        let mut inner = String::new();
                        block(item, depth + 2, &mut inner);
                        text.push(' ');
                        text.push_str(&inner[depth + 2..]);
                    }
                    item => under(item, depth + 2, text),
                }
            }
        }
        scalar => under(scalar, depth, text),
    }
}

/// Writes a value behind its key or its dash.
fn under(value: &Json, depth: usize, text: &mut String) {
    match value {
        Json::Object(table) if !table.is_empty() => {
            text.push('\n');
            block(value, depth, text);
        }
        Json::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(value, depth, text);
        }
        // Lines of a shell; a text that a block can't hold is quoted.
        Json::String(lines) if is_block(lines) => {
            text.push_str(" |\n");
            for line in lines.lines() {
                text.push_str(&format!("{}{line}\n", " ".repeat(depth)));
            }
        }
        Json::String(word) => text.push_str(&format!(" {}\n", scalar(word))),
        other => text.push_str(&format!(" {other}\n")),
    }
}

fn is_block(text: &str) -> bool {
    let is_plain = |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.contains(|c: char| c.is_control());
    text.ends_with('\n') && text.lines().all(is_plain)
}

/// A text as a word, in quotes unless it can be nothing else.
fn scalar(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    // Words that YAML 1.1 takes for something else.
    let is_value =
        ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_word && !is_value { text.to_owned() } else { Json::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_as_what_was_written() {
        let value = json!({
            "apiVersion": "batch/v1",
            "list": [{ "a": 1, "b": { "c": "x" } }, [], "on", "two words", { "d": [true, null] }],
            "nvidia.com/gpu": "2",
            "script": "export A=\"1\"\nexec 'it''s'\n",
            "odd": ["line\n\nline\n", " a\n", "1e3", "", "~", "模型: #", "a: b\n"],
            "empty": {},
            "nested": [["x"]],
        });
        let text = text(&value);
        let read: Json = serde_yaml::from_str(&text).unwrap();
        assert_eq!(read, value, "{text}");
        assert!(text.contains("script: |\n  export A=\"1\"\n"), "{text}");
        assert!(text.contains("list:\n  - a: 1\n    b:\n      c: x\n"), "{text}");
    }
}
