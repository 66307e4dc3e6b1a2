//! The forward pass of a batch: its integers on the device, attention spans, rotary angles, dropout and precision.

use std::{cell::Cell, rc::Rc, sync::Arc};

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use parking_lot::Mutex;

use super::{
    adapters::Lora,
    dropout::DropoutRates,
    ids::{MatrixId, VectorId, WeightId},
    parameters::Parameters,
    past::Past,
    precision::DTypes,
    values::ParameterView,
};
use crate::{
    network::{
        batch::Batch,
        kernels::{self, AttentionSpans, Dropout, KeyValue, PrefixKeys, Rotary, Rotation, RowIds, Weight},
    },
    spec::Precision,
    support::random::Key,
};

/// Whether a pass is for training or for evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PassMode {
    /// Gradients are recorded, and dropout applies.
    Train {
        /// Dropout probability in embeddings, attention and residual branches.
        dropout: f32,
    },
    /// No gradients and no dropout.
    Evaluate,
}

/// A per-token integer other than the token's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Along {
    /// Its position.
    Positions,
    /// GLM's second position.
    BlockPositions,
    /// BERT's token type.
    Segments,
}

/// Cosines and sines of rotary embeddings, for each rotation that layers asked for.
pub(super) type Rotaries = Arc<Mutex<Vec<(Rotation, Along, Rotary)>>>;

/// What blocks need beside their input.
pub struct Pass<'a> {
    pub(super) parameters: &'a Parameters,
    pub(super) values: ParameterView,
    /// The parameters once more, for the backward pass to compute layers again with; `None` where it doesn't.
    pub(super) recomputing: Option<Arc<Parameters>>,
    pub(super) mode: PassMode,
    pub(super) rates: DropoutRates,
    pub(super) dtypes: DTypes,
    pub(super) dropout_keys: Arc<[u32]>,
    pub(super) dropout_sites: Rc<Cell<u32>>,
    pub(super) attentions: Rc<Cell<usize>>,
    /// The prefix's table for the attentions that are still to come; `None` before the first.
    pub(super) prefixes: Rc<Cell<Option<Tensor<2>>>>,
    /// Each is made once, for the first layer that asks.
    pub(super) rotaries: Rotaries,
    pub(super) past: Option<Past<'a>>,
    /// Token ids.
    pub tokens: RowIds,
    /// Positions.
    pub positions: RowIds,
    /// GLM's second positions.
    pub block_positions: RowIds,
    /// BERT's token types.
    pub segments: RowIds,
    /// Which keys each token sees.
    pub spans: AttentionSpans,
}

impl<'a> Pass<'a> {
    /// Uploads a batch, in which each token sees its keys up to `span_ends`.
    ///
    /// # Errors
    /// Visible keys outside of their row.
    pub fn new(parameters: &'a Parameters, batch: &Batch, span_ends: &[u32], mode: PassMode) -> Result<Self> {
        Self::after(parameters, batch, span_ends, mode, None)
    }

    /// Uploads a batch whose tokens also see those of the `past`; their visible keys are counted from its first.
    ///
    /// # Errors
    /// Visible keys outside of their row.
    pub(super) fn after(
        parameters: &'a Parameters,
        batch: &Batch,
        span_ends: &[u32],
        mode: PassMode,
        past: Option<Past<'a>>,
    ) -> Result<Self> {
        let device = parameters.device();
        let ids = |values: &[u32]| RowIds::new(values, device);
        let keys = past.as_ref().map_or(batch.width, Past::capacity);
        let positions = match parameters.adapters.prefix.as_ref().map_or(0, |prefix| prefix.shift) {
            0 => ids(&batch.positions),
            shift => ids(&batch.positions.iter().map(|position| position + shift).collect::<Vec<_>>()),
        };
        Ok(Self {
            parameters,
            values: if mode == PassMode::Evaluate { ParameterView::Detached } else { ParameterView::Tracked },
            recomputing: None,
            mode,
            rates: match mode {
                PassMode::Train { dropout } => dropout.into(),
                PassMode::Evaluate => DropoutRates::NONE,
            },
            dtypes: Precision::F32.into(),
            dropout_keys: Arc::from(&batch.dropout_keys[..]),
            dropout_sites: Rc::default(),
            attentions: Rc::default(),
            prefixes: Rc::default(),
            rotaries: Rotaries::default(),
            tokens: ids(&batch.tokens),
            positions,
            block_positions: ids(&batch.block_positions),
            segments: match batch.segments.is_empty() {
                true => ids(&vec![0; batch.tokens.len()]),
                false => ids(&batch.segments),
            },
            spans: AttentionSpans::among(&batch.span_starts, span_ends, batch.rows, [batch.width, keys], device)?,
            past,
        })
    }

    /// A pass over other tokens under the same rules, such as those of one side of an encoder–decoder. Places in the
    /// network count on.
    pub fn over(&self, batch: &Batch) -> Self {
        let pass = Self::new(self.parameters, batch, &batch.span_ends, self.mode)
            .unwrap_or_else(|error| unreachable!("what a family lays out itself is in its rows: {error}"));
        Self {
            dropout_sites: Rc::clone(&self.dropout_sites),
            attentions: Rc::clone(&self.attentions),
            prefixes: Rc::clone(&self.prefixes),
            recomputing: self.recomputing.clone(),
            rates: self.rates,
            dtypes: self.dtypes,
            ..pass
        }
    }

    /// The same pass with other dtypes.
    pub(super) fn computing_with(self, dtypes: DTypes) -> Self {
        Self { dtypes, ..self }
    }

    /// The same pass, if it's for training, with a dropout of its own for each place.
    pub(super) fn dropping(self, rates: DropoutRates) -> Self {
        let rates = if self.mode == PassMode::Evaluate { self.rates } else { rates };
        Self { rates, ..self }
    }

    /// The same pass, whose layers keep no activations: the backward pass computes them again.
    pub(super) fn recomputing(self) -> Self {
        Self { recomputing: Some(Arc::new(self.parameters.clone())), ..self }
    }

    /// Casts hidden states to the dtype of the residual stream.
    pub fn to_stream(&self, x: Tensor<2>) -> Tensor<2> {
        x.cast(self.dtypes.stream)
    }

    /// Casts what is multiplied with a weight to the weight's dtype.
    pub fn to_operand(&self, x: Tensor<2>) -> Tensor<2> {
        x.cast(self.dtypes.operands)
    }

    /// Where it's computed.
    pub fn device(&self) -> &Device {
        self.parameters.device()
    }

    /// What the dropout masks of a token derive from.
    pub fn dropout_key(&self, token: usize) -> u32 {
        self.dropout_keys[token]
    }

    /// The value of a vector, in f32.
    pub fn vector(&self, id: VectorId) -> Tensor<1> {
        self.values.of(self.parameters.place_of_vector(id), self.parameters.vector(id))
    }

    /// The value of a matrix, in f32.
    pub fn matrix(&self, id: MatrixId) -> Tensor<2> {
        self.values.of(self.parameters.place_of_matrix(id), self.parameters.matrix(id))
    }

    /// The value of a matrix as an operand of a matmul.
    pub fn operand(&self, id: MatrixId) -> Tensor<2> {
        self.to_operand(self.matrix(id))
    }

    /// A table to take rows from.
    pub fn table(&self, id: WeightId) -> Weight {
        match id {
            WeightId::Full(id) => Weight::Full(self.matrix(id)),
            WeightId::Compact(_) => self.parameters.weight(id),
        }
    }

    /// The weight of a linear layer.
    pub fn weight(&self, id: WeightId) -> Weight {
        match id {
            WeightId::Full(id) => Weight::Full(self.operand(id)),
            WeightId::Compact(_) => self.parameters.weight(id),
        }
    }

    /// What is added to a linear layer, where something is.
    pub(super) fn lora(&self, id: WeightId) -> Option<&Lora> {
        self.parameters.lora(id)
    }

    /// What tables are looked up by.
    pub fn ids(&self, along: Along) -> &RowIds {
        match along {
            Along::Positions => &self.positions,
            Along::BlockPositions => &self.block_positions,
            Along::Segments => &self.segments,
        }
    }

    /// The cosines and sines of a rotary embedding.
    pub fn rotary(&self, rotation: Rotation, along: Along) -> Rotary {
        let mut made = self.rotaries.lock();
        match made.iter().find(|made| (made.0, made.1) == (rotation, along)) {
            Some((.., rotary)) => rotary.clone(),
            None => {
                let rotary = rotation.at(&self.ids(along).host);
                made.push((rotation, along, rotary.clone()));
                rotary
            }
        }
    }

    /// The dropout of the next place in the network, of a branch; places count up in the order of the calls.
    pub fn dropout(&self) -> Option<Dropout> {
        self.next_dropout(self.rates.hidden)
    }

    /// The same for a sum of embeddings.
    pub fn embedding_dropout(&self) -> Option<Dropout> {
        self.next_dropout(self.rates.embedding)
    }

    /// The same for the probabilities of attention.
    pub fn attention_dropout(&self) -> Option<Dropout> {
        self.next_dropout(self.rates.attention)
    }

    fn next_dropout(&self, p: f32) -> Option<Dropout> {
        match self.mode {
            PassMode::Train { .. } => self.dropout_of(p, self.dropout_keys.len()),
            PassMode::Evaluate => None,
        }
    }

    /// The same with a probability of its own, for the batch's first `rows` tokens.
    pub(super) fn dropout_of(&self, p: f32, rows: usize) -> Option<Dropout> {
        let site = self.dropout_sites.get();
        self.dropout_sites.set(site + 1);
        let drops = self.mode != PassMode::Evaluate && p > 0.0 && rows <= self.dropout_keys.len();
        drops.then(|| Dropout { p, keys: Arc::clone(&self.dropout_keys), site })
    }

    /// The same for rows made of the tokens at these places, one of each.
    pub(super) fn dropout_at(&self, places: &[u32]) -> Option<Dropout> {
        let dropout = self.next_dropout(self.rates.classifier)?;
        let keys = places.iter().map(|&at| dropout.keys[at as usize]).collect();
        Some(Dropout { keys, ..dropout })
    }

    /// The same for the rows of a prefix, which belong to no token: they are dropped alike for the whole batch.
    fn prefix_dropout(&self, p: f32, rows: usize) -> Option<Dropout> {
        let first = u64::from(*self.dropout_keys.first()?);
        let key = Key::new(first).with("prefix");
        let keys = (0..rows as u64).map(|row| key.at(row).u64() as u32).collect();
        self.dropout_of(p, 0).map(|dropout| Dropout { keys, ..dropout })
    }

    /// The keys and values `[prefix, width]` that every token sees beside those of its batch, for the attention of this number.
    fn prefix(&self, attention: usize) -> Option<KeyValue> {
        let prefix = self.parameters.adapters.prefix.as_ref()?;
        let all = self.prefixes.take().unwrap_or_else(|| self.matrix(prefix.table));
        let [own, rest] = kernels::fork_in_order(&all);
        self.prefixes.set(Some(rest));
        let (start, width) = prefix.columns(attention);
        let rows = self.to_operand(own.narrow(1, start, 2 * width));
        let rows = match self.prefix_dropout(prefix.dropout, prefix.tokens) {
            Some(dropout) => kernels::dropout(rows, &dropout),
            None => rows,
        };
        Some(KeyValue { key: rows.clone().narrow(1, 0, width), value: rows.narrow(1, width, width) })
    }

    /// States `[tokens, hidden]` that so many tokens at the beginning decide alone, such as an encoder's; while a
    /// sequence grows they're made once.
    pub fn once(&self, tokens: usize, make: impl FnOnce() -> Tensor<2>) -> Tensor<2> {
        let Some(past) = &self.past else { return make() };
        let first = self.attentions.get();
        if let Some((states, attentions)) = past.kept(tokens) {
            // Those that come next have the numbers that they had.
            self.attentions.set(first + attentions);
            return states;
        }
        let states = make();
        past.keep(states.clone(), self.attentions.get() - first);
        states
    }

    /// Attention of the batch's tokens to all that they see: `[T, heads * size]` for queries of that shape and
    /// `[T, kv_heads * size]` keys and values. To be called once an attention, in the same order in every pass.
    pub fn attention(&self, query: Tensor<2>, keys: KeyValue, heads: usize, kv_heads: usize) -> Tensor<2> {
        let attention = self.attentions.get();
        self.attentions.set(attention + 1);
        let (keys, prefix) = match &self.past {
            Some(past) => (past.extend(attention, keys, || self.prefix(attention)), past.prefix()),
            None => (keys, self.prefix(attention).map(PrefixKeys::Beside)),
        };
        let dropout = self.attention_dropout();
        kernels::grouped_attention(query, keys, prefix, &self.spans, heads, kv_heads, dropout.as_ref())
    }

    /// The same for rows `[query | key | value]` of one projection: `[T, 3 H]` to `[T, H]`.
    pub fn self_attention(&self, qkv: Tensor<2>, heads: usize) -> Tensor<2> {
        if self.past.is_none() && self.parameters.adapters.prefix.is_none() {
            return kernels::attention(qkv, &self.spans, heads, self.attention_dropout().as_ref());
        }
        let hidden = qkv.dims()[1] / 3;
        let part = |i: usize| qkv.clone().narrow(1, i * hidden, hidden);
        self.attention(part(0), KeyValue { key: part(1), value: part(2) }, heads, heads)
    }
}
