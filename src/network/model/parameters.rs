//! The weights of a network, by name: what optimisers and files go through, and blocks refer to by number.

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Initial, Shapes, adapters::Adapters};
use crate::{
    network::kernels::{Compact, Weight, moved},
    spec::BaseDtype,
};

/// A named tensor that is learned, or stays as it is.
#[derive(Clone, Debug)]
pub struct Parameter<const D: usize> {
    /// The name it has in checkpoints.
    pub name: String,
    /// Its value: a leaf that keeps gradients, unless it's frozen.
    pub value: Tensor<D>,
}

/// The weight of a linear layer that isn't learned, in fewer bits.
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
    /// Heads of keys.
    pub(super) groups: usize,
    /// Their width together.
    pub(super) width: usize,
}

/// What becomes of parameters that are added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// They are learned.
    Learned,
    /// They stay as they are: the weights of linear layers in this type, all else in f32.
    Frozen(BaseDtype),
}

/// All parameters of a network.
///
/// There are two ranks. Vectors are biases and the scales of norms, which are exempt from weight decay; matrices are
/// everything else.
#[derive(Clone, Debug)]
pub struct Parameters {
    device: Device,
    keep: Keep,
    /// Biases and the scales of norms.
    pub vectors: Vec<Parameter<1>>,
    /// Weights of linear layers, `[out, in]`, and embedding tables.
    pub matrices: Vec<Parameter<2>>,
    /// Weights of linear layers that are kept in fewer bits.
    pub compact: Vec<Frozen>,
    /// The keys of all self-attentions, in their order.
    pub(super) attentions: Vec<Attended>,
    /// The weights of all linear layers.
    pub(super) layers: Vec<WeightId>,
    /// What is learned beside them.
    pub(super) adapters: Adapters,
}

/// Names a vector of [`Parameters`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct VectorId(pub(super) usize);

/// Names a matrix of [`Parameters`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MatrixId(pub(super) usize);

/// Names the weight of a linear layer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum WeightId {
    /// It is a matrix of [`Parameters`].
    Full(MatrixId),
    /// It is one of [`Parameters::compact`].
    Compact(usize),
}

/// Where the values of parameters come from: a seed, or a checkpoint.
pub trait Source {
    /// The values of the parameter `name`; a new one begins with `initial`.
    ///
    /// Always gives values: a checkpoint that lacks the parameter notes that, gives none at all, and reports it later,
    /// together with all else that is wrong with it.
    fn values(&mut self, name: &str, shape: &[usize], initial: Initial) -> TensorData;

    /// Whether the parameter `name` is there; only to be asked about parts that a model may lack.
    fn has(&self, _name: &str) -> bool {
        true
    }
}

/// Adds parameters to a network while its blocks are put together, or only notes what they would be.
pub struct Builder<'a>(Target<'a>);

enum Target<'a> {
    Values { parameters: &'a mut Parameters, source: &'a mut dyn Source },
    Shapes(&'a mut Shapes),
}

impl<const D: usize> Parameter<D> {
    fn new(name: String, data: TensorData, device: &Device, learned: bool) -> Self {
        Self { name, value: Tensor::from_data(data, device).autodiff().set_require_grad(learned) }
    }

    /// Whether it has gradients.
    pub fn is_learned(&self) -> bool {
        self.value.is_require_grad()
    }

    /// Replaces the value; it becomes a leaf again.
    pub fn set(&mut self, value: Tensor<D>) {
        self.value = value.autodiff().require_grad();
    }

    /// Takes the value out, so that it can be changed in place; [`Self::set`] puts one back.
    pub fn take(&mut self) -> Tensor<D> {
        let device = self.value.device();
        let nothing = Tensor::empty([0; D], &device);
        std::mem::replace(&mut self.value, nothing).inner()
    }

    /// The same on another device, or once more on its own.
    fn on(&self, device: &Device) -> Result<Self> {
        let value = moved(self.value.clone().inner(), device)?;
        Ok(Self { name: self.name.clone(), value: value.autodiff().set_require_grad(self.is_learned()) })
    }

    /// The values on the host, row by row.
    ///
    /// # Errors
    /// The device's.
    pub fn data(&self) -> Result<TensorData> {
        let data = self.value.clone().inner().try_into_data();
        data.map_err(|error| anyhow!("can't read {} from the device: {error}", self.name))
    }
}

impl Parameters {
    /// None yet; those to come will live on `device`.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone().without_autodiff(),
            keep: Keep::Learned,
            vectors: Vec::new(),
            matrices: Vec::new(),
            compact: Vec::new(),
            attentions: Vec::new(),
            layers: Vec::new(),
            adapters: Adapters::default(),
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
            keep: self.keep,
            vectors: self.vectors.iter().map(|parameter| parameter.on(device)).collect::<Result<_>>()?,
            matrices: self.matrices.iter().map(|parameter| parameter.on(device)).collect::<Result<_>>()?,
            compact: self.compact.iter().map(compact).collect::<Result<_>>()?,
            attentions: self.attentions.clone(),
            layers: self.layers.clone(),
            adapters: self.adapters.clone(),
        })
    }

    /// What becomes of parameters that are added from now on.
    pub fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    fn add_vector(&mut self, name: String, data: TensorData) -> VectorId {
        self.vectors.push(Parameter::new(name, data, &self.device, self.keep == Keep::Learned));
        VectorId(self.vectors.len() - 1)
    }

    fn add_matrix(&mut self, name: String, data: TensorData) -> MatrixId {
        self.matrices.push(Parameter::new(name, data, &self.device, self.keep == Keep::Learned));
        MatrixId(self.matrices.len() - 1)
    }

    fn add_weight(&mut self, name: String, data: TensorData) -> WeightId {
        // Sources give f32; one that has nothing to give has an empty matrix, and its network won't be used.
        let (&[rows, columns], Ok(values)) = (&data.shape()[..], data.as_slice::<f32>()) else {
            return WeightId::Full(self.add_matrix(name, data));
        };
        let value = match self.keep {
            Keep::Learned | Keep::Frozen(BaseDtype::F32) => return WeightId::Full(self.add_matrix(name, data)),
            Keep::Frozen(BaseDtype::Bf16) => Compact::bf16(values, [rows, columns], &self.device),
            Keep::Frozen(BaseDtype::Int8) => Compact::int8(values, [rows, columns], &self.device),
        };
        self.compact.push(Frozen { name, value });
        WeightId::Compact(self.compact.len() - 1)
    }

    /// The weight of a linear layer.
    pub fn weight(&self, id: WeightId) -> Weight {
        match id {
            WeightId::Full(id) => Weight::Full(self.matrix(id).clone()),
            WeightId::Compact(at) => Weight::Compact(self.compact[at].value.clone()),
        }
    }

    /// The name of the weight of a linear layer, and its shape.
    pub fn described(&self, id: WeightId) -> (&str, [usize; 2]) {
        match id {
            WeightId::Full(MatrixId(at)) => (&self.matrices[at].name, self.matrices[at].value.dims()),
            WeightId::Compact(at) => (&self.compact[at].name, self.compact[at].value.dims()),
        }
    }

    /// The weights of all linear layers.
    pub fn layers(&self) -> impl Iterator<Item = WeightId> {
        self.layers.iter().copied()
    }

    /// Whether a weight is learned.
    pub fn learns(&self, id: WeightId) -> bool {
        match id {
            WeightId::Full(MatrixId(at)) => self.matrices[at].is_learned(),
            WeightId::Compact(_) => false,
        }
    }

    /// A vector.
    pub fn vector(&self, id: VectorId) -> &Tensor<1> {
        &self.vectors[id.0].value
    }

    /// A matrix.
    pub fn matrix(&self, id: MatrixId) -> &Tensor<2> {
        &self.matrices[id.0].value
    }

    /// Whether all numbers are: no NaN, no infinity.
    ///
    /// # Errors
    /// The device's.
    pub fn are_finite(&self) -> Result<bool> {
        // A sum of magnitudes is finite only if each of them is; one a parameter, so that a device is asked once.
        let vectors = self.vectors.iter().map(|parameter| parameter.value.clone().inner().abs().sum());
        let matrices = self.matrices.iter().map(|parameter| parameter.value.clone().inner().abs().sum());
        let sums = Tensor::cat(vectors.chain(matrices).collect(), 0);
        let sums: Vec<f32> = sums.try_into_vec_as().map_err(|error| anyhow!("can't read weights: {error:?}"))?;
        Ok(sums.iter().all(|sum| sum.is_finite()))
    }

    /// Learns those that were frozen among the `wanted`.
    pub(super) fn learn(&mut self, wanted: impl Fn(&str) -> bool) {
        fn learn<const D: usize>(parameter: &mut Parameter<D>) {
            if !parameter.is_learned() {
                let value = parameter.take();
                parameter.set(value);
            }
        }
        self.vectors.iter_mut().filter(|parameter| wanted(&parameter.name)).for_each(learn);
        self.matrices.iter_mut().filter(|parameter| wanted(&parameter.name)).for_each(learn);
    }

    /// How many numbers are learned.
    pub fn learned(&self) -> usize {
        let vectors = self.vectors.iter().filter(|parameter| parameter.is_learned());
        let matrices = self.matrices.iter().filter(|parameter| parameter.is_learned());
        let matrices = matrices.map(|parameter| parameter.value.dims().iter().product::<usize>());
        vectors.map(|parameter| parameter.value.dims()[0]).chain(matrices).sum()
    }

    /// How many numbers they hold together.
    pub fn count(&self) -> usize {
        let vectors = self.vectors.iter().map(|parameter| parameter.value.dims()[0]);
        let matrices = self.matrices.iter().map(|parameter| parameter.value.dims().iter().product());
        let compact = self.compact.iter().map(|parameter| parameter.value.dims().iter().product());
        vectors.chain(matrices).chain(compact).sum()
    }
}

impl<'a> Builder<'a> {
    /// Adds to `parameters` what `source` gives.
    pub fn new(parameters: &'a mut Parameters, source: &'a mut dyn Source) -> Self {
        Self(Target::Values { parameters, source })
    }

    /// Notes names and shapes only: no value is made, no device is needed.
    pub fn outline(shapes: &'a mut Shapes) -> Self {
        Self(Target::Shapes(shapes))
    }

    /// Whether the parameter `name` is there; only to be asked about parts that a model may lack.
    pub fn has(&self, name: &str) -> bool {
        match &self.0 {
            Target::Values { source, .. } => source.has(name),
            Target::Shapes(_) => true,
        }
    }

    /// Adds a vector.
    pub fn vector(&mut self, name: String, size: usize, initial: Initial) -> VectorId {
        match &mut self.0 {
            Target::Values { parameters, source } => {
                let data = source.values(&name, &[size], initial);
                parameters.add_vector(name, data)
            }
            Target::Shapes(shapes) => VectorId(shapes.add_vector(name, size)),
        }
    }

    /// Adds a matrix.
    pub fn matrix(&mut self, name: String, shape: [usize; 2], initial: Initial) -> MatrixId {
        match &mut self.0 {
            Target::Values { parameters, source } => {
                let data = source.values(&name, &shape, initial);
                parameters.add_matrix(name, data)
            }
            Target::Shapes(shapes) => MatrixId(shapes.add_matrix(name, shape)),
        }
    }

    /// Adds the weight of a linear layer, `[out, in]`, which each token is multiplied with.
    pub fn weight(&mut self, name: String, shape: [usize; 2], initial: Initial) -> WeightId {
        match &mut self.0 {
            Target::Values { parameters, source } => {
                let data = source.values(&name, &shape, initial);
                let id = parameters.add_weight(name, data);
                parameters.layers.push(id);
                id
            }
            Target::Shapes(shapes) => {
                shapes.multiply(shape);
                WeightId::Full(MatrixId(shapes.add_matrix(name, shape)))
            }
        }
    }

    /// Notes a self-attention with `groups` heads of keys, together `width` wide; in the order in which they'll run.
    pub fn attends(&mut self, groups: usize, width: usize) {
        match &mut self.0 {
            Target::Values { parameters, .. } => parameters.attentions.push(Attended { groups, width }),
            Target::Shapes(shapes) => shapes.keys.push(width),
        }
    }

    /// Notes that beside the inputs of linear layers so many numbers of each token are kept from the forward pass for the backward pass.
    pub fn keeps(&mut self, width: usize) {
        if let Target::Shapes(shapes) = &mut self.0 {
            shapes.kept += width as u64;
        }
    }
}
