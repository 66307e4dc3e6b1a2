//! What the bytes of a text file stand for, by name.

use std::{fmt, str::FromStr};

use encoding_rs::Encoding as Standard;

use crate::support::{Hinted, suggest};

/// Behind a name: lines end with a carriage return alone.
const CR: &str = "+cr";

/// What a source's `encoding` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Encoding {
    pub(super) characters: Characters,
    /// Whether lines end with a carriage return alone, as on Macintoshes before 2001.
    pub(super) cr: bool,
    /// As the source names it, without what's said of line ends.
    pub(super) name: String,
}

/// How bytes make characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Characters {
    Utf8,
    /// In the order that the mark at the start says.
    Utf16,
    /// A byte a character, up to U+00FF. The standard has its superset for it, windows-1252, which isn't the same.
    Latin1,
    /// As the WHATWG's Encoding Standard has it (<https://encoding.spec.whatwg.org>).
    Standard(&'static Standard),
}

impl Encoding {
    /// Names that are suggested for those that there aren't.
    pub(super) const NAMES: [&str; 17] = [
        "utf-8",
        "utf-16",
        "utf-16le",
        "utf-16be",
        "gb18030",
        "gbk",
        "big5",
        "latin-1",
        "windows-1252",
        "windows-1251",
        "iso-8859-2",
        "iso-8859-15",
        "koi8-r",
        "shift_jis",
        "euc-jp",
        "euc-kr",
        "macintosh",
    ];

    /// The same with lines that end with a carriage return alone, as a source names it.
    pub(super) fn with_cr(&self) -> String {
        format!("{}{CR}", self.name)
    }

    /// What ends a line.
    pub(super) fn line_end(&self) -> u8 {
        if self.cr { b'\r' } else { b'\n' }
    }
}

/// UTF-8 with line feeds.
impl Default for Encoding {
    fn default() -> Self {
        Self { characters: Characters::Utf8, cr: false, name: "utf-8".to_owned() }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Encoding {
    type Err = Hinted;

    fn from_str(text: &str) -> Result<Self, Hinted> {
        let lower = text.trim().to_ascii_lowercase();
        let (name, cr) = lower.strip_suffix(CR).map_or((lower.as_str(), false), |name| (name, true));
        let characters = match name.replace('_', "-").as_str() {
            "utf-8" | "utf8" | "utf-8-sig" => Some(Characters::Utf8),
            "utf-16" | "utf16" => Some(Characters::Utf16),
            "utf-16-le" => Some(Characters::Standard(encoding_rs::UTF_16LE)),
            "utf-16-be" => Some(Characters::Standard(encoding_rs::UTF_16BE)),
            "latin-1" | "latin1" | "l1" | "iso-8859-1" | "iso8859-1" | "iso88591" => Some(Characters::Latin1),
            // Python's names.
            "cp936" => Some(Characters::Standard(encoding_rs::GBK)),
            "cp932" => Some(Characters::Standard(encoding_rs::SHIFT_JIS)),
            "cp949" => Some(Characters::Standard(encoding_rs::EUC_KR)),
            "cp950" => Some(Characters::Standard(encoding_rs::BIG5)),
            // The standard reads it as windows-1252; what is ASCII is UTF-8, too.
            "ascii" | "us-ascii" => None,
            _ => Standard::for_label_no_replacement(name.as_bytes())
                .filter(|standard| *standard != encoding_rs::X_USER_DEFINED)
                .map(Characters::Standard),
        };
        match characters {
            Some(Characters::Utf8) => Ok(Self { cr, ..Self::default() }),
            Some(characters) => Ok(Self { characters, cr, name: name.to_owned() }),
            None => {
                let hint = suggest::did_you_mean(name, Self::NAMES, "known are, among others");
                Err(Hinted::new(format!("there is no encoding `{text}`"), hint))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Characters, bool) {
        let encoding: Encoding = text.parse().unwrap();
        (encoding.characters, encoding.cr)
    }

    #[test]
    fn names_are_those_of_the_standard_and_of_python() {
        assert_eq!(read("utf-8"), (Characters::Utf8, false));
        assert_eq!(read("UTF_8"), (Characters::Utf8, false));
        assert_eq!(read("utf-16+cr"), (Characters::Utf16, true));
        for (names, standard) in [
            (&["gb18030", "GB18030"][..], encoding_rs::GB18030),
            (&["gbk", "gb2312", "cp936"], encoding_rs::GBK),
            (&["utf-16le", "utf_16_le"], encoding_rs::UTF_16LE),
            (&["cp1252", "windows-1252"], encoding_rs::WINDOWS_1252),
            (&["big5", "cp950", "big5-hkscs"], encoding_rs::BIG5),
        ] {
            for name in names {
                assert_eq!(read(name), (Characters::Standard(standard), false), "{name}");
            }
        }
    }

    #[test]
    fn latin_1_is_not_windows_1252() {
        for name in ["latin-1", "latin1", "iso-8859-1", "ISO8859_1+cr"] {
            assert_eq!(read(name).0, Characters::Latin1, "{name}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = "gb-18030".parse::<Encoding>().unwrap_err();
        assert_eq!(error.message, "there is no encoding `gb-18030`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `gb18030`?"));
        for name in ["", "+cr", "ascii", "replacement", "x-user-defined", "utf-32", "auto"] {
            assert!(name.parse::<Encoding>().is_err(), "{name}");
        }
    }

    #[test]
    fn suggested_names_are_known() {
        assert!(Encoding::NAMES.iter().all(|name| name.parse::<Encoding>().is_ok()));
        assert_eq!("big5".parse::<Encoding>().unwrap().with_cr(), "big5+cr");
    }
}
