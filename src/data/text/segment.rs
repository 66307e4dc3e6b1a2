//! Where the words of a text begin: by jieba's dictionary in Chinese, by spaces and punctuation in scripts that have
//! these.
//!
//! Chinese text, with the Latin letters and digits that stand in it, is cut as jieba's `cut` does (with its model for words
//! that the dictionary lacks). Anywhere else a word is a run of letters and digits, a number with its fraction and `%`
//! too, and other characters stand alone, but for runs such as `...`. Scripts that write words without spaces, and that there is no dictionary
//! for, have a word for each character.

use std::{ops::Range, sync::LazyLock};

use jieba_rs::Jieba;

static DICTIONARY: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// Version of these rules and of the dictionary. Raise it whenever a text would be cut elsewhere.
pub const VERSION: u32 = 1;

/// The byte offsets at which the words of a text begin, rising; 0 is the first, unless the text is empty.
pub fn word_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::with_capacity(text.len() / 4);
    for (block, is_chinese) in blocks(text) {
        let first = block.start;
        if is_chinese {
            for word in DICTIONARY.cut(&text[block], true) {
                let at = first + word.byte_start;
                if at > first || begins_word(text, at) {
                    starts.push(at);
                }
                // What it joins here, such as `python-3`, isn't always what the original does.
                if !word.word.contains(in_dictionary) && !DICTIONARY.has_word(word.word) {
                    let inner = word.word.char_indices().skip(1).map(|(inner, _)| at + inner);
                    starts.extend(inner.filter(|&at| begins_word(text, at)));
                }
            }
        } else {
            let characters = text[block].char_indices().map(|(at, _)| first + at);
            starts.extend(characters.filter(|&at| begins_word(text, at)));
        }
    }
    starts
}

/// Cuts a text into the runs of characters that jieba takes together, if there's a Chinese one among them, and the rest.
fn blocks(text: &str) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let together = rest.starts_with(in_chinese);
        let end = rest.find(|character| in_chinese(character) != together).map_or(text.len(), |length| start + length);
        let block = start..end;
        start = end;
        let is_chinese = together && text[block.clone()].contains(in_dictionary);
        Some((block, is_chinese))
    })
}

/// What jieba takes together with Chinese characters.
fn in_chinese(character: char) -> bool {
    in_dictionary(character) || character.is_ascii_alphanumeric() || is_mark(character)
}

/// The marks that jieba takes together with letters, and runs of them for one word.
fn is_mark(character: char) -> bool {
    "+#&._%-".contains(character)
}

/// Whether a character is one of those that jieba's dictionary has words of; the rarer ones stand alone.
fn in_dictionary(character: char) -> bool {
    matches!(character, '\u{4E00}'..='\u{9FD5}')
}

/// Whether a character is out of the blocks of unified ideographs.
pub(super) fn is_ideograph(character: char) -> bool {
    matches!(
        character,
        '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{323AF}'
    )
}

/// Whether a word begins at this place of a text, by the characters around it alone.
fn begins_word(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    let mut before = before.chars().rev();
    let mut after = after.chars();
    let (Some(last), Some(first)) = (before.next(), after.next()) else { return true };
    let digit = |character: Option<char>| character.is_some_and(|character| character.is_numeric());
    let joined = is_spaced(last) && is_spaced(first)
        || continues_character(first)
        || last == '\u{200D}'
        || (last.is_numeric() && first == '.' && digit(after.next()))
        || (last == '.' && first.is_numeric() && digit(before.next()))
        || (last.is_numeric() && first == '%')
        // `...` and `--`, but not the sign behind `5%`.
        || (is_mark(last) && is_mark(first) && !(last == '%' && digit(before.next())));
    !joined
}

/// Whether a character is a letter or digit of a script that puts spaces between words.
pub(super) fn is_spaced(character: char) -> bool {
    let without_spaces = matches!(character,
        // Thai and Lao, Tibetan, Burmese, Khmer, signs such as 〇, kana.
        '\u{E00}'..='\u{EFF}' | '\u{F00}'..='\u{FFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{3000}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9F}');
    (character.is_alphanumeric() || continues_character(character)) && !without_spaces && !is_ideograph(character)
}

/// Whether a character only changes the one before it: accents, signs that silence a vowel, joiners, variants.
fn continues_character(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36F}' | '\u{93C}' | '\u{94D}' | '\u{9CD}' | '\u{A4D}' | '\u{ACD}' | '\u{B4D}' | '\u{BCD}'
        | '\u{C4D}' | '\u{CCD}' | '\u{D4D}' | '\u{200C}'..='\u{200D}' | '\u{FE00}'..='\u{FE0F}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::word_starts;

    fn words(text: &str) -> Vec<&str> {
        let mut starts = word_starts(text);
        starts.push(text.len());
        starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }

    #[test]
    fn other_scripts_have_words_between_spaces_and_punctuation() {
        assert_eq!(words("Don't pay 3.50%, café!"), ["Don", "'", "t", " ", "pay", " ", "3.50%", ",", " ", "café", "!"]);
        assert_eq!(words("Привет, мир"), ["Привет", ",", " ", "мир"]);
        assert_eq!(words("v1.2.x a.b"), ["v1.2", ".", "x", " ", "a", ".", "b"]);
        assert_eq!(words("cafe\u{301}s 한국어 हिन्दी"), ["cafe\u{301}s", " ", "한국어", " ", "हिन्दी"]);
        assert_eq!(words("so... 5%-8%"), ["so", "...", " ", "5%", "-", "8%"]);
        assert_eq!(words("すし"), ["す", "し"]);
        assert!(words("").is_empty());
    }

    #[test]
    fn words_go_on_where_chinese_ends_within_one() {
        assert_eq!(words("喝café"), ["喝", "café"]);
        assert_eq!(words("éa天气"), ["éa", "天气"]);
    }

    proptest! {
        #[test]
        fn words_cover_any_text(text in "[天气很好一不是a-c0-9é.% 。！\nすし\u{301}👍\u{200D}]{0,40}") {
            prop_assert_eq!(words(&text).concat(), text);
        }
    }
}
