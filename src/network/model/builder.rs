//! What families and heads add their parameters through, whether these have values or only shapes.

use super::{
    holding::Holding,
    ids::{MatrixId, VectorId, WeightId, WeightRole},
    initial::{Initial, ValueSource},
    parameters::{Attended, Parameters},
    shapes::ParameterShapes,
};

/// Adds parameters to a network while its blocks are put together, or only notes what they would be.
pub struct Builder<'a> {
    target: BuilderTarget<'a>,
    /// Of all matrices that are added, where it isn't what the kind of parameter says.
    role: Option<WeightRole>,
}

enum BuilderTarget<'a> {
    Values { parameters: &'a mut Parameters, source: &'a mut dyn ValueSource },
    Shapes(&'a mut ParameterShapes),
}

impl<'a> Builder<'a> {
    /// Adds to `parameters` what `source` gives.
    pub fn new(parameters: &'a mut Parameters, source: &'a mut dyn ValueSource) -> Self {
        Self { target: BuilderTarget::Values { parameters, source }, role: None }
    }

    /// Notes names and shapes only: no value is made, no device is needed.
    pub fn outline(shapes: &'a mut ParameterShapes) -> Self {
        Self { target: BuilderTarget::Shapes(shapes), role: None }
    }

    /// Adds what `make` adds in this role, as far as it's matrices.
    pub fn in_role<R>(&mut self, role: WeightRole, make: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.role.replace(role);
        let made = make(self);
        self.role = before;
        made
    }

    /// Whether the parameter `name` is there; only to be asked about parts that a model may lack.
    pub fn has(&self, name: &str) -> bool {
        match &self.target {
            BuilderTarget::Values { source, .. } => source.has(name),
            BuilderTarget::Shapes(_) => true,
        }
    }

    /// Whether two parameters that are meant to be one are, before either is added: see [`ValueSource::tie`].
    pub fn ties(&mut self, name: &str, other: &str) -> bool {
        match &mut self.target {
            BuilderTarget::Values { source, parameters } => {
                let tied = source.tie(name, other);
                if !tied {
                    parameters.untied.get_or_insert_with(|| other.to_owned());
                }
                tied
            }
            BuilderTarget::Shapes(_) => true,
        }
    }

    /// Says what a tensor holds that is no parameter; a checkpoint in which it holds something else isn't this model: see
    /// [`ValueSource::expect`].
    pub fn expect(&mut self, name: &str, values: &dyn Fn() -> Vec<f32>) {
        if let BuilderTarget::Values { source, .. } = &mut self.target {
            source.expect(name, values);
        }
    }

    /// Adds a vector.
    pub fn vector(&mut self, name: String, size: usize, initial: Initial) -> VectorId {
        match &mut self.target {
            BuilderTarget::Values { parameters, source } => {
                let data = source.values(&name, &[size], initial);
                parameters.add_vector(name, data)
            }
            BuilderTarget::Shapes(shapes) => VectorId(shapes.add_vector(name, size)),
        }
    }

    /// Adds a table whose rows are looked up, unless [another role](Self::in_role) is given.
    pub fn table(&mut self, name: String, shape: [usize; 2], initial: Initial) -> WeightId {
        let role = self.role.unwrap_or(WeightRole::Embedding);
        match &mut self.target {
            BuilderTarget::Values { parameters, source } => {
                let holding = parameters.mode().of_tables();
                add(parameters, *source, name, shape, initial, role, holding)
            }
            BuilderTarget::Shapes(shapes) => WeightId::Full(MatrixId(shapes.add_matrix(name, shape, role))),
        }
    }

    /// Adds a matrix in f32, with the role of a table unless [another one](Self::in_role) is given.
    pub fn matrix(&mut self, name: String, shape: [usize; 2], initial: Initial) -> MatrixId {
        let role = self.role.unwrap_or(WeightRole::Embedding);
        match &mut self.target {
            BuilderTarget::Values { parameters, source } => {
                let data = source.values(&name, &shape, initial);
                parameters.add_matrix(name, data, role)
            }
            BuilderTarget::Shapes(shapes) => MatrixId(shapes.add_matrix(name, shape, role)),
        }
    }

    /// Adds a table of which each step looks up few rows, and only these have gradients and are changed.
    pub fn sparse_table(&mut self, name: String, shape: [usize; 2], initial: Initial) -> MatrixId {
        match &mut self.target {
            BuilderTarget::Values { parameters, source } => {
                let data = source.values(&name, &shape, initial);
                parameters.add_sparse_table(name, data)
            }
            BuilderTarget::Shapes(shapes) => MatrixId(shapes.add_matrix(name, shape, WeightRole::Embedding)),
        }
    }

    /// Adds the weight of a linear layer, `[out, in]`, which each token is multiplied with.
    pub fn weight(&mut self, name: String, shape: [usize; 2], initial: Initial) -> WeightId {
        let role = self.role.unwrap_or(WeightRole::Linear);
        match &mut self.target {
            BuilderTarget::Values { parameters, source } => {
                let holding = parameters.mode().of_layers();
                let id = add(parameters, *source, name, shape, initial, role, holding);
                parameters.layers.push(id);
                id
            }
            BuilderTarget::Shapes(shapes) => {
                shapes.multiply(shape);
                WeightId::Full(MatrixId(shapes.add_matrix(name, shape, role)))
            }
        }
    }

    /// Notes a self-attention with `kv_heads` heads of keys, together `width` wide; in the order in which they'll run.
    pub fn attends(&mut self, kv_heads: usize, width: usize) {
        match &mut self.target {
            BuilderTarget::Values { parameters, .. } => parameters.attentions.push(Attended { kv_heads, width }),
            BuilderTarget::Shapes(shapes) => shapes.keys.push(width),
        }
    }

    /// Notes that beside the inputs of linear layers so many elements of each token are kept from the forward pass for the backward pass.
    pub fn keeps(&mut self, width: usize) {
        if let BuilderTarget::Shapes(shapes) = &mut self.target {
            shapes.kept += width as u64;
        }
    }
}

/// Adds a matrix, held in fewer bits where that's wanted.
fn add(
    parameters: &mut Parameters,
    source: &mut dyn ValueSource,
    name: String,
    shape: [usize; 2],
    initial: Initial,
    role: WeightRole,
    holding: Option<Holding>,
) -> WeightId {
    let data = match holding {
        None => source.values(&name, &shape, initial),
        Some(holding) => match source.held(&name, shape, initial, holding.of_columns(shape[1]), parameters.device()) {
            Ok(value) => return parameters.add_compact(name, value),
            Err(data) => data,
        },
    };
    WeightId::Full(parameters.add_matrix(name, data, role))
}
