//! Where sentences end in a text. Nothing is taken from the text or put into it: tokenizers see it whole.

/// The sentences of a text, which put together are the text; none if there's only white space.
///
/// A sentence ends after 。！？；…, after ! ? ; (but not within a word, as in a URL), after a full stop before a space, and
/// with a line. Quotes and brackets that close after the stop stay with it. A space after the stop begins the next
/// sentence; a line's end, blank lines after it, and those before the text belong to the sentence in front of them or, if
/// there's none, to the first one.
pub fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    sentence_ends(text).into_iter().map(move |end| &text[std::mem::replace(&mut start, end)..end])
}

/// Where each of the [`sentences`] ends, in bytes.
pub fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        let content = line.trim_end();
        if !content.trim_start().is_empty() {
            split(content, |end| ends.push(start + end));
            ends.push(start + line.len());
        } else if let Some(end) = ends.last_mut() {
            *end = start + line.len();
        }
        start += line.len();
    }
    ends
}

/// Tells where sentences end within a line that ends in no white space.
fn split(line: &str, mut tell: impl FnMut(usize)) {
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
            tell(end);
        }
    }
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

    fn split(text: &str) -> Vec<&str> {
        sentences(text).collect()
    }

    #[test]
    fn chinese_stops_end_a_sentence_and_closing_quotes_stay_with_it() {
        assert_eq!(
            split("他说：“走吧！”我问：“去哪儿？？”没人答……雨停了"),
            ["他说：“走吧！”", "我问：“去哪儿？？”", "没人答……", "雨停了"]
        );
        assert_eq!(split("她说\"好。\"\"真的?\"他问"), ["她说\"好。\"", "\"真的?\"", "他问"]);
    }

    #[test]
    fn a_full_stop_ends_a_sentence_only_before_a_space() {
        assert_eq!(
            split("It costs 3.50 at a.b.c. (Really.) Yes! no"),
            ["It costs 3.50 at a.b.c.", " (Really.)", " Yes!", " no"]
        );
        assert_eq!(split("见http://a.cn/?b=1&c=2;d好!真好"), ["见http://a.cn/?b=1&c=2;d好!", "真好"]);
    }

    #[test]
    fn lines_are_sentences_with_their_ends_and_the_blank_lines_behind_them() {
        assert_eq!(split("\n　春眠\r\n不觉晓。 \n\n \n"), ["\n　春眠\r\n", "不觉晓。 \n\n \n"]);
        assert_eq!(split("def f(x):\n    return x;\n\n\nf(1)"), ["def f(x):\n", "    return x;\n\n\n", "f(1)"]);
        assert_eq!(split("one\rtwo\r"), ["one\r", "two\r"]);
    }

    #[test]
    fn text_without_content_has_no_sentences() {
        assert!(split("").is_empty());
        assert!(split(" \n\u{3000}\n").is_empty());
    }

    proptest! {
        #[test]
        fn sentences_put_together_are_the_text(text in "[一-三a。！？；!?;….”\"' （）《\n\r\t　]{0,60}") {
            let found = split(&text);
            prop_assert!(found.iter().all(|sentence| !sentence.trim().is_empty()));
            prop_assert_eq!(found.concat(), if text.trim().is_empty() { "" } else { &text });
        }
    }
}
