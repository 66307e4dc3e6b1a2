//! The floor of all floors: always the label that is most frequent in training.

/// The most frequent label, the lowest of equally frequent ones; 0 where there are no labels at all.
pub fn majority(classes: usize, labels: impl IntoIterator<Item = usize>) -> usize {
    let mut counts = vec![0_u64; classes];
    for label in labels {
        counts[label] += 1;
    }
    (0..classes).rev().max_by_key(|&label| counts[label]).unwrap_or(0)
}
