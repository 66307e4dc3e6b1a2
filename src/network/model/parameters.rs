//! The weights of a network, by name: what optimizers and files go through, and blocks refer to by number.

use std::ops::Range;

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Device, Tensor, TensorData};

use super::{
    adapters::{Adapters, Lora},
    any_tensor::AnyTensor,
    holding::ParameterMode,
    ids::{MatrixId, VectorId, WeightId, WeightRole},
    ngrams::Ngrams,
    row_gradients::RowSink,
};
use crate::network::kernels::{ActivationForm, Compact, CompactForm, Weight};

/// A named tensor, trainable or frozen.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name it has in checkpoints.
    pub name: String,
    /// What it's for.
    pub role: WeightRole,
    /// Whether its gradient has zeros in all rows that no token looked up: a table that gives no logits.
    pub sparse_rows: bool,
    /// Where the gradients of single rows are left, for a table that has no others.
    pub row_sink: Option<RowSink>,
    /// Its value: a leaf that keeps gradients, unless it's frozen.
    pub value: AnyTensor,
}

/// A weight or a table that isn't learned, in fewer bits than f32.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// The name it has in checkpoints.
    pub name: String,
    /// Its value, `[out, in]`.
    pub value: Compact,
}

/// The keys of a self-attention.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Attended {
    /// Key and value heads.
    pub(super) kv_heads: usize,
    /// Their width together.
    pub(super) width: usize,
}

/// All parameters of a network: vectors in the order in which they were added, and then matrices in theirs. Sums over all
/// gradients are made in this order, so that it's a part of every result.
#[derive(Clone, Debug)]
pub struct Parameters {
    device: Device,
    mode: ParameterMode,
    list: Vec<Parameter>,
    /// How many of the list are vectors.
    vectors: usize,
    /// Weights and tables that aren't learned, in fewer bits than f32.
    pub compact: Vec<Frozen>,
    /// The keys of all self-attentions, in their order.
    pub(super) attentions: Vec<Attended>,
    /// The weights of all linear layers.
    pub(super) layers: Vec<WeightId>,
    /// Adapters on top of them.
    pub(super) adapters: Adapters,
    /// Embeddings of n-grams, where the model has any.
    pub(super) ngrams: Option<Ngrams>,
    /// The first tensor with values of its own that is tied to another one by the config.
    pub(super) untied: Option<String>,
}

impl Parameter {
    /// Whether it has gradients.
    pub fn is_trainable(&self) -> bool {
        self.value.is_require_grad()
    }

    /// Its dimensions.
    pub fn shape(&self) -> Vec<usize> {
        self.value.shape()
    }

    /// Replaces the value; it becomes a leaf again.
    pub fn set(&mut self, value: impl Into<AnyTensor>) {
        self.value = value.into().leaf(true);
    }

    /// Takes the value out, so that it can be changed in place; [`Self::set`] puts one back.
    pub fn take(&mut self) -> AnyTensor {
        let nothing = self.value.empty();
        std::mem::replace(&mut self.value, nothing).inner()
    }

    /// The same on another device, or once more on its own.
    fn on(&self, device: &Device) -> Result<Self> {
        let value = self.value.clone().inner().on(device)?.leaf(self.is_trainable());
        // Gradients of another device are its own.
        let row_sink = self.row_sink.as_ref().map(|_| RowSink::default());
        Ok(Self { name: self.name.clone(), role: self.role, sparse_rows: self.sparse_rows, row_sink, value })
    }

    /// The values on the host, row by row.
    ///
    /// # Errors
    /// The device's.
    pub fn data(&self) -> Result<TensorData> {
        self.value.clone().inner().into_data().with_context(|| format!("can't read {}", self.name))
    }

    /// Some of its rows on the host, or elements of a vector.
    ///
    /// # Errors
    /// The device's.
    pub fn rows(&self, rows: Range<usize>) -> Result<TensorData> {
        let part = self.value.clone().inner().rows(rows.start, rows.len());
        part.into_data().with_context(|| format!("can't read {}", self.name))
    }
}

impl Parameters {
    /// None yet; those to come will live on `device`.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone().without_autodiff(),
            mode: ParameterMode::Trainable,
            list: Vec::new(),
            vectors: 0,
            compact: Vec::new(),
            attentions: Vec::new(),
            layers: Vec::new(),
            adapters: Adapters::default(),
            ngrams: None,
            untied: None,
        }
    }

    /// Where they live, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same parameters on another device, or once more on their own; what isn't learned is shared then.
    pub(super) fn on(&self, device: &Device) -> Result<Self> {
        let compact = |frozen: &Frozen| Ok(Frozen { name: frozen.name.clone(), value: frozen.value.on(device)? });
        Ok(Self {
            device: device.clone().without_autodiff(),
            mode: self.mode,
            list: self.list.iter().map(|parameter| parameter.on(device)).collect::<Result<_>>()?,
            vectors: self.vectors,
            compact: self.compact.iter().map(compact).collect::<Result<_>>()?,
            attentions: self.attentions.clone(),
            layers: self.layers.clone(),
            adapters: self.adapters.clone(),
            ngrams: self.ngrams.clone(),
            untied: self.untied.clone(),
        })
    }

    /// Sets whether parameters that are added from now on are trainable.
    pub fn set_mode(&mut self, mode: ParameterMode) {
        self.mode = mode;
    }

    /// Whether parameters that are added are trainable.
    pub(super) fn mode(&self) -> ParameterMode {
        self.mode
    }

    /// The parameters, vectors before matrices.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.list.iter()
    }

    /// The parameters in the same order, to be changed.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Parameter> {
        self.list.iter_mut()
    }

    /// The parameter at a place of the list.
    pub(super) fn at(&self, place: usize) -> &Parameter {
        &self.list[place]
    }

    /// Where a vector is in the list.
    pub(super) fn place_of_vector(&self, id: VectorId) -> usize {
        id.0
    }

    /// Where a matrix is in the list, behind all vectors.
    pub(super) fn place_of_matrix(&self, id: MatrixId) -> usize {
        self.vectors + id.0
    }

    /// How many parameters there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The parameter of this name.
    pub fn named(&self, name: &str) -> Option<&Parameter> {
        self.list.iter().find(|parameter| parameter.name == name)
    }

    pub(super) fn add_vector(&mut self, name: String, data: TensorData) -> VectorId {
        let value =
            AnyTensor::Vector(Tensor::from_data(data, &self.device)).leaf(self.mode == ParameterMode::Trainable);
        self.list.insert(
            self.vectors,
            Parameter { name, role: WeightRole::Vector, sparse_rows: false, row_sink: None, value },
        );
        self.vectors += 1;
        VectorId(self.vectors - 1)
    }

    pub(super) fn add_matrix(&mut self, name: String, data: TensorData, role: WeightRole) -> MatrixId {
        let value =
            AnyTensor::Matrix(Tensor::from_data(data, &self.device)).leaf(self.mode == ParameterMode::Trainable);
        self.list.push(Parameter { name, role, sparse_rows: role == WeightRole::Embedding, row_sink: None, value });
        MatrixId(self.list.len() - 1 - self.vectors)
    }

    /// Adds a table whose rows alone have gradients.
    pub(super) fn add_sparse_table(&mut self, name: String, data: TensorData) -> MatrixId {
        let id = self.add_matrix(name, data, WeightRole::Embedding);
        if let Some(parameter) = self.list.last_mut() {
            parameter.row_sink = Some(RowSink::default());
        }
        id
    }

    /// Where the gradients of a table's rows are left.
    pub(super) fn row_sink(&self, id: MatrixId) -> RowSink {
        self.at(self.place_of_matrix(id)).row_sink.clone().unwrap_or_default()
    }

    /// Notes which matrix gives the logits: each row of it gets a gradient, also if it's a table.
    pub(super) fn gives_logits(&mut self, id: WeightId) {
        let WeightId::Full(id) = id else { return };
        let place = self.place_of_matrix(id);
        if let Some(parameter) = self.list.get_mut(place) {
            parameter.sparse_rows = false;
        }
    }

    /// Adds a matrix that is held in fewer bits.
    pub(super) fn add_compact(&mut self, name: String, value: Compact) -> WeightId {
        self.compact.push(Frozen { name, value });
        WeightId::Compact(self.compact.len() - 1)
    }

    /// Has weights of four bits multiplied with activations in this form; tells whether there are any.
    pub fn multiply_with(&mut self, activations: ActivationForm) -> bool {
        for Frozen { value, .. } in &mut self.compact {
            *value = value.clone().with_activations(activations);
        }
        self.compact.iter().any(|frozen| frozen.value.form() == CompactForm::Int4)
    }

    /// The weight of a linear layer, or a table.
    pub fn weight(&self, id: WeightId) -> Weight {
        match id {
            WeightId::Full(id) => Weight::Full(self.matrix(id).clone()),
            WeightId::Compact(at) => Weight::Compact(self.compact[at].value.clone()),
        }
    }

    /// The name of the weight of a linear layer, and its shape.
    pub fn described(&self, id: WeightId) -> (&str, [usize; 2]) {
        match id {
            WeightId::Full(id) => (&self.at(self.place_of_matrix(id)).name, self.matrix(id).dims()),
            WeightId::Compact(at) => (&self.compact[at].name, self.compact[at].value.dims()),
        }
    }

    /// The weights of all linear layers.
    pub fn layers(&self) -> impl Iterator<Item = WeightId> {
        self.layers.iter().copied()
    }

    /// What the change of a linear layer is made of, where it has one.
    pub(super) fn lora(&self, id: WeightId) -> Option<&Lora> {
        self.adapters.loras.get(&id)
    }

    /// Whether a weight is trainable.
    pub fn is_trainable(&self, id: WeightId) -> bool {
        match id {
            WeightId::Full(id) => self.at(self.place_of_matrix(id)).is_trainable(),
            WeightId::Compact(_) => false,
        }
    }

    /// A vector.
    pub fn vector(&self, id: VectorId) -> &Tensor<1> {
        let value = self.at(self.place_of_vector(id)).value.as_vector();
        value.unwrap_or_else(|| unreachable!("vectors stand before matrices"))
    }

    /// A matrix.
    pub fn matrix(&self, id: MatrixId) -> &Tensor<2> {
        let value = self.at(self.place_of_matrix(id)).value.as_matrix();
        value.unwrap_or_else(|| unreachable!("matrices stand behind vectors"))
    }

    /// Whether all elements are finite: no NaN, no infinity.
    ///
    /// # Errors
    /// The device's.
    pub fn are_finite(&self) -> Result<bool> {
        Ok(self.first_not_finite()?.is_none())
    }

    /// The first that isn't, by its name.
    ///
    /// # Errors
    /// The device's.
    pub fn first_not_finite(&self) -> Result<Option<&str>> {
        let values = self.list.iter().map(|parameter| parameter.value.clone().inner());
        Ok(first_not_finite(values)?.map(|at| self.list[at].name.as_str()))
    }

    /// Makes the frozen ones among the `wanted` trainable.
    pub(super) fn unfreeze(&mut self, wanted: impl Fn(&str) -> bool) {
        for parameter in self.list.iter_mut().filter(|parameter| !parameter.is_trainable() && wanted(&parameter.name)) {
            let value = parameter.take();
            parameter.set(value);
        }
    }

    /// How many elements are trainable.
    pub fn trainable(&self) -> usize {
        self.list.iter().filter(|parameter| parameter.is_trainable()).map(|parameter| parameter.value.elements()).sum()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        let list = self.list.iter().map(|parameter| size_of::<f32>() * parameter.value.elements());
        let compact = self.compact.iter().map(|parameter| parameter.value.bytes());
        list.chain(compact).sum::<usize>() as u64
    }

    /// How many elements they hold together.
    pub fn count(&self) -> usize {
        let list = self.list.iter().map(|parameter| parameter.value.elements());
        let compact = self.compact.iter().map(|parameter| parameter.value.dims().iter().product());
        list.chain(compact).sum()
    }
}

/// Which of these tensors is the first that has elements that aren't finite: NaN or an infinity. Waits for the device.
///
/// # Errors
/// The device's.
pub fn first_not_finite(tensors: impl Iterator<Item = AnyTensor>) -> Result<Option<usize>> {
    // A sum of magnitudes is finite only if each of them is; one a tensor, so that a device is asked once.
    let sums: Vec<Tensor<1>> = tensors.map(|tensor| tensor.magnitude()).collect();
    if sums.is_empty() {
        return Ok(None);
    }
    let sums: Vec<f32> = Tensor::cat(sums, 0)
        .try_into_vec_as()
        .map_err(|error| anyhow!("can't read from the device whether elements are finite: {error:?}"))?;
    Ok(sums.iter().position(|sum| !sum.is_finite()))
}
