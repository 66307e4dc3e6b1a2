//! Templates of classifiers: special tokens that they name, the segments of pairs, and what is cut of long rows.

use anyhow::Result;
use pipe::{learning::objectives::AnswerForm, network::batch::Example};
use serde_json::{Value, json};

use super::classification::{CLS, MASK, SEP, SOP, classifier_of, ids, message, row};
use crate::common::objectives::SPECIALS;

/// The ids that stand for a template's text where special tokens are named in it.
fn example_of(form: AnswerForm, template: &str, settings: Value, columns: &[(&str, &str)]) -> Result<Example> {
    let classifier = classifier_of(form, template, 64, settings)?.with_segments(2);
    let classifier = classifier.with_entries(|name| (name == "<|user|>").then_some(77));
    classifier.example(&row(columns), 1, 0)
}

#[test]
fn templates_name_special_tokens_and_rows_never_become_any() {
    let text = "[SEP]{{ sep }}\u{FDD1}sep\u{FDD3}<|user|>";
    let template = "[MASK]{{ text }}{{ mask }}{{ token(\"<|user|>\") }}{{ eop }}{{ sop }}[Classification]";
    let found = example_of(AnswerForm::Infilling, template, json!({}), &[("text", text)]).unwrap();
    // Of the row all characters but the three that are none.
    let own = ids("[MASK][SEP]{{ sep }}sep<|user|>");
    let named = vec![MASK, 77, SPECIALS.eop, SOP];
    assert_eq!(found.tokens, [vec![CLS], own, named, vec![MASK, SEP, SOP]].concat());
    assert_eq!(found.segments, [0_u32; 0], "GLM has no segments");
    let linear = json!({ "head": "linear" });
    let found =
        example_of(AnswerForm::Cloze, "{{ a }}{{ sep }}{{ b }}{{ sep }}c", linear.clone(), &[("a", "xy"), ("b", "z")]);
    let found = found.unwrap();
    assert_eq!(found.tokens, [vec![CLS], ids("xy"), vec![SEP], ids("z"), vec![SEP], ids("c"), vec![SEP]].concat());
    assert_eq!(found.segments, [0, 0, 0, 0, 1, 1, 1, 1]);
    let unknown = example_of(AnswerForm::Cloze, "{{ token('<|robot|>') }}", linear, &[]);
    assert!(message(unknown).contains("asks for the token `<|robot|>`, which this tokenizer lacks"));
}

/// `BertTokenizer("…", "…")` of transformers 4.57 gives the ids `[CLS] A [SEP] B [SEP]` with `token_type_ids` 0 up to the
/// first `[SEP]`, and 1 from then on.
#[test]
fn pairs_have_the_segments_that_bert_was_taught() {
    let pair = |template: &str, settings| {
        let found = example_of(AnswerForm::Cloze, template, settings, &[("a", "甲乙"), ("b", "丙")]).unwrap();
        (found.tokens, found.segments)
    };
    let linear = json!({ "head": "linear" });
    let (tokens, segments) = pair("{{ a }}{{ sep }}{{ b }}", linear.clone());
    assert_eq!(tokens, [vec![CLS], ids("甲乙"), vec![SEP], ids("丙"), vec![SEP]].concat());
    assert_eq!(segments, [0, 0, 0, 0, 1, 1]);
    assert_eq!(pair("{{ a }}{{ b }}", linear).1, [0_u32; 0]);
    // The masks of the answer, two for words of two tokens, before and behind the end of the first segment.
    let words = json!({ "words": { "0": "坏的", "1": "好" } });
    let (tokens, segments) = pair("{{ a }}[Classification]{{ sep }}{{ b }}", words.clone());
    assert_eq!(tokens, [vec![CLS], ids("甲乙"), vec![MASK, MASK, SEP], ids("丙"), vec![SEP]].concat());
    assert_eq!(segments, [0, 0, 0, 0, 0, 0, 1, 1]);
    let (tokens, segments) = pair("{{ a }}{{ sep }}[Classification]{{ b }}", words);
    assert_eq!(tokens, [vec![CLS], ids("甲乙"), vec![SEP, MASK, MASK], ids("丙"), vec![SEP]].concat());
    assert_eq!(segments, [0, 0, 0, 0, 1, 1, 1, 1]);
}

#[test]
fn a_template_may_have_columns_that_are_called_as_special_tokens_are() {
    let linear = json!({ "head": "linear" });
    let columns = [("sep", "分"), ("token", "令"), ("row", "行")];
    let tokens = |template: &str| example_of(AnswerForm::Cloze, template, linear.clone(), &columns).unwrap().tokens;
    assert_eq!(
        tokens("{{ row.sep }}{{ sep }}{{ token }}"),
        [vec![CLS], ids("分"), vec![SEP], ids("令"), vec![SEP]].concat()
    );
    assert_eq!(tokens("{{ row }}"), [vec![CLS], ids("行"), vec![SEP]].concat());
    let classifier = classifier_of(AnswerForm::Cloze, "{{ b }}{{ row.a }}{{ sep }}", 64, linear).unwrap();
    assert_eq!(classifier.columns(), ["b", "a"]);
}

#[test]
fn long_rows_are_cut_and_told_and_the_templates_tokens_stay() {
    let classifier =
        classifier_of(AnswerForm::Cloze, "{{ a }}{{ sep }}{{ b }}", 8, json!({ "head": "linear" })).unwrap();
    let prompt = |a: &str, b: &str| classifier.prompt(&row(&[("a", a), ("b", b)])).unwrap();
    assert!(!prompt("一二", "三四五").cut);
    let cut = prompt("一二三四五", "六七");
    assert_eq!((cut.cut, cut.before), (true, [ids("一二三"), vec![SEP], ids("六七")].concat()));
}
