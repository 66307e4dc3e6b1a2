//! The training loop on a model small enough to train in a moment.

use std::collections::BTreeMap;

use anyhow::Result;
use burn::tensor::Device;
use pipe::{
    engine::store::unix_time,
    learning::train::{
        Curve, CurveEntry, Diverged, Evaluation, Metrics, Observer, Progress, Silent, TrainSettings, Trainer,
    },
    network::{
        batch::{Batch, Choice, Example, Feed, Layout, Step, Target, lay_out},
        kernels::watch::Watch,
        model::{Candidates, Counts, LossSettings, Network, PassMode, Pooling},
    },
    spec,
    support::{Detailed, random::Key},
};
use serde_json::{Value, json};

const VOCABULARY: usize = 24;

pub(super) fn network() -> Network {
    let model = json!({ "glm": { "hidden": 32, "layers": 2, "heads": 2, "max_length": 32 } });
    Network::new(&serde_json::from_value(model).unwrap(), VOCABULARY, 7, &Device::flex()).unwrap()
}

pub(super) fn settings(steps: usize, more: Value) -> TrainSettings {
    let mut train = json!({ "steps": steps, "lr": 5e-3, "warmup_steps": 5, "dropout": 0.0, "log_every": 10 });
    train.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let train: spec::Train = serde_json::from_value(train).unwrap();
    TrainSettings::new(&train, steps, None).unwrap()
}

/// Eight texts of different lengths; each token is to be guessed from those before it.
fn examples() -> Vec<Example> {
    let text = |id: u64| {
        let key = Key::new(id);
        let tokens: Vec<u32> = (0..8 + id).map(|at| key.at(at).below(VOCABULARY) as u32).collect();
        let targets = (1..tokens.len()).map(|at| Target { at: at as u32 - 1, token: tokens[at] }).collect();
        Example { targets, ..Example::sequence(id, tokens, 0) }
    };
    (0..8).map(text).collect()
}

/// The same examples at each step, divided into so many batches.
pub(super) struct Same {
    examples: Vec<Example>,
    batches: usize,
    steps: usize,
}

impl Same {
    pub(super) fn new(steps: usize, batches: usize) -> Self {
        Self { examples: examples(), batches, steps }
    }
}

impl Feed for Same {
    fn steps(&self) -> usize {
        self.steps
    }

    fn step(&self, step: usize) -> Result<Step> {
        let key = Key::new(1).at(step as u64);
        let batches = self.examples.chunks(self.examples.len() / self.batches);
        Ok(Step {
            batches: batches.map(|examples| lay_out(examples, Layout::Ragged, key)).collect(),
            objective: "causal_lm".into(),
            pair_weight: 1.0,
        })
    }
}

pub(super) fn train(feed: &Same, settings: TrainSettings) -> Trainer {
    let mut trainer = Trainer::new(network(), settings);
    trainer.run(feed, None, None, &mut Silent).unwrap();
    trainer
}

pub(super) fn weights(network: &Network) -> BTreeMap<String, Vec<f32>> {
    let parameters = network.parameters().iter();
    parameters.map(|parameter| (parameter.name.clone(), parameter.data().unwrap().try_to_vec().unwrap())).collect()
}

pub(super) fn losses(curve: &Curve) -> Vec<f32> {
    curve.points().map(|point| point.loss).collect()
}

#[test]
fn a_tiny_model_learns_eight_texts_by_heart() {
    let trainer = train(&Same::new(150, 1), settings(150, json!({})));
    let (first, last) = (losses(trainer.curve())[0], trainer.curve().final_loss().unwrap());
    assert!((first - (VOCABULARY as f32).ln()).abs() < 0.1, "{first}");
    assert!(last < 0.1, "{last}");
    let batch = lay_out(&examples(), Layout::Ragged, Key::new(0));
    let scores = trainer.network.target_scores(&batch).unwrap();
    // The first token doesn't tell the texts apart where two begin alike.
    let right = scores.iter().filter(|score| score.correct).count();
    assert!(right * 100 >= scores.len() * 95, "{right} of {}", scores.len());
}

#[test]
fn the_same_seed_gives_the_same_weights_on_one_thread_and_on_two() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let trainer = train(&Same::new(12, 1), settings(12, json!({ "dropout": 0.1 })));
            (weights(&trainer.network), losses(trainer.curve()))
        })
    };
    let one = on(1);
    assert!(one == on(2), "two threads");
    assert!(one == on(1), "one thread again");
}

#[test]
fn weights_stay_in_their_place_in_memory() {
    let place = |network: &Network| -> Vec<Option<usize>> {
        let parameters = network.parameters().iter();
        parameters.map(|parameter| parameter.value.with_slice(|values| values.as_ptr() as usize)).collect()
    };
    let mut trainer = Trainer::new(network(), settings(3, json!({})));
    let before = place(&trainer.network);
    trainer.run(&Same::new(3, 1), None, None, &mut Silent).unwrap();
    assert_eq!(place(&trainer.network), before);
}

#[test]
fn networks_can_go_to_other_threads() {
    fn can_be_sent<T: Send + Sync>(_: &T) {}
    can_be_sent(&network());
}

#[test]
fn two_half_batches_give_what_one_batch_gives() {
    let plain = json!({ "dropout": 0.1, "label_smoothing": 0.1 });
    let (whole, halves) =
        (train(&Same::new(10, 1), settings(10, plain.clone())), train(&Same::new(10, 2), settings(10, plain)));
    for (whole, halves) in losses(whole.curve()).iter().zip(losses(halves.curve())) {
        assert!((whole - halves).abs() < 1e-5, "{whole} and {halves}");
    }
    // Not the key biases: their gradients are rounding errors, which Adam makes large.
    let halves = weights(&halves.network);
    for (name, whole) in weights(&whole.network).iter().filter(|(name, _)| !name.ends_with("query_key_value.bias")) {
        for (whole, half) in whole.iter().zip(&halves[name]) {
            assert!((whole - half).abs() < 1e-4, "{name}: {whole} and {half}");
        }
    }
}

#[test]
fn losses_at_a_fixed_seed_stay_what_they_were() {
    let trainer = train(&Same::new(5, 1), settings(5, json!({ "dropout": 0.1, "warmup_steps": 0 })));
    let golden = [3.181_854, 3.062_954, 2.955_038, 2.896_98, 2.864_672];
    for (loss, golden) in losses(trainer.curve()).iter().zip(golden) {
        assert!((loss - golden).abs() < 1e-4f32, "{:?}", losses(trainer.curve()));
    }
}

#[test]
fn dropout_is_on_in_training_and_off_in_evaluation() {
    let network = network();
    let batch = |key: u64| lay_out(&examples(), Layout::Ragged, Key::new(key));
    let hidden = |key: u64, mode: PassMode| -> Vec<f32> {
        network.hidden(&batch(key), mode).unwrap().try_into_vec_as().unwrap()
    };
    let train = PassMode::Train { dropout: 0.5 };
    assert!(hidden(1, train) == hidden(1, train));
    assert!(hidden(1, train) != hidden(2, train));
    assert!(hidden(1, PassMode::Evaluate) == hidden(2, PassMode::Evaluate));
    let (evaluated, trained) = (hidden(1, PassMode::Evaluate), hidden(1, PassMode::Train { dropout: 0.0 }));
    assert!(evaluated.iter().zip(&trained).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn a_loss_that_is_not_finite_stops_training_and_names_the_step() {
    let settings = settings(40, json!({ "lr": 1e30, "warmup_steps": 0, "max_grad_norm": 0.0 }));
    let mut trainer = Trainer::new(network(), settings);
    let error = pipe::support::explained(&trainer.run(&Same::new(40, 1), None, None, &mut Silent).unwrap_err());
    assert!(error.contains("is not finite at step 2 (causal_lm, lr "), "{error}");
    assert!(error.contains("; no checkpoint was saved before"), "{error}");
    assert!(error.ends_with("try a lower lr, a longer warm-up or a smaller max_grad_norm"), "{error}");
}

#[test]
fn a_watched_training_is_the_same_and_names_what_overflowed() {
    let plain = train(&Same::new(5, 1), settings(5, json!({ "dropout": 0.1 })));
    let watched = {
        let _watch = Watch::until(3);
        train(&Same::new(5, 1), settings(5, json!({ "dropout": 0.1 })))
    };
    assert_eq!(losses(watched.curve()), losses(plain.curve()));

    let _watch = Watch::until(40);
    let settings = settings(40, json!({ "lr": 1e30, "warmup_steps": 0, "max_grad_norm": 0.0 }));
    let mut trainer = Trainer::new(network(), settings);
    let error = trainer.run(&Same::new(40, 1), None, None, &mut Silent).unwrap_err();
    let Diverged { step, by_kernel, what } = Detailed::detail(&error).expect("it diverged");
    assert_eq!((*step, *by_kernel), (2, true));
    assert!(what.starts_with("the loss and the gradient of `"), "{what}");
    assert!(what.contains("at step 2 (causal_lm, lr "), "{what}");
    assert!(what.ends_with("; the kernel of `linear` made them out of finite ones"), "{what}");
}

#[test]
fn errors_of_the_feed_name_the_step() {
    struct Broken;
    impl Feed for Broken {
        fn steps(&self) -> usize {
            9
        }
        fn step(&self, step: usize) -> Result<Step> {
            if step == 3 { anyhow::bail!("no more text") } else { Same::new(9, 1).step(step) }
        }
    }
    let error = Trainer::new(network(), settings(9, json!({}))).run(&Broken, None, None, &mut Silent).unwrap_err();
    assert_eq!(format!("{error:#}"), "step 4: no more text");
}

#[test]
fn batches_that_do_not_fit_the_model_are_errors() {
    let network = network();
    let good = lay_out(&examples(), Layout::Ragged, Key::new(0));
    let error = |change: fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        network.hidden(&batch, PassMode::Evaluate).unwrap_err().to_string()
    };
    assert_eq!(error(|batch| batch.tokens[3] = 24), "token 24 is outside of the model's vocabulary of 24");
    assert_eq!(error(|batch| batch.positions[3] = 33), "position 33 is past the model's max_length of 32");
    assert_eq!(error(|batch| batch.targets[0].at = 1000), "the batch has a target past its end");
    assert_eq!(error(|batch| batch.targets[0].token = 99), "token 99 is outside of the model's vocabulary of 24");
    assert_eq!(error(|batch| batch.examples[0].length = 999), "the batch has an example past its end");
}

/// What an observer was told.
#[derive(Default)]
struct Told {
    progress: Vec<Progress>,
    evaluated: Vec<(usize, f64, bool)>,
    entered: Vec<(CurveEntry, f64)>,
}

impl Observer for Told {
    fn progressed(&mut self, progress: &Progress) {
        self.progress.push(progress.clone());
    }

    fn entered(&mut self, entries: &[(CurveEntry, f64)]) {
        self.entered.extend_from_slice(entries);
    }

    fn evaluated(&mut self, step: usize, metrics: &Metrics, best: bool) {
        self.evaluated.push((step, metrics["accuracy"], best));
    }
}

/// Trains with an accuracy that is made up, and gives what the observer was told and the steps done.
fn train_with(accuracies: &[f64], keep_best: bool, patience: Option<usize>) -> (Told, usize, Option<usize>, Trainer) {
    let mut trainer = Trainer::new(network(), settings(12, json!({ "log_every": 5 })));
    let mut values = accuracies.iter().copied();
    let mut measure = |_: &Network| Ok(Metrics::from([("accuracy".to_owned(), values.next().unwrap())]));
    let evaluation = Evaluation {
        every: 3,
        measure: &mut measure,
        keep_best: keep_best.then(|| "accuracy".into()),
        early_stopping: patience.map(|patience| spec::EarlyStopping { metric: "accuracy".into(), patience }),
    };
    let mut told = Told::default();
    let outcome = trainer.run(&Same::new(12, 1), Some(evaluation), None, &mut told).unwrap();
    (told, outcome.steps, outcome.measured.map(|(step, _)| step), trainer)
}

#[test]
fn the_best_weights_are_kept_and_the_last_ones_otherwise() {
    let (told, steps, kept, best) = train_with(&[0.5, 0.8, 0.8, 0.6], true, None);
    assert_eq!(told.evaluated, [(3, 0.5, true), (6, 0.8, true), (9, 0.8, false), (12, 0.6, false)]);
    assert_eq!((steps, kept), (12, Some(6)));
    let (_, _, kept, last) = train_with(&[0.5, 0.8, 0.8, 0.6], false, None);
    assert_eq!(kept, Some(12));
    assert!(weights(&best.network) != weights(&last.network));
    assert!(weights(&last.network) == weights(&train(&Same::new(12, 1), settings(12, json!({}))).network));
}

#[test]
fn training_stops_when_patience_is_at_its_end() {
    let (told, steps, kept, _) = train_with(&[0.5, 0.4, 0.5], true, Some(2));
    assert_eq!((told.evaluated.len(), steps, kept), (3, 9, Some(3)));
}

#[test]
fn progress_is_reported_at_the_cadence_asked_for_and_at_the_end() {
    let (told, ..) = train_with(&[0.5, 0.5, 0.5, 0.5], false, None);
    let steps: Vec<usize> = told.progress.iter().map(|progress| progress.step).collect();
    assert_eq!(steps, [5, 10, 12]);
    assert!(told.progress.iter().all(|progress| progress.tokens_per_second > 0.0 && progress.steps == 12));
    assert_eq!(told.progress[2].remaining.as_nanos(), 0);
}

#[test]
fn each_entry_of_the_curve_is_told_once_with_its_time() {
    let began = unix_time();
    let (told, _, _, trainer) = train_with(&[0.5, 0.5, 0.5, 0.5], false, None);
    let entries: Vec<CurveEntry> = told.entered.iter().map(|(entry, _)| entry.clone()).collect();
    assert_eq!(entries, trainer.curve().entries);
    let times: Vec<f64> = told.entered.iter().map(|(_, at)| *at).collect();
    assert!(times.is_sorted() && times[0] >= began && times[15] <= unix_time(), "{times:?}");
    let throughput: Vec<_> = trainer.throughput().windows().iter().map(|window| (window.step, window.tokens)).collect();
    let tokens = throughput[0].1 / 5;
    assert_eq!(throughput, [(5, 5 * tokens), (10, 5 * tokens), (12, 2 * tokens)]);
}

#[test]
fn curves_do_not_depend_on_the_log_and_hold_no_times() {
    let write = |log_every: usize| {
        let trainer = train(&Same::new(7, 1), settings(7, json!({ "log_every": log_every })));
        let file = tempfile::NamedTempFile::new().unwrap();
        trainer.curve().write(file.path()).unwrap();
        std::fs::read_to_string(file.path()).unwrap()
    };
    let curve = write(1);
    assert_eq!(curve, write(100));
    let lines: Vec<Value> = curve.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    let keys: Vec<&str> = lines[6].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["grad_norm", "loss", "lr", "objective", "step"]);
    assert_eq!((&lines[6]["step"], &lines[0]["lr"]), (&json!(7), &json!(0.0)));
}

/// Two texts with two choices each: among three tokens, then between two.
fn choices() -> (Batch, Candidates) {
    let mut examples = examples();
    examples.truncate(2);
    for (gold, example) in (0..).zip(&mut examples) {
        example.targets.clear();
        example.choices = vec![Choice { at: 2, node: 0, gold: gold + 1 }, Choice { at: 5, node: 1, gold }];
    }
    (lay_out(&examples, Layout::Ragged, Key::new(0)), Candidates::new(&[vec![5, 3, 9], vec![9, 20]]).unwrap())
}

#[test]
fn choices_are_scored_among_their_candidates_alone() {
    let network = network();
    let (batch, candidates) = choices();
    let scores = network.choice_log_probabilities(&batch, &candidates).unwrap();
    assert_eq!(scores.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 3, 2]);
    let places: Vec<u32> = batch.choices.iter().map(|choice| choice.at).collect();
    let logits = network.logits_at(&batch, &places).unwrap();
    for ((scores, logits), tokens) in scores.iter().zip(&logits).zip([&[5, 3, 9][..], &[9, 20]].repeat(2)) {
        let sum: f64 = tokens.iter().map(|&token| f64::from(logits[token]).exp()).sum();
        for (score, &token) in scores.iter().zip(tokens) {
            assert!((score - (f64::from(logits[token]) - sum.ln())).abs() < 1e-5);
        }
    }

    let settings = LossSettings { candidates: Some(candidates), ..LossSettings::default() };
    let loss = network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().into_scalar::<f32>();
    let gold = |at: usize| scores[at][batch.choices[at].gold as usize];
    let expected = -(gold(0) + gold(1) + gold(2) + gold(3)) / 2.0;
    assert!((f64::from(loss) - expected).abs() < 1e-5, "{loss} instead of {expected}");
}

#[test]
fn losses_of_pairs_and_classes_are_means_over_the_examples() {
    for pooling in [Pooling::Mean, Pooling::First] {
        let mut network = network();
        network.add_pair_head(1);
        network.add_classifier(3, pooling, 1).unwrap();
        let mut batch = lay_out(&examples(), Layout::Ragged, Key::new(0));
        batch.targets.clear();
        batch.pairs = vec![0, 1, 1, 0, 1, 0, 1, 1];
        batch.classes = vec![2, 1, 0, 0, 1, 2, 2, 2];
        let settings = LossSettings::default();
        let loss = network.loss(&batch, &Counts::of(&batch), 0.5, &settings).unwrap().into_scalar::<f32>();
        let mean = |scores: Vec<Vec<f64>>, gold: &[u32]| {
            scores.iter().zip(gold).map(|(scores, &gold)| -scores[gold as usize]).sum::<f64>() / 8.0
        };
        let pairs = mean(network.pair_log_probabilities(&batch).unwrap(), &batch.pairs);
        let classes = mean(network.class_log_probabilities(&batch).unwrap(), &batch.classes);
        assert!((f64::from(loss) - 0.5 * pairs - classes).abs() < 1e-5);
    }
}

#[test]
fn layouts_with_padding_give_the_same_loss() {
    let network = network();
    let settings = LossSettings::default();
    let loss = |layout: Layout| {
        let batch = lay_out(&examples(), layout, Key::new(0));
        network.loss(&batch, &Counts::of(&batch), 1.0, &settings).unwrap().into_scalar::<f32>()
    };
    let ragged = loss(Layout::Ragged);
    for packing in [false, true] {
        assert!((loss(Layout::Rows { width: 32, packing }) - ragged).abs() < 1e-5);
    }
}
