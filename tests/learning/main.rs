//! Objectives, training and metrics, held against references.

#[path = "../common/mod.rs"]
mod common;

mod averaging;
mod baselines;
mod classification;
mod classification_metrics;
mod data_parallel;
mod glm_parity;
mod instruction;
mod instruction_recipes;
mod language_models;
mod linear;
mod metrics_report;
mod mix;
mod mix_parity;
mod ngrams;
mod pairs;
mod perplexity;
mod schedule;
mod span_corruption;
mod templates;
mod train_loop;
mod train_parity;
mod train_state;
