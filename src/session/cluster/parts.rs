//! What a job needs of its run's plan, so that it reads that alone however many stages the run has. The parts of a batch's tasks
//! lie in one file, `batches/N.parts`: at its head is a line for each number of a task, all of the same length, with the place
//! of the task's part and its bytes; behind them come the parts.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::run_plan::RunPlan;

/// A task's part of a plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Part {
    /// The plan with those stages alone that the task computes, and all that come before them.
    pub(super) plan: RunPlan,
    /// The numbers that they have in the run.
    pub(super) numbers: Vec<usize>,
    /// The places here of those that the task computes, one after the other.
    pub(super) own: Vec<usize>,
}

impl Part {
    /// The part of a task that computes these stages; `needs` are those that each stage of the plan needs.
    pub(super) fn new(plan: &RunPlan, needs: &[Vec<usize>], own: &[usize]) -> Self {
        let mut numbers = BTreeSet::new();
        let mut open = own.to_vec();
        while let Some(number) = open.pop() {
            if numbers.insert(number) {
                open.extend(&needs[number]);
            }
        }
        let numbers: Vec<usize> = numbers.into_iter().collect();
        let own = own.iter().filter_map(|own| numbers.binary_search(own).ok()).collect();
        Self { plan: plan.only(&numbers), numbers, own }
    }
}

/// Bytes of a line at the head.
const LINE: u64 = 32;

/// The file of these parts, by the numbers of the tasks.
pub(super) fn file(parts: &BTreeMap<usize, Vec<u8>>) -> Vec<u8> {
    let lines = parts.last_key_value().map_or(0, |(last, _)| last + 1);
    let mut place = lines * LINE as usize;
    let mut text = Vec::with_capacity(place + parts.values().map(Vec::len).sum::<usize>());
    for task in 0..lines {
        let length = parts.get(&task).map_or(0, Vec::len);
        text.extend(format!("{place:>15} {length:>15}\n").into_bytes());
        place += length;
    }
    text.extend(parts.values().flatten());
    text
}

/// A task's part in such a file, of which `bytes` reads some.
///
/// # Errors
/// If there is no such task, and those of reading.
pub(super) fn find(task: usize, bytes: &dyn Fn(Range<u64>) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let line = task as u64 * LINE;
    let line = bytes(line..line + LINE)?;
    let numbers = std::str::from_utf8(&line).ok().map(|line| line.split_whitespace().map(str::parse::<u64>));
    let numbers: Option<Vec<u64>> = numbers.and_then(|numbers| numbers.collect::<Result<_, _>>().ok());
    let (place, length) = match numbers.as_deref() {
        Some(&[place, length]) if length > 0 => (place, length),
        _ => anyhow::bail!("there is no task {task}"),
    };
    let end = place.checked_add(length).context("a place in the file")?;
    let part = bytes(place..end)?;
    ensure!(part.len() as u64 == length, "it's cut off");
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_finds_its_part_and_reads_no_other() {
        let parts = BTreeMap::from([(0, b"first".to_vec()), (3, vec![7; 40]), (4, b"x".to_vec())]);
        let text = file(&parts);
        let read = std::cell::Cell::new(0);
        let bytes = |range: Range<u64>| {
            read.set(read.get() + range.end - range.start);
            let place = |place: u64| usize::try_from(place).unwrap().min(text.len());
            Ok(text[place(range.start)..place(range.end)].to_vec())
        };
        for (task, part) in &parts {
            read.set(0);
            assert_eq!(&find(*task, &bytes).unwrap(), part);
            assert_eq!(read.get(), LINE + part.len() as u64);
        }
        for none in [1, 5, 1000] {
            assert!(find(none, &bytes).unwrap_err().to_string().contains("no task"), "{none}");
        }
        let cut = |range: Range<u64>| bytes(range.start..range.end.min(text.len() as u64 - 1));
        assert!(find(4, &cut).unwrap_err().to_string().contains("cut off"));
    }
}
