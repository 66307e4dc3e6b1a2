//! From the command line to a checked recipe and its graph.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};

use super::{
    args,
    console::{self, bytes},
    interrupt,
};
use crate::{
    engine::{
        plan::{Graph, Status},
        remote::Remote,
        store::Artifact,
    },
    network::device::{DeviceChoice, DeviceChoices},
    recipe::{Overrides, suggest},
    session::{Options, Recipe, Session, Wanted, cluster::On},
    spec::{Product, Stage, Task},
    stages::{BaseModel, TrainingData, kind_named},
    support::{Hinted, shell},
};

/// The remote that was asked for.
#[derive(Clone, Copy)]
pub(super) struct RemoteChoice<'a> {
    pub(super) url: &'a str,
    /// Whether nothing is written to it.
    pub(super) read_only: bool,
}

/// A recipe that was found free of mistakes, and its graph.
pub(super) struct Loaded {
    pub recipe: Recipe,
    pub graph: Graph,
}

/// Loads and checks a recipe, and makes its graph.
///
/// # Errors
/// All mistakes in it, as [`recipe::Diagnostics`].
pub(super) fn load(arguments: &args::Recipe) -> Result<Loaded> {
    let recipe = recipe(arguments)?;
    let graph = recipe.graph()?;
    Ok(Loaded { recipe, graph })
}

/// Loads and checks a recipe; from then on its secrets are redacted.
///
/// # Errors
/// All mistakes in it, as [`recipe::Diagnostics`].
pub(super) fn recipe(arguments: &args::Recipe) -> Result<Recipe> {
    let recipe = Recipe::read(&arguments.recipe, overrides(arguments))?;
    console::register_secrets(&recipe.checked);
    recipe.checked.notes().iter().for_each(|note| console::eprint_line(&format!("note: {note}")));
    Ok(recipe)
}

/// Tells what a recipe can be run with and is hardly meant.
pub(super) fn warn(recipe: &Recipe) {
    if let Some(warnings) = recipe.checked.warnings() {
        console::eprint_line(&warnings.render(console::colour()));
    }
}

/// The command line's changes to a recipe.
pub(super) fn overrides(arguments: &args::Recipe) -> Overrides {
    Overrides { vars: arguments.changes.vars.clone(), sets: arguments.changes.sets.clone() }
}

/// A session with a store and the remote that was named, if one was, for looking things up.
///
/// # Errors
/// If a store of another format is there, or there can't be a remote at this URL.
pub(super) fn session(store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Session> {
    Session::open(options(store, remote))
}

/// As [`session`], for running stages.
///
/// # Errors
/// As [`session`].
pub(super) fn running(running: &args::RunOptions, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Session> {
    running_on(running, None, store, remote)
}

/// As [`running`], on a cluster if one is named, whose store comes before the given one.
///
/// # Errors
/// As [`session`].
pub(super) fn running_on(
    running: &args::RunOptions,
    on: Option<On>,
    store: &Path,
    remote: Option<RemoteChoice<'_>>,
) -> Result<Session> {
    let args::RunOptions { jobs, ignore_memory, launcher, .. } = running;
    let (jobs, ignore_memory, launcher) = ((*jobs).into(), *ignore_memory, launcher.clone());
    let options = match &on {
        Some(on) => options_on(on, store, remote),
        None => options(store, remote),
    };
    Session::open(Options { jobs, ignore_memory, launcher, on, stop: interrupt::flag(), ..options })
}

/// A session with the store and the remote that a cluster has, for looking things up.
///
/// # Errors
/// As [`session`].
pub(super) fn session_on(on: &On, store: &Path, remote: Option<RemoteChoice<'_>>) -> Result<Session> {
    Session::open(options_on(on, store, remote))
}

fn options_on(on: &On, store: &Path, remote: Option<RemoteChoice<'_>>) -> Options {
    let remote = on.profile.remote.as_deref().map(|url| RemoteChoice { url, read_only: false }).or(remote);
    options(on.profile.shared_store().unwrap_or(store), remote)
}

fn options(store: &Path, remote: Option<RemoteChoice<'_>>) -> Options {
    let remote_readonly = remote.is_some_and(|remote| remote.read_only);
    let (store, remote) = (store.to_owned(), remote.map(|remote| remote.url.to_owned()));
    Options { store, remote, remote_readonly, notify: Arc::new(console::eprint_line), ..Options::default() }
}

/// The devices to run on: the command line's, or else the recipe's.
///
/// # Errors
/// If one is unknown, or this build has no support for it.
pub(super) fn devices(options: &args::DeviceOptions, recipe: &Recipe) -> Result<DeviceChoices> {
    recipe.devices(options.device.as_deref(), options.devices.as_deref())
}

/// The one device to run on, for what isn't shared.
///
/// # Errors
/// If it's unknown, or this build has no support for it.
pub(super) fn device(option: Option<&str>, recipe: &Recipe) -> Result<DeviceChoice> {
    Ok(recipe.devices(option, None)?.first)
}

/// Brings the files of an artifact from the remote.
///
/// # Errors
/// If that can't be done.
pub(super) fn materialise(remote: &Remote, stage: &str, artifact: &Artifact) -> Result<Artifact> {
    console::eprint_line(&format!("{stage}: fetching {} from the remote", bytes(artifact.bytes())));
    let waiting = || console::eprint_line(&format!("{stage}: being computed elsewhere; waiting"));
    remote.materialise(artifact, &waiting, &|_, _| ())
}

/// A flag as a shell takes it.
fn quoted(flag: &str) -> String {
    match flag.split_once(' ') {
        Some((name, value)) => format!("{name} {}", shell::quoted(value)),
        None => flag.to_owned(),
    }
}

/// The artifact whose key begins with this, here or in the remote.
///
/// # Errors
/// If there is none, or more than one, or if its record is damaged.
pub(super) fn artifact(session: &Session, key: &str) -> Result<Artifact> {
    let store = session.store();
    let stored = || -> Result<Artifact> {
        let key = store.key(key)?;
        store.record(&key)?.with_context(|| format!("{key} was removed"))
    };
    let count = store.keys()?.iter().filter(|stored| stored.starts_with(key)).count();
    match (stored(), session.remote()) {
        (Err(error), Some(remote)) if count <= 1 => match &remote.matching(key)[..] {
            [] => Err(error),
            [artifact] => Ok(artifact.clone()),
            found => bail!("{} artifacts' keys begin with `{key}` in the remote; give more of the key", found.len()),
        },
        (stored, _) => stored,
    }
}

/// What a command needs of a stage.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    /// Nothing but that it has run.
    Anything,
    /// One of these products.
    Product(&'static [Product]),
    /// A classifier.
    Classifier,
}

impl Needs {
    fn are_met(self, stage: &Stage) -> Result<bool> {
        let kind = kind_named(&stage.kind)?;
        Ok(match self {
            Self::Anything => true,
            Self::Product(products) => kind.products().iter().any(|product| products.contains(product)),
            Self::Classifier => {
                let facts = kind.facts(&stage.settings)?;
                match (facts.training.map(|training| training.data), facts.base_model) {
                    (Some(TrainingData::Rows { task, .. }), _) => !matches!(task, Task::Instruction(_)),
                    (Some(_), _) => false,
                    // A checkpoint that is taken as it is may be one.
                    (None, base) => matches!(base, Some(BaseModel::Checkpoint { .. })),
                }
            }
        })
    }

    fn name(self) -> String {
        match self {
            Self::Anything => "stage".to_owned(),
            Self::Product(products) => products.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
            Self::Classifier => "classifier".to_owned(),
        }
    }
}

/// The artifact of a stage that makes what is needed and was run with the recipe as it is now, here or where the remote has
/// it from.
///
/// # Errors
/// If it hasn't, or the recipe has no such stage.
pub(super) fn stored(
    arguments: &args::Recipe,
    stage: &str,
    needs: Needs,
    store: &Path,
    remote: Option<RemoteChoice<'_>>,
) -> Result<(Recipe, Artifact)> {
    let Loaded { recipe, graph } = load(arguments)?;
    let wanted = Wanted { stages: vec![stage.to_owned()], ..Wanted::default() };
    let graph = wanted.of(graph)?;
    let stages = &recipe.checked.recipe.stages;
    if let Some(wrong) = stages.get(stage)
        && !needs.are_met(wrong)?
    {
        let mut fitting = Vec::new();
        for (name, stage) in stages {
            if needs.are_met(stage)? {
                fitting.push(name.as_str());
            }
        }
        let fitting = suggest::list(fitting);
        let hint = if fitting.is_empty() { "the recipe has none".to_owned() } else { format!("there is {fitting}") };
        let message = format!("`{stage}` is a stage of kind {} and makes no {}", wrong.kind, needs.name());
        bail!(Hinted::new(message, hint));
    }
    let session = session(store, remote)?;
    let plan = session.everywhere().plan(&graph)?;
    let artifact = match (plan.get(stage).map(|planned| &planned.status), session.remote()) {
        (Some(Status::Hit(artifact)), _) => Some((**artifact).clone()),
        (Some(Status::Remote(artifact)), Some(remote)) => {
            let fetched = materialise(remote, stage, artifact).map_err(|error| {
                let Hinted { hint, .. } = not_run(arguments, &recipe, stage);
                // A run alone would be content with the record, which is still there.
                let hint = hint.filter(|_| remote.finish().reachable).map(|run| format!("{run} --force {stage}"));
                Hinted { message: format!("{error:#}"), hint }
            });
            Some(fetched?)
        }
        _ => None,
    };
    let artifact = artifact.ok_or_else(|| not_run(arguments, &recipe, stage))?;
    Ok((recipe, artifact))
}

/// That a stage has to be run first, and how.
pub(super) fn not_run(arguments: &args::Recipe, recipe: &Recipe, stage: &str) -> Hinted {
    let path = arguments.recipe.display();
    let flags: String = recipe.flags().iter().map(|flag| format!(" {}", quoted(flag))).collect();
    let message = format!("`{stage}` has no stored result for {path} as it is now");
    Hinted::with(message, format!("pipe run {path} --stage {stage}{flags}"))
}
