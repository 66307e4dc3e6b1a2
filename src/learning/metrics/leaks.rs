//! Rows that a model has already seen, and rows that spoil a split: duplicates and contradictions.

use std::collections::{HashMap, HashSet};

use crate::support::text_hash;

/// What is wrong with the rows of a split. Texts are the same when they're equal without white space at the ends.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Leaks {
    /// For each row, whether its text was seen in training.
    pub leaked: Vec<bool>,
    /// For each row that isn't leaked, whether its text is nearly one seen in training; none where that wasn't looked for.
    pub near: Option<Vec<bool>>,
    /// Rows whose text already stood in an earlier row of the split.
    pub duplicates: u64,
    /// Rows whose text also stands in the split with another label.
    pub contradictory: u64,
}

impl Leaks {
    /// Looks through the rows of a split, given as text and label; `seen` has the hashes of all texts that the model was
    /// trained on, by [`text_hash`].
    pub fn find<'a>(rows: impl IntoIterator<Item = (&'a str, usize)>, seen: &HashSet<u64>) -> Self {
        #[derive(Default)]
        struct Group {
            rows: u64,
            labels: HashSet<usize>,
        }
        let mut groups: HashMap<&str, Group> = HashMap::new();
        let mut leaked = Vec::new();
        for (text, label) in rows {
            leaked.push(seen.contains(&text_hash(text)));
            let group = groups.entry(text.trim()).or_default();
            group.rows += 1;
            group.labels.insert(label);
        }
        let contradictory = groups.values().filter(|group| group.labels.len() > 1).map(|group| group.rows).sum();
        Self { duplicates: leaked.len() as u64 - groups.len() as u64, contradictory, leaked, near: None }
    }

    /// With what is known of the rows that are [near](super::near) to learned ones.
    #[must_use]
    pub fn with_near(self, near: &[bool]) -> Self {
        let others = near.iter().zip(&self.leaked).map(|(near, leaked)| *near && !leaked).collect();
        Self { near: Some(others), ..self }
    }

    /// Number of leaked rows.
    pub fn count(&self) -> u64 {
        self.leaked.iter().filter(|&&leaked| leaked).count() as u64
    }
}
