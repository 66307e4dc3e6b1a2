//! A bounded sample of the training texts.

use anyhow::Result;

/// Bytes of text that a tokenizer is trained on at most; more changes a vocabulary little, and memory must not grow
/// with the corpus.
const BUDGET: usize = 32 << 20;

/// Takes all texts, or of too many the ones with the lowest hashes: a sample that doesn't depend on their order.
pub(super) fn take(texts: impl Iterator<Item = Result<String>>) -> Result<Vec<String>> {
    take_within(BUDGET, texts)
}

fn take_within(budget: usize, texts: impl Iterator<Item = Result<String>>) -> Result<Vec<String>> {
    let mut kept: Vec<(u64, String)> = Vec::new();
    let mut bytes = 0;
    let mut highest = u64::MAX;
    for text in texts {
        let text = text?;
        let hash = crate::support::text_hash(&text);
        if hash <= highest && !text.is_empty() {
            bytes += text.len();
            kept.push((hash, text));
        }
        if bytes > 2 * budget {
            shrink(&mut kept, budget);
            bytes = kept.iter().map(|(_, text)| text.len()).sum();
            highest = kept.last().map_or(0, |(hash, _)| *hash);
        }
    }
    shrink(&mut kept, budget);
    Ok(kept.into_iter().map(|(_, text)| text).collect())
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
}
