//! What a training stage of a recipe is fed, for showing it to people. Nothing is trained, and of the stages before it
//! only those have to have run whose output the examples are made of.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::{Recipe, Session, Wanted};
use crate::{
    engine::{
        executor::Inputs,
        plan::{Plan, Status},
        store::Artifact,
    },
    network::batch::Layout,
    stages::{NotRun, TrainingFeed, base_of, corpora_of, encoded_files, facts_of, kind_of},
    support::{Hinted, suggest},
};

impl Session {
    /// The batches that a training stage is given, and what is known of their examples; `fetching` is told of a stage
    /// whose files are brought from the remote.
    ///
    /// # Errors
    /// [`NotRun`] if a stage has to run first; a stage that trains nothing; data that can't be read.
    pub fn training_feed(
        &self,
        recipe: &Recipe,
        stage: &str,
        fetching: &dyn Fn(&str, &Artifact),
    ) -> Result<TrainingFeed> {
        let graph = Wanted { stages: vec![stage.to_owned()], ..Wanted::default() }.of(recipe.graph()?)?;
        let node = graph.get(stage).context("the stage was there")?;
        if facts_of(node)?.training.is_none() {
            bail!(self.trains_nothing(recipe, stage, &node.kind)?);
        }
        let plan = self.everywhere().plan(&graph)?;
        let artifact = |name: &str| self.files_of(&plan, name, fetching);
        let corpora = corpora_of(&graph, stage)?;
        let hit = |(field, name): (&String, &String)| match &plan.get(name)?.status {
            Status::Hit(artifact) => Some((field.clone(), (**artifact).clone())),
            _ => None,
        };
        let mut artifacts: BTreeMap<String, Artifact> = node.needs.iter().filter_map(hit).collect();
        if let Some(corpora) = corpora {
            let missing = || NotRun { stage: corpora.name.clone() };
            let tokens = artifact(&corpora.name)?.ok_or_else(missing)?;
            let fields = node.needs.iter().filter(|(_, name)| **name == corpora.name);
            artifacts.extend(fields.map(|(field, _)| (field.clone(), tokens.clone())));
        }
        let base = base_of(&graph, stage, &artifact)?;
        let inputs = Inputs { seed: node.seed, files: &node.files, artifacts };
        let feed = kind_of(node)?.feed(&node.settings, &inputs, &base, Layout::Ragged)?;
        let mut feed = feed.with_context(|| format!("stages of kind {} don't say what they learn from", node.kind))?;
        if let Some(corpora) = corpora {
            feed.sources.name_files(encoded_files(corpora));
        }
        Ok(feed)
    }

    /// The artifact of a stage with its files, if there is one.
    fn files_of(&self, plan: &Plan, stage: &str, fetching: &dyn Fn(&str, &Artifact)) -> Result<Option<Artifact>> {
        match (plan.get(stage).map(|planned| &planned.status), self.remote()) {
            (Some(Status::Hit(artifact)), _) => Ok(Some((**artifact).clone())),
            (Some(Status::Remote(artifact)), Some(remote)) => {
                fetching(stage, artifact);
                remote.materialise(artifact, &|| (), &|_, _| ()).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn trains_nothing(&self, recipe: &Recipe, stage: &str, kind: &str) -> Result<Hinted> {
        let mut trains = Vec::new();
        for node in recipe.graph()?.nodes() {
            if facts_of(node)?.training.is_some() {
                trains.push(node.name.clone());
            }
        }
        let hint = match trains.is_empty() {
            true => "the recipe has no stage that does".to_owned(),
            false => format!("there is {}", suggest::list(trains.iter().map(String::as_str))),
        };
        Ok(Hinted::with(format!("`{stage}` is a stage of kind {kind} and trains nothing"), hint))
    }
}
