//! Cached keys and values while a pass reads and extends them.

use std::cell::RefCell;

use burn::tensor::Tensor;

use super::kv_form::KvForm;
use crate::network::{
    batch::Example,
    kernels::{KeyValue, PrefixKeys},
};

/// States that some tokens decide alone, and how many attentions made them.
pub(super) type KeptStates = (Tensor<2>, usize);

/// What a cache has room for.
#[derive(Clone, Copy)]
pub(super) struct CacheRoom {
    /// Tokens.
    pub(super) capacity: usize,
    /// What their keys and values are held as.
    pub(super) form: KvForm,
    /// Rows before those of the tokens, for a prefix that all of them see.
    pub(super) prefix: usize,
}

/// The cache during a pass over what comes after its first `length` tokens.
pub(super) struct Past<'a> {
    layers: RefCell<&'a mut Vec<Option<KeyValue>>>,
    length: usize,
    room: CacheRoom,
    /// Tokens at the beginning of the sequence that are as they were in the pass before.
    unchanged: usize,
    /// The whole sequence.
    sequence: &'a Example,
    states: RefCell<&'a mut Option<KeptStates>>,
}

impl<'a> Past<'a> {
    /// Of a `sequence` of which `length` tokens have keys and values in `layers`, and `unchanged` tokens are as they were.
    pub(super) fn new(
        layers: &'a mut Vec<Option<KeyValue>>,
        states: &'a mut Option<KeptStates>,
        sequence: &'a Example,
        length: usize,
        room: CacheRoom,
        unchanged: usize,
    ) -> Self {
        let (layers, states) = (RefCell::new(layers), RefCell::new(states));
        Self { layers, length, room, unchanged, sequence, states }
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
        self.room.capacity
    }

    /// What attention is to take for the prefix.
    pub(super) fn prefix(&self) -> Option<PrefixKeys> {
        (self.room.prefix > 0).then_some(PrefixKeys::First(self.room.prefix))
    }

    /// Puts the keys and values of the pass's tokens behind those of the tokens before: `[T, width]` to
    /// `[prefix + capacity, width]`, where the `prefix`, if there's room for one, is put once. Attentions are told apart by the
    /// order of the calls, `at`.
    pub(super) fn extend(&self, at: usize, new: KeyValue, prefix: impl FnOnce() -> Option<KeyValue>) -> KeyValue {
        let mut layers = self.layers.borrow_mut();
        if layers.len() <= at {
            layers.resize(at + 1, None);
        }
        // Taken out, so that it's the only holder and changes in place.
        let all = match layers[at].take() {
            Some(old) => KeyValue { key: self.put(old.key, new.key), value: self.put(old.value, new.value) },
            None => {
                let [key, value] = prefix().map_or([None, None], |prefix| [prefix.key, prefix.value].map(Some));
                KeyValue { key: self.begin(key, new.key), value: self.begin(value, new.value) }
            }
        };
        layers[at] = Some(all.clone());
        all
    }

    /// States `[tokens, hidden]` that so many tokens at the beginning decide alone, and how many attentions made them; `None`
    /// where these tokens have changed.
    pub(super) fn kept(&self, tokens: usize) -> Option<KeptStates> {
        let states = self.states.borrow();
        states.clone().filter(|(states, _)| tokens <= self.unchanged && states.dims()[0] == tokens)
    }

    /// Keeps such states.
    pub(super) fn keep(&self, states: Tensor<2>, attentions: usize) {
        **self.states.borrow_mut() = Some((states, attentions));
    }

    fn begin(&self, prefix: Option<Tensor<2>>, new: Tensor<2>) -> Tensor<2> {
        let empty = self.empty(&new);
        let begun = match prefix {
            Some(prefix) => self.assign(empty, 0, prefix),
            None => empty,
        };
        self.put(begun, new)
    }

    /// Room for the prefix and for the keys or values of all tokens, as wide as these.
    fn empty(&self, like: &Tensor<2>) -> Tensor<2> {
        let CacheRoom { capacity, form, prefix } = self.room;
        Tensor::zeros([prefix + capacity, like.dims()[1]], (&like.device(), form.dtype()))
    }

    fn put(&self, mut old: Tensor<2>, new: Tensor<2>) -> Tensor<2> {
        let first = self.room.prefix + self.length;
        if old.dims()[0] < self.room.prefix + self.room.capacity {
            old = match first {
                0 => self.empty(&new),
                kept => self.assign(self.empty(&new), 0, old.narrow(0, 0, kept)),
            };
        }
        self.assign(old, first, new)
    }

    /// Writes rows from one on.
    fn assign(&self, all: Tensor<2>, first: usize, rows: Tensor<2>) -> Tensor<2> {
        let [count, width] = rows.dims();
        all.slice_assign([first..first + count, 0..width], rows.cast(self.room.form.dtype()))
    }
}
