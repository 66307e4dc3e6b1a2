//! One training example, as people are shown it and as it's printed and recorded.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::told::{Cut, TokenRange, Told};
use crate::{
    data::text::{Readable, Specials},
    learning::train::LossWeights,
    network::batch::{self, Example, Remark, Target},
};

/// A training example as the model is given it, with what is known of where it comes from.
///
/// `tokens`, `ids`, `positions`, `block_positions`, `segments` and `sees` have an element for each of its tokens; `at` is
/// an index into them. [`Self::shortened`] ones have only the first.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Shown {
    /// The step that it's in, from 1.
    pub step: usize,
    /// The batch within the step, from 1.
    pub batch: usize,
    /// Its place in the batch, from 1.
    pub example: usize,
    /// What the step is called, such as `masked_lm+sentence_order`.
    pub objective: String,
    /// The file that it comes from.
    pub file: Option<String>,
    /// The row in the file, from 1, as in messages.
    pub row: Option<usize>,
    /// The document in the file, or in all corpora where the file isn't known; from 1.
    pub document: Option<usize>,
    /// Which of the document's tokens it's made of.
    pub range: Option<TokenRange>,
    /// The text: a filled-in template, a conversation, a part of a document.
    pub text: Option<String>,
    /// The label, as it stands in the data.
    pub label: Option<String>,
    /// What was left out of it, and where.
    pub cut: Vec<Cut>,
    /// What its objective says of it, by name.
    pub remarks: BTreeMap<String, String>,
    /// How many tokens it has.
    pub length: usize,
    /// Its tokens, as people read them.
    pub tokens: Vec<String>,
    /// Their ids.
    pub ids: Vec<u32>,
    /// Their positions in the text; of GLM's generated ones, that of their blank.
    pub positions: Vec<u32>,
    /// GLM's second positions: 0 in the text, 1… within what is generated.
    pub block_positions: Vec<u32>,
    /// BERT's token types: 0 in segment A, 1 in segment B.
    pub segments: Vec<u32>,
    /// How many of the example's tokens, from its first one on, each of them attends to.
    pub sees: Vec<u32>,
    /// Tokens to predict over the whole vocabulary.
    pub targets: Vec<ShownTarget>,
    /// Choices among a few tokens, in classification by prompt.
    pub choices: Vec<ShownChoice>,
    /// The judgement on a pair of segments.
    pub pair: Option<Judged>,
    /// The class for a linear head.
    pub class: Option<Judged>,
}

/// A token to predict.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ShownTarget {
    /// The token that it's predicted at.
    pub at: usize,
    /// The right token's id.
    pub id: u32,
    /// The right token.
    pub token: String,
    /// What stands in its place where it is to be guessed: `mask`, `other` (another token) or `same` (itself). Nothing where
    /// the next token is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_as: Option<String>,
    /// The factor of its cross-entropy in the step's loss.
    pub weight: f32,
}

/// A choice among candidates.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ShownChoice {
    /// The token that it's made at.
    pub at: usize,
    /// The right one.
    pub gold: Candidate,
    /// All of them.
    pub candidates: Vec<Candidate>,
    /// The factor of its cross-entropy in the step's loss.
    pub weight: f32,
}

/// A token that can be chosen.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Candidate {
    /// Its id.
    pub id: u32,
    /// The token.
    pub token: String,
}

/// A judgement on a whole example.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Judged {
    /// The right label, as a number.
    pub label: u32,
    /// What it means, where that's known.
    pub meaning: Option<String>,
    /// The factor of its cross-entropy in the step's loss.
    pub weight: f32,
}

/// What the numbers of an example mean.
pub(super) struct Meanings<'a> {
    pub(super) tokens: Readable<'a>,
    pub(super) specials: Specials,
    /// The tokens that choices are among, at each node of the label trie.
    pub(super) candidates: &'a [Vec<u32>],
    /// What classes are called.
    pub(super) classes: &'a [String],
    /// Whether no token sees those behind it.
    pub(super) is_causal: bool,
}

impl Shown {
    /// Out of an example of a batch.
    pub(super) fn new(example: &Example, weights: &LossWeights, meanings: &Meanings<'_>, told: Told) -> Self {
        let Told { file, row, document, range, text, label, cut } = told;
        let length = example.tokens.len();
        let own = example.weight.unwrap_or(1.0);
        let Meanings { tokens, specials, candidates, classes, is_causal } = meanings;
        let sees: Vec<u32> = match is_causal {
            true => (1..).zip(&example.span_ends).map(|(next, &end)| end.min(next)).collect(),
            false => example.span_ends.clone(),
        };
        let target = |target: &Target| ShownTarget {
            at: target.at as usize,
            id: target.token,
            token: tokens.token(target.token),
            shown_as: shown_as(&example.tokens, &sees, target, specials).map(str::to_owned),
            weight: weights.target,
        };
        let targets = example.targets.iter().map(target).collect();
        let candidate = |&id: &u32| Candidate { id, token: tokens.token(id) };
        let choice = |choice: &batch::Choice| {
            let all = candidates.get(choice.node as usize).map(Vec::as_slice).unwrap_or_default();
            ShownChoice {
                at: choice.at as usize,
                gold: all.get(choice.gold as usize).map(candidate).unwrap_or_default(),
                candidates: all.iter().map(candidate).collect(),
                weight: own * weights.choice,
            }
        };
        let class = |label: u32| {
            let meaning = classes.get(label as usize).cloned();
            Judged { label, meaning, weight: own * weights.class }
        };
        let segments = if example.segments.is_empty() { vec![0; length] } else { example.segments.clone() };
        Self {
            file: file.map(|file| file.to_string_lossy().into_owned()),
            row,
            document,
            range,
            text,
            label,
            cut,
            length,
            tokens: example.tokens.iter().map(|&id| tokens.token(id)).collect(),
            ids: example.tokens.clone(),
            positions: example.positions.clone(),
            block_positions: example.block_positions.clone(),
            segments,
            sees,
            targets,
            choices: example.choices.iter().map(choice).collect(),
            pair: example.pair.map(|label| Judged { label, meaning: None, weight: weights.pair }),
            class: example.class.map(class),
            ..Self::default()
        }
    }

    /// Adds what its objective says of it.
    pub(super) fn remark(&mut self, remarks: &[Remark]) {
        for Remark { name, text } in remarks {
            match &mut self.pair {
                Some(pair) if *name == Remark::PAIR => pair.meaning = Some(text.clone()),
                _ => {
                    self.remarks.insert((*name).to_owned(), text.clone());
                }
            }
        }
    }

    /// With the file's name alone, for those who read it on other machines.
    #[must_use]
    pub(super) fn without_folder(self) -> Self {
        let name =
            |file: String| Path::new(&file).file_name().map_or(file.clone(), |name| name.to_string_lossy().into());
        Self { file: self.file.map(name), ..self }
    }

    /// With so many of its tokens at most, the first ones, and what is to be predicted at these.
    #[must_use]
    pub fn shortened(mut self, most: usize) -> Self {
        let lists = [&mut self.ids, &mut self.positions, &mut self.block_positions, &mut self.segments, &mut self.sees];
        lists.into_iter().for_each(|list| list.truncate(most));
        self.tokens.truncate(most);
        self.targets.retain(|target| target.at < most);
        self.choices.retain(|choice| choice.at < most);
        self
    }
}

/// What stands where a token is to be guessed. A token that attends to those behind it can't predict the next one: what is
/// asked for is what belongs in its own place.
fn shown_as(tokens: &[u32], sees: &[u32], target: &Target, specials: &Specials) -> Option<&'static str> {
    let at = target.at as usize;
    if *sees.get(at)? <= target.at + 1 {
        return None;
    }
    let shown = *tokens.get(at)?;
    Some(match shown {
        _ if shown == target.token => "same",
        _ if [specials.mask, specials.gmask, specials.smask].contains(&shown) => "mask",
        _ => "other",
    })
}
