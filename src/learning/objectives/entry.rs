//! One entry of the mix: its windows, and the examples made of each.

use std::{error::Error, fmt, sync::Arc};

use anyhow::{Context, Result};

use super::{
    Corpus,
    definition::{Draw, ExampleSource, Examples, ObjectiveRole},
    parts::{self, ResolvedObjective},
    windows::Window,
    words::MarkedText,
};
use crate::{
    network::batch::{Example, Remark},
    spec,
    support::random::Key,
};

/// A corpus that is too small for an objective: what it lacks.
#[derive(Debug)]
pub struct TooSmall(String);

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for TooSmall {}

/// An entry of the mix, with the windows of the corpus that its examples are made of.
pub(super) struct MixEntry {
    /// What curves call it, such as `masked_lm+sentence_order`.
    pub(super) name: String,
    /// Factor on the loss of sentence pairs.
    pub(super) pair_weight: f32,
    /// Names of the objectives that predict tokens and that judge pairs, where there are both.
    pub(super) parts: Option<[String; 2]>,
    /// Whose tokens carry the marks of words, where they're wanted.
    corpus: Corpus,
    windows: Vec<Window>,
    /// Makes the examples.
    maker: Box<dyn Examples>,
    /// Masks tokens in them, where another objective than the maker does.
    masker: Option<Box<dyn Examples>>,
}

impl MixEntry {
    /// Cuts the corpus for an entry.
    pub(super) fn new(entry: &spec::Objective, corpus: &Corpus, max_length: usize) -> Result<Self> {
        let known = parts::known(entry)?;
        let name = parts::name(&known);
        let pair_weight = known.iter().find_map(|known| known.settings.pair_weight()).unwrap_or(1.0) as f32;
        let masks_words = known.iter().any(|known| known.settings.masks_words());
        let (maskers, makers): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|known| known.definition.role == ObjectiveRole::Masks);
        let parts = match (maskers.as_slice(), makers.as_slice()) {
            ([masker], [maker]) => Some([masker, maker].map(|known| known.definition.name.to_owned())),
            _ => None,
        };
        let mut order = makers.into_iter().chain(maskers);
        let mut needs = Vec::new();
        let mut examples = |known: ResolvedObjective| {
            for special in known.settings.needs(corpus.form) {
                if !needs.contains(&special) {
                    needs.push(special);
                }
            }
            known.settings.examples(corpus, max_length)
        };
        let maker = examples(order.next().context("an entry of the mix has no objective")?)?;
        let masker = order.next().map(examples).transpose()?;
        corpus.specials.require(&name, &needs)?;
        let windows = maker.windows(corpus)?;
        maker.check(&name, &windows).map_err(|lack| TooSmall(lack.to_string()))?;
        let mut corpus = corpus.clone();
        if masks_words {
            corpus.text = Arc::new(MarkedText(corpus.text));
        }
        Ok(Self { name, pair_weight, parts, corpus, windows, maker, masker })
    }

    /// Takes [overlapping windows](Examples::overlapping) instead, if its objective has them; gives how many first tokens
    /// of each are there for context only.
    pub(super) fn overlap(&mut self, stride: usize) -> Result<Option<Vec<usize>>> {
        let Some(found) = self.maker.overlapping(&self.corpus, stride)? else { return Ok(None) };
        let (windows, contexts) = found.into_iter().unzip();
        self.windows = windows;
        Ok(Some(contexts))
    }

    /// How many examples there are.
    pub(super) fn examples(&self) -> usize {
        self.windows.len()
    }

    /// The examples' lengths in tokens, as far as they're known before they're made.
    pub(super) fn lengths(&self) -> Vec<u32> {
        self.windows.iter().map(|&window| self.maker.length(&self.corpus, window) as u32).collect()
    }

    /// What an example is made of.
    pub(super) fn window(&self, index: usize) -> Window {
        self.windows[index]
    }

    /// What its objectives say of an example that was made with these keys.
    pub(super) fn remarks(&self, index: usize, batch: Key, own: Key, example: &Example) -> Result<Vec<Remark>> {
        let (window, draw) = (self.windows[index], Draw { batch, own });
        let document = self.corpus.text.document(window.document as usize)?;
        let source = ExampleSource { id: index as u64, corpus: &self.corpus, document: &document, window };
        let makers = [Some(&self.maker), self.masker.as_ref()];
        Ok(makers.into_iter().flatten().flat_map(|maker| maker.remarks(&source, draw, example)).collect())
    }

    /// Makes an example. `batch` draws what is common to a batch, `own` what is the example's own.
    pub(super) fn example(&self, index: usize, batch: Key, own: Key) -> Result<Example> {
        let (window, draw) = (self.windows[index], Draw { batch, own });
        let document = self.corpus.text.document(window.document as usize)?;
        let source = ExampleSource { id: index as u64, corpus: &self.corpus, document: &document, window };
        let mut example = self.maker.example(&source, draw)?;
        self.maker.mask(&mut example, &self.corpus.specials, draw);
        if let Some(masker) = &self.masker {
            masker.mask(&mut example, &self.corpus.specials, draw);
        }
        Ok(example)
    }
}
