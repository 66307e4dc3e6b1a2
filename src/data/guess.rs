//! What bytes seem to be, for messages about files that can't be read as they were said to be.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{DecoderResult, Encoding};
use fs_err as fs;

/// Bytes that are looked at.
const WINDOW: usize = 1 << 16;

/// What a file seems to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Guess {
    /// In this encoding; a source's `encoding` takes its name in lower case.
    Encoding(&'static str),
    /// In UTF-8, but for a few damaged places.
    DamagedUtf8,
}

/// What's around a byte of a file; `None` where nothing is likely.
pub(super) fn around(path: &Path, offset: u64) -> Option<Guess> {
    // Even, as units of UTF-16 are.
    let start = offset.saturating_sub(WINDOW as u64 / 2) & !1;
    let mut file = fs::File::open(path).ok()?;
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::with_capacity(WINDOW);
    file.take(WINDOW as u64).read_to_end(&mut bytes).ok()?;
    if let Some(name) = utf16(&bytes) {
        return Some(Guess::Encoding(name));
    }
    if start > 0 {
        // From the beginning of a line, which no encoding but UTF-16 has within a character.
        let before = usize::try_from(offset - start).ok().and_then(|before| bytes.get(..before)).unwrap_or_default();
        let line = before.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        bytes.drain(..line);
    }
    of(&bytes)
}

/// What bytes are that aren't UTF-16.
fn of(bytes: &[u8]) -> Option<Guess> {
    let (mut sound, mut damaged) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        sound += chunk.valid().chars().filter(|character| !character.is_ascii()).count();
        damaged += usize::from(!chunk.invalid().is_empty());
    }
    match (sound, damaged) {
        (0, 0) => return None,
        (_, 0) => return Some(Guess::Encoding(encoding_rs::UTF_8.name())),
        _ if sound > 4 * damaged => return Some(Guess::DamagedUtf8),
        _ => {}
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, false);
    let likely = detector.guess(None, Utf8Detection::Deny);
    // The latter reads all that the former does, and more.
    let likely = if likely == encoding_rs::GBK { encoding_rs::GB18030 } else { likely };
    sound_prefix(likely, bytes).then(|| Guess::Encoding(likely.name()))
}

/// Whether bytes, which may end within a character, are of an encoding.
fn sound_prefix(encoding: &'static Encoding, bytes: &[u8]) -> bool {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let Some(room) = decoder.max_utf8_buffer_length_without_replacement(bytes.len()) else { return false };
    let result = decoder.decode_to_utf8_without_replacement(bytes, &mut vec![0; room], false).0;
    result == DecoderResult::InputEmpty
}

/// Which order of UTF-16 bytes without a mark have, if they look like it: most of its characters are usual ones, and
/// some are ASCII, at least what ends the lines.
pub(super) fn utf16(bytes: &[u8]) -> Option<&'static str> {
    if !bytes.contains(&0) {
        return None;
    }
    let likely = ["UTF-16LE", "UTF-16BE"].into_iter().filter_map(|name| {
        let unit = if name == "UTF-16LE" { u16::from_le_bytes } else { u16::from_be_bytes };
        let units: Vec<u16> = bytes.as_chunks().0.iter().map(|pair| unit(*pair)).collect();
        let count = |is: fn(u16) -> bool| units.iter().filter(|&&unit| is(unit)).count();
        let ascii = count(|unit| matches!(unit, 0x09 | 0x0A | 0x0D | 0x20..=0x7E));
        // Pairs of letters are Chinese characters to UTF-16.
        let pairs = count(|unit| unit.to_be_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b' '));
        let is = ascii > 0 && 10 * count(is_usual) >= 9 * units.len() && 2 * pairs < units.len();
        is.then_some((ascii, name))
    });
    likely.max_by_key(|(ascii, _)| *ascii).map(|(_, name)| name)
}

/// Whether a unit of UTF-16 is one that texts are made of.
fn is_usual(unit: u16) -> bool {
    matches!(unit,
        0x09 | 0x0A | 0x0D | 0x20..=0x7E | 0xA0..=0x052F | 0x0590..=0x06FF | 0x0900..=0x097F | 0x0E00..=0x0E7F
        | 0x1E00..=0x1EFF | 0x2010..=0x2027 | 0x2030..=0x205E | 0x20A0..=0x22FF | 0x2460..=0x27BF | 0x3000..=0x30FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7A3 | 0xD800..=0xDFFF | 0xFE30..=0xFE4F | 0xFF00..=0xFFEF)
}

/// What kind of a file begins so, where that is no text, and what to do with it.
pub(super) fn no_text(start: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "unpack it first";
    const KINDS: [(&[u8], &str, &str); 9] = [
        (&[0x1F, 0x8B], "compressed with gzip", UNPACK),
        (&[0x28, 0xB5, 0x2F, 0xFD], "compressed with zstd", UNPACK),
        (&[0xFD, b'7', b'z', b'X', b'Z', 0], "compressed with xz", UNPACK),
        (b"BZh", "compressed with bzip2", UNPACK),
        (&[0x04, 0x22, 0x4D, 0x18], "compressed with lz4", UNPACK),
        (b"PK\x03\x04", "a ZIP archive, as .xlsx is one, too", "unpack it, or save the table as CSV"),
        (&[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1], "an old Excel or Word file", "save it as CSV or text"),
        (b"%PDF-", "a PDF", "take the text out of it"),
        (b"PAR1", "a Parquet file", "set `format: parquet`"),
    ];
    KINDS.into_iter().find(|(magic, ..)| start.starts_with(magic)).map(|(_, kind, hint)| (kind, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHINESE: &str = "文本\t标签\n这部电影很好看，我们一起去看了两次\t好\n味道实在太差了，再也不会去这家店\t坏\n";

    fn guess(bytes: &[u8]) -> Option<Guess> {
        utf16(bytes).map(Guess::Encoding).or_else(|| of(bytes))
    }

    #[test]
    fn chinese_is_recognised() {
        let encoded = |encoding: &'static Encoding| encoding.encode(CHINESE).0.into_owned();
        assert_eq!(guess(&encoded(encoding_rs::GB18030)), Some(Guess::Encoding("gb18030")));
        let big5 = "這部電影很好看，我們一起去看了兩次\n味道實在太差了，再也不會去這家店\n";
        assert_eq!(guess(&encoding_rs::BIG5.encode(big5).0), Some(Guess::Encoding("Big5")));
        let units = |order: fn(u16) -> [u8; 2]| CHINESE.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        assert_eq!(guess(&units(u16::to_le_bytes)), Some(Guess::Encoding("UTF-16LE")));
        assert_eq!(guess(&units(u16::to_be_bytes)), Some(Guess::Encoding("UTF-16BE")));
        assert_eq!(guess(CHINESE.as_bytes()), Some(Guess::Encoding("UTF-8")));
    }

    #[test]
    fn european_languages_are_recognised() {
        assert_eq!(guess(b"un caf\xE9 cr\xE8me, \xE7a va\n"), Some(Guess::Encoding("windows-1252")));
        let russian = encoding_rs::KOI8_R.encode("Съешь ещё этих мягких французских булок\n").0.into_owned();
        assert_eq!(guess(&russian), Some(Guess::Encoding("KOI8-U")));
        let english: Vec<u8> = "label\ttext\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(guess(&english), Some(Guess::Encoding("UTF-16BE")));
    }

    #[test]
    fn a_byte_that_is_lost_makes_no_other_encoding() {
        let mut bytes = CHINESE.as_bytes().to_vec();
        bytes.remove(20);
        assert_eq!(guess(&bytes), Some(Guess::DamagedUtf8));
        assert_eq!(guess(b"plain text\nwith a zero\0 in it\n"), None);
    }
}
