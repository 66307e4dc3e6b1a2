//! Layers whose activations aren't kept: their inputs are, and the backward pass computes the rest again (Chen et al. 2016,
//! <https://arxiv.org/abs/1604.06174>). Dropout's masks are hashes of their places, so they come out the same, and so does
//! every gradient, byte for byte.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use burn::tensor::Tensor;

use super::{
    dropout::DropoutRates,
    parameters::Parameters,
    pass::{Pass, PassMode, Rotaries},
    precision::DTypes,
    values::ParameterView,
};
use crate::network::kernels::{self, AttentionSpans, Grads, RowIds};

/// The state of a pass at a point of the network, to be resumed from there.
struct Snapshot {
    parameters: Arc<Parameters>,
    mode: PassMode,
    rates: DropoutRates,
    dtypes: DTypes,
    dropout_keys: Arc<[u32]>,
    dropout_site: u32,
    attention: usize,
    rotaries: Rotaries,
    ids: [RowIds; 4],
    spans: AttentionSpans,
}

impl Snapshot {
    /// Of a pass as it is now.
    fn of(pass: &Pass, parameters: &Arc<Parameters>) -> Self {
        Self {
            parameters: Arc::clone(parameters),
            mode: pass.mode,
            rates: pass.rates,
            dtypes: pass.dtypes,
            dropout_keys: Arc::clone(&pass.dropout_keys),
            dropout_site: pass.dropout_sites.get(),
            attention: pass.attentions.get(),
            rotaries: Arc::clone(&pass.rotaries),
            ids: [&pass.tokens, &pass.positions, &pass.block_positions, &pass.segments].map(RowIds::clone),
            spans: pass.spans.clone(),
        }
    }

    /// The pass from that point on.
    fn pass(&self, values: ParameterView) -> Pass<'_> {
        let [tokens, positions, block_positions, segments] = self.ids.clone();
        Pass {
            parameters: &self.parameters,
            values,
            recomputing: None,
            mode: self.mode,
            rates: self.rates,
            dtypes: self.dtypes,
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
            spans: self.spans.clone(),
        }
    }
}

impl Pass<'_> {
    /// What a block makes of its inputs, `[n, hidden]` each and three at most; where the pass is to recompute, nothing else
    /// is kept of it.
    pub fn block<const N: usize>(
        &self,
        inputs: [Tensor<2>; N],
        block: impl Fn(&Pass, [Tensor<2>; N]) -> Tensor<2> + Send + 'static,
    ) -> Tensor<2> {
        let Some(parameters) = &self.recomputing else { return block(self, inputs) };
        let snapshot = Snapshot::of(self, parameters);
        let plain = inputs.each_ref().map(|input| input.clone().inner());
        let forward = snapshot.pass(ParameterView::Detached);
        let output = block(&forward, plain.clone());
        self.dropout_sites.set(forward.dropout_sites.get());
        self.attentions.set(forward.attentions.get());
        drop(forward);
        let mut inputs = Vec::from(inputs);
        if !inputs.iter().any(Tensor::is_tracked) {
            // Behind a frozen embedding the block's own parameters may still be learned, and its rule has to be run.
            inputs[0] = plain[0].clone().autodiff().require_grad();
        }
        kernels::custom_backward(output, inputs, move |gradient| grads(&snapshot, plain, &block, gradient))
    }
}

/// The gradients of a block's inputs and parameters, from that of its output.
fn grads<const N: usize>(
    snapshot: &Snapshot,
    inputs: [Tensor<2>; N],
    block: &impl Fn(&Pass, [Tensor<2>; N]) -> Tensor<2>,
    gradient: Tensor<2>,
) -> Grads {
    let pass = snapshot.pass(ParameterView::Leaves(RefCell::default()));
    let inputs = inputs.map(|input| input.autodiff().require_grad());
    let output = block(&pass, inputs.clone());
    // The way back begins with the output's gradient as it is.
    let nothing = Tensor::<1>::zeros([1], &gradient.device());
    let root = kernels::custom_backward(nothing, vec![output], move |_| Grads::of([Some(gradient)]));
    let mut found = root.backward();
    let mut grads = Grads::of(inputs.iter().map(|input| input.grad_remove(&mut found)));
    let ParameterView::Leaves(leaves) = &pass.values else { return grads };
    for (&place, leaf) in &*leaves.borrow() {
        if let Some(grad) = leaf.grad_remove(&mut found) {
            snapshot.parameters.at(place).value.clone().push_grad(grad, &mut grads);
        }
    }
    grads
}
