//! Which stages are submitted together: those that are alike are tasks of one batch, and short ones share a task.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    engine::{After, Batch, Cluster},
    resources::Resources,
};

/// What jobs of one batch have in common.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Shape {
    pub(super) resources: Resources,
    /// Bytes of memory by the estimate.
    pub(super) estimate: Option<u64>,
    /// By what factor the time limit is longer than was asked for.
    pub(super) longer: u32,
}

/// A stage to submit.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// Its number.
    pub(super) stage: usize,
    pub(super) shape: Shape,
    /// The tasks of other batches that it needs, as the engine calls those, which haven't come to their end.
    pub(super) after: BTreeSet<(String, usize)>,
}

/// What is submitted at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Together {
    pub(super) shape: Shape,
    /// By the number of the task, the stages that it computes.
    pub(super) tasks: BTreeMap<usize, Vec<usize>>,
    pub(super) after: Vec<After>,
}

/// Where a batch belongs.
pub(super) struct Place<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// What the names of the run's batches begin with.
    pub(super) run: &'a str,
    /// The run's folder, as machines see it.
    pub(super) folder: &'a Path,
    /// What machines have in common that share no disk.
    pub(super) remote: Option<&'a str>,
    /// Its number in the run.
    pub(super) number: usize,
    /// The program `pipe`.
    pub(super) program: &'a Path,
}

impl Together {
    /// What an engine is given for it, of whose tasks so many run at the same time at most.
    pub(super) fn script(&self, cluster: &dyn Cluster, place: Place<'_>, throttle: Option<usize>) -> String {
        let Place { name, run, folder, remote, number, program } = place;
        let tasks: Vec<usize> = self.tasks.keys().copied().collect();
        let Shape { resources, estimate, longer } = &self.shape;
        cluster.script(&Batch {
            name,
            run,
            folder,
            is_apart: remote.is_some(),
            number,
            tasks: &tasks,
            resources,
            estimate: *estimate,
            longer: *longer,
            throttle,
            after: &self.after,
            command: &command(program, folder, remote, number),
        })
    }
}

/// The words of the command of a batch's jobs, behind which the number of the task comes.
fn command(program: &Path, folder: &Path, remote: Option<&str>, batch: usize) -> Vec<String> {
    let store = folder.ancestors().nth(2).unwrap_or(folder);
    let text = |path: &Path| path.display().to_string();
    let words = ["stage", "--store", &text(store), "--job", &text(folder), "--batch", &batch.to_string(), "--task"];
    let mut words: Vec<String> = std::iter::once(text(program)).chain(words.map(str::to_owned)).collect();
    if let Some(url) = remote {
        // The number of the task comes last.
        words.splice(2..2, ["--apart".to_owned(), url.to_owned()]);
    }
    words
}

/// Puts stages together: `group` in one task, and `most` tasks in a batch.
pub(super) fn together(ready: Vec<Ready>, group: usize, most: usize) -> Vec<Together> {
    let mut alike: BTreeMap<(Shape, BTreeSet<String>), Vec<Ready>> = BTreeMap::new();
    for one in ready {
        let batches = one.after.iter().map(|(id, _)| id.clone()).collect();
        alike.entry((one.shape.clone(), batches)).or_default().push(one);
    }
    let (group, most) = (group.max(1), most.max(1));
    let mut all = Vec::new();
    for ((shape, ids), members) in alike {
        let first = members[0].after.clone();
        if members.iter().all(|one| one.after == first) {
            let after: Vec<After> = first.into_iter().map(|(id, task)| After::Task(id, task)).collect();
            let stages: Vec<usize> = members.iter().map(|one| one.stage).collect();
            let tasks: Vec<Vec<usize>> = stages.chunks(group).map(<[usize]>::to_vec).collect();
            for tasks in tasks.chunks(most) {
                let tasks = tasks.iter().cloned().enumerate().collect();
                all.push(Together { shape: shape.clone(), tasks, after: after.clone() });
            }
            continue;
        }
        let after: Vec<After> = ids.iter().cloned().map(After::Same).collect();
        let mut layers: Vec<BTreeMap<usize, Vec<usize>>> = Vec::new();
        for one in members {
            let numbers: BTreeSet<usize> = one.after.iter().map(|(_, task)| *task).collect();
            match numbers.first() {
                // Its task has the number of those that it needs.
                Some(&number) if numbers.len() == 1 && one.after.len() == ids.len() => {
                    let is_free =
                        |layer: &BTreeMap<usize, Vec<usize>>| layer.get(&number).is_none_or(|task| task.len() < group);
                    match layers.iter_mut().find(|layer| is_free(layer)) {
                        Some(layer) => layer.entry(number).or_default().push(one.stage),
                        None => layers.push(BTreeMap::from([(number, vec![one.stage])])),
                    }
                }
                _ => all.push(Together {
                    shape: shape.clone(),
                    tasks: BTreeMap::from([(0, vec![one.stage])]),
                    after: one.after.into_iter().map(|(id, task)| After::Task(id, task)).collect(),
                }),
            }
        }
        for layer in layers {
            let tasks: Vec<(usize, Vec<usize>)> = layer.into_iter().collect();
            let parts = tasks.chunks(most).map(|tasks| tasks.iter().cloned().collect());
            all.extend(parts.map(|tasks| Together { shape: shape.clone(), tasks, after: after.clone() }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(stage: usize, cpus: u32, after: &[(&str, usize)]) -> Ready {
        let resources = Resources { cpus: Some(cpus), ..Resources::default() };
        let shape = Shape { resources, estimate: None, longer: 1 };
        Ready { stage, shape, after: after.iter().map(|(id, task)| ((*id).to_owned(), *task)).collect() }
    }

    fn tasks(together: &Together) -> Vec<(usize, Vec<usize>)> {
        together.tasks.clone().into_iter().collect()
    }

    #[test]
    fn stages_alike_are_one_batch_cut_where_it_is_too_large() {
        let all: Vec<Ready> = (0..7).map(|stage| ready(stage, 1 + u32::from(stage == 3), &[])).collect();
        let found = together(all.clone(), 1, 4);
        let found: Vec<_> = found.iter().map(tasks).collect();
        let one = |stage| vec![stage];
        assert_eq!(
            found,
            [
                vec![(0, one(0)), (1, one(1)), (2, one(2)), (3, one(4))],
                vec![(0, one(5)), (1, one(6))],
                vec![(0, one(3))]
            ]
        );
        let grouped = together(all, 4, 100);
        assert_eq!(tasks(&grouped[0]), [(0, vec![0, 1, 2, 4]), (1, vec![5, 6])]);
    }

    #[test]
    fn tasks_wait_for_those_of_the_same_number_where_they_can() {
        let all = vec![ready(10, 1, &[("5", 0)]), ready(11, 1, &[("5", 1)]), ready(12, 1, &[("5", 1)])];
        let found = together(all, 1, 100);
        assert!(found.iter().all(|one| one.after == [After::Same("5".into())]), "{found:?}");
        assert_eq!(
            found.iter().map(tasks).collect::<Vec<_>>(),
            [vec![(0, vec![10]), (1, vec![11])], vec![(1, vec![12])]]
        );

        // All wait for the same task.
        let found = together(vec![ready(1, 1, &[("5", 0)]), ready(2, 1, &[("5", 0)])], 1, 100);
        assert_eq!(tasks(&found[0]), [(0, vec![1]), (1, vec![2])]);
        assert_eq!(found[0].after, [After::Task("5".into(), 0)]);

        // They need tasks of different numbers.
        let found = together(vec![ready(1, 1, &[("5", 0), ("6", 1)]), ready(2, 1, &[("5", 1), ("6", 1)])], 1, 100);
        let afters: Vec<_> = found.iter().map(|one| one.after.clone()).collect();
        assert!(afters.contains(&vec![After::Task("5".into(), 0), After::Task("6".into(), 1)]), "{afters:?}");
        assert!(afters.contains(&vec![After::Same("5".into()), After::Same("6".into())]), "{afters:?}");
    }
}
