//! Sentence pairs: where their segments lie, and that nothing but what they say tells their label.

use crate::common::{self, need, objectives};
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use anyhow::Result;
use burn::tensor::Device;
use objectives::{Documents, SPECIALS, TEXT, documents};
use pipe::{
    learning::{
        metrics::PairTally,
        objectives::{
            TokenizedText,
            pairs::{PairExamples, PairTask},
            windows::{PairWindow, Window, cut_for_pairs},
        },
        train::{Silent, TrainSettings, Trainer},
    },
    network::{
        batch::{Example, Feed, Layout, Step, lay_out},
        model::Network,
    },
    support::random::{Key, Stream},
};
use proptest::prelude::*;
use serde_json::json;

const SEP: u32 = SPECIALS.sep;
const TASKS: [PairTask; 2] = [PairTask::NextSentence, PairTask::SentenceOrder];

/// Splits `[CLS] A [SEP] B [SEP]`.
fn segments(example: &Example) -> [Vec<u32>; 2] {
    let ends: Vec<usize> = (0..example.tokens.len()).filter(|&index| example.tokens[index] == SEP).collect();
    assert_eq!((ends.len(), ends[1]), (2, example.tokens.len() - 1));
    let segment = |at: usize| u32::from(at > ends[0]);
    assert!((0..example.tokens.len()).all(|at| example.segments[at] == segment(at)));
    [example.tokens[1..ends[0]].to_vec(), example.tokens[ends[0] + 1..ends[1]].to_vec()]
}

/// All pairs of some epochs, with the windows that they're of.
fn drawn(task: PairTask, text: &Documents, max_length: usize, epochs: u64) -> Vec<(Window, Example)> {
    let pairs = PairExamples::new(task, text, max_length).unwrap();
    let windows = cut_for_pairs(text, max_length - 3).unwrap();
    let pair = |epoch: u64, at: usize| {
        let (window, key) = (windows[at].window, Key::new(epoch).at(at as u64));
        (window, pairs.pair(at as u64, text, window, &SPECIALS, key).unwrap())
    };
    (0..epochs)
        .flat_map(|epoch| (0..windows.len()).map(move |at| (epoch, at)))
        .map(|(epoch, at)| pair(epoch, at))
        .collect()
}

#[test]
fn windows_give_their_room_however_it_is_split() {
    let text = documents(&[&[4, 4, 4, 4, 4], &[5], &[3, 30], &[], &[1, 1], &[2, 9]]);
    let found = cut_for_pairs(&text, 10).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|&PairWindow { window: Window { document, start, end }, text }| (document, start..end, text))
        .collect();
    let expected = [
        // Three sentences don't do: three tokens of one may be left out between segments.
        (0, 0..16, 10),
        (0, 12..20, 5),
        // A sentence of 30 counts as six of 5.
        (2, 0..18, 10),
        (2, 13..28, 10),
        (2, 23..33, 6),
        // Two sentences of a token are left out beside these.
        (5, 0..11, 7),
    ];
    assert_eq!(found, expected);
    assert_eq!(cut_for_pairs(&documents(&[&[1, 1]]), 10).unwrap()[0].text, 2);
}

proptest! {
    #[test]
    fn segments_begin_with_sentences_and_have_the_lengths_of_their_window(
        lengths in prop::collection::vec(prop::collection::vec(1_usize..40, 0..8), 2..6),
        max_length in 5_usize..90,
        seed: u64,
    ) {
        let lengths: Vec<&[usize]> = lengths.iter().map(Vec::as_slice).collect();
        let text = documents(&lengths);
        let windows = cut_for_pairs(&text, max_length - 3).unwrap();
        for task in TASKS {
            let pairs = PairExamples::new(task, &text, max_length).unwrap();
            for PairWindow { window, text: room } in &windows {
                prop_assert!(*room >= 2 && *room as usize <= max_length - 3 && window.length() >= *room as usize);
                let example = match pairs.pair(0, &text, *window, &SPECIALS, Key::new(seed)) {
                    Ok(example) => example,
                    Err(error) => {
                        let others = windows.iter().any(|other| other.window.document != window.document);
                        prop_assert!(task == PairTask::NextSentence && !others, "{error}");
                        continue;
                    }
                };
                let [a, b] = segments(&example);
                let total = a.len() + b.len();
                prop_assert!(total <= *room as usize && (task == PairTask::NextSentence || total == *room as usize));
                prop_assert!(a.len().min(b.len()) >= total.div_ceil(4));
                let document = text.document(window.document as usize).unwrap();
                let own = &document.tokens[window.range()];
                let [first, second] = match (task, example.pair) {
                    (PairTask::SentenceOrder, Some(1)) => [b, a],
                    _ => [a, b],
                };
                prop_assert!(own.starts_with(&first));
                if task == PairTask::NextSentence && example.pair == Some(1) {
                    continue;
                }
                // It begins at or after the first one's end, with a sentence or a part of a long one, and within the window.
                let place = (first.len()..own.len()).find(|&at| own[at..].starts_with(&second));
                prop_assert!(place.is_some());
            }
        }
    }
}

#[test]
fn a_strange_segment_is_one_that_follows_another_text() {
    let text = documents(&[&[4, 3, 5], &[5, 5, 20], &[], &[3, 3, 3]]);
    let all = drawn(PairTask::NextSentence, &text, 15, 300);
    let document_of = |token: u32| match token - TEXT {
        0..12 => 0,
        12..42 => 1,
        _ => 3,
    };
    let mut changed = 0;
    for (window, example) in &all {
        let [a, b] = segments(example);
        assert_eq!(document_of(a[0]), window.document);
        let is_own = document_of(b[0]) == window.document;
        assert_eq!(example.pair, Some(u32::from(!is_own)));
        changed += usize::from(!is_own);
        // Never a document's beginning, which no true one is.
        assert!(![0, 12, 42].contains(&(b[0] - TEXT)));
    }
    let share = changed as f64 / all.len() as f64;
    assert!((share - 0.5).abs() < 0.05, "{share}");
}

/// How often each pair of lengths occurs with each label.
fn counted(all: &[(Window, Example)]) -> HashMap<(usize, usize), [f64; 2]> {
    let mut counts: HashMap<_, [f64; 2]> = HashMap::new();
    for (_, example) in all {
        let [a, b] = segments(example);
        counts.entry((a.len(), b.len())).or_default()[example.pair.unwrap() as usize] += 1.0;
    }
    counts
}

#[test]
fn both_labels_have_the_same_lengths() {
    // Short documents and long ones, with short sentences and long ones.
    let text =
        documents(&[&[4, 3], &[20, 30], &[9, 9, 9], &[2, 25], &[12, 3], &[7, 6, 5, 4, 3, 2, 40, 8, 8, 8], &[60]]);
    for task in TASKS {
        // Pearson's test of independence: about normal for so many degrees of freedom.
        let all = drawn(task, &text, 33, 3000);
        let counts = counted(&all);
        let total: [f64; 2] = [0, 1].map(|label| counts.values().map(|count| count[label]).sum());
        let part = |count: &[f64; 2]| -> f64 {
            let share = (count[0] + count[1]) / (total[0] + total[1]);
            (0..2).map(|label| (count[label] - share * total[label]).powi(2) / (share * total[label])).sum()
        };
        let common: Vec<_> = counts.values().filter(|count| count[0] + count[1] >= 20.0).collect();
        let freedom = (common.len() - 1) as f64;
        let statistic: f64 = common.into_iter().map(part).sum();
        assert!(statistic < freedom + 4.0 * (2.0 * freedom).sqrt(), "{task:?}: {statistic} for {freedom}");
    }
}

/// Logistic regression on present features, by AdaGrad; the share of `test` that it's right in.
fn classified(train: &[(Vec<usize>, bool)], test: &[(Vec<usize>, bool)], features: usize) -> f64 {
    let (mut weights, mut squares) = (vec![0.0; features], vec![1e-3; features]);
    let sum = |weights: &[f64], present: &[usize]| -> f64 { present.iter().map(|&at| weights[at]).sum() };
    for _ in 0..6 {
        for (present, label) in train {
            let gradient: f64 = 1.0 / (1.0 + (-sum(&weights, present)).exp()) - f64::from(u8::from(*label));
            for &at in present {
                squares[at] += gradient * gradient;
                weights[at] -= 0.1 * gradient / f64::sqrt(squares[at]);
            }
        }
    }
    let right = test.iter().filter(|(present, label)| (sum(&weights, present) > 0.0) == *label);
    right.count() as f64 / test.len() as f64
}

/// Buckets of hashed features.
const BUCKETS: usize = 4096;

/// Lengths and last tokens of both segments, each by itself and with the other's.
fn features(example: &Example) -> Vec<usize> {
    let [a, b] = segments(example);
    let ends = [a[a.len() - 1], b[b.len() - 1]].map(|token| u64::from(token));
    let lengths = [a.len() as u64, b.len() as u64];
    let names = [
        [0, 0, 0],
        [1, lengths[0], 0],
        [2, lengths[1], 0],
        [3, lengths[0] + lengths[1], 0],
        [4, lengths[0] / 4, lengths[1] / 4],
        [5, ends[0], 0],
        [6, ends[1], 0],
        [7, ends[0], ends[1]],
    ];
    names.map(|[kind, one, other]| Key::new(kind).at(one).at(other).below(BUCKETS)).into()
}

/// Makes sure that lengths and last tokens don't tell the labels of pairs out of a text.
fn check_giveaways(what: &str, text: &Documents, max_length: usize) {
    for task in TASKS {
        // Judged on other documents than it has learned from.
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for (window, example) in drawn(task, text, max_length, 6) {
            let known = if window.document % 3 == 0 { &mut test } else { &mut train };
            known.push((features(&example), example.pair == Some(1)));
        }
        let changed = test.iter().filter(|(_, label)| *label).count() as f64 / test.len() as f64;
        let right = classified(&train, &test, BUCKETS);
        let majority = changed.max(1.0 - changed);
        eprintln!("{what}, {task:?}: {} pairs, {right:.4} right, majority {majority:.4}", test.len());
        assert!(test.len() > 800 && right < majority + 0.02, "{what}, {task:?}: {right} for {majority}");
    }
}

/// Documents with blank lines between them, a token a character; sentences end at stops and at line ends.
fn read(path: &Path) -> Documents {
    let text = std::fs::read_to_string(path).unwrap().replace('\r', "");
    let sentences = |document: &str| -> Vec<Vec<u32>> {
        let pieces = document.split_inclusive(['。', '！', '？', '；', '\n', '.', '!', '?', ';']);
        let ids = |piece: &str| piece.chars().map(|c| TEXT + c as u32 % (SPECIALS.vocab_size as u32 - TEXT)).collect();
        pieces.map(ids).filter(|ids: &Vec<u32>| !ids.is_empty()).collect()
    };
    Documents(text.split("\n\n").map(sentences).filter(|document| !document.is_empty()).collect())
}

#[test]
fn lengths_and_last_characters_do_not_tell_the_label_in_the_embedded_corpus() {
    let text = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/data/corpus.txt"));
    for max_length in [48, 128] {
        check_giveaways(&format!("embedded, {max_length}"), &text, max_length);
    }
}

#[test]
fn lengths_and_last_characters_do_not_tell_the_label_in_real_texts() {
    for (part, max_length) in [
        ("tinyshakespeare/input.txt", 128),
        ("cluecorpus_small/CLUECorpusSmall_bert_sampled.txt", 128),
        ("cluecorpus_small/CLUECorpusSmall_bert_sampled.txt", 40),
        ("song_ci/song_ci.txt", 64),
    ] {
        let mut text = read(&need!(common::data(part)));
        text.0.truncate(4000);
        check_giveaways(&format!("{part}, {max_length}"), &text, max_length);
    }
}

/// The token that ends sentences, as 。 does.
const STOP: u32 = TEXT;

/// Documents of random characters: one to a dozen sentences, of lengths that differ from document to document.
fn meaningless(count: usize, key: Key) -> Documents {
    let mut stream = key.stream();
    let sentence = |longest: usize, stream: &mut Stream| -> Vec<u32> {
        let length = 2 + stream.below(longest);
        let characters = (0..length).map(|_| STOP + 1 + stream.below(30) as u32);
        characters.chain([STOP]).collect()
    };
    let document = |stream: &mut Stream| {
        let (sentences, longest) = (1 + stream.below(12), 12);
        (0..sentences).map(|_| sentence(longest, stream)).collect()
    };
    Documents((0..count).map(|_| document(&mut stream)).collect())
}

/// Pairs of some epochs, in the order in which they're drawn.
struct Drawn {
    examples: Vec<Example>,
}

/// Examples of a step.
const BATCH: usize = 16;

impl Feed for Drawn {
    fn steps(&self) -> usize {
        self.examples.len() / BATCH
    }

    fn step(&self, step: usize) -> Result<Step> {
        let batch = lay_out(&self.examples[step * BATCH..][..BATCH], Layout::Ragged, Key::new(step as u64));
        Ok(Step { batches: vec![batch], objective: "pairs".into(), pair_weight: 1.0 })
    }
}

/// What a small BERT that has learned pairs for three epochs makes of those out of other documents.
fn learned(task: PairTask, change: impl Fn(Example) -> Example) -> PairTally {
    let examples = |count: usize, key: u64, epochs: u64| -> Vec<Example> {
        let all = drawn(task, &meaningless(count, Key::new(key)), 48, epochs);
        all.into_iter().map(|(_, example)| change(example)).collect()
    };
    let mut train = examples(240, 1, 3);
    Key::new(7).stream().shuffle(&mut train);
    let feed = Drawn { examples: train };
    let model = json!({ "hidden": 16, "layers": 1, "heads": 2, "max_length": 48, "initializer_range": 0.2 });
    let model = json!({ "bert": model });
    let mut network = Network::new(&serde_json::from_value(model).unwrap(), 64, 5, &Device::flex()).unwrap();
    network.add_pair_head(5);
    let train = json!({ "steps": feed.steps(), "lr": 1e-2, "warmup_steps": 10, "dropout": 0.0, "max_length": 48 });
    let settings = TrainSettings::new(&serde_json::from_value(train).unwrap(), feed.steps(), None).unwrap();
    let mut trainer = Trainer::new(network, settings);
    trainer.run(&feed, None, None, &mut Silent).unwrap();

    let mut tally = PairTally::default();
    for batch in examples(300, 2, 2).chunks(64) {
        let batch = lay_out(batch, Layout::Ragged, Key::new(0));
        for (label, probabilities) in batch.pairs.iter().zip(trainer.network.pair_log_probabilities(&batch).unwrap()) {
            tally.judged(*label, [probabilities[0], probabilities[1]]);
        }
    }
    tally
}

/// The loss of one that knows how often each label is, and no more.
fn entropy(tally: &PairTally) -> f64 {
    let share = tally.changed as f64 / tally.pairs as f64;
    -share * share.ln() - (1.0 - share) * (1.0 - share).ln()
}

#[test]
fn pairs_of_random_characters_cannot_be_learned() {
    for task in TASKS {
        let tally = learned(task, |example| example);
        let loss = tally.nll / tally.pairs as f64;
        eprintln!("{task:?}: loss {loss:.4} of {} pairs, entropy {:.4}", tally.pairs, entropy(&tally));
        assert!(tally.pairs > 400 && loss >= entropy(&tally) - 0.01, "{task:?}: {loss} for {}", entropy(&tally));
    }
}

#[test]
fn pairs_whose_lengths_tell_the_label_are_learned_at_once() {
    // The training that the test above relies on finds out what there is to find out.
    let shortened = |mut example: Example| {
        if example.pair == Some(0) {
            let kept = example.tokens.len() - 1 - segments(&example)[1].len() / 2;
            let tokens = [&example.tokens[..kept], &[SEP]].concat();
            let segments = example.segments[..tokens.len()].to_vec();
            let length = tokens.len();
            example = Example { segments, pair: example.pair, ..Example::sequence(example.id, tokens, length) };
        }
        example
    };
    let tally = learned(PairTask::NextSentence, shortened);
    let loss = tally.nll / tally.pairs as f64;
    assert!(loss < entropy(&tally) - 0.2, "{loss} for {}", entropy(&tally));
}

#[test]
fn windows_of_a_text_are_sorted_and_distinct() {
    let text = meaningless(60, Key::new(3));
    let windows = cut_for_pairs(&text, 45).unwrap();
    let places: Vec<_> = windows.iter().map(|known| (known.window.document, known.window.start)).collect();
    assert!(places.is_sorted_by(|a, b| a < b));
    let documents: BTreeSet<u32> = windows.iter().map(|known| known.window.document).collect();
    // Documents of one sentence give none, and those of two or three short ones.
    assert!((30..60).contains(&documents.len()), "{}", documents.len());
}
