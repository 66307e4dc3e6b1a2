//! The weights of a network, by name: what optimisers and files go through, and blocks refer to by number.

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Initial, Shapes};

/// A named tensor that is learned.
#[derive(Clone, Debug)]
pub struct Parameter<const D: usize> {
    /// The name it has in checkpoints.
    pub name: String,
    /// Its value: a leaf that keeps gradients.
    pub value: Tensor<D>,
}

/// All parameters of a network.
///
/// There are two ranks. Vectors are biases and the scales of norms, which are exempt from weight decay; matrices are
/// everything else.
#[derive(Clone, Debug)]
pub struct Parameters {
    device: Device,
    /// Biases and the scales of norms.
    pub vectors: Vec<Parameter<1>>,
    /// Weights of linear layers, `[out, in]`, and embedding tables.
    pub matrices: Vec<Parameter<2>>,
}

/// Names a vector of [`Parameters`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VectorId(pub(super) usize);

/// Names a matrix of [`Parameters`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MatrixId(pub(super) usize);

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
    fn new(name: String, data: TensorData, device: &Device) -> Self {
        Self { name, value: Tensor::from_data(data, device).autodiff().require_grad() }
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
        Self { device: device.clone().without_autodiff(), vectors: Vec::new(), matrices: Vec::new() }
    }

    /// Where they live, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
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

    /// How many numbers they hold together.
    pub fn count(&self) -> usize {
        let vectors = self.vectors.iter().map(|parameter| parameter.value.dims()[0]);
        let matrices = self.matrices.iter().map(|parameter| parameter.value.dims().iter().product());
        vectors.chain(matrices).sum()
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
        VectorId(match &mut self.0 {
            Target::Values { parameters, source } => {
                let data = source.values(&name, &[size], initial);
                let Parameters { device, vectors, .. } = &mut **parameters;
                vectors.push(Parameter::new(name, data, device));
                vectors.len() - 1
            }
            Target::Shapes(shapes) => shapes.add_vector(name, size),
        })
    }

    /// Adds a matrix.
    pub fn matrix(&mut self, name: String, shape: [usize; 2], initial: Initial) -> MatrixId {
        MatrixId(match &mut self.0 {
            Target::Values { parameters, source } => {
                let data = source.values(&name, &shape, initial);
                let Parameters { device, matrices, .. } = &mut **parameters;
                matrices.push(Parameter::new(name, data, device));
                matrices.len() - 1
            }
            Target::Shapes(shapes) => shapes.add_matrix(name, shape),
        })
    }

    /// Notes that each token is multiplied with a matrix of this shape.
    pub fn multiplies(&mut self, shape: [usize; 2]) {
        if let Target::Shapes(shapes) = &mut self.0 {
            shapes.multiply(shape);
        }
    }

    /// Notes a self-attention with `groups` heads of keys, together `width` wide; in the order in which they'll run.
    pub fn attends(&mut self, _groups: usize, width: usize) {
        if let Target::Shapes(shapes) = &mut self.0 {
            shapes.keys.push(width);
        }
    }

    /// Notes that beside the inputs of linear layers so many numbers of each token are kept from the forward pass for the backward pass.
    pub fn keeps(&mut self, width: usize) {
        if let Target::Shapes(shapes) = &mut self.0 {
            shapes.kept += width as u64;
        }
    }
}
