//! P-tuning v2 (Liu et al. 2021, <https://arxiv.org/abs/2110.07602>): keys and values that every token sees before its
//! own, in every layer. They have no positions: no rotary embedding applies to them, and the tokens' positions don't move.

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

/// The name of the table in ChatGLM's checkpoints.
pub(super) const NAME: &str = "transformer.prefix_encoder.embedding.weight";

/// Adds the table, new weights with this standard deviation.
///
/// # Errors
/// Models without self-attention that a prefix could stand before.
pub(super) fn attach(
    parameters: &mut Parameters,
    settings: &spec::PTuning,
    deviation: f64,
    source: &mut dyn ValueSource,
) -> Result<()> {
    let widths = parameters.attentions.iter().map(|attention| attention.width).collect::<Vec<usize>>();
    ensure!(!widths.is_empty(), "this family of models has no place for a prefix");
    let shape = [settings.tokens, widths.iter().map(|width| 2 * width).sum()];
    let table = Builder::new(parameters, source)
        .in_role(WeightRole::Adapter, |builder| builder.matrix(NAME.into(), shape, Initial::Normal(deviation)));
    let (tokens, dropout) = (settings.tokens, settings.dropout as f32);
    parameters.adapters.prefix = Some(Prefix { table, tokens, widths, dropout });
    Ok(())
}
