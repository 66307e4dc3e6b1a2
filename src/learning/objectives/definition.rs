//! The definition of a pretraining objective: name, settings, attention pattern, examples. The rest of the program knows
//! objectives only by this.

use anyhow::{Context, Result, ensure};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};

use super::{AnswerForm, Corpus, Specials, TokenizedDocument, windows::Window};
use crate::{
    data::text::Special,
    network::{
        batch::{Example, Remark},
        model::AttentionPattern,
    },
    spec::{OpenSettings, Problem, Section},
    support::{Named, random::Key},
};

/// An objective, as [`OBJECTIVES`](super::OBJECTIVES) lists it. Everything here holds whatever its settings are.
#[derive(Debug)]
pub struct Definition {
    /// Its name in recipes.
    pub name: &'static str,
    /// Where in an entry of a recipe's mix it stands.
    pub section: Section,
    /// What it is, for whoever writes a recipe: its description in the schema.
    pub about: &'static str,
    /// What it may be combined with.
    pub role: ObjectiveRole,
    /// The attention pattern that its examples need: it decides which families can learn it.
    pub attention: AttentionPattern,
    /// Whether a checkpoint that doesn't say what it was trained for is taken to have learned it, if it can.
    pub assumed: bool,
    /// The form in which a model that learned it continues a prompt; none if it doesn't learn to.
    pub teaches: Option<AnswerForm>,
    /// Its metric on held-out text; none if it isn't evaluated.
    pub measure: Option<HeldOutMetric>,
    /// The head that it needs beside the language model's.
    pub head: Option<HeadKind>,
    /// Version of its code. Raise it whenever the same text and seed would give other examples, so that no artifact made
    /// by older code is served for newer.
    pub version: u32,
    /// The type of its settings.
    pub settings: SettingsType,
}

/// What an objective may be combined with in one entry of the mix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ObjectiveRole {
    /// It masks tokens: of plain texts, or of the examples of a [`ObjectiveRole::Pairs`] objective, whose loss is then added.
    Masks,
    /// It makes pairs of segments, whose tokens others may mask.
    Pairs,
    /// It stands alone.
    Alone,
}

/// The metric of an objective on held-out text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeldOutMetric {
    /// Perplexity of the predicted tokens.
    Perplexity,
    /// Accuracy on the masked tokens.
    MaskedAccuracy,
    /// Accuracy on sentence pairs, by the objective's name.
    PairAccuracy,
}

/// A head that objectives may need.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum HeadKind {
    /// Classifies sequences in two.
    Pair,
}

/// The type of an objective's settings, erased.
#[derive(Clone, Copy, Debug)]
pub struct SettingsType {
    schema: fn(&mut SchemaGenerator) -> Schema,
    read: fn(&OpenSettings) -> Result<Box<dyn ObjectiveSettings>>,
    complete: fn(&OpenSettings) -> Result<OpenSettings>,
}

impl SettingsType {
    /// Settings of this type, with its defaults and its documentation.
    pub const fn of<T: ObjectiveSettings + DeserializeOwned + JsonSchema + Serialize + 'static>() -> Self {
        Self { schema: schema::<T>, read: boxed::<T>, complete: complete::<T> }
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn read<T: DeserializeOwned>(settings: &OpenSettings) -> Result<T> {
    Ok(serde_json::from_value(settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect())?)
}

fn boxed<T: ObjectiveSettings + DeserializeOwned + 'static>(
    settings: &OpenSettings,
) -> Result<Box<dyn ObjectiveSettings>> {
    Ok(Box::new(read::<T>(settings)?))
}

fn complete<T: DeserializeOwned + Serialize>(settings: &OpenSettings) -> Result<OpenSettings> {
    // By text, since that keeps the order of the fields.
    Ok(serde_json::from_str(&serde_json::to_string(&read::<T>(settings)?)?)?)
}

impl Definition {
    /// Its settings, from a recipe's.
    ///
    /// # Errors
    /// If they aren't of its type.
    pub fn read(&self, settings: &OpenSettings) -> Result<Box<dyn ObjectiveSettings>> {
        (self.settings.read)(settings).with_context(|| format!("the settings of {}", self.name))
    }

    /// The same settings with all defaults, each in its own type, in the order of their declaration.
    ///
    /// # Errors
    /// If they aren't of its type.
    pub fn complete(&self, settings: &OpenSettings) -> Result<OpenSettings> {
        (self.settings.complete)(settings).with_context(|| format!("the settings of {}", self.name))
    }

    /// A reference to the schema of its settings, which the generator then has among its definitions.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.settings.schema)(generator)
    }
}

impl Named for Definition {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// An objective with its settings.
pub trait ObjectiveSettings: Send + Sync {
    /// Rules between its settings that their schema can't say; see [`Problem`].
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// The special tokens that its examples take.
    fn needs(&self, form: AnswerForm) -> Vec<Special>;

    /// The largest share of an example's tokens that is predicted over the whole vocabulary: what memory is estimated by.
    fn predicted(&self) -> f64;

    /// Factor on the loss of its sentence pairs, if it makes pairs.
    fn pair_weight(&self) -> Option<f64> {
        None
    }

    /// Whether it masks whole words, so that the documents' words have to be found.
    fn masks_words(&self) -> bool {
        false
    }

    /// By how much the code that these settings ask for is newer than the objective's [version](Definition::version): for
    /// changes that other settings don't notice.
    fn revision(&self) -> u32 {
        0
    }

    /// What makes its examples of at most `max_length` tokens out of a corpus.
    ///
    /// # Errors
    /// If the corpus can't be read, or the settings leave nothing to do.
    fn examples(&self, corpus: &Corpus, max_length: usize) -> Result<Box<dyn Examples>>;
}

/// Makes an objective's examples.
pub trait Examples: Send + Sync {
    /// Cuts the corpus into windows, of each of which an example is made.
    ///
    /// # Errors
    /// If it can't be read.
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>>;

    /// Windows of held-out text that overlap, so that every token is judged with others before it, and of each window how
    /// many of its first tokens are there only for that; `None` where tokens aren't predicted one after the other. With
    /// `Some`, an example's targets are the window's tokens in their order, and maybe the end.
    ///
    /// # Errors
    /// If the corpus can't be read.
    fn overlapping(&self, _corpus: &Corpus, _stride: usize) -> Result<Option<Vec<(Window, usize)>>> {
        Ok(None)
    }

    /// Makes sure that these windows are enough; `name` is what the recipe calls the entry.
    ///
    /// # Errors
    /// Says what the corpus lacks.
    fn check(&self, name: &str, windows: &[Window]) -> Result<()> {
        ensure!(!windows.is_empty(), "{name} has nothing to learn from: the corpus has no tokens");
        Ok(())
    }

    /// Tokens of a window's example, as far as they're known before it's made: batches are planned by it.
    fn length(&self, corpus: &Corpus, window: Window) -> usize {
        window.length() + corpus.frame()
    }

    /// Makes an example.
    ///
    /// # Errors
    /// If other documents are needed and can't be read.
    fn example(&self, source: &ExampleSource<'_>, draw: Draw) -> Result<Example>;

    /// Masks tokens of an example that it or another objective of the entry made.
    fn mask(&self, _example: &mut Example, _specials: &Specials, _draw: Draw) {}

    /// What people should be told of an example, made with this draw, that isn't seen in it: they are shown its tokens,
    /// segments, targets and labels anyway.
    fn remarks(&self, _source: &ExampleSource<'_>, _draw: Draw, _example: &Example) -> Vec<Remark> {
        Vec::new()
    }
}

/// The input of an example: a window of a document.
#[derive(Clone, Copy)]
pub struct ExampleSource<'a> {
    /// The example's number.
    pub id: u64,
    /// The corpus.
    pub corpus: &'a Corpus,
    /// The document that the window lies in.
    pub document: &'a TokenizedDocument<'a>,
    /// The part of the document.
    pub window: Window,
}

impl<'a> ExampleSource<'a> {
    /// The window's tokens.
    pub fn text(&self) -> &'a [u32] {
        &self.document.tokens[self.window.range()]
    }

    /// Whether the window ends its document.
    pub fn ends(&self) -> bool {
        self.window.end as usize == self.document.tokens.len()
    }

    /// The special tokens.
    pub fn specials(&self) -> &'a Specials {
        &self.corpus.specials
    }
}

/// The random keys of an example.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// For what all examples of a batch have in common.
    pub batch: Key,
    /// For the example's own: by seed, epoch and example.
    pub own: Key,
}
