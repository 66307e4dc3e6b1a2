//! Profiles: where stages run, and with what. They stand in a file of their own, for where a thing runs isn't what it is, and
//! nothing of them enters a key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The store, on a disk that all machines see under this name; by default that of `--store`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
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

/// What a stage is given; whatever isn't said isn't asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// The account that is charged
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The partition
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The quality of service
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The time limit, such as "30" (minutes), "8:00:00" or "2-00:00:00"
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The memory of a node, such as "64G"; by default what the estimate says. "none" asks for none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The cores
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub cpus: Option<u32>,
    /// How many GPUs; by default as many as the devices that the run names
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// The type of the GPUs
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_type: Option<String>,
    /// Features that a node has to have
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Nodes that aren't to be used
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<String>,
    /// The reservation
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// The image of a container, which `apptainer exec` runs the program in
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Lines of the shell before the command, such as `module load cuda`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Vec<String>>,
    /// Variables of the environment that are handed on, by name
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Vec<String>>,
    /// Options for the engine as they are, such as `--mail-type=FAIL`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<String>>,
}

impl Resources {
    /// These, and what they don't say as others do.
    fn over(self, other: &Self) -> Self {
        macro_rules! first {
            ($($field:ident),*) => { Self { $($field: self.$field.or_else(|| other.$field.clone())),* } };
        }
        first!(
            account,
            partition,
            qos,
            time,
            memory,
            cpus,
            gpus,
            gpu_type,
            constraint,
            exclude,
            reservation,
            container,
            before,
            environment,
            options
        )
    }
}

impl Profile {
    /// What a stage of this name and kind is given.
    pub fn resources(&self, stage: &str, kind: &str) -> Resources {
        let own = self.stages.get(stage).cloned().unwrap_or_default();
        let own = self.kinds.get(kind).map_or(own.clone(), |kind| own.over(kind));
        own.over(&self.all)
    }
}

/// The profile of this name: beside the recipe, or else in the user's folder.
///
/// # Errors
/// If there is none, and all mistakes in a file that was read.
pub fn find(name: &str, recipe: &Path, engines: &[&str]) -> Result<Profile> {
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
pub fn parse(path: &Path, text: &str, engines: &[&str]) -> Result<Profiles> {
    let check = |profiles: &Profiles| {
        let mut mistakes = Vec::new();
        for (name, profile) in &profiles.profiles {
            let mut report = |pointer: &str, message: String, hint| {
                mistakes.push(Mistake { pointer: format!("profiles.{name}.{pointer}"), message, hint });
            };
            if !engines.contains(&profile.engine.as_str()) {
                let hint = suggest::did_you_mean(&profile.engine, engines.iter().copied(), "the engines are");
                report("engine", format!("there is no engine `{}`", profile.engine), hint);
            }
            for kind in profile.kinds.keys().filter(|kind| KINDS.named(kind).is_none()) {
                let kinds = KINDS.all();
                let hint = suggest::did_you_mean(kind, kinds.iter().map(|kind| kind.name()), "the kinds are");
                report(&format!("kinds.{kind}"), format!("there is no kind of stage `{kind}`"), hint);
            }
            let parts = [("all".to_owned(), &profile.all)].into_iter();
            let parts = parts.chain(profile.kinds.iter().map(|(kind, given)| (format!("kinds.{kind}"), given)));
            for (place, given) in
                parts.chain(profile.stages.iter().map(|(stage, given)| (format!("stages.{stage}"), given)))
            {
                if let Some(memory) = given.memory.as_ref().filter(|memory| !is_memory(memory)) {
                    let hint = "write \"512M\", \"64G\" or \"none\"".to_owned();
                    report(&format!("{place}.memory"), format!("`{memory}` is no amount of memory"), Some(hint));
                }
                if let Some(time) = given.time.as_ref().filter(|time| !is_time(time)) {
                    let hint = "write \"30\" for minutes, \"8:00:00\" or \"2-00:00:00\"".to_owned();
                    report(&format!("{place}.time"), format!("`{time}` is no time limit"), Some(hint));
                }
            }
        }
        mistakes
    };
    Ok(settings::read(path, text, &check)?)
}

fn is_memory(text: &str) -> bool {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    text == "none"
        || text.len() <= digits.len() + 1 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_time(text: &str) -> bool {
    !text.is_empty()
        && text.split(['-', ':']).all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
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
