//! The mix of objectives, and held-out text.

use crate::common::objectives;
use std::{collections::HashSet, sync::Arc};

use anyhow::bail;
use objectives::{SPECIALS, corpus, documents, spec};
use pipe::{
    learning::objectives::{Corpus, HeldOut, Mix, TokenizedDocument, TokenizedText},
    network::batch::{Batch, Feed, Layout, SlotRange},
    spec::{Objective, Train},
};
use serde_json::{Value, json};

fn objectives(entries: Value) -> Vec<Objective> {
    spec(entries)
}

fn train(settings: Value) -> Train {
    let mut train = json!({"lr": 1e-3, "max_length": 32, "batch": {"examples": 4}});
    for (name, value) in settings.as_object().into_iter().flatten() {
        train[name] = value.clone();
    }
    spec(train)
}

fn some_documents() -> objectives::Documents {
    documents(&[&[7, 9, 12, 5, 20], &[4], &[11, 8, 6], &[30, 30, 3], &[2, 2, 2, 2], &[15, 14]])
}

fn mix(entries: Value, settings: Value) -> Mix {
    Mix::new(&objectives(entries), &corpus(&some_documents()), &train(settings), 5, Layout::Ragged).unwrap()
}

fn error(entries: Value, corpus: &Corpus) -> String {
    let mix = Mix::new(&objectives(entries), corpus, &train(json!({"steps": 3})), 5, Layout::Ragged);
    format!("{:#}", mix.err().expect("the mix can't be made"))
}

fn examples(batch: &Batch) -> Vec<Vec<u32>> {
    let of = |span: &SlotRange| batch.tokens[span.start as usize..(span.start + span.length) as usize].to_vec();
    batch.examples.iter().map(of).collect()
}

const ALL: &str = r#"[
    {"masked_lm": {"whole_word": true}},
    {"masked_lm": {}, "next_sentence": {}},
    {"masked_lm": {}, "sentence_order": {}},
    {"sentence_order": {}},
    {"generative": {"causal_lm": {}}},
    {"generative": {"prefix_lm": {}}},
    {"weight": 3, "generative": {"blank_infilling": {}}}
]"#;

fn all() -> Value {
    serde_json::from_str(ALL).unwrap()
}

#[test]
fn a_step_depends_on_its_number_alone() {
    let settings = json!({"steps": 60, "accumulate": 2});
    let sequential = mix(all(), settings.clone());
    let steps: Vec<_> = (0..60).map(|step| sequential.step(step).unwrap()).collect();
    let backwards = mix(all(), settings);
    for step in (0..60).rev() {
        assert_eq!(backwards.step(step).unwrap(), steps[step]);
    }
    let names: HashSet<&str> = steps.iter().map(|step| step.objective.as_str()).collect();
    assert_eq!(names.len(), 7);
    assert!(names.contains("masked_lm+sentence_order"));
    assert!(sequential.step(60).is_err());
}

#[test]
fn no_example_is_longer_than_the_longest_sequence() {
    let mix = mix(all(), json!({"steps": 100}));
    for step in 0..100 {
        for batch in mix.step(step).unwrap().batches {
            assert!(batch.examples.iter().all(|example| example.length <= 32));
            assert!(batch.tokens.iter().all(|&token| (token as usize) < SPECIALS.vocab_size));
            assert!(batch.pairs.is_empty() || batch.pairs.len() == batch.examples.len());
        }
    }
}

#[test]
fn an_entry_sees_its_corpus_once_an_epoch_however_the_others_are_drawn() {
    let entries = json!([{"generative": {"causal_lm": {}}}, {"weight": 2, "masked_lm": {}}]);
    let mix = mix(entries, json!({"steps": 40}));
    let of_causal = mix.examples().iter().find(|(name, _)| *name == "causal_lm").unwrap().1;
    let mut seen: Vec<Vec<u32>> = Vec::new();
    for step in 0..40 {
        let step = mix.step(step).unwrap();
        if step.objective == "causal_lm" {
            seen.extend(step.batches.iter().flat_map(examples));
        }
    }
    assert!(seen.len() > 2 * of_causal);
    for epoch in seen.chunks_exact(of_causal) {
        assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), of_causal);
    }
}

#[test]
fn masks_differ_from_epoch_to_epoch() {
    let mix = mix(json!([{"masked_lm": {"mask": 1.0}}]), json!({"epochs": 2, "batch": {"examples": 100}}));
    assert_eq!(mix.steps(), 2);
    let epoch = |step| -> Vec<Vec<u32>> {
        let mut examples = examples(&mix.step(step).unwrap().batches[0]);
        examples.sort_by_key(|example| example.len());
        examples
    };
    assert_eq!(epoch(0).len(), epoch(1).len());
    assert_ne!(epoch(0), epoch(1));
}

#[test]
fn dropout_keys_differ_from_step_to_step() {
    let mix = mix(json!([{"masked_lm": {}}]), json!({"steps": 2, "batch": {"examples": 100}}));
    let keys = |step| -> HashSet<u32> { mix.step(step).unwrap().batches[0].dropout_keys.iter().copied().collect() };
    assert!(keys(0).is_disjoint(&keys(1)));
}

#[test]
fn accumulation_changes_neither_the_examples_nor_their_masks() {
    let step = |accumulate, n| {
        let mix = mix(all(), json!({"steps": 20, "accumulate": accumulate, "batch": {"examples": n}}));
        (0..20).map(|step| mix.step(step).unwrap().batches.iter().flat_map(examples).collect()).collect::<Vec<Vec<_>>>()
    };
    assert_eq!(step(1, 4), step(4, 1));
}

#[test]
fn epochs_of_a_mix_are_passes_over_the_corpus_by_any_entry() {
    // Both entries have the same windows, so that two passes take as many steps as with one of them.
    let alone = mix(json!([{"masked_lm": {}}]), json!({"epochs": 2})).steps();
    let both = mix(json!([{"masked_lm": {}}, {"weight": 5, "generative": {"causal_lm": {}}}]), json!({"epochs": 2}));
    assert_eq!(both.steps(), alone);
    assert_eq!(both.epoch_steps(), alone / 2);
}

#[test]
fn entries_without_weight_take_no_part() {
    let entries = json!([{"masked_lm": {}}, {"weight": 0, "sentence_order": {}}]);
    let lone_sentences = corpus(&documents(&[&[5], &[6]]));
    let mix = Mix::new(&objectives(entries), &lone_sentences, &train(json!({"steps": 9})), 5, Layout::Ragged).unwrap();
    assert!((0..9).all(|step| mix.step(step).unwrap().objective == "masked_lm"));
}

#[test]
fn a_corpus_that_is_too_small_is_told_with_the_objective() {
    let lone_sentences = corpus(&documents(&[&[5], &[6]]));
    assert_eq!(
        error(json!([{"masked_lm": {}, "sentence_order": {}}]), &lone_sentences),
        "masked_lm+sentence_order needs documents of two sentences or more; the corpus has none"
    );
    assert_eq!(
        error(json!([{"next_sentence": {}}]), &corpus(&documents(&[&[5, 6]]))),
        "next_sentence needs two documents or more, of two sentences or more each, so that B can come from another one"
    );
    assert_eq!(
        error(json!([{"generative": {"causal_lm": {}}}]), &corpus(&documents(&[&[]]))),
        "causal_lm has nothing to learn from: the corpus has no tokens"
    );
}

#[test]
fn entries_that_no_recipe_may_have_are_refused() {
    let corpus = corpus(&some_documents());
    assert_eq!(error(json!([{}]), &corpus), "an entry of the mix has no objective");
    assert_eq!(error(json!([{"weight": 0, "masked_lm": {}}]), &corpus), "no objective has a weight above 0");
    assert!(error(json!([{"masked_lm": {}, "generative": {"causal_lm": {}}}]), &corpus).contains("stands alone"));
    assert!(error(json!([{"next_sentence": {}, "sentence_order": {}}]), &corpus).contains("can't stand in one entry"));
}

#[test]
fn documents_that_cannot_be_read_are_an_error() {
    struct Broken;
    impl TokenizedText for Broken {
        fn documents(&self) -> usize {
            1
        }

        fn document(&self, _: usize) -> anyhow::Result<TokenizedDocument<'_>> {
            bail!("the disk is gone")
        }
    }
    let corpus = Corpus { text: Arc::new(Broken), ..corpus(&some_documents()) };
    assert_eq!(error(json!([{"masked_lm": {}}]), &corpus), "failed to read document 0: the disk is gone");
}

#[test]
fn held_out_text_is_seen_once_with_fixed_masks() {
    let corpus = corpus(&some_documents());
    for entry in objectives(all()) {
        let held_out = || HeldOut::new(&entry, &corpus, 32, 64, Layout::Ragged).unwrap();
        let (feed, again) = (held_out(), held_out());
        let mut count = 0;
        for step in 0..feed.steps() {
            let batches = feed.step(step).unwrap();
            assert_eq!(batches, again.step(step).unwrap());
            assert!(batches.batches[0].targets.len() + batches.batches[0].pairs.len() > 0);
            count += batches.batches[0].examples.len();
        }
        assert_eq!(count, feed.examples());
    }
}

#[test]
fn causal_lm_predicts_every_token_of_the_corpus_and_the_ends() {
    let corpus = corpus(&some_documents());
    let entry = &objectives(json!([{"generative": {"causal_lm": {}}}]))[0];
    let feed = HeldOut::new(entry, &corpus, 16, 64, Layout::Ragged).unwrap();
    let batches = (0..feed.steps()).flat_map(|step| feed.step(step).unwrap().batches);
    let targets: Vec<u32> = batches.flat_map(|batch| batch.targets).map(|target| target.token).collect();
    let mut tokens = Vec::new();
    for index in 0..corpus.text.documents() {
        tokens.extend_from_slice(&corpus.text.document(index).unwrap().tokens);
        tokens.push(SPECIALS.eop);
    }
    assert_eq!(targets, tokens);
}
