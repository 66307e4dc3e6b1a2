//! Why a row of JSON can't be read, and what to do about it.

use serde_json::Error;

use crate::support::Hinted;

/// Of a whole row.
pub(super) fn of(text: &str, error: &Error) -> Hinted {
    if error.is_data() || !text.trim_start().starts_with('{') {
        let hint =
            "rows are objects such as {\"text\": …}, one a line or in an array; for lines of text set `format: txt`";
        return Hinted::with("not a JSON object", hint);
    }
    // Rows of an array may have several lines.
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let place = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
    let before = line.get(..error.column().saturating_sub(1)).unwrap_or_default();
    let message = format!("not valid JSON at column {}: {error}", error.column());
    for word in ["NaN", "-Infinity", "Infinity"] {
        if place.starts_with(word) || place.starts_with(word.trim_start_matches('-')) && before.ends_with('-') {
            let message = format!("not valid JSON at column {}: there is no {word} in JSON", error.column());
            return Hinted::with(message, "write null in its place; Python's json.dump(…, allow_nan=False) finds them");
        }
    }
    let hint = if error.is_eof() {
        "the line ends within an object: write each row on one line, or all of them as an array"
    } else if place.starts_with('\'') {
        "JSON has double quotes; a Python dict is written as JSON by json.dumps"
    } else if ["None", "True", "False"].iter().any(|word| place.starts_with(word)) {
        "JSON has null, true and false; a Python dict is written as JSON by json.dumps"
    } else if error.to_string().starts_with("trailing characters") {
        "write one object a line"
    } else {
        return Hinted::new(message, None);
    };
    Hinted::with(message, hint)
}

/// Of a text within one, which is valid but for what it escapes.
pub(super) fn of_text() -> Hinted {
    Hinted::with(
        "holds half of a surrogate pair (\\ud800 to \\udfff), which stands for no character",
        "take it out; in Python: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')",
    )
}
