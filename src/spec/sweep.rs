//! The `sweep` section.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings to try. `list`, `zip`, `grid` and `random` may stand side by side: every combination of theirs is a cell.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Cells that are written out, each with its settings by dotted path
    #[serde(default)]
    pub list: Vec<IndexMap<String, Value>>,
    /// Lists of values by dotted path, of the same length: first values together, then second ones, and so on
    #[serde(default)]
    pub zip: IndexMap<String, Vec<Value>>,
    /// Values by dotted path, such as `stages.cls.train.lr: [1e-4, 3e-4]`, in all combinations
    #[serde(default)]
    pub grid: IndexMap<String, Values>,
    /// Settings drawn at random
    #[serde(default)]
    pub random: Option<Random>,
    /// Settings drawn where those that were tried did well (a tree-structured Parzen estimator); stands alone
    #[serde(default)]
    pub tpe: Option<Tpe>,
    /// Stops the training of cells that do worse than others, rung by rung
    #[serde(default)]
    pub successive_halving: Option<SuccessiveHalving>,
    /// The same under its old name: write `successive_halving`
    #[serde(default)]
    #[schemars(extend("deprecated" = true))]
    pub asha: Option<SuccessiveHalving>,
    /// Leaves out cells for which this isn't true, such as `stages.cls.train.lr < 1e-3`
    #[serde(default)]
    pub when: Option<String>,
    /// Runs each cell with several seeds
    #[serde(default)]
    pub repeat: Option<Repeat>,
    /// The metric to maximize, such as `stages.test.metrics.macro_f1`; either this or `minimize`
    #[serde(default)]
    pub maximize: Option<String>,
    /// The metric to minimize
    #[serde(default)]
    pub minimize: Option<String>,
}

/// The values of a setting: all of them, or a range.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub enum Values {
    /// These
    List(Vec<Value>),
    /// Out of a range
    Range(Range),
}

/// Where the values of a setting come from: one of `choice`, `int`, `log_int`, `uniform` and `log`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// These values
    #[serde(default)]
    pub choice: Option<Vec<Value>>,
    /// Whole numbers from the first to the second
    #[serde(default)]
    pub int: Option<Vec<i64>>,
    /// Whole numbers from the first to the second, each doubling as likely as the others
    #[serde(default)]
    pub log_int: Option<Vec<i64>>,
    /// Numbers from the first to the second
    #[serde(default)]
    pub uniform: Option<Vec<f64>>,
    /// Numbers from the first to the second, each doubling as likely as the others
    #[serde(default)]
    pub log: Option<Vec<f64>>,
    /// In a grid: how many values to take from the range, evenly spaced, both ends among them; of `int` all by default
    #[serde(default)]
    #[schemars(range(min = 2))]
    pub points: Option<usize>,
    /// Only in cells for which this is true, such as `stages.cls.train.schedule == 'cosine'`; over settings further up
    #[serde(default)]
    pub when: Option<String>,
}

/// Settings drawn at random.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// How many draws; more of them keep those that were there
    #[schemars(range(min = 1))]
    pub cells: usize,
    /// Where each setting is drawn from, by dotted path
    #[schemars(extend("minProperties" = 1))]
    pub values: IndexMap<String, Values>,
}

/// Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization".
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tpe {
    /// How many draws
    #[schemars(range(min = 1))]
    pub cells: usize,
    /// How many of them are random, before anything is known
    #[serde(default = "startup")]
    #[schemars(range(min = 1))]
    pub startup: usize,
    /// How many are drawn at a time, with the same knowledge; so many can run side by side
    #[serde(default = "batch")]
    #[schemars(range(min = 1))]
    pub batch: usize,
    /// Where each setting is drawn from, by dotted path
    #[schemars(extend("minProperties" = 1))]
    pub values: IndexMap<String, Values>,
}

/// Successive halving (Jamieson and Talwalkar 2016, <https://arxiv.org/abs/1502.07943>; Li et al. 2018,
/// <https://arxiv.org/abs/1810.05934>): all cells are trained a part of the way, the better ones on to the next rung, and
/// those that are left to the end.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessiveHalving {
    /// Of all settings at a rung one in so many is trained further; a cell's steps to the next rung are so many times those to this
    #[serde(default = "reduction")]
    #[schemars(range(min = 2, max = 100))]
    pub reduction: usize,
    /// How often cells are compared before those that are left are trained to the end
    #[serde(default = "rungs")]
    #[schemars(range(min = 1, max = 10))]
    pub rungs: usize,
    /// The finetune stage that is trained in parts; by default the one that the objective depends on and that differs
    /// between cells
    #[serde(default)]
    pub stage: Option<String>,
    /// What cells are compared by: a metric that the stage measures on its dev rows. By default the objective's, if it's
    /// one of those; or that of the stage's `keep_best` or `early_stopping`; or accuracy, of instructions the loss
    #[serde(default)]
    pub metric: Option<String>,
}

/// Where cells are compared: at one in `part` of a training's steps, or at the next measurement on its dev rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rung {
    /// The training's steps over those to the rung.
    pub part: usize,
}

impl Rung {
    /// The least steps that count, of `steps` in all.
    pub fn least(self, steps: usize) -> usize {
        steps.div_ceil(self.part.max(1))
    }

    /// The step to pause at, where dev rows are measured after every `every` steps.
    pub fn step(self, steps: usize, every: usize) -> usize {
        self.least(steps).next_multiple_of(every.max(1)).min(steps)
    }
}

impl SuccessiveHalving {
    /// The rungs, the lowest first: for three of them and a reduction of 2 at 1/8, 1/4 and 1/2 of the steps.
    pub fn rungs(&self) -> Vec<Rung> {
        let part = |above: usize| self.reduction.saturating_pow(u32::try_from(above).unwrap_or(u32::MAX));
        (1..=self.rungs).rev().map(|above| Rung { part: part(above) }).collect()
    }
}

/// The same cell with several seeds.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// The seeds
    #[schemars(extend("minItems" = 1))]
    pub seeds: Vec<u64>,
    /// Where they are put, such as `stages.cls.train.seed`: only what depends on these stages is computed for each seed;
    /// by default the recipe's own seed
    #[serde(default = "whole_recipe")]
    #[schemars(extend("minItems" = 1))]
    pub over: Vec<String>,
}

impl Sweep {
    /// How cells are stopped early, under whichever name, if they are.
    pub fn halving(&self) -> Option<&SuccessiveHalving> {
        self.successive_halving.as_ref().or(self.asha.as_ref())
    }

    /// The key that says so.
    pub fn halving_key(&self) -> &'static str {
        if self.successive_halving.is_none() && self.asha.is_some() { "asha" } else { "successive_halving" }
    }

    /// The dotted paths of all settings, but for the seeds of repeats.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let listed = self.list.iter().flat_map(IndexMap::keys).chain(self.zip.keys()).chain(self.grid.keys());
        let random = self.random.iter().flat_map(|random| random.values.keys());
        let tpe = self.tpe.iter().flat_map(|tpe| tpe.values.keys());
        listed.chain(random).chain(tpe).map(String::as_str)
    }

    /// The metric's dotted path, and whether more of it is better.
    pub fn aim(&self) -> Option<(&str, bool)> {
        let maximize = self.maximize.as_deref().map(|path| (path, true));
        maximize.or(self.minimize.as_deref().map(|path| (path, false)))
    }
}

fn reduction() -> usize {
    3
}

fn rungs() -> usize {
    2
}

fn startup() -> usize {
    8
}

fn batch() -> usize {
    4
}

fn whole_recipe() -> Vec<String> {
    vec!["seed".into()]
}
