//! Training a linear classifier: which rows are learned, and which ones settings are chosen by.

use rayon::prelude::*;

use super::{
    Counts, Effort, LinearClassifier, Matrix, Settings, Trial, Vocabulary,
    choice::{Best, choose},
    features::Labelled,
};
use crate::{data::text::NGrams, support::random::Key};

/// How texts are hashed: to four million buckets, so that few n-grams share one.
const NGRAMS: NGrams = NGrams { bits: 22 };
/// Bytes that columns take at most when they're stored, for they're a part of every model with a wide path:
const STORED: usize = 8_500_000;
/// of each its bucket, its inverse document frequency and the scale of its weights, and a byte for a class's weight.
const COLUMN: usize = 12;
/// With many classes there are more, these
const COLUMNS: usize = 1 << 14;
/// or those that have so many weights in memory, if these are fewer.
const WEIGHTS: usize = 1 << 24;
/// Bytes of text that are learned at most,
const BYTES: usize = 1 << 25;
/// and those that settings are chosen with.
const CHOSEN_WITH: usize = 1 << 22;
/// Of rows without dev rows, one in so many is held back to choose by.
const FOLD: usize = 10;
/// With fewer rows there's nothing to choose.
const FEWEST: usize = 2 * FOLD;

/// A row: its columns of text, and the number of its label.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The columns.
    pub columns: Vec<&'a str>,
    /// The label.
    pub label: usize,
}

/// How a classifier was chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The settings.
    pub settings: Settings,
    /// All that was tried.
    pub trials: Vec<Trial>,
    /// Rows that it was chosen by; none for a default.
    pub rows: usize,
    /// Rows that it has learned.
    pub learned: usize,
}

impl LinearClassifier {
    /// Learns rows with what is best on the dev rows; if there are none, on a tenth of the rows that the others are learned
    /// without, and then learns all of them.
    pub fn train(classes: usize, rows: &[Row<'_>], dev: &[Row<'_>]) -> (Self, Chosen) {
        let rows = sample(rows.iter().collect(), BYTES);
        let (own, held) = match dev {
            [] if rows.len() < FEWEST => (rows.clone(), Vec::new()),
            [] => {
                let is_held = |index: usize| Key::new(index as u64).with("held back").below(FOLD) == 0;
                let part = |held: bool| {
                    let of_part = (0..).zip(&rows).filter(move |(index, _)| is_held(*index) == held);
                    of_part.map(|(_, row)| *row).collect::<Vec<_>>()
                };
                (part(false), part(true))
            }
            dev => (rows.clone(), dev.iter().collect()),
        };
        let first = Prepared::to_learn(classes, &sample(own, CHOSEN_WITH));
        let held = Prepared::to_judge(&first.vocabulary, &held);
        let (best, trials) = match held.labels.len() {
            0 => (Best::by_default(first.labelled(classes)), Vec::new()),
            _ => choose(first.labelled(classes), held.labelled(classes)),
        };
        let Best { settings, weights, sharpness } = best;
        let chosen = Chosen { settings, trials, rows: held.labels.len(), learned: rows.len() };
        let (vocabulary, weights) = if first.labels.len() == rows.len() {
            (first.vocabulary, weights)
        } else {
            let all = Prepared::to_learn(classes, &rows);
            let weights = settings.learn(all.labelled(classes), Effort::CLOSE);
            (all.vocabulary, weights)
        };
        (Self { vocabulary, weights, sharpness }, chosen)
    }
}

/// Rows as a matrix with its columns.
struct Prepared {
    vocabulary: Vocabulary,
    matrix: Matrix,
    labels: Vec<usize>,
}

impl Prepared {
    fn to_learn(classes: usize, rows: &[&Row<'_>]) -> Self {
        let counts = counts(rows);
        let columns = (STORED / (COLUMN + classes)).max(COLUMNS.min(WEIGHTS / classes.max(1)));
        let vocabulary = Vocabulary::learn(NGRAMS, &counts, columns);
        Self::new(vocabulary, &counts, rows)
    }

    fn to_judge(vocabulary: &Vocabulary, rows: &[&Row<'_>]) -> Self {
        Self::new(vocabulary.clone(), &counts(rows), rows)
    }

    fn new(vocabulary: Vocabulary, counts: &[Counts], rows: &[&Row<'_>]) -> Self {
        let matrix = vocabulary.matrix(counts);
        Self { vocabulary, matrix, labels: rows.iter().map(|row| row.label).collect() }
    }

    fn labelled(&self, classes: usize) -> Labelled<'_> {
        Labelled { matrix: &self.matrix, labels: &self.labels, classes, width: self.vocabulary.len() }
    }
}

fn counts(rows: &[&Row<'_>]) -> Vec<Counts> {
    rows.par_iter().map(|row| NGRAMS.counts(&row.columns)).collect()
}

/// The rows, or of more text than this a part of them that is drawn at random, in their order.
fn sample<'r, 't>(rows: Vec<&'r Row<'t>>, bytes: usize) -> Vec<&'r Row<'t>> {
    let length = |row: &Row<'_>| row.columns.iter().map(|column| column.len()).sum::<usize>();
    let all: usize = rows.iter().map(|row| length(row)).sum();
    if all <= bytes {
        return rows;
    }
    let share = bytes as f64 / all as f64;
    let drawn = |index: usize| Key::new(index as u64).with("sample").f64() < share;
    (0..).zip(rows).filter(|(index, _)| drawn(*index)).map(|(_, row)| row).collect()
}
