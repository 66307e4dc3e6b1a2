//! Language models: parameters with Hugging Face's names, building blocks, families, heads, losses and scores.
//!
//! A [`Network`] is an [`Architecture`] (the backbone of a family) with its [`Parameters`] and heads. A forward pass
//! ([`Pass`]) goes through the backbone to hidden states `[token, hidden]`, and from there to losses, logits or scores.
//!
//! To add a family, write a file in `families/` with a static [`Family`] and a line in [`FAMILIES`]: it says how recipes and
//! `config.json` describe its models, how its parameters are named in checkpoints ([`OnDisk`]), and builds them from
//! `blocks/` with a [`Builder`]. The shortest example is `families/gpt2.rs`; read it together with `family.rs` and
//! [`architecture`]. The same constructors give an [`Outline`], names and shapes without values, for estimates and checks.

mod adapters;
mod answer_form;
mod any_tensor;
pub mod architecture;
mod attention_pattern;
mod attention_sizes;
pub mod blocks;
mod builder;
mod cache;
mod candidates;
mod checkpoint_source;
mod class_labels;
mod codes;
pub mod config;
mod copy;
mod dropout;
pub mod families;
mod family;
mod heads;
mod holding;
mod ids;
mod initial;
mod kv_form;
mod looked_up;
mod loss;
mod network;
mod ngrams;
mod on_disk;
mod outline;
mod output;
mod parameters;
mod pass;
mod past;
mod precision;
mod recompute;
mod rope;
mod row_gradients;
mod scores;
mod shapes;
mod single_stack;
pub mod support;
pub(crate) mod tensors;
mod transformers;
mod values;
mod weights;

pub use adapters::settle;
pub use answer_form::AnswerForm;
pub use any_tensor::AnyTensor;
pub use architecture::{Architecture, Sizes};
pub use attention_pattern::AttentionPattern;
pub use attention_sizes::{AttentionSizes, Misfit};
pub use builder::Builder;
pub use cache::KvCache;
pub use candidates::Candidates;
pub use class_labels::ClassLabels;
pub use copy::{
    CopyOptions, StoredForm, convert, copy, copy_base, copy_held, has_codes, has_ngrams, has_tensor, stored_form,
};
pub use dropout::{DropoutKeys, DropoutRates};
pub use families::FAMILIES;
pub use family::{ConfigPattern, Family, FamilyCode, ModelConfig, ModelSettings};
pub use heads::Pooling;
pub use holding::{Holding, ParameterMode, check_held};
pub use ids::{MatrixId, VectorId, WeightId, WeightRole};
pub use initial::{Initial, Initializer, ValueSource};
pub use kv_form::KvForm;
pub use loss::{Answers, Counts, Loss, LossSettings};
pub use network::Network;
pub use ngrams::NgramSettings;
pub use on_disk::{OnDisk, PrefixTuning};
pub use outline::Outline;
pub use output::Output;
pub use parameters::{Frozen, Parameter, Parameters, first_not_finite};
pub use pass::{Along, Pass, PassMode};
pub use rope::RopeSettings;
pub use row_gradients::{RowGradients, RowSink};
pub use scores::TargetScore;
pub use shapes::{ParameterShape, ParameterShapes};
pub use single_stack::SingleStack;
pub use tensors::Reader as TensorFile;
pub use transformers::{TransformersConfig, TransformersHead};
pub use weights::CheckpointSummary;
