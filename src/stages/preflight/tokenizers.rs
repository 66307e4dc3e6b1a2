//! The tokenizer that a stage will use, as far as it's known before anything runs.

use std::path::PathBuf;

use crate::{
    recipe::{Checked, paths},
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

/// Where the tokenizer of a stage comes from; none if that can't be told.
pub(super) fn source(checked: &Checked, stage: &str) -> Option<TokenizerSource> {
    let mut name = stage.to_owned();
    // A cycle of references ends after as many steps as there are stages.
    for _ in 0..checked.recipe.stages.len() {
        let stage = checked.recipe.stages.get(&name)?;
        let place = |path: &str| Some(TokenizerSource::Existing(paths::resolve_place(path, &checked.dir)?));
        let (from, tokens) = if let Ok(tokenize) = stage.settings_as::<Tokenize>() {
            match &tokenize.tokenizer {
                Tokenizer::File(path) => return place(path),
                Tokenizer::Stage(other) => (None, Some(other.clone())),
                _ => return Some(TokenizerSource::Trained(Box::new(tokenize))),
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
            (Some(Origin::Checkpoint(from)), _) => return place(&from.tokenizer.unwrap_or(from.checkpoint)),
            (Some(Origin::Stage(other)), _) | (None, Some(other)) => name = other,
            (None, None) => return None,
        }
    }
    None
}
