//! Layers whose activations aren't kept: their inputs are, and the backward pass computes the rest again (Chen et al. 2016,
//! <https://arxiv.org/abs/1604.06174>). Dropout's masks are hashes of their places, so they come out the same, and so does
//! every gradient, byte for byte.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};

use burn::tensor::Tensor;

use super::{
    parameters::{MatrixId, Parameters, VectorId},
    pass::{Mode, Pass, Rotaries},
    precision::Numbers,
};
use crate::network::kernels::{self, AttentionSpans, Grads, Ids};

/// What a pass computes with in place of the parameters themselves.
#[derive(Debug, Default)]
pub(super) enum Values {
    /// Nothing: they are what gradients belong to.
    #[default]
    Learned,
    /// Their values, so that nothing is recorded.
    Plain,
    /// Leaves of a graph of its own, made as they're asked for.
    Leaves(RefCell<Leaves>),
}

/// Copies of parameters that collect gradients.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    vectors: BTreeMap<VectorId, Tensor<1>>,
    matrices: BTreeMap<MatrixId, Tensor<2>>,
}

impl Values {
    /// In place of a vector.
    pub(super) fn vector(&self, id: VectorId, value: &Tensor<1>) -> Tensor<1> {
        match self {
            Self::Learned => value.clone(),
            Self::Plain => value.clone().inner(),
            Self::Leaves(leaves) => leaves.borrow_mut().vectors.entry(id).or_insert_with(|| leaf(value)).clone(),
        }
    }

    /// In place of a matrix.
    pub(super) fn matrix(&self, id: MatrixId, value: &Tensor<2>) -> Tensor<2> {
        match self {
            Self::Learned => value.clone(),
            Self::Plain => value.clone().inner(),
            Self::Leaves(leaves) => leaves.borrow_mut().matrices.entry(id).or_insert_with(|| leaf(value)).clone(),
        }
    }
}

fn leaf<const D: usize>(value: &Tensor<D>) -> Tensor<D> {
    value.clone().inner().autodiff().set_require_grad(value.is_require_grad())
}

/// A pass at a place in the network, to be taken up from there.
struct Place {
    parameters: Arc<Parameters>,
    mode: Mode,
    numbers: Numbers,
    dropout_keys: Arc<[u32]>,
    dropout_site: u32,
    attention: usize,
    rotaries: Rotaries,
    ids: [Ids; 4],
    visible: AttentionSpans,
}

impl Place {
    /// Where a pass is now.
    fn of(pass: &Pass, parameters: &Arc<Parameters>) -> Self {
        Self {
            parameters: Arc::clone(parameters),
            mode: pass.mode,
            numbers: pass.numbers,
            dropout_keys: Arc::clone(&pass.dropout_keys),
            dropout_site: pass.dropout_sites.get(),
            attention: pass.attentions.get(),
            rotaries: Arc::clone(&pass.rotaries),
            ids: [&pass.tokens, &pass.positions, &pass.block_positions, &pass.segments].map(Ids::clone),
            visible: pass.visible.clone(),
        }
    }

    /// The pass from there on.
    fn pass(&self, values: Values) -> Pass<'_> {
        let [tokens, positions, block_positions, segments] = self.ids.clone();
        Pass {
            parameters: &self.parameters,
            values,
            recomputing: None,
            mode: self.mode,
            numbers: self.numbers,
            dropout_keys: Arc::clone(&self.dropout_keys),
            dropout_sites: Rc::new(Cell::new(self.dropout_site)),
            attentions: Rc::new(Cell::new(self.attention)),
            prefixes: Rc::default(),
            rotaries: Arc::clone(&self.rotaries),
            past: None,
            tokens,
            positions,
            block_positions,
            segments,
            visible: self.visible.clone(),
        }
    }
}

impl Pass<'_> {
    /// What a block makes of its inputs, `[n, hidden]` each and three at most; where the pass is to recompute, nothing else
    /// is kept of it.
    pub(super) fn block<const N: usize>(
        &self,
        inputs: [Tensor<2>; N],
        block: impl Fn(&Pass, [Tensor<2>; N]) -> Tensor<2> + Send + 'static,
    ) -> Tensor<2> {
        let Some(parameters) = &self.recomputing else { return block(self, inputs) };
        let place = Place::of(self, parameters);
        let plain = inputs.each_ref().map(|input| input.clone().inner());
        let forward = place.pass(Values::Plain);
        let output = block(&forward, plain.clone());
        self.dropout_sites.set(forward.dropout_sites.get());
        self.attentions.set(forward.attentions.get());
        drop(forward);
        let mut inputs = Vec::from(inputs);
        if !inputs.iter().any(Tensor::is_tracked) {
            // Behind a frozen embedding the block's own parameters may still be learned, and its rule has to be run.
            inputs[0] = plain[0].clone().autodiff().require_grad();
        }
        kernels::custom_backward(output, inputs, move |gradient| grads(&place, plain, &block, gradient))
    }
}

/// The gradients of a block's inputs and parameters, from that of its output.
fn grads<const N: usize>(
    place: &Place,
    inputs: [Tensor<2>; N],
    block: &impl Fn(&Pass, [Tensor<2>; N]) -> Tensor<2>,
    gradient: Tensor<2>,
) -> Grads {
    let pass = place.pass(Values::Leaves(RefCell::default()));
    let inputs = inputs.map(|input| input.autodiff().require_grad());
    let output = block(&pass, inputs.clone());
    // The way back begins with the output's gradient as it is.
    let nothing = Tensor::<1>::zeros([1], &gradient.device());
    let root = kernels::custom_backward(nothing, vec![output], move |_| Grads::of([Some(gradient)]));
    let mut found = root.backward();
    let mut grads = Grads::of(inputs.iter().map(|input| input.grad_remove(&mut found)));
    let Values::Leaves(leaves) = &pass.values else { return grads };
    let Leaves { vectors, matrices } = &*leaves.borrow();
    for (&id, leaf) in vectors {
        if let Some(grad) = leaf.grad_remove(&mut found) {
            grads.push(place.parameters.vector(id).clone(), grad);
        }
    }
    for (&id, leaf) in matrices {
        if let Some(grad) = leaf.grad_remove(&mut found) {
            grads.push(place.parameters.matrix(id).clone(), grad);
        }
    }
    grads
}
