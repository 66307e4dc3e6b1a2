//! Classification: the template, the label trie, truncation, and what the model sees.

use crate::common::objectives;
use std::collections::HashMap;

use anyhow::Result;
use objectives::{SPECIALS, spec};
use pipe::{
    learning::objectives::{
        AnswerForm, Classifier, RowFeed, Specials,
        classification::Encode,
        form::{begin, blanks, continuation, feed},
        labels::Labels,
    },
    network::batch::{Choice, Feed, Layout},
};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const MASK: u32 = SPECIALS.mask;
pub(super) const CLS: u32 = SPECIALS.cls;
pub(super) const SEP: u32 = SPECIALS.sep;
pub(super) const SOP: u32 = SPECIALS.sop;

/// A token a character: its code point.
fn characters() -> Encode {
    Box::new(|text| Ok(text.chars().map(|character| character as u32).collect()))
}

fn classifier(template: &str, max_length: usize, settings: Value) -> Result<Classifier> {
    classifier_of(AnswerForm::Infilling, template, max_length, settings)
}

pub(super) fn classifier_of(
    form: AnswerForm,
    template: &str,
    max_length: usize,
    settings: Value,
) -> Result<Classifier> {
    let mut task = json!({"template": template, "words": {"0": "坏", "1": "好"}});
    for (name, value) in settings.as_object().into_iter().flatten() {
        task[name] = value.clone();
    }
    Classifier::new(&spec(task), form, max_length, SPECIALS, characters())
}

pub(super) fn row(columns: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let columns: HashMap<String, String> =
        columns.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    move |name| columns.get(name).cloned()
}

pub(super) fn ids(text: &str) -> Vec<u32> {
    text.chars().map(|character| character as u32).collect()
}

pub(super) fn message<T>(result: Result<T>) -> String {
    pipe::support::explained(&result.err().expect("an error"))
}

#[test]
fn a_prompt_is_a_blank_to_fill() {
    let classifier = classifier("{{ text }}。很[Classification]！", 64, json!({})).unwrap();
    let example = classifier.example(&row(&[("text", "不错")]), 1, 7).unwrap();
    assert_eq!(example.tokens, [vec![CLS], ids("不错。很"), vec![MASK], ids("！"), vec![SEP, SOP]].concat());
    assert_eq!(example.positions, [0, 1, 2, 3, 4, 5, 6, 7, 5]);
    assert_eq!(example.block_positions, [0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(example.span_ends, [8, 8, 8, 8, 8, 8, 8, 8, 9]);
    assert_eq!(example.choices, [Choice { at: 8, node: 0, gold: 1 }]);
    assert_eq!((example.id, example.class, example.targets.len()), (7, None, 0));
    assert_eq!(classifier.nodes()[0].candidates, ids("坏好"));
}

#[test]
fn words_of_several_tokens_are_generated_up_to_their_last_choice() {
    let words = json!({"words": {"a": "体育", "b": "体操队", "c": "财经", "d": "体操"}});
    let classifier = classifier("[Classification]{{ text }}", 64, words).unwrap();
    let candidates: Vec<Vec<u32>> = classifier.nodes().iter().map(|node| node.candidates.clone()).collect();
    assert_eq!(candidates, [ids("体财"), ids("育操"), vec!['队' as u32, SPECIALS.eop]]);

    let choices = |label| {
        let example = classifier.example(&row(&[("text", "x")]), label, 0).unwrap();
        let choices: Vec<_> = example.choices.iter().map(|choice| (choice.at - 4, choice.node, choice.gold)).collect();
        (example.tokens[5..].to_vec(), choices)
    };
    assert_eq!(choices(0), (ids("体"), vec![(0, 0, 0), (1, 1, 0)]));
    assert_eq!(choices(1), (ids("体操"), vec![(0, 0, 0), (1, 1, 1), (2, 2, 0)]));
    assert_eq!(choices(2), (vec![], vec![(0, 0, 1)]));
    assert_eq!(choices(3), (ids("体操"), vec![(0, 0, 0), (1, 1, 1), (2, 2, 1)]));

    // One sequence visits all nodes, as they lie on one path.
    let inference = classifier.inference(&row(&[("text", "x")]), 3).unwrap();
    assert_eq!(inference.len(), 1);
    let nodes: Vec<u32> = inference[0].choices.iter().map(|choice| choice.node).collect();
    assert_eq!(nodes, [0, 1, 2]);

    let half = (0.5_f64).ln();
    let scores = classifier.score(&[vec![0.8_f64.ln(), 0.2_f64.ln()], vec![half, half], vec![half, half]]);
    let rounded: Vec<f64> = scores.iter().map(|score| (score * 1e6).round() / 1e6).collect();
    assert_eq!(rounded, [0.4, 0.2, 0.2, 0.2]);
}

#[test]
fn bert_fills_as_many_masks_as_the_longest_word_has_tokens() {
    let words = json!({"words": {"a": "体育", "b": "体操队", "c": "财经", "d": "体操"}});
    let classifier = classifier_of(AnswerForm::Cloze, "{{ text }}[Classification]。", 64, words).unwrap();
    let row = row(&[("text", "x")]);
    let expected = [vec![CLS], ids("x"), vec![MASK; 3], ids("。"), vec![SEP]].concat();
    let choices = |label| {
        let example = classifier.example(&row, label, 0).unwrap();
        assert_eq!((&example.tokens, &example.span_ends), (&expected, &vec![7; 7]));
        assert_eq!(example.block_positions, [0; 7]);
        example.choices.iter().map(|choice| (choice.at, choice.node, choice.gold)).collect::<Vec<_>>()
    };
    assert_eq!(choices(0), [(2, 0, 0), (3, 1, 0)]);
    assert_eq!(choices(1), [(2, 0, 0), (3, 1, 1), (4, 2, 0)]);
    assert_eq!(choices(2), [(2, 0, 1)]);
    assert_eq!(choices(3), [(2, 0, 0), (3, 1, 1), (4, 2, 1)]);
    // What ends the word that another one begins with is [SEP].
    assert_eq!(classifier.nodes()[2].candidates, ['队' as u32, SEP]);

    let [inference] = &classifier.inference(&row, 5).unwrap()[..] else { panic!("one sequence") };
    assert_eq!((&inference.tokens, inference.id), (&expected, 5));
    assert_eq!(
        inference.choices.iter().map(|choice| (choice.at, choice.node)).collect::<Vec<_>>(),
        [(2, 0), (3, 1), (4, 2)]
    );
}

#[test]
fn one_sequence_asks_bert_for_all_labels() {
    let words = json!({"words": {"a": "体育", "b": "财经", "c": "财富", "d": "体操"}});
    let glm = classifier_of(AnswerForm::Infilling, "[Classification]", 64, words.clone()).unwrap();
    let bert = classifier_of(AnswerForm::Cloze, "[Classification]", 64, words).unwrap();
    assert_eq!(glm.inference(&row(&[]), 0).unwrap().len(), 2);
    assert_eq!(bert.inference(&row(&[]), 0).unwrap().len(), 1);
}

#[test]
fn families_have_the_answer_in_their_own_place() {
    let words = json!({"words": {"a": "体育", "b": "体操"}});
    let example = |form, template| {
        let classifier = classifier_of(form, template, 64, words.clone()).unwrap();
        classifier.example(&row(&[("text", "x")]), 1, 0).unwrap()
    };
    const GMASK: u32 = SPECIALS.gmask;
    let [text, answer] = ["x", "体"].map(ids);

    let gpt2 = example(AnswerForm::Causal, "{{ text }}[Classification]\n");
    assert_eq!(gpt2.tokens, [vec![CLS], text.clone(), answer.clone()].concat());
    assert_eq!((gpt2.span_ends, gpt2.positions), (vec![1, 2, 3], vec![0, 1, 2]));
    assert_eq!(gpt2.choices, [Choice { at: 2, node: 0, gold: 1 }]);

    let chatglm2 = example(AnswerForm::Chatglm2, "{{ text }}[Classification]");
    assert_eq!(chatglm2.tokens, [vec![GMASK, SOP], text.clone(), answer.clone()].concat());
    assert_eq!((chatglm2.span_ends, chatglm2.positions), (vec![1, 2, 3, 4], vec![0, 1, 2, 3]));
    assert_eq!(chatglm2.choices, [Choice { at: 3, node: 0, gold: 1 }]);

    let chatglm = example(AnswerForm::Chatglm, "{{ text }}[Classification]");
    assert_eq!(chatglm.tokens, [text.clone(), vec![GMASK, SOP], answer.clone()].concat());
    assert_eq!((chatglm.span_ends, chatglm.positions), (vec![2, 2, 3, 4], vec![0, 1, 1, 1]));
    assert_eq!(chatglm.block_positions, [0, 0, 1, 2]);
    assert_eq!(chatglm.choices, [Choice { at: 3, node: 0, gold: 1 }]);

    let within = example(AnswerForm::Chatglm, "[Classification]{{ text }}");
    assert_eq!(within.tokens, [vec![MASK], text, vec![SOP], answer].concat());
    assert_eq!((within.positions, within.block_positions), (vec![0, 1, 0, 0], vec![0, 0, 1, 2]));
}

#[test]
fn nothing_stands_after_an_answer_that_comes_last() {
    let classifier = classifier_of(AnswerForm::Causal, "[Classification]{{ text }}", 64, json!({})).unwrap();
    assert!(classifier.example(&row(&[("text", " ")]), 0, 0).is_ok());
    let told = message(classifier.example(&row(&[("text", "好")]), 0, 0));
    assert!(told.contains("put the marker at the end"), "{told}");
}

proptest! {
    #[test]
    fn label_probabilities_sum_to_one(words in prop::collection::hash_set(prop::collection::vec(20_u32..24, 1..5), 2..12), seed: u64) {
        let names: Vec<String> = (0..words.len()).map(|index| index.to_string()).collect();
        let labels = Labels::new(names.iter().map(String::as_str).zip(words.into_iter()).collect(), SPECIALS.eop).unwrap();
        let mut stream = pipe::support::random::Key::new(seed).stream();
        let log_softmax = |candidates: usize, stream: &mut pipe::support::random::Stream| -> Vec<f64> {
            let weights: Vec<f64> = (0..candidates).map(|_| stream.f64() + 0.01).collect();
            let total: f64 = weights.iter().sum();
            weights.iter().map(|weight| (weight / total).ln()).collect()
        };
        let nodes: Vec<Vec<f64>> = labels.nodes().iter().map(|node| log_softmax(node.candidates.len(), &mut stream)).collect();
        let scores = labels.score(&nodes);
        prop_assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-9);

        let mut visited: Vec<u32> = labels.cover().iter().flat_map(|path| &path.choices).map(|choice| choice.node).collect();
        visited.sort_unstable();
        prop_assert_eq!(visited, (0..labels.nodes().len() as u32).collect::<Vec<_>>());
        for path in (0..names.len()).map(|label| labels.path(label)).chain(labels.cover()) {
            prop_assert!(path.choices.iter().all(|choice| choice.at as usize <= path.tokens.len()));
            prop_assert!(path.tokens.len() <= labels.depth());
        }
    }

    #[test]
    fn long_values_are_shortened_and_the_prompt_is_kept(first in "[a-z]{0,60}", second in "[a-z]{0,60}", max_length in 24_usize..80) {
        let classifier = classifier("问：{{ a }}答：{{ b }}？[Classification]。", max_length, json!({})).unwrap();
        let example = classifier.example(&row(&[("a", &first), ("b", &second)]), 0, 0).unwrap();
        let whole = first.len() + second.len() + 10;
        prop_assert!(example.tokens.len() <= max_length);
        // Values of equal length are shortened together, so that a token may be left over.
        prop_assert!(example.tokens.len() + 1 >= whole.min(max_length));
        let text: String = example.tokens.iter().filter_map(|&token| char::from_u32(token)).collect();
        let (a, b) = text.split_once("答：").unwrap();
        let a = a.split_once("问：").unwrap().1;
        let b = b.split_once('？').unwrap().0;
        prop_assert!(first.starts_with(a) && second.starts_with(b));
        if a.len() < first.len() {
            prop_assert!(a.len() >= b.len());
        }
        if b.len() < second.len() {
            prop_assert!(b.len() >= a.len());
        }
    }
}

#[test]
fn a_prompt_that_does_not_fit_by_itself_is_an_error() {
    let classifier = classifier("一二三四五六七八{{ text }}[Classification]", 10, json!({})).unwrap();
    assert_eq!(
        message(classifier.example(&row(&[("text", "x")]), 0, 0)),
        "the template's own words take 8 tokens, but max_length leaves room for 6"
    );
}

#[test]
fn the_marker_in_a_row_is_text() {
    let classifier = classifier("{{ text }}[Classification]", 64, json!({})).unwrap();
    let example = classifier.example(&row(&[("text", "[Classification]")]), 0, 0).unwrap();
    assert_eq!(example.tokens, [vec![CLS], ids("[Classification]"), vec![MASK, SEP, SOP]].concat());
}

#[test]
fn templates_are_checked() {
    let error = |template: &str| message(classifier(template, 64, json!({})));
    assert_eq!(error("{{ text }}"), "the template lacks the marker [Classification], where the answer goes");
    assert_eq!(
        error("[Classification][Classification]"),
        "the template has the marker [Classification] more than once"
    );
    assert!(error("{{ text [Classification]").starts_with("the template is wrong: syntax error"));

    let repeated = classifier("{% for x in [1, 2] %}[Classification]{% endfor %}", 64, json!({})).unwrap();
    assert!(message(repeated.example(&row(&[]), 0, 0)).contains("more than once"));
    let functions =
        classifier("{% for x in range(2) %}{{ b }}{{ a }}{% endfor %}[Classification]", 64, json!({})).unwrap();
    assert_eq!(functions.columns(), ["b", "a"]);
    let endless = classifier(
        "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}[Classification]",
        64,
        json!({}),
    )
    .unwrap();
    assert!(message(endless.example(&row(&[]), 0, 0)).starts_with("failed to fill in the template"));
}

#[test]
fn a_missing_column_is_named() {
    let classifier = classifier("{{ title }}{{ body }}[Classification]", 64, json!({})).unwrap();
    let missing = row(&[("title", "x")]);
    assert_eq!(
        message(classifier.example(&missing, 0, 0)),
        "the template uses the column `body`, which the data doesn't have"
    );
    assert_eq!(message(classifier.label(&missing)), "the data has no column `label` for the label");
}

#[test]
fn a_label_without_a_word_is_named() {
    let classifier = classifier("[Classification]", 64, json!({"label": "y"})).unwrap();
    assert_eq!(classifier.label(&row(&[("y", "1")])).unwrap(), 1);
    assert_eq!(message(classifier.label(&row(&[("y", "2")]))), "label `2` has no word; there are words for 0, 1");
}

#[test]
fn words_that_cannot_be_told_apart_are_refused() {
    let error = |words: Value| message(classifier("[Classification]", 64, json!({"words": words})));
    assert_eq!(
        error(json!({"a": "好", "b": "好"})),
        "the words of the labels `a` and `b` are the same tokens, so they can't be told apart"
    );
    assert_eq!(error(json!({"a": "好", "b": ""})), "the word of label `b` is empty");
}

#[test]
fn a_linear_head_reads_the_text() {
    let classifier = classifier("{{ a }}[Classification]|{{ b }}", 64, json!({"head": "linear"})).unwrap();
    let pair = row(&[("a", "甲"), ("b", "乙"), ("c", "丙")]);
    let example = classifier.example(&pair, 1, 2).unwrap();
    assert_eq!(example.tokens, [vec![CLS], ids("甲|乙"), vec![SEP]].concat());
    assert_eq!((example.class, example.span_ends), (Some(1), vec![5; 5]));
    assert_eq!(classifier.inference(&pair, 2).unwrap()[0].class, None);
    assert_eq!((classifier.nodes().len(), classifier.score(&[vec![0.0, f64::NEG_INFINITY]])), (0, vec![1.0, 0.0]));
}

#[test]
fn a_rows_text_is_what_the_template_takes_from_it() {
    let classifier = classifier("{{ b|trim }}{% if a %}{{ a }}{% endif %}[Classification]", 64, json!({})).unwrap();
    assert_eq!(classifier.text(&row(&[("a", "甲"), ("b", " 乙"), ("c", "丙")])).unwrap(), " 乙\t甲");
}

#[test]
fn rows_are_fed_once_an_epoch() {
    let classifier = classifier("{{ text }}[Classification]", 64, json!({})).unwrap();
    let examples: Vec<_> =
        (0..10).map(|id| classifier.example(&row(&[("text", &id.to_string())]), 0, id).unwrap()).collect();
    let train = spec(json!({"lr": 0.1, "epochs": 2, "batch": {"examples": 4}}));
    let feed = RowFeed::new("classification", examples, &train, 1, Layout::Rows { width: 64, packing: true }).unwrap();
    assert_eq!((feed.steps(), feed.epoch_steps()), (6, 3));
    let rows = |steps: std::ops::Range<usize>| {
        let batches = steps.flat_map(|step| feed.step(step).unwrap().batches);
        let mut texts: Vec<u32> = batches
            .flat_map(|batch| {
                batch.examples.iter().map(|span| batch.tokens[span.start as usize + 1]).collect::<Vec<_>>()
            })
            .collect();
        texts.sort_unstable();
        texts
    };
    assert_eq!(rows(0..3), ids("0123456789"));
    assert_eq!(rows(3..6), ids("0123456789"));
    assert!(feed.step(6).is_err());
    assert_eq!(
        message(RowFeed::new("classification", vec![], &train, 1, Layout::Ragged)),
        "there are no rows to learn from"
    );
}

#[test]
fn generation_goes_on_as_it_was_taught() {
    let after = |form, prompt: &[u32]| {
        let mut example = continuation(form, prompt, 64, &SPECIALS).unwrap();
        feed(&mut example, &[30]);
        example
    };
    let glm = after(AnswerForm::Infilling, &[20, 21]);
    assert_eq!(glm.tokens, [CLS, 20, 21, SPECIALS.gmask, SOP, 30]);
    assert_eq!(glm.positions, [0, 1, 2, 3, 3, 3]);
    assert_eq!(glm.block_positions, [0, 0, 0, 0, 1, 2]);
    assert_eq!(glm.span_ends, [4, 4, 4, 4, 5, 6]);

    let prefix = after(AnswerForm::Prefix, &[20, 21]);
    assert_eq!((prefix.tokens, prefix.span_ends), (vec![CLS, 20, 21, 30], vec![3, 3, 3, 4]));
    let causal = after(AnswerForm::Causal, &[20, 21]);
    assert_eq!((causal.tokens, causal.span_ends), (vec![CLS, 20, 21, 30], vec![1, 2, 3, 4]));
}

#[test]
fn a_prompt_that_is_too_long_loses_its_beginning() {
    let glm = continuation(AnswerForm::Infilling, &[20, 21, 22], 5, &SPECIALS).unwrap();
    assert_eq!(glm.tokens, [CLS, 21, 22, SPECIALS.gmask, SOP]);
    assert!(continuation(AnswerForm::Infilling, &[20], 2, &SPECIALS).is_err());
}

#[test]
fn blanks_are_filled_one_after_the_other() {
    let Specials { mask, gmask, smask, sep, .. } = SPECIALS;
    let (mut glm, places) = blanks(AnswerForm::Infilling, &[20, mask, 21, smask, gmask], &SPECIALS);
    assert_eq!((&glm.tokens[..], &places[..]), (&[CLS, 20, mask, 21, smask, gmask, sep][..], &[2, 4, 5][..]));
    begin(&mut glm, places[0], &SPECIALS);
    feed(&mut glm, &[30, 31]);
    begin(&mut glm, places[1], &SPECIALS);
    feed(&mut glm, &[32]);
    assert_eq!(glm.tokens[7..], [SOP, 30, 31, SOP, 32]);
    assert_eq!(glm.positions, [0, 1, 2, 3, 4, 5, 6, 2, 2, 2, 4, 4]);
    assert_eq!(glm.block_positions, [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 1, 2]);
    assert_eq!(glm.span_ends, [7, 7, 7, 7, 7, 7, 7, 8, 9, 10, 11, 12]);
    assert_eq!(blanks(AnswerForm::Chatglm, &[20, gmask], &SPECIALS).0.tokens, [20, gmask]);
}
