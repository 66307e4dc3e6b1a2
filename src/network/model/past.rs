//! Cached keys and values while a pass reads and extends them.

use std::cell::{Cell, RefCell};

use burn::tensor::Tensor;

use super::kv_form::KvForm;
use crate::network::{batch::Example, kernels::KeyValue};

/// The cache during a pass over what comes after its first `length` tokens.
pub(super) struct Past<'a> {
    layers: RefCell<&'a mut Vec<Option<KeyValue>>>,
    next: Cell<usize>,
    length: usize,
    capacity: usize,
    /// What they're held as.
    form: KvForm,
    /// Tokens at the beginning of the sequence that are as they were in the pass before.
    unchanged: usize,
    /// The whole sequence.
    sequence: &'a Example,
    states: RefCell<&'a mut Option<Tensor<2>>>,
}

impl<'a> Past<'a> {
    /// Of a `sequence` of which `length` tokens have keys and values in `layers`, and `unchanged` tokens are as they were.
    pub(super) fn new(
        layers: &'a mut Vec<Option<KeyValue>>,
        states: &'a mut Option<Tensor<2>>,
        sequence: &'a Example,
        length: usize,
        (capacity, form): (usize, KvForm),
        unchanged: usize,
    ) -> Self {
        let (layers, next, states) = (RefCell::new(layers), Cell::new(0), RefCell::new(states));
        Self { layers, next, length, capacity, form, unchanged, sequence, states }
    }

    /// How many tokens of the sequence have keys and values.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The whole sequence, these tokens first.
    pub(super) fn sequence(&self) -> &Example {
        self.sequence
    }

    /// Keys that attention goes over, among them places that nothing was written to yet.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Puts the keys and values of the pass's tokens behind those of the tokens before: `[T, width]` to
    /// `[capacity, width]`. Attentions are told apart by the order of the calls.
    pub(super) fn extend(&self, new: KeyValue) -> KeyValue {
        let at = self.next.replace(self.next.get() + 1);
        let mut layers = self.layers.borrow_mut();
        if layers.len() <= at {
            layers.resize(at + 1, None);
        }
        // Taken out, so that it's the only holder and changes in place.
        let all = match layers[at].take() {
            Some(old) => KeyValue { key: self.put(old.key, new.key), value: self.put(old.value, new.value) },
            None => KeyValue { key: self.begin(new.key), value: self.begin(new.value) },
        };
        layers[at] = Some(all.clone());
        all
    }

    /// States `[tokens, hidden]` that so many tokens at the beginning decide alone; made anew where these have changed.
    pub(super) fn keep(&self, tokens: usize, make: impl FnOnce() -> Tensor<2>) -> Tensor<2> {
        let mut states = self.states.borrow_mut();
        let kept = states.take().filter(|kept| tokens <= self.unchanged && kept.dims()[0] == tokens);
        states.insert(kept.unwrap_or_else(make)).clone()
    }

    fn begin(&self, new: Tensor<2>) -> Tensor<2> {
        self.put(self.empty(&new), new)
    }

    /// Room for the keys or values of all tokens, as wide as these.
    fn empty(&self, like: &Tensor<2>) -> Tensor<2> {
        Tensor::zeros([self.capacity, like.dims()[1]], (&like.device(), self.form.dtype()))
    }

    fn put(&self, mut old: Tensor<2>, new: Tensor<2>) -> Tensor<2> {
        let [tokens, width] = new.dims();
        if old.dims()[0] < self.capacity {
            let larger = self.empty(&new);
            old = match self.length {
                0 => larger,
                kept => larger.slice_assign([0..kept, 0..width], old.narrow(0, 0, kept)),
            };
        }
        old.slice_assign([self.length..self.length + tokens, 0..width], new.cast(self.form.dtype()))
    }
}
