//! The tokenizer that a stage will use, as far as it's known before anything runs.

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use crate::{
    recipe::{Chains, Checked, Step, paths},
    spec::{Finetune, Import, Origin, Pretrain, Tokenize, Tokenizer},
};

/// Where a stage's tokenizer comes from.
#[derive(Debug)]
pub(super) enum TokenizerSource {
    /// It lies in a file or a directory.
    Existing(PathBuf),
    /// A stage trains it.
    Trained(Box<Tokenize>),
}

/// The tokenizers of a recipe's stages.
pub(super) type Tokenizers = Chains<TokenizerSource>;

/// Where the tokenizer of a stage comes from; none if that can't be told.
pub(super) fn source(tokenizers: &mut Tokenizers, checked: &Checked, stage: &str) -> Option<Arc<TokenizerSource>> {
    let step = |name: &str| Ok::<_, Infallible>(step(checked, name).unwrap_or(Step::Nowhere));
    tokenizers.beginning(stage, step).ok()?
}

/// What a stage itself says of it.
fn step(checked: &Checked, name: &str) -> Option<Step<TokenizerSource>> {
    let stage = checked.recipe.stages.get(name)?;
    let place = |path: &str| Some(Step::Here(TokenizerSource::Existing(paths::resolve_place(path, &checked.dir)?)));
    let (from, tokens) = if let Ok(tokenize) = stage.settings_as::<Tokenize>() {
        match &tokenize.tokenizer {
            Tokenizer::File(path) => return place(path),
            Tokenizer::Stage(other) => (None, Some(other.clone())),
            _ => return Some(Step::Here(TokenizerSource::Trained(Box::new(tokenize)))),
        }
    } else if let Ok(finetune) = stage.settings_as::<Finetune>() {
        (finetune.from, finetune.tokens)
    } else if let Ok(pretrain) = stage.settings_as::<Pretrain>() {
        (pretrain.from, Some(pretrain.tokens))
    } else {
        let import = stage.settings_as::<Import>().ok()?;
        return place(&import.tokenizer.unwrap_or(import.path));
    };
    match (from, tokens) {
        (Some(Origin::Checkpoint(from)), _) => place(&from.tokenizer.unwrap_or(from.checkpoint)),
        (Some(Origin::Stage(other)), _) | (None, Some(other)) => Some(Step::With(other)),
        (None, None) => None,
    }
}
