//! P-tuning v2 (Liu et al. 2021, <https://arxiv.org/abs/2110.07602>): keys and values that every token sees before its
//! own, in every layer. They have no positions, and no rotary embedding applies to them. Whether tokens count their own
//! positions on from them depends on the family: with PEFT they do, with ChatGLM they don't.

use anyhow::{Result, ensure};

use super::layout::Prefix;
use crate::{
    network::model::{
        builder::Builder,
        ids::WeightRole,
        initial::{Initial, ValueSource},
        parameters::Parameters,
    },
    spec,
};

/// What the prefix is called in ChatGLM's code.
pub(super) const MODULE: &str = "transformer.prefix_encoder.";
/// The name of the table in ChatGLM's checkpoints.
pub(super) const NAME: &str = "transformer.prefix_encoder.embedding.weight";

/// Adds the table; a new one begins as `torch.nn.Embedding` does, in PEFT and in ChatGLM alike. `taken` are the
/// positions that tokens count theirs on from.
///
/// # Errors
/// Models without self-attention that a prefix could stand before.
pub(super) fn attach(
    parameters: &mut Parameters,
    settings: &spec::PTuning,
    taken: usize,
    source: &mut dyn ValueSource,
) -> Result<()> {
    let widths = parameters.attentions.iter().map(|attention| attention.width).collect::<Vec<usize>>();
    ensure!(!widths.is_empty(), "this family of models has no place for a prefix");
    let shape = [settings.tokens, widths.iter().map(|width| 2 * width).sum()];
    let table = Builder::new(parameters, source)
        .in_role(WeightRole::Adapter, |builder| builder.matrix(NAME.into(), shape, Initial::Normal(1.0)));
    let (tokens, dropout) = (settings.tokens, settings.dropout as f32);
    parameters.adapters.prefix = Some(Prefix { table, tokens, shift: taken as u32, widths, dropout });
    Ok(())
}

/// # Errors
/// A stored prefix for so many layers of keys of such a width, where the model has others.
pub(super) fn check(parameters: &Parameters, [layers, width]: [Option<usize>; 2]) -> Result<()> {
    let own = &parameters.attentions;
    if let Some(layers) = layers {
        ensure!(layers == own.len(), "the prefix is for {layers} layers, and the model has {}", own.len());
    }
    if let Some((width, own)) = width.zip(own.first().map(|attention| attention.width)) {
        ensure!(width == own, "the prefix has keys of {width} dimensions (token_dim), and the model of {own}");
    }
    Ok(())
}
