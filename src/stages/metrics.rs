//! The metrics of artifacts that aren't measures of what a model can do: how fast it was made, and how large things were.
//! Whoever records one of these does it by this table, so that whoever shows them knows what they say.

use serde::Serialize;
use serde_json::Value;

use crate::{engine::store::Metrics, spec::DevMetric};

/// What a metric says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// What came out: the same wherever it's computed.
    Result,
    /// How the run went on its machine: time, memory, devices.
    Speed,
    /// What follows from the recipe and its data before anything is learned.
    Setting,
}

/// A metric with a name of its own.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As it stands in records.
    pub name: &'static str,
    role: Role,
}

impl Metric {
    /// Records the value.
    pub(in crate::stages) fn put(self, metrics: &mut Metrics, value: impl Serialize) {
        // A number that isn't finite is null.
        metrics.insert(self.name.to_owned(), serde_json::to_value(value).unwrap_or(Value::Null));
    }
}

/// What the metric of this name says. Those that aren't in the table are measures: results.
pub fn role(name: &str) -> Role {
    TABLE.iter().find(|metric| metric.name == name).map_or(Role::Result, |metric| metric.role)
}

/// The numbers that are recorded of a training: these of its `own`, and `dev` measured on dev rows.
pub(in crate::stages) fn of_training(own: &[Metric], dev: &[DevMetric]) -> Vec<String> {
    let dev = dev.iter().map(|metric| format!("dev_{metric}"));
    let common = [
        LOSS,
        STEPS,
        KEPT_STEP,
        PLANNED_STEPS,
        PARAMETERS,
        LEARNED_PARAMETERS,
        TOKENS_PER_SECOND,
        FLOPS_PER_SECOND,
        PEAK_FLOPS_PER_SECOND,
        MFU,
        DATA_WAIT_SECONDS,
        FIRST_STEP_SECONDS,
        DEVICES,
        MICRO_BATCH_TOKENS,
        DEVICE_MEMORY_BYTES,
        PEAK_MEMORY_BYTES,
    ];
    dev.chain(own.iter().chain(&common).map(|metric| metric.name.to_owned())).collect()
}

macro_rules! table {
    ($($(#[$doc:meta])* $metric:ident: $role:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $metric: Metric = Metric { name: $name, role: Role::$role };)*
        const TABLE: &[Metric] = &[$($metric),*];
    };
}

table! {
    /// Of the last step, or of all rows.
    LOSS: Result = "loss";
    /// Steps that were made, fewer than planned where training stopped early.
    STEPS: Result = "steps";
    /// The step whose weights were kept.
    KEPT_STEP: Result = "kept_step";
    /// Steps that were to be made.
    PLANNED_STEPS: Setting = "planned_steps";
    /// Steps in which all data is seen once.
    EPOCH_STEPS: Setting = "epoch_steps";
    /// The accuracy on dev rows of a network and its wide path together.
    WIDE_DEV_ACCURACY: Result = "wide_dev_accuracy";
    /// The probability from which on labels are given, chosen on dev rows.
    THRESHOLD: Result = "threshold";
    /// Rows that are learned from.
    ROWS: Setting = "rows";
    /// Rows that were read of the files with the data: all that they have, but for a `limit`.
    ROWS_READ: Setting = "rows_read";
    /// The same of the dev rows.
    DEV_ROWS_READ: Setting = "dev_rows_read";
    /// Rows that were too long, and lost a part of their text or of the response.
    CUT_ROWS: Setting = "cut_rows";
    /// Rows that were too long, and lost turns or a part of the question.
    SHORTENED_ROWS: Setting = "shortened_rows";
    /// Rows that were too long, and aren't used.
    SKIPPED_ROWS: Setting = "skipped_rows";
    /// Features of a linear classifier: distinct n-grams, as far as their hashes tell them apart.
    FEATURES: Setting = "features";
    /// Elements of the model's weights.
    PARAMETERS: Setting = "parameters";
    /// Those of them that are trained, where it isn't all.
    LEARNED_PARAMETERS: Setting = "learned_parameters";
    /// Files that the weights are in.
    WEIGHT_FILES: Setting = "weight_files";
    /// The model's family.
    FAMILY: Setting = "family";
    /// Devices that trained together, where there was more than one.
    DEVICES: Speed = "devices";
    /// Input tokens without padding, per second.
    TOKENS_PER_SECOND: Speed = "tokens_per_second";
    /// Floating point operations per second.
    FLOPS_PER_SECOND: Speed = "flops_per_second";
    /// The most that the devices can do, where it's known.
    PEAK_FLOPS_PER_SECOND: Speed = "peak_flops_per_second";
    /// The share of that: model FLOPs utilization, Chowdhery et al. 2022 (<https://arxiv.org/abs/2204.02311>).
    MFU: Speed = "mfu";
    /// Seconds in which training waited for its data.
    DATA_WAIT_SECONDS: Speed = "data_wait_seconds";
    /// Seconds until the first step was done, in which a GPU's kernels are compiled and tuned.
    FIRST_STEP_SECONDS: Speed = "first_step_seconds";
    /// Kernels that weren't there yet, and were compiled until the first step was done.
    KERNELS_COMPILED: Speed = "kernels_compiled";
    /// Shapes for which several kernels were timed until the first step was done.
    KERNELS_TUNED: Speed = "kernels_tuned";
    /// Tokens of the parts that a step was divided into so that they fit.
    MICRO_BATCH_TOKENS: Speed = "micro_batch_tokens";
    /// Of the device that holds most.
    DEVICE_MEMORY_BYTES: Speed = "device_memory_bytes";
    /// The most that the process ever had.
    PEAK_MEMORY_BYTES: Speed = "peak_memory_bytes";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_measures_are_results() {
        let mut names: Vec<_> = TABLE.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert_eq!(
            ["accuracy", "dev_loss", "mfu", "rows"].map(role),
            [Role::Result, Role::Result, Role::Speed, Role::Setting]
        );
    }

    #[test]
    fn what_is_not_a_number_is_recorded_as_nothing() {
        let mut metrics = Metrics::new();
        MFU.put(&mut metrics, f64::NAN);
        MFU.put(&mut metrics, None::<f64>);
        DEVICES.put(&mut metrics, 2);
        assert_eq!(Value::from(metrics), serde_json::json!({ "mfu": null, "devices": 2 }));
    }
}
