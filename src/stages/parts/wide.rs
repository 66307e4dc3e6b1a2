//! The wide path of a classifier (Cheng et al. 2016, <https://arxiv.org/abs/1606.07792>): a linear classifier on n-grams beside
//! the network, in the folder `wide` of its artifact.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

use super::baseline::Baseline;
use crate::learning::linear::Mix;

/// The folder.
const FOLDER: &str = "wide";
/// The file with the factors.
const MIX: &str = "mix.json";

/// A linear classifier, and what it counts for beside the network.
pub(in crate::stages) struct Wide {
    baseline: Baseline,
    pub mix: Mix,
}

impl Wide {
    /// Of the artifact of a linear stage.
    pub(in crate::stages) fn of(linear: &Path) -> Result<Self> {
        Ok(Self { baseline: Baseline::read(linear)?, mix: Mix::default() })
    }

    /// Whether a model's artifact has one.
    pub(in crate::stages) fn is_in(dir: &Path) -> bool {
        dir.join(FOLDER).is_dir()
    }

    /// That of a model, if it has one.
    pub(in crate::stages) fn read(dir: &Path) -> Result<Option<Self>> {
        if !Self::is_in(dir) {
            return Ok(None);
        }
        let (dir, path) = (dir.join(FOLDER), dir.join(FOLDER).join(MIX));
        let mix = serde_json::from_slice(&fs::read(&path)?);
        let mix = mix.with_context(|| format!("{} isn't what a finetune stage writes", path.display()))?;
        Ok(Some(Self { baseline: Baseline::read(&dir)?, mix }))
    }

    /// Writes it beside a model.
    pub(in crate::stages) fn write(&self, dir: &Path) -> Result<()> {
        let dir = dir.join(FOLDER);
        fs::create_dir_all(&dir)?;
        self.baseline.write(&dir)?;
        Ok(fs::write(dir.join(MIX), serde_json::to_vec_pretty(&self.mix)?)?)
    }

    /// Chooses the factors by rows that neither has learned: their texts, what the network says of them, and their labels.
    /// Gives the labels' probabilities for them.
    pub(in crate::stages) fn fit(
        &mut self,
        labels: &[String],
        texts: &[&str],
        deep: &[Vec<f32>],
        gold: &[usize],
    ) -> Result<Vec<Vec<f32>>> {
        let wide = self.baseline.log_probabilities(labels, texts)?;
        let rows: Vec<_> = deep.iter().zip(&wide).map(|(deep, wide)| (deep.as_slice(), wide.as_slice())).collect();
        self.mix = Mix::choose(&rows, gold);
        Ok(rows.into_iter().map(|row| self.mix.probabilities(row)).collect())
    }

    /// The labels' probabilities for rows, by their texts and what the network says of them.
    pub(in crate::stages) fn probabilities(
        &self,
        labels: &[String],
        texts: &[&str],
        deep: &[Vec<f32>],
    ) -> Result<Vec<Vec<f32>>> {
        let wide = self.baseline.log_probabilities(labels, texts)?;
        Ok(deep.iter().zip(&wide).map(|(deep, wide)| self.mix.probabilities((deep, wide))).collect())
    }
}
