//! Several classifiers as one: the mean of the logarithms of their probabilities, made probabilities again (a product of experts:
//! Hinton 2002, <https://doi.org/10.1162/089976602760128018>).

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{
    baseline::Baseline,
    batches::OnProgress,
    classifier::Trained,
    holding::WeightsHeld,
    rows::{self, Use},
};
use crate::{
    engine::executor::Inputs,
    network::device::OpenDevice,
    spec::Source,
    stages::{Field, NotRun},
    support::math,
};

/// The least probability that is told from 0.
pub(super) const LEAST: f32 = 1e-30;

/// The labels' probabilities of each row.
pub(in crate::stages) type Probabilities = Vec<Vec<f32>>;

/// What a classifier, its wide path included, says of the rows of a source that it reads by its own template, in the order of these
/// labels.
///
/// # Errors
/// Rows that it can't read, and labels that it doesn't tell.
fn asked(
    trained: &Trained,
    labels: &[String],
    (source, files): (&Source, &[PathBuf]),
    on_progress: OnProgress<'_>,
) -> Result<Probabilities> {
    let rows = rows::labelled(source, files, &trained.classifier, Use::Judge)?;
    let examples: Vec<_> = rows.iter().map(|row| row.examples.as_slice()).collect();
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let deep = trained.judge()?.probabilities(&trained.network, &examples, on_progress)?;
    let said = trained.with_wide(&texts, &deep)?.unwrap_or(deep);
    let places = places(trained.labels(), labels)?;
    Ok(said.iter().map(|row| places.iter().map(|place| row[*place]).collect()).collect())
}

/// Where these labels stand among those that a classifier tells.
fn places(known: &[String], labels: &[String]) -> Result<Vec<usize>> {
    ensure!(known.len() == labels.len(), "it tells {} labels, not {}", known.len(), labels.len());
    let place = |label: &String| {
        let place = known.iter().position(|known| known == label);
        place.with_context(|| format!("it doesn't tell the label `{label}`"))
    };
    labels.iter().map(place).collect()
}

/// What the models of stages that a field lists say of the rows of a source.
///
/// # Errors
/// As [`asked`], with the stage.
pub(in crate::stages) fn members(
    inputs: &Inputs<'_>,
    (field, names): (Field, &[String]),
    labels: &[String],
    rows: (&Source, &[PathBuf]),
    (held, device): (WeightsHeld, &OpenDevice),
    on_progress: OnProgress<'_>,
) -> Result<Vec<Probabilities>> {
    let member = |(index, name): (usize, &String)| {
        let field = field.at(index);
        let artifact = inputs.artifacts.get(&field).ok_or_else(|| NotRun { stage: name.clone() })?;
        let said = Trained::load(&artifact.path, held, device);
        let said = said.and_then(|trained| asked(&trained, labels, rows, on_progress));
        said.with_context(|| format!("the model of `{name}`"))
    };
    names.iter().enumerate().map(member).collect()
}

/// What the linear classifiers of stages that a field lists say of rows with these texts.
///
/// # Errors
/// Labels that they don't tell.
pub(in crate::stages) fn linear_members(
    inputs: &Inputs<'_>,
    (field, names): (Field, &[String]),
    labels: &[String],
    texts: &[&str],
) -> Result<Vec<Probabilities>> {
    let member = |(index, name): (usize, &String)| {
        let field = field.at(index);
        let artifact = inputs.artifacts.get(&field).ok_or_else(|| NotRun { stage: name.clone() })?;
        let said = || Baseline::read(&artifact.path)?.log_probabilities(labels, texts);
        let said = said().with_context(|| format!("the classifier of `{name}`"))?;
        let exp = |row: Vec<f32>| row.into_iter().map(|log| math::exp(f64::from(log)) as f32).collect();
        Ok(said.into_iter().map(exp).collect())
    };
    names.iter().enumerate().map(member).collect()
}

/// The mean of the logarithms, made probabilities again. All have the same rows, and there is one at least.
pub(in crate::stages) fn mean(members: &[Probabilities]) -> Probabilities {
    let Some((first, others)) = members.split_first() else { return Vec::new() };
    if others.is_empty() {
        return first.clone();
    }
    let of_row = |row: usize| {
        let log = |class: usize| {
            let logs = members.iter().map(|member| math::ln(f64::from(member[row][class].max(LEAST))));
            logs.sum::<f64>() / members.len() as f64
        };
        let logs: Vec<f64> = (0..first[row].len()).map(log).collect();
        let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logs.iter().map(|log| math::exp(log - highest)).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| (power / sum) as f32).collect()
    };
    (0..first.len()).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.special.softmax(numpy.log([[.7, .2, .1], [.3, .6, .1]]).mean(0))`.
    #[test]
    fn logarithms_are_averaged() {
        let said = [vec![vec![0.7, 0.2, 0.1]], vec![vec![0.3, 0.6, 0.1]]];
        for (found, expected) in mean(&said)[0].iter().zip([0.506548, 0.382914, 0.110538]) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
        assert_eq!(mean(&said[..1]), said[0]);
    }

    #[test]
    fn labels_are_found_in_any_order() {
        let names = |names: [&str; 2]| names.map(str::to_owned);
        assert_eq!(places(&names(["a", "b"]), &names(["b", "a"])).unwrap(), [1, 0]);
        assert!(places(&names(["a", "b"]), &names(["b", "c"])).is_err());
        assert!(places(&names(["a", "b"]), &["a".to_owned()]).is_err());
    }
}
