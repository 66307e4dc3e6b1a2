//! How good a model is: metrics, baselines, leaks, and the report that puts them side by side.

pub mod bootstrap;
pub mod calibration;
pub mod classification;
pub mod confusion;
pub mod language;
pub mod leaks;
pub mod majority;
pub mod naive_bayes;
pub mod near;
pub mod pairs;
pub mod predictions;
pub mod regression;
pub mod render;
pub mod report;
pub mod several;

pub use bootstrap::{Estimate, Interval, Paired, estimates};
pub use calibration::Calibration;
pub use classification::{Classification, Scored};
pub use confusion::{ClassMetrics, Confusion};
pub use language::{LanguageReport, LanguageTally};
pub use leaks::Leaks;
pub use majority::majority;
pub use naive_bayes::NaiveBayes;
pub use near::near_duplicates;
pub use pairs::PairTally;
pub use regression::Regression;
pub use report::EvalReport;
pub use several::{HALF, SeveralLabels, threshold};
