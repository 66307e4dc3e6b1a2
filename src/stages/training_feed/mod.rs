//! What a training stage is fed, and how people are shown it: the very batches that its run gives to the training loop,
//! taken apart into examples, with where each comes from and what was left out.
//!
//! A kind that trains makes its [`TrainingFeed`] in [`StageKind::feed`](super::StageKind::feed), and its run trains on
//! that same value. What an example looks like is read from the batch ([`Shown`]), so that every objective's can be shown;
//! what the batch doesn't know (files, texts, what was cut off) is asked of the [`Sources`] that the kind gives beside
//! the feed, and of the objective by [`Feed::remarks`].

pub(super) mod base;
mod shown;
mod told;

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{TrainingData, estimate::FactsOf, parts::encoding::CORPUS};
use crate::{
    data::text::{Readable, Tokenizer},
    engine::{
        plan::{Graph, Node},
        store::Artifact,
    },
    learning::train::Divisors,
    network::{
        batch::{Feed, MadeOf},
        model::Answers,
    },
    spec::{LossNormalization, Source, Tokenize},
};
use base::Bases;
use shown::Meanings;

pub use base::{Base, NotRun};
pub use shown::{Candidate, Judged, Shown, ShownChoice, ShownTarget};
pub use told::{Cut, Sources, TokenRange, Told, Unknown};

/// Examples whose sources are looked up together.
const TOGETHER: usize = 4096;
/// Examples of each objective that are recorded with an artifact.
const RECORDED: usize = 2;
/// Tokens of a recorded example, at most.
const RECORDED_TOKENS: usize = 160;
/// Steps among which recorded examples are looked for.
const LOOKED_THROUGH: usize = 200;

/// What a training stage is fed.
pub struct TrainingFeed {
    /// The steps.
    pub feed: Box<dyn Feed>,
    /// What ids stand for.
    pub tokenizer: Arc<Tokenizer>,
    /// What a step's loss is the mean of.
    pub normalization: LossNormalization,
    /// What a linear head says.
    pub answers: Answers,
    /// γ of the focal loss of labels; 0 for the plain one.
    pub focal_gamma: f64,
    /// The tokens that choices are among, at each node of the label trie.
    pub candidates: Vec<Vec<u32>>,
    /// What classes are called.
    pub classes: Vec<String>,
    /// Whether no token of the model sees those behind it, whatever its example would let it see.
    pub is_causal: bool,
    /// Knows what the examples are made of.
    pub sources: Box<dyn Sources>,
}

/// Which examples to show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// So many of each objective; all of them if there's no number.
    pub most: Option<usize>,
    /// Those of this step alone, counted from 1.
    pub step: Option<usize>,
    /// Those that are made of the row or document at this place of its file, each once.
    pub place: Option<usize>,
}

/// An example's place among the batches.
#[derive(Clone, Debug)]
struct Place {
    step: usize,
    batch: usize,
    example: usize,
    made_of: MadeOf,
}

impl TrainingFeed {
    /// Shows examples in the order in which the training is given them.
    ///
    /// # Errors
    /// A step that there isn't, files that can't be read any more, and the errors of `show`.
    pub fn each(&self, choice: &Choice, show: &mut dyn FnMut(Shown) -> Result<()>) -> Result<()> {
        let places = self.places(choice)?;
        let mut rest = places.as_slice();
        while !rest.is_empty() {
            // Steps stay whole, so that each is made once.
            let mut end = rest.len().min(TOGETHER);
            while end < rest.len() && rest[end].step == rest[end - 1].step {
                end += 1;
            }
            let (part, others) = rest.split_at(end);
            rest = others;
            let made_of: Vec<MadeOf> = part.iter().map(|place| place.made_of.clone()).collect();
            let mut told = self.sources.tell(&made_of)?.into_iter();
            for step in part.chunk_by(|one, next| one.step == next.step) {
                self.show_step(step, &mut told, show)?;
            }
        }
        Ok(())
    }

    /// Shows some examples of one step.
    fn show_step(
        &self,
        places: &[Place],
        told: &mut dyn Iterator<Item = Told>,
        show: &mut dyn FnMut(Shown) -> Result<()>,
    ) -> Result<()> {
        let Some(number) = places.first().map(|place| place.step) else { return Ok(()) };
        let step = self.feed.step(number)?;
        let batches: Vec<_> = step.batches.iter().map(|batch| batch.take_apart()).collect();
        let remarks = self.feed.remarks(number, &batches)?;
        let meanings = Meanings {
            tokens: Readable::of(&self.tokenizer),
            specials: self.tokenizer.special,
            candidates: &self.candidates,
            classes: &self.classes,
            is_causal: self.is_causal,
        };
        for (place, told) in places.iter().zip(told) {
            let weights = Divisors::of(&step, place.batch, self.normalization).weights(step.pair_weight);
            let example = &batches[place.batch][place.example];
            let mut shown = Shown::new(example, &weights, &meanings, told);
            shown.remark(&remarks[place.batch][place.example]);
            (shown.step, shown.batch, shown.example) = (number + 1, place.batch + 1, place.example + 1);
            shown.objective.clone_from(&step.objective);
            show(shown)?;
        }
        Ok(())
    }

    /// Where the wanted examples lie.
    fn places(&self, choice: &Choice) -> Result<Vec<Place>> {
        let steps = match choice.step {
            Some(step) => {
                let all = self.feed.steps();
                ensure!((1..=all).contains(&step), "there is no step {step}: the stage trains for {all} steps");
                step - 1..step
            }
            None => 0..self.feed.steps(),
        };
        let numbers = choice.place.map(|place| self.sources.at(place)).transpose()?;
        let wanted = |made_of: &MadeOf| match &numbers {
            Some(numbers) => made_of.number().is_some_and(|number| numbers.contains(&number)),
            None => true,
        };
        let mut seen = HashSet::new();
        let is_new = |objective: &str, made_of: &MadeOf| {
            numbers.is_none() || seen.insert((objective.to_owned(), made_of.clone()))
        };
        self.find(steps, choice.most, wanted, is_new)
    }

    /// The first places that are wanted, so many of each objective.
    fn find(
        &self,
        steps: Range<usize>,
        most: Option<usize>,
        wanted: impl Fn(&MadeOf) -> bool,
        mut is_new: impl FnMut(&str, &MadeOf) -> bool,
    ) -> Result<Vec<Place>> {
        let (mut found, mut places) = (BTreeMap::new(), Vec::new());
        found.extend(self.feed.objectives().into_iter().map(|name| (name, 0)));
        for step in steps {
            if most.is_some_and(|most| !found.is_empty() && found.values().all(|&count| count >= most)) {
                break;
            }
            let outline = self.feed.outline(step)?;
            let count = found.entry(outline.objective.clone()).or_insert(0);
            for (batch, examples) in outline.batches.into_iter().enumerate() {
                for (example, made_of) in examples.into_iter().enumerate() {
                    if most.is_none_or(|most| *count < most) && wanted(&made_of) && is_new(&outline.objective, &made_of)
                    {
                        *count += 1;
                        places.push(Place { step, batch, example, made_of });
                    }
                }
            }
        }
        Ok(places)
    }

    /// Some of the first examples of each objective, shortened, as they're recorded with an artifact.
    ///
    /// # Errors
    /// Files that can't be read any more.
    pub(super) fn samples(&self) -> Result<Vec<Value>> {
        let steps = 0..self.feed.steps().min(LOOKED_THROUGH);
        let places = self.find(steps, Some(RECORDED), |_| true, |_, _| true)?;
        let made_of: Vec<MadeOf> = places.iter().map(|place| place.made_of.clone()).collect();
        let mut told = self.sources.tell(&made_of)?.into_iter();
        let mut samples = Vec::new();
        for step in places.chunk_by(|one, next| one.step == next.step) {
            self.show_step(step, &mut told, &mut |shown| {
                samples.push(serde_json::to_value(shown.without_folder().shortened(RECORDED_TOKENS))?);
                Ok(())
            })?;
        }
        Ok(samples)
    }
}

/// What the examples of a stage depend on of the model that it begins with; `artifact` gives what the store has of a
/// stage of the graph.
///
/// # Errors
/// [`NotRun`] if it can't be known before another stage has run; files that can't be read.
pub(super) fn base_of(graph: &Graph, facts: FactsOf<'_>, stage: &str, artifact: ArtifactOf<'_>) -> Result<Base> {
    Bases { graph, facts, artifact }.of(stage)
}

/// What the store has of a stage.
pub type ArtifactOf<'a> = &'a dyn Fn(&str) -> Result<Option<Artifact>>;

/// The stage whose encoded corpora another one is fed from, if it's fed from some.
///
/// # Errors
/// If its kind is unknown, or has other settings.
pub(super) fn corpora_of<'a>(graph: &'a Graph, facts: FactsOf<'_>, stage: &str) -> Result<Option<&'a Node>> {
    let Some(node) = graph.get(stage) else { return Ok(None) };
    Ok(match facts(node)?.training.map(|training| training.data) {
        Some(TrainingData::Corpora(field)) => node.needs.get(field.0).and_then(|name| graph.get(name)),
        _ => None,
    })
}

/// The files that a tokenize stage encodes, source by source; none for other stages.
pub fn encoded_files(node: &Node) -> Vec<(Source, Vec<PathBuf>)> {
    let sources = Tokenize::deserialize(&node.settings).map(|tokenize| tokenize.corpus).unwrap_or_default();
    let files = |(index, source)| (source, node.files.get(&CORPUS.at(index)).cloned().unwrap_or_default());
    sources.into_iter().enumerate().map(files).collect()
}
