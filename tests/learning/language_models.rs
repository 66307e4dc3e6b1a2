//! What each language-model objective makes of a text.

use crate::common::objectives;
use std::{collections::HashMap, sync::Arc};

use anyhow::Result;

use objectives::{Documents, SPECIALS, TEXT, documents, seen, spec, targets};
use pipe::{
    learning::objectives::{
        AnswerForm, Corpus, HeldOut, TokenizedDocument, TokenizedText,
        blank_infilling::{BlankMode, Blanks, infill, suffix},
        causal_lm,
        form::plain,
        masked_lm::Masking,
        prefix_lm,
        windows::{Window, cut, sentences},
        words::take_words,
    },
    network::batch::{Example, Feed, Layout},
    spec::Objective,
    support::random::Key,
};
use proptest::prelude::*;
use serde_json::json;

const CLS: u32 = SPECIALS.cls;
const SEP: u32 = SPECIALS.sep;

fn lengths(windows: &[Window]) -> Vec<(u32, usize)> {
    windows.iter().map(|window| (window.document, window.length())).collect()
}

#[test]
fn windows_gather_whole_sentences_and_cut_long_ones() {
    let text = documents(&[&[3, 4, 2, 5], &[], &[1], &[25, 2]]);
    let windows = cut(&text, 10).unwrap();
    assert_eq!(lengths(&windows), [(0, 9), (0, 5), (2, 1), (3, 10), (3, 10), (3, 7)]);
}

#[test]
fn what_follows_the_last_sentence_end_counts_as_a_sentence() {
    let text = documents(&[&[3, 3]]);
    let mut document = text.document(0).unwrap();
    document.sentence_ends = vec![2, 2, 4].into();
    assert_eq!(sentences(&document, 0..usize::MAX), [0..2, 2..4, 4..6]);
    assert_eq!(sentences(&document, 1..5), [1..2, 2..4, 4..5]);
    assert!(sentences(&document, 4..4).is_empty());
    document.sentence_ends = vec![9, 1, 40].into();
    assert_eq!(sentences(&document, 0..usize::MAX).first(), Some(&(0..6)));
}

#[test]
fn masked_lm_hides_a_share_and_shows_it_in_three_ways() {
    let text: Vec<u32> = (TEXT..TEXT + 900).collect();
    let masking = Masking { spec: spec(json!({})) };
    let mut ways = [0; 3];
    for id in 0..20 {
        let mut example = plain(id, &text, &SPECIALS);
        let plain = example.tokens.clone();
        masking.mask(&mut example, &SPECIALS, Key::new(id));
        assert_eq!(example.targets.len(), 135);
        for (at, token) in targets(&example) {
            assert_eq!(plain[at as usize], token);
            let shown = example.tokens[at as usize];
            ways[if shown == SPECIALS.mask { 0 } else { 1 + usize::from(shown == token) }] += 1;
            assert!(shown == SPECIALS.mask || shown >= TEXT);
        }
    }
    let share = ways.map(|count| f64::from(count) / 2700.0);
    assert!((share[0] - 0.8).abs() < 0.03 && (share[1] - 0.1).abs() < 0.02, "{share:?}");
}

#[test]
fn masked_lm_hides_one_token_of_the_shortest_text() {
    let mut example = plain(0, &[TEXT], &SPECIALS);
    Masking { spec: spec(json!({"mask": 1.0})) }.mask(&mut example, &SPECIALS, Key::new(0));
    assert_eq!(example.tokens, [CLS, SPECIALS.mask, SEP]);
    assert_eq!(targets(&example), [(1, TEXT)]);
    assert_eq!(example.span_ends, [3, 3, 3]);
}

proptest! {
    #[test]
    fn masked_lm_never_hides_special_tokens(text in prop::collection::vec(0_u32..40, 1..80), seed: u64) {
        let masking = Masking { spec: spec(json!({})) };
        let mut example = plain(0, &text, &SPECIALS);
        let plain = example.tokens.clone();
        masking.mask(&mut example, &SPECIALS, Key::new(seed));
        let maskable = text.iter().filter(|&&token| token >= TEXT).count();
        let wanted = if maskable == 0 { 0 } else { ((0.15 * maskable as f64).round() as usize).max(1) };
        prop_assert_eq!(example.targets.len(), wanted);
        prop_assert!(example.targets.iter().all(|target| target.token >= TEXT));
        let hidden: HashMap<u32, u32> = targets(&example).into_iter().collect();
        for (at, (&shown, &token)) in (0..).zip(example.tokens.iter().zip(&plain)) {
            prop_assert!(hidden.contains_key(&at) || shown == token);
            prop_assert!((shown as usize) < SPECIALS.vocab_size);
        }
    }
}

/// The mark of a token that continues a word.
const CONTINUES: u32 = 1 << 31;

#[test]
fn marks_make_words_and_are_taken_off() {
    let mut tokens = [20 | CONTINUES, 21, 22 | CONTINUES, 23 | CONTINUES, 24];
    assert_eq!(take_words(&mut tokens), [0..1, 1..4, 4..5]);
    assert_eq!(tokens, [20, 21, 22, 23, 24]);
    assert_eq!(take_words(&mut tokens), [0..1, 1..2, 2..3, 3..4, 4..5]);
    assert!(take_words(&mut []).is_empty());
}

#[test]
fn whole_words_are_hidden_whole() {
    let [play, ing] = [TEXT + 4, TEXT + 5];
    let text = [play, ing | CONTINUES, ing | CONTINUES].repeat(20);
    let masking = Masking { spec: spec(json!({"whole_word": true, "mask": 1.0})) };
    for seed in 0..20 {
        let mut example = plain(0, &text, &SPECIALS);
        masking.mask(&mut example, &SPECIALS, Key::new(seed));
        assert_eq!(example.targets.len(), 9);
        for word in example.tokens[1..61].chunks(3) {
            let hidden = word.iter().filter(|&&token| token == SPECIALS.mask).count();
            assert!(hidden == 0 || hidden == 3);
        }
    }
    // A window that begins within a word: `[CLS]` is no head that would keep its pieces from being hidden.
    let mut example = plain(0, &[ing | CONTINUES, ing | CONTINUES], &SPECIALS);
    masking.mask(&mut example, &SPECIALS, Key::new(0));
    assert_eq!(targets(&example), [(1, ing), (2, ing)]);
}

/// Documents whose words have three tokens each.
struct Threes(Documents);

impl TokenizedText for Threes {
    fn documents(&self) -> usize {
        self.0.documents()
    }

    fn document(&self, index: usize) -> Result<TokenizedDocument<'_>> {
        self.0.document(index)
    }

    fn continuations(&self, index: usize) -> Result<Vec<bool>> {
        Ok((0..self.document(index)?.tokens.len()).map(|at| at % 3 != 0).collect())
    }
}

#[test]
fn words_stay_whole_in_pairs_of_segments() {
    let text = documents(&[&[6, 9, 3, 12], &[9, 6, 6], &[3, 3, 9]]);
    let corpus = Corpus { text: Arc::new(Threes(text)), specials: SPECIALS, form: AnswerForm::Infilling };
    for pairs in ["sentence_order", "next_sentence"] {
        let entry: Objective =
            spec(json!({ "masked_lm": { "whole_word": true, "mask": 1.0, "probability": 0.4 }, pairs: {} }));
        let feed = HeldOut::new(&entry, &corpus, 27, 4096, Layout::Ragged).unwrap();
        let batch = &feed.step(0).unwrap().batches[0];
        let hidden: HashMap<u32, u32> = batch.targets.iter().map(|target| (target.at, target.token)).collect();
        let mut words: HashMap<(u32, u32), Vec<bool>> = HashMap::new();
        for (at, &token) in (0..).zip(&batch.tokens) {
            let plain = hidden.get(&at).copied().unwrap_or(token);
            assert!(plain < SPECIALS.vocab_size as u32, "a mark is left: {plain:#x}");
            if let Some(place) = plain.checked_sub(TEXT) {
                let example = batch.span_starts[at as usize];
                words.entry((example, place / 3)).or_default().push(hidden.contains_key(&at));
            }
        }
        let is_whole = |word: &Vec<bool>| word.iter().all(|hidden| hidden == &word[0]);
        assert!(hidden.len() > 3 && words.values().all(is_whole), "{words:?}");
    }
}

#[test]
fn chatglm2_learns_texts_behind_its_own_beginning() {
    let example = causal_lm::example(4, &[20, 21], true, AnswerForm::Chatglm2, &SPECIALS);
    assert_eq!(example.tokens, [SPECIALS.gmask, SPECIALS.sop, 20, 21]);
    assert_eq!(targets(&example), [(1, 20), (2, 21), (3, SPECIALS.sep)]);
}

#[test]
fn causal_lm_predicts_each_token_from_those_before() {
    let example = causal_lm::example(4, &[20, 21], true, AnswerForm::Causal, &SPECIALS);
    assert_eq!(example.tokens, [CLS, 20, 21]);
    assert_eq!(targets(&example), [(0, 20), (1, 21), (2, SPECIALS.eop)]);
    assert_eq!(seen(&example), [vec![CLS], vec![CLS, 20], vec![CLS, 20, 21]]);
    assert_eq!(targets(&causal_lm::example(4, &[20, 21], false, AnswerForm::Causal, &SPECIALS)), [(0, 20), (1, 21)]);
}

#[test]
fn prefix_lm_sees_its_prompt_in_both_directions() {
    let spec = spec(json!({"min_prefix": 0.5, "max_prefix": 0.5}));
    let example = prefix_lm::example(0, &[20, 21, 22, 23], true, &spec, AnswerForm::Prefix, &SPECIALS, Key::new(0));
    assert_eq!(example.tokens, [CLS, 20, 21, 22, 23]);
    assert_eq!(example.span_ends, [3, 3, 3, 4, 5]);
    assert_eq!(targets(&example), [(2, 22), (3, 23), (4, SPECIALS.eop)]);
}

proptest! {
    #[test]
    fn prefix_lm_leaves_something_to_predict(length in 1_usize..50, ends: bool, seed: u64) {
        let text: Vec<u32> = (TEXT..).take(length).collect();
        let example = prefix_lm::example(0, &text, ends, &spec(json!({"max_prefix": 1.0})), AnswerForm::Prefix, &SPECIALS, Key::new(seed));
        let prompt = example.span_ends[0] as usize - 1;
        prop_assert_eq!(example.targets.len(), length - prompt + usize::from(ends));
        prop_assert!(prompt < length);
    }
}

#[test]
fn blank_infilling_lays_out_spans_in_the_order_given() {
    let framed = [CLS, 20, 21, 22, 23, 24, SEP];
    let example = infill(0, &framed, &[1..2, 3..5], &[1, 0], SPECIALS.mask, &SPECIALS);
    let (mask, sop, eop) = (SPECIALS.mask, SPECIALS.sop, SPECIALS.eop);
    assert_eq!(example.tokens, [CLS, mask, 21, mask, 24, SEP, sop, 22, 23, sop, 20]);
    assert_eq!(example.positions, [0, 1, 2, 3, 4, 5, 3, 3, 3, 1, 1]);
    assert_eq!(example.block_positions, [0, 0, 0, 0, 0, 0, 1, 2, 3, 1, 2]);
    assert_eq!(example.span_ends, [6, 6, 6, 6, 6, 6, 7, 8, 9, 10, 11]);
    assert_eq!(targets(&example), [(6, 22), (7, 23), (8, eop), (9, 20), (10, eop)]);
}

#[test]
fn a_suffix_ends_only_where_the_document_does() {
    let (gmask, sop, eop) = (SPECIALS.gmask, SPECIALS.sop, SPECIALS.eop);
    let cut = suffix(0, &[CLS, 20, 21, 22], 2, false, &SPECIALS);
    assert_eq!(cut.tokens, [CLS, 20, gmask, sop, 21]);
    assert_eq!(targets(&cut), [(3, 21), (4, 22)]);
    let whole = suffix(0, &[CLS, 20, 21, 22], 2, true, &SPECIALS);
    assert_eq!(whole.tokens, [CLS, 20, gmask, sop, 21, 22]);
    assert_eq!(whole.positions, [0, 1, 2, 2, 2, 2]);
    assert_eq!(targets(&whole), [(3, 21), (4, 22), (5, eop)]);
}

/// Puts the blanks' targets back into part A, and says what was blanked.
fn restore(example: &Example) -> (Vec<u32>, Vec<Vec<u32>>) {
    let context = example.span_ends[0] as usize;
    let mut blanks: HashMap<u32, Vec<u32>> = HashMap::new();
    for target in &example.targets {
        assert_eq!(example.span_ends[target.at as usize], target.at + 1);
        blanks.entry(example.positions[target.at as usize]).or_default().push(target.token);
    }
    let mut text = Vec::new();
    let mut spans = Vec::new();
    for (position, &token) in (0..).zip(&example.tokens[..context]) {
        match blanks.get(&position) {
            Some(blank) => {
                assert!([SPECIALS.mask, SPECIALS.smask, SPECIALS.gmask].contains(&token));
                let span: Vec<u32> = blank.iter().copied().filter(|&token| token != SPECIALS.eop).collect();
                text.extend(&span);
                spans.push(span);
            }
            None => text.push(token),
        }
    }
    (text, spans)
}

proptest! {
    #[test]
    fn blank_infilling_loses_nothing_and_stays_within_its_length(
        lengths in prop::collection::vec(1_usize..40, 1..8),
        mode in prop::sample::select(vec![BlankMode::Span, BlankMode::Sentence, BlankMode::Document]),
        max_length in 8_usize..90,
        ratio in 0.0..1.0,
        seed: u64,
    ) {
        let text = documents(&[&lengths]);
        let blanks = Blanks::new(&spec(json!({"ratio": ratio})), max_length).unwrap();
        let document = text.document(0).unwrap();
        for window in cut(&text, blanks.room()).unwrap() {
            let whole = &document.tokens[window.range()];
            let example = blanks.example(0, &document, window.range(), mode, &SPECIALS, Key::new(seed));
            prop_assert!(example.tokens.len() <= max_length);
            prop_assert!(!example.targets.is_empty());
            let (restored, spans) = restore(&example);
            prop_assert_eq!(restored[0], CLS);
            prop_assert_eq!(restored.strip_suffix(&[SEP]).unwrap_or(&restored)[1..].to_vec(), whole.to_vec());
            match mode {
                BlankMode::Document => prop_assert_eq!(spans.len(), 1),
                BlankMode::Span => {
                    let covered: usize = spans.iter().map(Vec::len).sum();
                    prop_assert!(covered <= (ratio * whole.len() as f64) as usize + 39);
                }
                BlankMode::Sentence => {}
            }
        }
    }
}

#[test]
fn spans_cover_the_share_and_stand_apart() {
    let text = documents(&[&[100]]);
    let document = text.document(0).unwrap();
    let blanks = Blanks::new(&spec(json!({})), 512).unwrap();
    let mut starts = [0; 100];
    for seed in 0..500 {
        let example = blanks.example(0, &document, 0..100, BlankMode::Span, &SPECIALS, Key::new(seed));
        let (_, spans) = restore(&example);
        let covered: usize = spans.iter().map(Vec::len).sum();
        assert!((15..15 + 39).contains(&covered));
        for pair in spans.windows(2) {
            assert!(pair[1][0] > pair[0].last().unwrap() + 1, "{spans:?}");
        }
        spans.iter().for_each(|span| starts[(span[0] - TEXT) as usize] += 1);
    }
    // Spans begin anywhere, the ends included.
    let (first, second) = starts.split_at(50);
    assert!(starts[0] > 0 && starts[95..].iter().any(|&count| count > 0));
    let ratio = f64::from(first.iter().sum::<i32>()) / f64::from(second.iter().sum::<i32>());
    assert!((0.85..1.3).contains(&ratio), "{ratio}");
}

#[test]
fn sentence_mode_blanks_whole_sentences() {
    let text = documents(&[&[5, 6, 7, 8]]);
    let document = text.document(0).unwrap();
    let blanks = Blanks::new(&spec(json!({})), 64).unwrap();
    for seed in 0..50 {
        // The window cuts the first sentence and the last: neither can be told in full.
        let example = blanks.example(0, &document, 2..20, BlankMode::Sentence, &SPECIALS, Key::new(seed));
        let (_, spans) = restore(&example);
        assert_eq!(spans.len(), 1);
        assert!([(TEXT + 5, 6), (TEXT + 11, 7)].contains(&(spans[0][0], spans[0].len())));
        assert!(example.tokens.contains(&SPECIALS.smask));
    }
    // With one whole sentence only, spans are blanked.
    let example = blanks.example(0, &document, 2..11, BlankMode::Sentence, &SPECIALS, Key::new(0));
    assert!(example.tokens.contains(&SPECIALS.mask) && !example.tokens.contains(&SPECIALS.smask));
}

#[test]
fn document_mode_blanks_a_suffix_or_a_long_span() {
    let text = documents(&[&[40]]);
    let document = text.document(0).unwrap();
    let blanks = Blanks::new(&spec(json!({})), 64).unwrap();
    let mut suffixes = 0;
    for seed in 0..200 {
        let example = blanks.example(0, &document, 0..40, BlankMode::Document, &SPECIALS, Key::new(seed));
        let (restored, spans) = restore(&example);
        assert!((10..40).contains(&spans[0].len()));
        suffixes += i32::from(restored.last() != Some(&SEP));
        assert_eq!(example.targets.last().unwrap().token, SPECIALS.eop);
    }
    assert!((75..125).contains(&suffixes), "{suffixes}");
}

#[test]
fn modes_are_drawn_by_weight() {
    let blanks = Blanks::new(&spec(json!({"span": 1.0, "sentence": 0.0, "document": 3.0})), 64).unwrap();
    let modes: Vec<BlankMode> = (0..1000).map(|index| blanks.mode(Key::new(index))).collect();
    let count = |mode| modes.iter().filter(|&&drawn| drawn == mode).count();
    assert_eq!(count(BlankMode::Sentence), 0);
    assert!((200..300).contains(&count(BlankMode::Span)));
    assert!(Blanks::new(&spec(json!({"span": 0.0, "sentence": 0.0, "document": 0.0})), 64).is_none());
}
