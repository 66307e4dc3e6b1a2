//! Kernels, models and checkpoints, held against references.

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod adapters_heads;
mod adapters_parity;
mod batches;
mod bert_parity;
mod chatglm_parity;
mod checkpoints;
mod foreign;
mod generation_cache;
mod generation_settings;
mod generation_stream;
mod gpt2_parity;
mod gradient_checkpointing;
mod held_weights;
mod kernels_compact;
mod kernels_fused;
mod kernels_reference;
mod kernels_speed;
mod named_weights;
mod ngrams;
mod outline;
mod parity_decoders;
mod precision;
mod prefix_tuning;
mod torch_files;
mod transformer;
mod transformer_parity;
mod weights;
