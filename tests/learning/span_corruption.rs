//! Span corruption in prefix-LM form.

use burn::tensor::Device;
use pipe::{
    learning::{
        objectives::{
            AnswerForm, Corpus, Mix,
            definition::{Draw, ExampleSource, Examples, ObjectiveSettings},
            parts,
            span_corruption::{SpanCorruption, corrupt},
        },
        train::{Silent, TrainSettings, Trainer},
    },
    network::{
        batch::{Example, Feed, Layout},
        model::{FAMILIES, Network},
    },
    spec::{self, Objective},
    support::random::Key,
};
use proptest::prelude::*;
use serde_json::json;

use crate::common::objectives::{SPECIALS, TEXT, corpus, documents, spec, targets};

const CLS: u32 = SPECIALS.cls;
const MASK: u32 = SPECIALS.mask;
const EOP: u32 = SPECIALS.eop;

fn with_form(lengths: &[&[usize]], form: AnswerForm) -> Corpus {
    Corpus { form, ..corpus(&documents(lengths)) }
}

fn examples(spec: &SpanCorruption, corpus: &Corpus, max_length: usize) -> Box<dyn Examples> {
    spec.examples(corpus, max_length).unwrap()
}

/// All examples of a corpus, each with its text and what its length was planned to be.
fn all(spec: &SpanCorruption, corpus: &Corpus, max_length: usize, seed: u64) -> Vec<(Vec<u32>, usize, Example)> {
    let examples = examples(spec, corpus, max_length);
    let windows = examples.windows(corpus).unwrap();
    let each = windows.into_iter().enumerate().map(|(id, window)| {
        let document = corpus.text.document(window.document as usize).unwrap();
        let source = ExampleSource { id: id as u64, corpus, document: &document, window };
        let draw = Draw { batch: Key::new(seed), own: Key::new(seed).at(id as u64) };
        let example = examples.example(&source, draw).unwrap();
        (source.text().to_vec(), examples.length(corpus, window), example)
    });
    each.collect()
}

/// Puts the spans of the answer into the prompt's blanks, one after the other; gives the text, and the spans.
fn restore(example: &Example) -> (Vec<u32>, Vec<Vec<u32>>) {
    let (prompt, answer) = example.tokens.split_at(example.span_ends[0] as usize);
    let mut spans: Vec<Vec<u32>> = Vec::new();
    for &token in answer {
        match spans.last_mut() {
            _ if token == MASK => spans.push(Vec::new()),
            Some(span) => span.push(token),
            None => panic!("the answer doesn't begin with a sentinel"),
        }
    }
    let mut fills = spans.iter();
    let mut text = Vec::new();
    for &token in &prompt[1..] {
        if token == MASK {
            text.extend(fills.next().expect("a span for each blank"));
        } else {
            text.push(token);
        }
    }
    assert!(fills.next().is_none(), "a blank for each span");
    (text, spans)
}

#[test]
fn spans_follow_the_text_each_behind_its_sentinel() {
    for form in [AnswerForm::Prefix, AnswerForm::Infilling, AnswerForm::Chatglm] {
        let example = corrupt(3, &[20, 21, 22, 23, 24, 25, 26], &[1..3, 5..6], form, &SPECIALS);
        assert_eq!(example.tokens, [CLS, 20, MASK, 23, 24, MASK, 26, MASK, 21, 22, MASK, 25]);
        assert_eq!(example.positions, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(example.block_positions, [0; 12]);
        // The prompt is seen in both directions, the answer token by token.
        assert_eq!(example.span_ends, [7, 7, 7, 7, 7, 7, 7, 8, 9, 10, 11, 12]);
        assert_eq!(targets(&example), [(6, MASK), (7, 21), (8, 22), (9, MASK), (10, 25), (11, EOP)]);
        assert_eq!((example.id, example.pair), (3, None));
    }
}

#[test]
fn blanks_may_stand_at_both_ends_of_a_text() {
    let example = corrupt(0, &[20, 21, 22], &[0..1, 2..3], AnswerForm::Prefix, &SPECIALS);
    assert_eq!(example.tokens, [CLS, MASK, 21, MASK, MASK, 20, MASK, 22]);
    assert_eq!(restore(&example).0, [20, 21, 22]);
}

#[test]
fn the_share_and_the_mean_length_are_those_asked_for() {
    for (ratio, mean_span) in [(0.15, 3.0), (0.5, 8.0), (0.15, 1.0), (0.3, 2.5)] {
        let spec: SpanCorruption = spec(json!({ "ratio": ratio, "mean_span": mean_span }));
        let (mut texts, mut corrupted, mut spans) = (0, 0, 0);
        for id in 0..4000_u64 {
            let key = Key::new(5).at(id);
            let text = 60 + key.with("length").below(400);
            let drawn = spec.spans(text, &mut key.stream());
            texts += text;
            corrupted += drawn.iter().map(ExactSizeIterator::len).sum::<usize>();
            spans += drawn.len();
        }
        let (share, mean) = (corrupted as f64 / texts as f64, corrupted as f64 / spans as f64);
        assert!((share - ratio).abs() < 0.001, "{ratio}: {share}");
        assert!((mean / mean_span - 1.0).abs() < 0.02, "{mean_span}: {mean}");
    }
}

#[test]
fn spans_lie_anywhere_and_have_every_length() {
    let spec: SpanCorruption = spec(json!({}));
    let mut hits = [0_u32; 100];
    let mut lengths = [0_u32; 16];
    let draws = 20_000;
    for seed in 0..draws {
        for span in spec.spans(100, &mut Key::new(seed).stream()) {
            lengths[span.len()] += 1;
            span.for_each(|at| hits[at] += 1);
        }
    }
    // 15 tokens in 5 spans: of all their C(14, 4) sums, C(14 - length, 3) have a first part of this length.
    let choose = |n: u32, k: u32| (0..k).fold(1.0, |product, i| product * f64::from(n - i) / f64::from(i + 1));
    for length in 1..=11_u32 {
        let expected = choose(14 - length, 3) / choose(14, 4);
        let share = f64::from(lengths[length as usize]) / (5.0 * draws as f64);
        assert!((share - expected).abs() < 0.006, "{length}: {share}, not {expected}");
    }
    let inner = hits[10..90].iter().map(|&count| f64::from(count) / draws as f64);
    for (at, share) in (10..).zip(inner) {
        assert!((share - 0.15).abs() < 0.02, "{at}: {share}");
    }
    // The ends too, unlike in T5, where the first token never is and the last always.
    assert!(hits[0] > 0 && hits[99] > 0 && u64::from(hits[99]) < draws);
}

proptest! {
    #[test]
    fn nothing_is_lost_nothing_is_predicted_twice_and_lengths_are_kept(
        lengths in prop::collection::vec(1_usize..60, 1..6),
        max_length in 4_usize..90,
        ratio in 0.0..1.0,
        mean_span in 1.0..12.0,
        seed: u64,
    ) {
        let spec: SpanCorruption = spec(json!({ "ratio": ratio, "mean_span": mean_span }));
        let corpus = with_form(&[&lengths], AnswerForm::Prefix);
        let whole = corpus.text.document(0).unwrap().tokens.to_vec();
        let mut texts = Vec::new();
        for (text, length, example) in all(&spec, &corpus, max_length, seed) {
            prop_assert_eq!(example.tokens.len(), length);
            prop_assert!(length <= max_length);
            let (restored, spans) = restore(&example);
            prop_assert_eq!(&restored, &text);
            let corrupted: usize = spans.iter().map(Vec::len).sum();
            prop_assert_eq!((corrupted, spans.len()), spec.amounts(text.len()));
            prop_assert!(spans.iter().all(|span| !span.is_empty()));
            prop_assert!(corrupted < text.len() || text.len() == 1);

            // One target for each token of the answer and one for its end, each at a place of its own, and none in the
            // prompt.
            let prompt = example.span_ends[0] as usize;
            let answer = [&example.tokens[prompt..], &[EOP]].concat();
            let expected: Vec<(u32, u32)> = (prompt as u32 - 1..).zip(answer).collect();
            prop_assert_eq!(targets(&example), expected);
            texts.extend(text);
        }
        prop_assert_eq!(texts, whole);
    }
}

#[test]
fn an_example_depends_on_seed_epoch_and_number_alone() {
    let entries: Vec<Objective> = spec(json!([{ "generative": { "span_corruption": {} } }]));
    let corpus = with_form(&[&[20, 31, 7], &[44], &[12, 12]], AnswerForm::Prefix);
    let mix = |seed| {
        let train: spec::Train =
            spec(json!({ "lr": 1e-3, "epochs": 2, "max_length": 64, "batch": { "examples": 100 } }));
        Mix::new(&entries, &corpus, &train, seed, Layout::Ragged).unwrap()
    };
    let (first, again, other) = (mix(1), mix(1), mix(2));
    assert_eq!(first.steps(), 2);
    assert_eq!(first.step(1).unwrap(), again.step(1).unwrap());
    assert_eq!(first.step(0).unwrap().objective, "span_corruption");
    let tokens = |mix: &Mix, step| {
        let mut tokens = mix.step(step).unwrap().batches[0].tokens.clone();
        tokens.sort_unstable();
        tokens
    };
    assert_ne!(first.step(0).unwrap().batches[0].tokens, other.step(0).unwrap().batches[0].tokens);
    // The same tokens in each epoch, corrupted elsewhere.
    assert_eq!(tokens(&first, 0), tokens(&first, 1));
    assert_ne!(first.step(0).unwrap().batches[0].targets, first.step(1).unwrap().batches[0].targets);
}

#[test]
fn it_says_what_can_learn_it_and_what_its_model_can_do() {
    let entries: Vec<Objective> = spec(json!([{ "generative": { "span_corruption": {} } }]));
    let learn = |family: &str| parts::learnable(&entries, FAMILIES.named(family).unwrap(), "it").is_empty();
    let learned: Vec<&str> = FAMILIES.all().into_iter().map(|family| family.name).filter(|name| learn(name)).collect();
    assert_eq!(learned, ["glm", "chatglm", "transformer"]);
    // It fills blanks, and doesn't continue texts.
    assert_eq!(parts::taught(&entries, 0), None);
    assert_eq!(parts::measured(&entries).unwrap().len(), 1);
    assert!((parts::predicted(&entries[0]).unwrap() - 0.2).abs() < 1e-12);
    // Checkpoints that don't say what they learned aren't taken to know it.
    let assumed = parts::assumed(FAMILIES.named("transformer").unwrap()).unwrap();
    assert_eq!(json!(assumed)[0]["generative"], json!({ "prefix_lm": { "min_prefix": 0.1, "max_prefix": 0.9 } }));
    assert_eq!(assumed.len(), 1);
}

#[test]
fn settings_that_leave_nothing_to_do_are_refused() {
    let problems = |ratio: f64| {
        parts::check(&spec::<Vec<Objective>>(json!([{ "generative": { "span_corruption": { "ratio": ratio } } }])))
    };
    assert!(problems(0.15).is_empty());
    for ratio in [0.0, 1.0] {
        assert_eq!(problems(ratio)[0].field, "objectives.0.generative.span_corruption.ratio");
    }
    let settings: SpanCorruption = spec(json!({}));
    let corpus = with_form(&[&[9]], AnswerForm::Prefix);
    let short = settings.examples(&corpus, 3).err().expect("too short").to_string();
    assert_eq!(short, "span_corruption needs sequences of 4 tokens or more, and max_length is 3");
    assert!(settings.examples(&corpus, 4).is_ok());
}

#[test]
fn models_learn_to_fill_the_blanks() {
    let entries: Vec<Objective> = spec(json!([{ "generative": { "span_corruption": { "ratio": 0.3 } } }]));
    let corpus = with_form(&[&[10], &[10], &[10]], AnswerForm::Prefix);
    let loss = |steps: usize| {
        let train: spec::Train = spec(json!({
            "steps": steps, "lr": 5e-3, "dropout": 0.0, "max_length": 24, "batch": { "examples": 4 },
        }));
        let mix = Mix::new(&entries, &corpus, &train, 1, Layout::Ragged).unwrap();
        let model = spec(json!({ "transformer": { "hidden": 32, "layers": 1, "heads": 2, "max_length": 32 } }));
        let mut network = Network::new(&model, TEXT as usize + 40, 7, &Device::flex()).unwrap();
        network.name_tokens(SPECIALS);
        network.add_language_head(7).unwrap();
        let mut trainer = Trainer::new(network, TrainSettings::new(&train, steps, None).unwrap());
        trainer.run(&mix, None, None, &mut Silent).unwrap().loss
    };
    let (before, after) = (loss(1), loss(120));
    assert!(after < 0.3 * before, "{before} to {after}");
}
