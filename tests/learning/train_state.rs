//! What a training keeps of itself, and how it goes on from that.

use crate::common::pausing::Pausing;
use std::{path::Path, time::Duration};

use super::train_loop::{Same, network, settings, train, weights};
use anyhow::Result;
use pipe::{
    engine::store::State,
    learning::train::{Cadence, Checkpoints, Evaluation, Metrics, Observer, Progress, Silent, Trainer},
    network::{
        batch::{Feed, Step, StepLosses},
        model::Network,
    },
};
use serde_json::{Value, json};

fn checkpoints(directory: &Path, every: Cadence) -> Checkpoints {
    Checkpoints { every, state: State::new(directory.join("state"), "key"), last: None }
}

#[test]
fn paused_training_keeps_its_state_and_goes_on_with_its_best_weights() {
    let settings = settings(12, json!({ "dropout": 0.1 }));
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(directory.path(), Cadence::Time(Duration::from_secs(3600)));
    let run = |pause: usize, accuracies: &[f64], checkpoints: Option<&Checkpoints>| {
        let mut values = accuracies.iter().copied();
        let mut measure = |_: &Network| Ok(Metrics::from([("accuracy".to_owned(), values.next().unwrap())]));
        let mut trainer = Trainer::new(network(), settings.clone());
        let evaluation =
            Evaluation { every: 3, measure: &mut measure, keep_best: Some("accuracy".into()), early_stopping: None };
        if let Some(checkpoints) = checkpoints {
            trainer.load_state(&checkpoints.state).unwrap();
        }
        let outcome = trainer.run(&Same::new(12, 1), Some(evaluation), checkpoints, &mut Pausing(pause)).unwrap();
        (trainer, outcome)
    };
    let (_, first) = run(7, &[0.5, 0.8], Some(&checkpoints));
    assert_eq!((first.paused, first.steps, first.measured.map(|(step, _)| step)), (true, 7, Some(6)));
    let (second, outcome) = run(12, &[0.8, 0.6], Some(&checkpoints));
    assert_eq!((outcome.paused, outcome.steps, outcome.measured.map(|(step, _)| step)), (false, 12, Some(6)));
    let (whole, _) = run(12, &[0.5, 0.8, 0.8, 0.6], None);
    assert_eq!(second.curve(), whole.curve());
    let steps = |trainer: &Trainer| trainer.throughput().windows().iter().map(|window| window.step).collect::<Vec<_>>();
    assert_eq!(steps(&second), steps(&whole));
    assert!(weights(&second.network) == weights(&whole.network));
}

#[test]
fn states_are_kept_by_time_too() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(directory.path(), Cadence::Time(Duration::ZERO));
    Trainer::new(network(), settings(9, json!({})))
        .run(&Same::new(9, 1), None, Some(&checkpoints), &mut Silent)
        .unwrap();
    let mut again = Trainer::new(network(), settings(9, json!({})));
    assert!(again.load_state(&checkpoints.state).unwrap());
    assert!((1..9).contains(&again.steps_done()));
}

#[test]
fn damaged_and_foreign_states_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(directory.path(), Cadence::Steps(4));
    Trainer::new(network(), settings(9, json!({})))
        .run(&Same::new(9, 1), None, Some(&checkpoints), &mut Silent)
        .unwrap();
    let mut trainer = Trainer::new(network(), settings(9, json!({})));
    let before = weights(&trainer.network);
    assert!(trainer.load_state(&State::new(checkpoints.state.dir().to_owned(), "other")).is_err());
    let file = checkpoints.state.dir().join("step-8.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 64;
    std::fs::write(&file, bytes).unwrap();
    let error = trainer.load_state(&checkpoints.state).unwrap_err().to_string();
    assert!(error.ends_with("step-8.safetensors does not match its digest"), "{error}");
    assert!(trainer.steps_done() == 0 && weights(&trainer.network) == before);
}

#[test]
fn last_good_checkpoint_outlives_a_loss_that_is_not_finite() {
    struct Spoilt(Same);
    impl Feed for Spoilt {
        fn steps(&self) -> usize {
            20
        }
        fn step(&self, step: usize) -> Result<Step> {
            let mut spoilt = self.0.step(step)?;
            if step == 10 {
                spoilt.pair_weight = f32::NAN;
                spoilt.batches.iter_mut().for_each(|batch| batch.pairs = vec![0; batch.examples.len()]);
            }
            Ok(spoilt)
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(directory.path(), Cadence::Steps(4));
    let network = || {
        let mut network = network();
        network.add_pair_head(1);
        network
    };
    let mut trainer = Trainer::new(network(), settings(20, json!({})));
    let error = trainer.run(&Spoilt(Same::new(20, 1)), None, Some(&checkpoints), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("the loss is not finite at step 11 "), "{error}");
    assert!(error.contains("the last good checkpoint, after step 8, is kept in "), "{error}");
    let mut again = Trainer::new(network(), settings(20, json!({})));
    assert!(again.load_state(&checkpoints.state).unwrap());
    assert_eq!(again.steps_done(), 8);
    assert!(again.network.parameters().are_finite().unwrap());
}

/// Pairs in every third step, and tokens in the others: each leaves parameters without a gradient.
struct Mixed {
    feed: Same,
    fails_at: Option<usize>,
}

impl Feed for Mixed {
    fn steps(&self) -> usize {
        self.feed.steps()
    }

    fn step(&self, step: usize) -> Result<Step> {
        anyhow::ensure!(self.fails_at != Some(step), "cut off");
        let mut mixed = self.feed.step(step)?;
        if step % 3 == 1 {
            for batch in &mut mixed.batches {
                batch.targets.clear();
                batch.pairs = (0..batch.examples.len() as u32).map(|at| at % 2).collect();
            }
            mixed.objective = "pairs".into();
        }
        Ok(mixed)
    }

    fn losses(&self) -> Vec<StepLosses> {
        ["causal_lm", "pairs"].map(|objective| StepLosses { objective: objective.into(), parts: None }).into()
    }
}

/// Notes of a training.
struct Notes(Vec<String>);

impl Observer for Notes {
    fn progressed(&mut self, _progress: &Progress) {}

    fn noted(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn steps_of_each_parameter_are_counted_on_from_a_state_and_from_an_older_one_with_a_note() {
    let trainer = || {
        let mut network = network();
        network.add_pair_head(1);
        Trainer::new(network, settings(20, json!({})))
    };
    let feed = |fails_at| Mixed { feed: Same::new(20, 1), fails_at };
    let mut whole = trainer();
    let outcome = whole.run(&feed(None), None, None, &mut Silent).unwrap();
    let names: Vec<_> = outcome.losses.keys().map(String::as_str).collect();
    assert_eq!(names, ["causal_lm", "pairs"]);

    let directory = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(directory.path(), Cadence::Steps(4));
    let state = &checkpoints.state;
    trainer().run(&feed(Some(15)), None, Some(&checkpoints), &mut Silent).unwrap_err();
    let header: Value = state.peek().unwrap().unwrap();
    let counts = header["parameter_steps"].as_object().unwrap();
    assert!(!counts.is_empty() && counts.values().all(|count| *count == 4), "4 of 12 steps have pairs: {counts:?}");
    let resumed = || {
        let mut trainer = trainer();
        assert!(trainer.load_state(state).unwrap());
        let mut notes = Notes(Vec::new());
        trainer.run(&feed(None), None, None, &mut notes).unwrap();
        (trainer, notes.0)
    };
    let same = |found: &Trainer| found.curve() == whole.curve() && weights(&found.network) == weights(&whole.network);
    let (found, notes) = resumed();
    assert!(same(&found) && notes.is_empty(), "{notes:?}");

    // What an earlier version has left has the same tensors and counts, and doesn't say which version it is.
    let mut older = header;
    older.as_object_mut().unwrap().remove("code").unwrap();
    state.keep(state.files().unwrap(), &older).unwrap();
    let (found, notes) = resumed();
    assert!(same(&found));
    assert!(notes.len() == 1 && notes[0].contains("an earlier version's"), "{notes:?}");
}

#[test]
fn training_that_was_cut_off_goes_on_as_if_it_had_not_been() {
    let settings = settings(20, json!({ "dropout": 0.1 }));
    let whole = train(&Same::new(20, 1), settings.clone());

    struct CutOff(Same);
    impl Feed for CutOff {
        fn steps(&self) -> usize {
            20
        }
        fn step(&self, step: usize) -> Result<Step> {
            if step == 15 { anyhow::bail!("cut off") } else { self.0.step(step) }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(directory.path(), Cadence::Steps(4));
    let mut first = Trainer::new(network(), settings.clone());
    assert!(!first.load_state(&checkpoints.state).unwrap());
    first.run(&CutOff(Same::new(20, 1)), None, Some(&checkpoints), &mut Silent).unwrap_err();

    let mut second = Trainer::new(network(), settings);
    assert!(second.load_state(&checkpoints.state).unwrap());
    second.run(&Same::new(20, 1), None, Some(&checkpoints), &mut Silent).unwrap();
    assert_eq!(second.curve(), whole.curve());
    assert!(weights(&second.network) == weights(&whole.network));
}
