//! Profiles: where stages run, and with what. They stand in a file of their own, for where a thing runs isn't what it is, and
//! nothing of them enters a key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resources::{self, Resources};
use crate::{
    recipe::settings::{self, Mistake},
    stages::KINDS,
    support::{Hinted, suggest},
};

/// The file's name, beside a recipe or in the user's folder of settings.
pub const FILE: &str = "pipe.toml";

/// A file of profiles.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Where stages can run, by name: `--on NAME`
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// A place where stages run.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What runs jobs there, such as slurm
    pub engine: String,
    /// The store, on a disk that all machines see under this name; by default that of `--store`. With `remote`, where each
    /// machine has a store of its own; by default /tmp/pipe-store
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// What machines have in common that share no disk: the URL of a remote, such as "s3://team/pipe". Needs `program`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// How data that stages read comes to them
    #[serde(default)]
    pub inputs: InputsBy,
    /// The program `pipe` on the machines; by default this one, of which the store is given a copy
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// Stages that are alike and computed in one job, one after the other; for short ones
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub group: usize,
    /// Jobs of one array that run at the same time, at most
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub throttle: Option<usize>,
    /// Seconds between two questions to the engine, at least
    #[serde(default = "ten")]
    #[schemars(range(min = 1))]
    pub ask: u64,
    /// The address of Ray's Jobs API, such as "http://head:8265"; by default what `RAY_API_SERVER_ADDRESS` says
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The context of `kubectl`'s configuration; by default the current one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace; by default the context's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The volume claim that has the store, which pods see under the path that it has here
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Secrets whose keys are variables of the pods' environment, by the secrets' names
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// What every stage is given
    #[serde(default)]
    pub all: Resources,
    /// What the stages of a kind are given, such as `pretrain`; it comes before what `all` says
    #[serde(default)]
    pub kinds: BTreeMap<String, Resources>,
    /// What a stage is given, by its name in recipes; it comes before all else
    #[serde(default)]
    pub stages: BTreeMap<String, Resources>,
}

/// Where machines that share no disk have a store each.
const OWN_STORE: &str = "/tmp/pipe-store";

fn one() -> usize {
    1
}

fn ten() -> u64 {
    10
}

/// How data comes to where it's read.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputsBy {
    /// The store is given a copy of each file, once
    #[default]
    Store,
    /// The files are where they are on every machine
    InPlace,
}

impl Profile {
    /// What a stage of this name and kind is given.
    pub fn resources(&self, stage: &str, kind: &str) -> Resources {
        let own = self.stages.get(stage).cloned().unwrap_or_default();
        let own = self.kinds.get(kind).map_or(own.clone(), |kind| own.over(kind));
        own.over(&self.all)
    }

    /// The store that all machines see, if the profile names one.
    pub fn shared_store(&self) -> Option<&Path> {
        self.store.as_deref().filter(|_| self.remote.is_none())
    }

    /// A run's folder as machines see it: in the store, or in one of their own.
    pub fn folder(&self, run: &Path) -> PathBuf {
        match &self.remote {
            None => run.to_owned(),
            Some(_) => {
                let store = self.store.as_deref().unwrap_or(Path::new(OWN_STORE));
                store.join("jobs").join(run.file_name().unwrap_or_default())
            }
        }
    }

    /// All that it gives, with where that stands.
    fn given(&self) -> Vec<(String, &Resources)> {
        let all = [("all".to_owned(), &self.all)].into_iter();
        let kinds = self.kinds.iter().map(|(kind, given)| (format!("kinds.{kind}"), given));
        let stages = self.stages.iter().map(|(stage, given)| (format!("stages.{stage}"), given));
        all.chain(kinds).chain(stages).collect()
    }
}

/// An engine as profiles know it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// The keys that mean something to it, beside those that do to all.
    pub keys: &'a [&'a str],
}

impl Known<'_> {
    /// Keys that mean something to every engine.
    const ALL: [&'static str; 15] = [
        "engine", "store", "remote", "inputs", "program", "group", "ask", "all", "kinds", "stages", "memory", "cpus",
        "gpus", "gpu_type", "before",
    ];

    fn knows(&self, key: &str) -> bool {
        Self::ALL.contains(&key) || self.keys.contains(&key)
    }

    fn listed(&self) -> String {
        format!("what is its own are {}", suggest::list(self.keys.iter().copied()))
    }
}

/// The keys that are said.
fn keys(given: &impl Serialize) -> Vec<String> {
    match serde_json::to_value(given) {
        Ok(serde_json::Value::Object(given)) => given.into_iter().map(|(key, _)| key).collect(),
        _ => Vec::new(),
    }
}

/// The profile of this name: beside the recipe, or else in the user's folder.
///
/// # Errors
/// If there is none, and all mistakes in a file that was read.
pub fn find(name: &str, recipe: &Path, engines: &[Known<'_>]) -> Result<Profile> {
    let beside = recipe.parent().unwrap_or(Path::new("")).join(FILE);
    let places = [Some(beside), own_file()];
    let mut known = Vec::new();
    let mut read = Vec::new();
    for path in places.into_iter().flatten().filter(|path| path.is_file()) {
        let text = fs_err::read_to_string(&path)?;
        let mut profiles = parse(&path, &text, engines)?.profiles;
        if let Some(profile) = profiles.remove(name) {
            return Ok(profile);
        }
        read.push(path.display().to_string());
        known.extend(profiles.into_keys());
    }
    let hint = match read.is_empty() {
        true => format!("write one into {FILE} beside the recipe: [profiles.{name}] and `engine = \"slurm\"` below it"),
        false => suggest::did_you_mean(name, known.iter().map(String::as_str), "the profiles are")
            .unwrap_or_else(|| format!("{} has no profiles", read.join(" and "))),
    };
    bail!(Hinted::with(format!("there is no profile `{name}`"), hint))
}

/// Reads a file of profiles.
///
/// # Errors
/// All mistakes in it.
pub fn parse(path: &Path, text: &str, engines: &[Known<'_>]) -> Result<Profiles> {
    let check = |profiles: &Profiles| {
        let mut mistakes = Vec::new();
        for (name, profile) in &profiles.profiles {
            let mut report = |pointer: &str, message: String, hint| {
                mistakes.push(Mistake { pointer: format!("profiles.{name}.{pointer}"), message, hint });
            };
            let engine = engines.iter().find(|engine| engine.name == profile.engine);
            if engine.is_none() {
                let names = engines.iter().map(|engine| engine.name);
                let hint = suggest::did_you_mean(&profile.engine, names, "the engines are");
                report("engine", format!("there is no engine `{}`", profile.engine), hint);
            }
            if profile.remote.is_some() && profile.program.is_none() {
                let hint = "the program has to be on the machines, or in the container's image: say where";
                report(
                    "remote",
                    "without a disk in common nobody gives machines the program".into(),
                    Some(hint.into()),
                );
            }
            let mut without_meaning = |place: &str, given: Vec<String>| {
                let Some(engine) = engine else { return };
                for key in given.into_iter().filter(|key| !engine.knows(key)) {
                    let message = format!("`{key}` means nothing to {}", engine.name);
                    report(&format!("{place}{key}"), message, Some(format!("take it out; {}", engine.listed())));
                }
            };
            without_meaning("", keys(profile));
            for (place, given) in profile.given() {
                without_meaning(&format!("{place}."), keys(given));
            }
            for kind in profile.kinds.keys().filter(|kind| KINDS.named(kind).is_none()) {
                let kinds = KINDS.all();
                let hint = suggest::did_you_mean(kind, kinds.iter().map(|kind| kind.name()), "the kinds are");
                report(&format!("kinds.{kind}"), format!("there is no kind of stage `{kind}`"), hint);
            }
            for (place, given) in profile.given() {
                if let Some(memory) = given.memory.as_ref().filter(|memory| !resources::is_memory(memory)) {
                    let hint = "write \"512M\", \"64G\" or \"none\"".to_owned();
                    report(&format!("{place}.memory"), format!("`{memory}` is no amount of memory"), Some(hint));
                }
                if let Some(time) = given.time.as_ref().filter(|time| resources::seconds(time).is_none()) {
                    let hint = "write \"30\" for minutes, \"8:00:00\" or \"2-00:00:00\"".to_owned();
                    report(&format!("{place}.time"), format!("`{time}` is no time limit"), Some(hint));
                }
            }
        }
        mistakes
    };
    Ok(settings::read(path, text, &check)?)
}

/// The file in the user's folder of settings: `$XDG_CONFIG_HOME/pipe/pipe.toml`, or below `~/.config`.
fn own_file() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(folder.join("pipe").join(FILE))
}

/// The JSON Schema of files of profiles.
///
/// # Errors
/// None, unless a schema can't be written as text.
pub fn schema_text() -> Result<String> {
    let mut schema = settings::schema::<Profiles>();
    schema["title"] = "pipe profiles".into();
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema).context("a schema is JSON")?))
}
