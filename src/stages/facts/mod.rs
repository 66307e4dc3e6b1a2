//! What a stage says of itself before anything runs, by its settings alone: recipes are checked by it, and time and memory
//! are estimated.

mod field;
mod training;

pub use field::Field;
pub use training::{BaseModel, DevRows, NewHeads, Training, TrainingData};

/// What a stage says of itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The model that it begins with or brings.
    pub base_model: Option<BaseModel>,
    /// What it trains, and how.
    pub training: Option<Training>,
    /// How large the vocabulary is that it makes, where it makes none that comes with a model.
    pub vocabulary: Option<Vocabulary>,
}

/// The size of the vocabulary that a stage makes.
#[derive(Clone, Copy, Debug)]
pub enum Vocabulary {
    /// So many entries are asked for; there may be fewer in the end.
    Wanted(usize),
    /// As many as that of the stage which this field names.
    OfStage(Field),
    /// As many as that of the tokenizer which this field names.
    OfFile(Field),
}
