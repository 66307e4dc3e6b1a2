//! Whether a file has numbers that the first version of the reader wrote otherwise than they stand there.

use std::{io::BufRead, path::Path};

use serde_json::Value;

use crate::{data::decoding::Text, spec::Source};

/// Integers of so many bytes stay the same whichever way they're written.
const SHORT: usize = 18;

/// Whether there are any.
pub(in crate::data::rows) fn is_revised(source: &Source, file: &Path) -> bool {
    let Ok(mut reader) = Text::open(source, file) else { return true };
    let mut scan = Scan::default();
    loop {
        let Ok(bytes) = reader.fill_buf() else { return true };
        if bytes.is_empty() {
            return scan.byte(b'\n');
        }
        if bytes.iter().any(|&byte| scan.byte(byte)) {
            return true;
        }
        let length = bytes.len();
        reader.consume(length);
    }
}

#[derive(Default)]
struct Scan {
    in_string: bool,
    is_escaped: bool,
    number: Vec<u8>,
}

impl Scan {
    /// Whether something is found that ends before this byte.
    fn byte(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'
                if !self.number.is_empty() || byte == b'-' || byte.is_ascii_digit() =>
            {
                self.number.push(byte);
                return false;
            }
            b'"' => self.in_string = true,
            _ => {}
        }
        let number = std::mem::take(&mut self.number);
        let plain = number.len() < SHORT && number.iter().all(u8::is_ascii_digit);
        !(plain || serde_json::from_slice::<Value>(&number).is_ok_and(|value| value.to_string().as_bytes() == number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revised(text: &str) -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let source = serde_json::from_value(serde_json::json!({ "path": "a.jsonl" })).unwrap();
        is_revised(&source, file.path())
    }

    #[test]
    fn numbers_that_were_written_otherwise_are_found() {
        assert!(!revised("{\"a\": 1, \"b\": -2.5, \"c\": [0.1, 18446744073709551615], \"1e5\": \"1e5\\\" 1e5\"}\r\n"));
        for number in ["1e5", "0.10", "-0", "1E400", "12345678901234567890123"] {
            assert!(revised(&format!("{{\"a\": {number}}}\n")), "{number}");
        }
    }
}
