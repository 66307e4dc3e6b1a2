//! What a training stage's examples depend on of the model that it begins with: the family and the tokenizer. Both are
//! often known before that model is there.

use std::{fmt, path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    data::text::Tokenizer,
    engine::{
        plan::{Graph, Node},
        store::Artifact,
    },
    network::{
        checkpoint::{self, CONFIG},
        model::{AnswerForm, AttentionPattern, Family, Network, Outline},
    },
    spec::Model,
    stages::{
        estimate::FactsOf,
        facts::{BaseModel, Field, Vocabulary},
        parts::{
            TOKENS,
            origin::{Origin, TOKENIZER},
            task::TrainedFor,
        },
    },
};

/// The family of a model, its tokenizer, and what its embeddings tell apart.
#[derive(Clone)]
pub struct Base {
    /// The family.
    pub family: &'static Family,
    /// How a prompt and its answer are laid out.
    pub form: AnswerForm,
    /// Whether it began as a checkpoint from elsewhere, so that its tokenizer says what stands around a text.
    pub elsewhere: bool,
    /// Segments that it tells apart.
    pub segments: usize,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

impl Base {
    /// Of a model that is there, and may have begun `elsewhere`.
    pub(in crate::stages) fn of(network: &Network, tokenizer: &Arc<Tokenizer>, elsewhere: bool) -> Self {
        let (family, segments) = (network.family(), network.architecture().segments());
        let form = framed(family, tokenizer, elsewhere);
        Self { family, form, elsewhere, segments, tokenizer: Arc::clone(tokenizer) }
    }

    /// Whether no token of the family's models sees those behind it.
    pub fn is_causal(&self) -> bool {
        self.family.attention.iter().all(|pattern| *pattern == AttentionPattern::Causal)
    }
}

/// How a family's model lays out a prompt and its answer: one that began `elsewhere` as its tokenizer has it.
pub(in crate::stages) fn framed(family: &Family, tokenizer: &Tokenizer, elsewhere: bool) -> AnswerForm {
    if elsewhere { family.form.of_checkpoint(tokenizer.begins_texts()) } else { family.form }
}

/// A stage that has to be run first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotRun {
    /// Its name.
    pub stage: String,
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has no stored result for the recipe as it is now", self.stage)
    }
}

impl std::error::Error for NotRun {}

/// The tokenizer of a model that a training begins with: its own, or else that of the stage in `tokens`, if the
/// training `has_tokens`.
///
/// # Errors
/// If it can't be read, or the two differ.
pub(in crate::stages) fn tokenizer(
    from: Option<&Origin>,
    has_tokens: bool,
    tokens: &dyn Fn() -> Result<Arc<Tokenizer>>,
) -> Result<Arc<Tokenizer>> {
    let Some(from) = from.filter(|from| from.has_tokenizer() || !has_tokens) else { return tokens() };
    let own = Arc::new(from.load_tokenizer()?);
    if has_tokens {
        ensure_same(&own, &*tokens()?)?;
    }
    Ok(own)
}

fn ensure_same(own: &Tokenizer, tokens: &Tokenizer) -> Result<()> {
    ensure!(
        own.is_same(tokens),
        "the model in `from` was trained with another tokenizer than that of `tokens`: give that tokenize stage \
         `tokenizer: {{ stage: … }}` with the model's stage"
    );
    Ok(())
}

/// Finds what the examples of a graph's stages depend on.
pub(super) struct Bases<'a> {
    pub(super) graph: &'a Graph,
    pub(super) facts: FactsOf<'a>,
    /// The artifact of a stage, if it's in the store.
    pub(super) artifact: &'a dyn Fn(&str) -> Result<Option<Artifact>>,
}

impl Bases<'_> {
    /// Of the model that a stage begins with.
    ///
    /// # Errors
    /// [`NotRun`] if it can't be known before another stage has run; files that can't be read.
    pub(super) fn of(&self, stage: &str) -> Result<Base> {
        let node = self.node(stage)?;
        let (model, own, elsewhere) = match (self.facts)(node)?.base_model {
            Some(BaseModel::New { model, .. }) => (Described::New(model), None, false),
            Some(BaseModel::Stage { field, .. }) => {
                let before = needed(node, field)?;
                match (self.artifact)(before)? {
                    Some(artifact) => described(&Origin::at(&artifact.path, None, false))?,
                    None => {
                        let base = self.of(before)?;
                        let tokenizer = Arc::clone(&base.tokenizer);
                        (Described::Base(Box::new(base)), Some(tokenizer), false)
                    }
                }
            }
            Some(BaseModel::Checkpoint { field, tokenizer, bytes, .. }) => {
                let file = |field: Field| node.files.get(field.0).and_then(|files| files.first());
                let directory = file(field).with_context(|| format!("`{}` was not resolved", field.0))?;
                described(&Origin::at(directory, file(tokenizer).map(|path| path.as_path()), bytes))?
            }
            None => bail!("`{stage}` begins with no model"),
        };
        let tokens = node.needs.get(TOKENS.0).map(|tokens| self.tokenizer(tokens)).transpose()?;
        let tokenizer = match (own, tokens) {
            (Some(own), Some(tokens)) => {
                ensure_same(&own, &tokens)?;
                own
            }
            (own, tokens) => own.or(tokens).with_context(|| format!("nothing says which tokenizer `{stage}` takes"))?,
        };
        let of_outline = |outline: Outline| (outline.family(), outline.architecture().segments());
        let (family, segments) = match model {
            Described::New(model) => of_outline(Outline::new(&model, tokenizer.vocab_size())?),
            Described::Existing(outline) => of_outline(*outline),
            Described::Base(base) => return Ok(Base { tokenizer, ..*base }),
        };
        let form = framed(family, &tokenizer, elsewhere);
        Ok(Base { family, form, elsewhere, segments, tokenizer })
    }

    /// The tokenizer that a stage makes or takes.
    fn tokenizer(&self, stage: &str) -> Result<Arc<Tokenizer>> {
        if let Some(artifact) = (self.artifact)(stage)? {
            return Ok(Arc::new(Tokenizer::load(&artifact.path)?));
        }
        let node = self.node(stage)?;
        match (self.facts)(node)?.vocabulary {
            Some(Vocabulary::Wanted(_)) => bail!(NotRun { stage: stage.to_owned() }),
            Some(Vocabulary::OfStage(field)) => self.tokenizer(needed(node, field)?),
            Some(Vocabulary::OfFile(field)) => {
                let file = node.files.get(field.0).and_then(|files| files.first());
                as_stored(file.with_context(|| format!("`{}` was not resolved", field.0))?)
            }
            None => Ok(self.of(stage)?.tokenizer),
        }
    }

    fn node(&self, stage: &str) -> Result<&Node> {
        self.graph.get(stage).with_context(|| format!("there is no stage `{stage}`"))
    }
}

/// A model, as far as it's known before it's there.
enum Described {
    New(Model),
    Existing(Box<Outline>),
    Base(Box<Base>),
}

fn needed(node: &Node, field: Field) -> Result<&str> {
    node.needs.get(field.0).map(String::as_str).with_context(|| format!("`{}` was not resolved", field.0))
}

/// What is known of a model in a directory; without a tokenizer if it has none. At last, whether it began elsewhere.
fn described(origin: &Origin) -> Result<(Described, Option<Arc<Tokenizer>>, bool)> {
    let config = checkpoint::base(&origin.model).join(CONFIG);
    let outline = Outline::of_directory(&origin.model)
        .with_context(|| format!("can't tell what {} is a model of", config.display()))?;
    let own = origin.has_tokenizer().then(|| origin.load_tokenizer()).transpose()?;
    let elsewhere = TrainedFor::begins_elsewhere(&origin.model)?;
    Ok((Described::Existing(Box::new(outline)), own.map(Arc::new), elsewhere))
}

/// A tokenizer as a tokenize stage that takes it hands it on: written as `tokenizer.json`, and read again.
fn as_stored(file: &Path) -> Result<Arc<Tokenizer>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(TOKENIZER);
    Tokenizer::load(file)?.save(&path)?;
    Ok(Arc::new(Tokenizer::load(&path)?))
}
