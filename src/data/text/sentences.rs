//! Splitting text into sentences.

/// Splits a text after 。！？；…, after ! ? ; (but not within a word, as in a URL), after a full stop before a space, and at
/// line breaks. Quotes and brackets that close after the stop stay with their sentence; a space after it begins the
/// next one.
///
/// Lines are trimmed, and no sentence is empty. Put together, the sentences are the text without its line breaks, with
/// a space where a line break stood between two words of a script that has spaces.
pub fn sentences(text: &str) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for line in text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()) {
        let glued =
            sentences.last().is_some_and(|last| spaced(last.chars().next_back()) && spaced(line.chars().next()));
        let first = sentences.len();
        split(line, &mut sentences);
        if glued && let Some(sentence) = sentences.get_mut(first) {
            sentence.insert(0, ' ');
        }
    }
    sentences
}

/// Whether a character is of a script that puts spaces between words; what comes from U+2E80 on is taken for East Asian.
fn spaced(character: Option<char>) -> bool {
    character.is_some_and(|character| !character.is_whitespace() && character < '\u{2E80}' && character != '…')
}

/// Splits a trimmed line.
fn split(line: &str, sentences: &mut Vec<String>) {
    let mut start = 0;
    let mut quoted = false;
    let mut characters = line.char_indices().peekable();
    while let Some((_, character)) = characters.next() {
        quoted ^= character == '"';
        let Some(mut strength) = stop(character) else { continue };
        while let Some((_, next)) = characters.next_if(|&(_, next)| stop(next).is_some() || closes(next, quoted)) {
            quoted ^= next == '"';
            strength = strength.max(stop(next).unwrap_or(Stop::Dot));
        }
        let Some(&(end, next)) = characters.peek() else { break };
        let ends = match strength {
            Stop::Dot => next.is_whitespace(),
            Stop::Ascii => !next.is_ascii_alphanumeric() && !"/&=_-".contains(next),
            Stop::Wide => true,
        };
        if ends {
            sentences.push(line[start..end].to_owned());
            start = end;
        }
    }
    sentences.push(line[start..].to_owned());
}

/// What ends a sentence, from what does so least surely.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Stop {
    Dot,
    Ascii,
    Wide,
}

fn stop(character: char) -> Option<Stop> {
    match character {
        '.' => Some(Stop::Dot),
        '!' | '?' | ';' => Some(Stop::Ascii),
        '。' | '！' | '？' | '；' | '…' => Some(Stop::Wide),
        _ => None,
    }
}

/// Whether a character closes a quotation or bracket; a straight quote does where one is open.
fn closes(character: char, quoted: bool) -> bool {
    "”’」』）)】》〉]}'".contains(character) || character == '"' && quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::sentences;

    #[test]
    fn chinese_stops_end_a_sentence_and_closing_quotes_stay_with_it() {
        assert_eq!(
            sentences("他说：“走吧！”我问：“去哪儿？？”没人答……雨停了"),
            ["他说：“走吧！”", "我问：“去哪儿？？”", "没人答……", "雨停了"]
        );
        assert_eq!(sentences("她说\"好。\"\"真的?\"他问"), ["她说\"好。\"", "\"真的?\"", "他问"]);
    }

    #[test]
    fn a_full_stop_ends_a_sentence_only_before_a_space() {
        assert_eq!(
            sentences("It costs 3.50 at a.b.c. (Really.) Yes! no"),
            ["It costs 3.50 at a.b.c.", " (Really.)", " Yes!", " no"]
        );
        assert_eq!(sentences("见http://a.cn/?b=1&c=2;d好!真好"), ["见http://a.cn/?b=1&c=2;d好!", "真好"]);
    }

    #[test]
    fn line_breaks_end_a_sentence_and_leave_a_space_between_words() {
        assert_eq!(sentences("\n　春眠\r\n不觉晓\n\n \n"), ["春眠", "不觉晓"]);
        assert_eq!(sentences("two\nlines"), ["two", " lines"]);
    }

    #[test]
    fn text_without_content_has_no_sentences() {
        assert!(sentences("").is_empty());
        assert!(sentences(" \n\u{3000}\n").is_empty());
    }

    proptest! {
        #[test]
        fn sentences_put_together_are_the_text_without_line_breaks(text in "[一-三a。！？；!?;….”\"' （）《\n]{0,60}") {
            let found = sentences(&text);
            prop_assert!(found.iter().all(|sentence| !sentence.is_empty()));
            let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(bare(&found.concat()), bare(&text));
            if !text.contains('\n') {
                prop_assert_eq!(found.concat(), text.trim());
            }
        }
    }
}
