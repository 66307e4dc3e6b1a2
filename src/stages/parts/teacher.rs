//! Soft labels: what other classifiers say of training rows, as what is to be learned.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    ensemble::{self, LEAST, Probabilities},
    holding::WeightsHeld,
    rows::LabelledRow,
};
use crate::{
    engine::executor::Inputs,
    learning::objectives::Classifier,
    network::device::OpenDevice,
    spec::{Source, Teacher},
    stages::Field,
    support::math,
};

/// The field with the stages whose models teach,
pub(in crate::stages) const MODELS: Field = Field("teacher.models.*");
/// and the one with linear stages.
pub(in crate::stages) const BASELINES: Field = Field("teacher.baselines.*");

/// Gives the examples of rows what teachers say of them to learn, beside their labels.
///
/// # Errors
/// Teachers that haven't run, that can't read the rows, or that tell other labels.
pub(in crate::stages) fn soften(
    rows: &mut [LabelledRow],
    teacher: &Teacher,
    classifier: &Classifier,
    inputs: &Inputs<'_>,
    files: (&Source, &[PathBuf]),
    device: &OpenDevice,
) -> Result<()> {
    let labels = classifier.labels();
    let mut said = ensemble::members(
        inputs,
        (MODELS, &teacher.models),
        labels,
        files,
        (WeightsHeld::default(), device),
        &|_, _| Ok(()),
    )?;
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    said.extend(ensemble::linear_members(inputs, (BASELINES, &teacher.baselines), labels, &texts)?);
    let said: Probabilities = ensemble::mean(&said);
    for (row, said) in rows.iter_mut().zip(&said) {
        let learned = mixed(said, row.label, teacher);
        row.examples.iter_mut().for_each(|example| example.wanted = classifier.wanted(row.label, &learned));
    }
    Ok(())
}

/// The probabilities to learn: the teachers', softened, and all for the row's own label.
fn mixed(said: &[f32], label: usize, teacher: &Teacher) -> Vec<f32> {
    let powers: Vec<f64> = said
        .iter()
        .map(|probability| math::exp(math::ln(f64::from(probability.max(LEAST))) / teacher.temperature))
        .collect();
    let sum: f64 = powers.iter().sum();
    let own = |class: usize| if class == label { 1.0 - teacher.weight } else { 0.0 };
    powers.iter().enumerate().map(|(class, power)| (own(class) + teacher.weight * power / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `0.5 * torch.tensor([0., 1., 0.]) + 0.5 * torch.softmax(torch.tensor([.7, .2, .1]).log() / 2, 0)`.
    #[test]
    fn labels_are_softened() {
        let teacher = Teacher { models: Vec::new(), baselines: Vec::new(), weight: 0.5, temperature: 2.0 };
        for (found, expected) in mixed(&[0.7, 0.2, 0.1], 1, &teacher).iter().zip([0.261440, 0.639745, 0.098815]) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
}
