//! What a run on a cluster is to compute, as a value in the store: `jobs/RUN/plan.json`. Whoever sees the store can compute a
//! stage of it, follow the run, or end it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{profile::Profile, resources::Resources};
use crate::{
    engine::{
        executor::{self, IfHeld, Task},
        plan::{FileDigests, Graph, Key, Node, Plan, Planned, Reason, Status},
        remote::Remote,
        store::{Artifact, FileRecord, Manifest, Provenance, Store},
    },
    spec::Gpu,
};

/// The version of what is written.
pub(super) const FORMAT: u32 = 1;

/// Where results are.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    /// The store of this machine.
    pub store: &'a Store,
    /// The remote, where that is what machines have in common.
    pub remote: Option<&'a Remote>,
}

impl Results<'_> {
    /// What there is under a key; what is damaged is as good as not there.
    fn find(self, key: &str) -> Option<Artifact> {
        self.store.find(key).ok().flatten().or_else(|| self.remote?.find(key))
    }
}

/// A run's plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunPlan {
    /// [`FORMAT`].
    pub format: u32,
    /// The build of the program that made it; another one computes none of it.
    pub build: String,
    /// The recipe's file, for people.
    pub recipe: String,
    /// The machine that it was submitted on.
    pub host: String,
    /// When, in seconds since 1970.
    pub begun: f64,
    /// The name of the profile.
    pub on: String,
    /// The profile.
    pub profile: Profile,
    /// The devices to compute on, as `--devices` takes them.
    pub devices: String,
    /// What their backends are kept to.
    #[serde(default)]
    pub gpu: Gpu,
    /// Whether to compute what seems too large for the devices' memory.
    pub ignore_memory: bool,
    /// What is recorded with every artifact that is made.
    pub provenance: Provenance,
    /// The stages, each after those that it needs. Their numbers are their places here.
    pub stages: Vec<RunStage>,
}

/// A stage of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunStage {
    /// Its id.
    pub id: String,
    /// The stage; relative paths of its files are within the store.
    pub node: Node,
    /// What its files hold.
    pub files: FileDigests,
    /// The files that it reads, with their places in the store, where machines bring them from a remote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<FileRecord>,
    /// What the store had of it when the run was planned, which isn't computed.
    pub stored: Option<Output>,
    /// Whether it's computed even if the store has it.
    pub force: bool,
    /// Where it's to pause: at one in so many of its steps.
    pub until: Option<usize>,
    /// What it's given.
    pub resources: Resources,
    /// Bytes of memory that it takes by the estimate.
    pub estimate: Option<u64>,
}

/// What a stage has given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Output {
    /// Its key.
    pub key: String,
    /// The digest of its artifact.
    pub digest: String,
}

impl RunPlan {
    /// The same with these stages alone.
    pub(super) fn only(&self, numbers: &[usize]) -> Self {
        let Self { build, recipe, host, on, profile, devices, provenance, stages, .. } = self;
        Self {
            build: build.clone(),
            recipe: recipe.clone(),
            host: host.clone(),
            on: on.clone(),
            profile: profile.clone(),
            devices: devices.clone(),
            provenance: provenance.clone(),
            stages: numbers.iter().map(|number| stages[*number].clone()).collect(),
            ..*self
        }
    }

    /// The number of the stage with this id.
    pub fn number(&self, id: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.id == id)
    }

    /// For each stage the numbers of those that it needs.
    pub fn all_needs(&self) -> Vec<Vec<usize>> {
        let ids = self.stages.iter().enumerate().map(|(number, stage)| (stage.id.as_str(), number));
        let numbers: BTreeMap<&str, usize> = ids.collect();
        let needs = |stage: &RunStage| {
            stage.node.needs.values().filter_map(|need| numbers.get(need.as_str()).copied()).collect()
        };
        self.stages.iter().map(needs).collect()
    }

    /// The numbers of the stages that one needs.
    pub fn needs(&self, number: usize) -> Vec<usize> {
        self.stages[number].node.needs.values().filter_map(|need| self.number(need)).collect()
    }

    /// The numbers of the stages to compute.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.stages.iter().enumerate().filter(|(_, stage)| stage.stored.is_none()).map(|(number, _)| number)
    }

    /// What a stage is computed from, by what those before it have given; `None` while one of them hasn't.
    pub fn manifest(&self, number: usize, output: &dyn Fn(usize) -> Option<Output>) -> Option<Manifest> {
        let RunStage { node, files, .. } = &self.stages[number];
        node.manifest(files, &|need| Some(output(self.number(need)?)?.digest))
    }

    /// What the store has of a stage by now, whatever it had when the run was planned.
    ///
    /// # Errors
    /// If a record can't be read.
    pub fn output(
        &self,
        number: usize,
        results: Results<'_>,
        known: &mut BTreeMap<usize, Option<Output>>,
    ) -> Result<Option<Output>> {
        if let Some(known) = known.get(&number) {
            return Ok(known.clone());
        }
        let mut found = self.stages[number].stored.clone();
        if found.is_none() {
            for need in self.needs(number) {
                self.output(need, results, known)?;
            }
            if let Some(manifest) = self.manifest(number, &|need| known.get(&need).cloned().flatten()) {
                let key = manifest.key();
                found = results.find(&key).map(|artifact| Output { key, digest: artifact.digest });
            }
        }
        known.insert(number, found.clone());
        Ok(found)
    }

    /// The computation of a stage, all of whose needs are there; the store's directory stands before paths within it.
    ///
    /// # Errors
    /// If something that it reads isn't there.
    pub fn task(
        &self,
        number: usize,
        results: Results<'_>,
        known: &mut BTreeMap<usize, Option<Output>>,
    ) -> Result<Task> {
        let stage = &self.stages[number];
        for need in stage.node.needs.values() {
            let needed = self.number(need).with_context(|| format!("the plan has no stage `{need}`"))?;
            let output = self.output(needed, results, known)?;
            output.with_context(|| format!("it needs `{need}`, which isn't in the store"))?;
        }
        let output = |need: usize| known.get(&need).cloned().flatten();
        let manifest = self.manifest(number, &output).context("a stage that it needs isn't there")?;
        let input = |(field, need): (&String, &String)| Some((field.clone(), output(self.number(need)?)?.key));
        Ok(Task {
            id: stage.id.clone(),
            node: self.placed(number, results.store),
            manifest,
            inputs: stage.node.needs.iter().filter_map(input).collect(),
            force: stage.force,
            held: IfHeld::Wait,
            until: stage.until,
            provenance: Provenance { host: crate::engine::store::host(), ..self.provenance.clone() },
        })
    }

    fn placed(&self, number: usize, store: &Store) -> Node {
        let mut node = self.stages[number].node.clone();
        let root = std::path::absolute(store.root()).unwrap_or_else(|_| store.root().to_owned());
        for path in node.files.values_mut().chain(node.parts.values_mut()).flatten() {
            *path = root.join(&*path);
        }
        node
    }

    /// A stage with all that comes before it, under their names in the recipe, as estimates and checks know them.
    ///
    /// # Errors
    /// If a record can't be read.
    pub fn as_planned(&self, number: usize, results: Results<'_>) -> Result<(Graph, Plan)> {
        let mut numbers = vec![number];
        let mut at = 0;
        while at < numbers.len() {
            let more = self.needs(numbers[at]).into_iter().filter(|need| !numbers.contains(need));
            numbers.extend(more.collect::<Vec<_>>());
            at += 1;
        }
        numbers.sort_unstable();
        let (mut nodes, mut planned, mut known) = (IndexMap::new(), Vec::new(), BTreeMap::new());
        for number in numbers {
            let mut node = self.placed(number, results.store);
            for need in node.needs.values_mut() {
                if let Some(stage) = self.number(need).map(|number| &self.stages[number]) {
                    *need = stage.node.name.clone();
                }
            }
            let output = self.output(number, results, &mut known)?;
            let artifact = output.as_ref().map(|output| results.store.record(&output.key)).transpose()?.flatten();
            let elsewhere = || Some(Status::Remote(Box::new(results.remote?.find(&output.as_ref()?.key)?)));
            let status = artifact.map(|artifact| Status::Hit(Box::new(artifact))).or_else(elsewhere);
            let status = match status {
                Some(status) => status,
                None => Status::Miss { reason: Reason::NotStored, from: None },
            };
            let key = output.map_or(Key::After(Vec::new()), |output| Key::Known(output.key));
            nodes.insert(node.name.clone(), node.clone());
            let files = self.stages[number].files.clone();
            planned.push((node.name.clone(), Planned { node, key, status, forced: false, files }));
        }
        Ok((nodes.into(), planned.into_iter().collect()))
    }
}

/// The stages of an executor's plan, in their order; `given` says what each is given, and its memory by the estimate.
pub(super) fn stages(
    plan: &Plan,
    options: &executor::Options,
    given: &dyn Fn(&Node) -> (Resources, Option<u64>),
) -> Vec<RunStage> {
    let stage = |(id, planned): (&str, &Planned)| {
        let (resources, estimate) = given(&planned.node);
        let stored = planned.status.artifact();
        let stored = stored.map(|artifact| Output { key: artifact.key.clone(), digest: artifact.digest.clone() });
        RunStage {
            id: id.to_owned(),
            node: planned.node.clone(),
            files: planned.files.clone(),
            inputs: Vec::new(),
            stored,
            force: planned.forced,
            until: options.until.get(id).copied(),
            resources,
            estimate,
        }
    };
    plan.stages().map(stage).collect()
}
