//! The bar for networks: a linear classifier over n-grams, the best of four kinds.
//!
//! [`features`] are TF-IDF vectors of a text's [`NGrams`](crate::data::text::NGrams), or these [weighted](weighting) by naive
//! Bayes; [`solver`] minimizes a logistic loss or a squared hinge; [`choice`] takes what is best on dev rows, and
//! [`training`] says which rows those are. Everything is deterministic, whatever the number of threads, and bounded: of too
//! many rows a part is learned, of too many n-grams the most frequent. [`mixing`] joins one with a network.

mod calibration;
mod choice;
mod classifier;
mod features;
mod mixing;
mod solver;
mod training;
mod weighting;

pub use choice::{Settings, Trial, Weighting};
pub use classifier::{LinearClassifier, likeliest};
pub use features::{Counts, Matrix, Vocabulary};
pub use mixing::{Mix, Said};
pub use solver::{Effort, Loss, Problem, Weights};
pub use training::{Chosen, Row};
pub use weighting::ratios;
