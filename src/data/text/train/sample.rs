//! A bounded sample of the training texts.

use anyhow::Result;

/// Bytes of text that a tokenizer is trained on at most; more changes a vocabulary little, and memory must not grow
/// with the corpus.
const BUDGET: usize = 32 << 20;
/// Bytes of a longer text that are taken or left together.
const PIECE: usize = 1 << 18;

/// Takes all texts, or of too many the ones with the lowest hashes: a sample that doesn't depend on their order. Long texts
/// are cut, so that parts of them can be taken, and so that all cores have work.
pub(super) fn take(texts: impl Iterator<Item = Result<String>>) -> Result<Vec<String>> {
    take_within(BUDGET, texts)
}

fn take_within(budget: usize, texts: impl Iterator<Item = Result<String>>) -> Result<Vec<String>> {
    let mut kept: Vec<(u64, String)> = Vec::new();
    let mut bytes = 0;
    let mut highest = u64::MAX;
    for text in texts {
        let text = text?;
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut(rest));
            rest = after;
            let hash = crate::support::text_hash(piece);
            if hash <= highest {
                bytes += piece.len();
                kept.push((hash, piece.to_owned()));
            }
            if bytes > 2 * budget {
                shrink(&mut kept, budget);
                bytes = kept.iter().map(|(_, text)| text.len()).sum();
                highest = kept.last().map_or(0, |(hash, _)| *hash);
            }
        }
    }
    shrink(&mut kept, budget);
    Ok(kept.into_iter().map(|(_, text)| text).collect())
}

/// Where the first piece of a text ends: with a line, or else before white space, if that's not far from where it has to.
fn cut(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let end = text.floor_char_boundary(PIECE);
    let late = &text[text.floor_char_boundary(PIECE / 2)..end];
    let before = match late.rfind('\n') {
        Some(at) => at + 1,
        None => late.rfind(char::is_whitespace).unwrap_or(late.len()),
    };
    end - late.len() + before
}

fn shrink(kept: &mut Vec<(u64, String)>, budget: usize) {
    kept.sort_unstable();
    let mut bytes = 0;
    let fits = kept.iter().take_while(|(_, text)| {
        bytes += text.len();
        bytes <= budget
    });
    let fits = fits.count().max(1);
    kept.truncate(fits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_bounded_and_does_not_depend_on_the_order() {
        let texts: Vec<String> = (0..5000).map(|n| format!("text {n}")).collect();
        let forward = take_within(4000, texts.iter().cloned().map(Ok)).unwrap();
        let backward = take_within(4000, texts.iter().rev().cloned().map(Ok)).unwrap();
        assert_eq!(forward, backward);
        assert!((3900..=4000).contains(&forward.iter().map(String::len).sum::<usize>()));
        assert_eq!(take_within(1 << 20, texts.iter().cloned().map(Ok)).unwrap().len(), 5000);
    }

    #[test]
    fn long_texts_are_cut_at_the_ends_of_lines_and_nothing_is_lost() {
        for line in ["一行字，再来一行\n", "words without any line ", "没有空格"] {
            let text = line.repeat(3 * PIECE / line.len());
            let mut rest = text.as_str();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cut(rest));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(pieces.concat(), text);
            assert!(pieces.len() >= 3 && pieces.iter().all(|piece| piece.len() <= PIECE));
            if line.ends_with('\n') {
                assert!(pieces.iter().all(|piece| piece.ends_with('\n')));
            }
        }
        let pieces = take_within(1 << 30, [Ok("春\n".repeat(PIECE))].into_iter()).unwrap();
        assert_eq!(pieces.iter().map(String::len).sum::<usize>(), 4 * PIECE);
    }
}
