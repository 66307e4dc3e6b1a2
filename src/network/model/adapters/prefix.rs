//! P-tuning v2 (Liu et al. 2021, <https://arxiv.org/abs/2110.07602>): keys and values that every token sees before its
//! own, in every layer. They have no positions: no rotary embedding applies to them, and the tokens' positions don't move.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;

use crate::{
    network::{
        kernels::{self, KeyValue},
        model::{
            ids::{MatrixId, WeightRole},
            initial::{Initial, ValueSource},
            parameters::{Builder, Parameters},
            pass::Pass,
        },
    },
    spec,
};

/// The name of the table in ChatGLM's checkpoints.
pub(super) const NAME: &str = "transformer.prefix_encoder.embedding.weight";

/// A table of keys and values, `[tokens, keys and values of the first layer | of the second | …]`.
#[derive(Clone, Debug)]
pub(in crate::network::model) struct Prefix {
    table: MatrixId,
    tokens: usize,
    /// Width of the keys in each layer.
    widths: Vec<usize>,
    dropout: f32,
}

impl Prefix {
    /// The whole table, in f32.
    pub(in crate::network::model) fn table(&self, pass: &Pass) -> Tensor<2> {
        pass.matrix(self.table)
    }

    /// Keys and values `[tokens, width]` of the attention with this number, out of the table.
    pub(in crate::network::model) fn of(&self, pass: &Pass, table: Tensor<2>, attention: usize) -> KeyValue {
        let width = self.widths[attention];
        let start: usize = self.widths[..attention].iter().map(|width| 2 * width).sum();
        let rows = pass.to_operand(table.narrow(1, start, 2 * width));
        let rows = match pass.prefix_dropout(self.dropout, self.tokens) {
            Some(dropout) => kernels::dropout(rows, &dropout),
            None => rows,
        };
        KeyValue { key: rows.clone().narrow(1, 0, width), value: rows.narrow(1, width, width) }
    }
}

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
