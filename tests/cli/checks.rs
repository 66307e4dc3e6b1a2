//! `pipe check` on what shows in the data only: words that the tokenizer doesn't tell apart, labels without rows, a warm-up
//! that never ends, corpora without pairs; and what is recorded of the rows in the end.

use crate::common;
use arrow::{array::AsArray, datatypes::UInt32Type};
use common::{Space, TINY, tiny};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

/// What `check` says of the tiny recipe with some parts exchanged, and its exit status.
fn checked(space: &Space, changes: &[(&str, &str)]) -> (i32, String) {
    // Of the test rows two are learned, which is warned of.
    let clean = TINY.replace("test.tsv", "dev.tsv");
    let recipe = changes.iter().fold(clean, |recipe, (from, to)| {
        assert!(recipe.contains(from), "{from}");
        recipe.replace(from, to)
    });
    space.write("changed.yaml", recipe);
    let output = space.pipe(&["check", "changed.yaml"]);
    (output.status, output.stderr)
}

#[test]
fn words_that_the_tokenizer_does_not_tell_apart_are_a_mistake_and_unknown_ones_a_warning() {
    let space = tiny();
    let words = |words: &str| checked(&space, &[("{ 甲: 体育, 乙: 美食 }", words)]);
    assert_eq!(words("{ 甲: 体育, 乙: 美食 }"), (0, String::new()));
    let (status, said) = words("{ 甲: 𠮷, 乙: 㐀 }");
    assert_eq!(status, 2);
    assert!(said.contains("the words `㐀` and `𠮷` become the same tokens"), "{said}");
    assert!(said.contains("knows neither, and has [UNK] for both"), "{said}");
    let (status, said) = words("{ 甲: 体育, 乙: 美㐀 }");
    assert_eq!(status, 0);
    assert!(said.contains("the tokenizer doesn't know all of the word `美㐀`, and has [UNK] for it"), "{said}");
    assert!(said.contains("warning") && said.contains("changed.yaml:21:"), "{said}");
    let result = space.json(&["check", "changed.yaml"]);
    assert_eq!((&result["ok"], &result["warnings"][0]["line"]), (&json!(true), &json!(21)));
    // A tokenizer of bytes knows everything.
    let bpe = [
        ("wordpiece: { vocab_size: 300 }", "bpe: { vocab_size: 320 }"),
        ("{ 甲: 体育, 乙: 美食 }", "{ 甲: 𠮷, 乙: 㐀 }"),
    ];
    assert_eq!(checked(&space, &bpe), (0, String::new()));
    // A linear head takes no words.
    let linear = [("words: { 甲: 体育, 乙: 美食 }", "head: linear\n          words: { 甲: 𠮷, 乙: 㐀 }")];
    assert_eq!(checked(&space, &linear), (0, String::new()));
}

#[test]
fn words_are_held_against_a_tokenizer_that_exists() {
    let space = tiny();
    space.make_checkpoint("recipe.yaml", "base");
    let from = ("      from: base\n", "      from: { checkpoint: model }\n");
    assert_eq!(checked(&space, &[from]), (0, String::new()));
    let (status, said) = checked(&space, &[from, ("{ 甲: 体育, 乙: 美食 }", "{ 甲: 𠮷, 乙: 㐀 }")]);
    assert!(status == 2 && said.contains("become the same tokens"), "{said}");
    let (status, said) = checked(&space, &[from, ("{ 甲: 体育, 乙: 美食 }", "{ 甲: Aa, 乙: aA }")]);
    assert!(status == 2 && said.contains("the words `aA` and `Aa` become the same tokens"), "{said}");
}

#[test]
fn labels_without_rows_are_warned_of() {
    let space = tiny();
    let words = ("{ 甲: 体育, 乙: 美食 }", "{ 甲: 体育, 乙: 美食, 丙: 汤 }");
    let (status, said) = checked(&space, &[words]);
    assert_eq!(status, 0);
    assert!(said.contains("no training row has the label `丙`") && said.contains("changed.yaml:21:"), "{said}");
    let output = space.pipe(&["run", "changed.yaml"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("no training row has the label `丙`"), "{}", output.stderr);
}

#[test]
fn a_warm_up_is_no_longer_than_the_training() {
    let space = tiny();
    let train = |train: &str| checked(&space, &[("epochs: 2, batch: { examples: 4 }", train)]);
    let rows = space.read("train.tsv").lines().count() - 1;
    let steps = 2 * rows.div_ceil(4);
    assert_eq!(train(&format!("epochs: 2, batch: {{ examples: 4 }}, warmup_steps: {steps}")), (0, String::new()));
    let (status, said) = train("epochs: 2, batch: { examples: 4 }, warmup_steps: 500");
    assert_eq!(status, 2);
    let expected =
        format!("the warm-up of 500 steps is longer than the training: 2 epochs of these rows are {steps} steps");
    assert!(said.contains(&expected), "{said}");
    // How many steps there are with batches of tokens shows when the rows are encoded.
    let tokens = "epochs: 2, batch: { tokens: 64 }, warmup_steps: 500";
    assert_eq!(train(tokens).0, 0);
    let output = space.pipe(&["run", "changed.yaml"]);
    assert!(
        output.status == 1 && output.stderr.contains("the warm-up of 500 steps is longer than the training"),
        "{}",
        output.stderr
    );
}

#[test]
fn corpora_of_single_sentences_have_no_pairs() {
    let space = tiny();
    let corpus = |document: &str, objective: &str| {
        let model = ("glm: { hidden: 16", "bert: { hidden: 16");
        let corpus = ("[{ path: corpus.txt }]", format!("[{{ path: lines.txt, document: {document} }}]"));
        let objectives = (
            "[{ masked_lm: {} }, { generative: { blank_infilling: {} } }]",
            format!("[{{ masked_lm: {{}}, {objective}: {{}} }}]"),
        );
        checked(&space, &[model, (corpus.0, &corpus.1), (objectives.0, &objectives.1)])
    };
    space.write("lines.txt", "球队赢了。\n面很好吃！\n\n体育，美食。\n");
    for objective in ["next_sentence", "sentence_order"] {
        let (status, said) = corpus("line", objective);
        assert_eq!(status, 2, "{said}");
        let expected =
            format!("`{objective}` needs documents of two sentences or more, and each of `tokens` is one sentence");
        assert!(said.contains(&expected) && said.contains("document: line"), "{said}");
        assert_eq!(corpus("paragraph", objective).0, 0);
    }
}

/// All rows of `predictions.parquet`: file, row and text.
fn predictions(space: &Space, result: &Value) -> Vec<(u32, u32, String)> {
    let key = result["stages"]["test"]["key"].as_str().expect("a key");
    let file = std::fs::File::open(space.path().join(".pipe/artifacts").join(key).join("predictions.parquet"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.expect("a file")).and_then(|builder| builder.build());
    let mut rows = Vec::new();
    for batch in reader.expect("Parquet") {
        let batch = batch.expect("a batch");
        let numbers = |name: &str| batch[name].as_primitive::<UInt32Type>().values().to_vec();
        let texts = batch["text"].as_string::<i32>();
        let texts = texts.iter().map(|text| text.expect("a text").to_owned());
        rows.extend(
            numbers("file").into_iter().zip(numbers("row")).zip(texts).map(|((file, row), text)| (file, row, text)),
        );
    }
    rows.sort();
    rows
}

/// `pandas.read_csv("1.csv").iloc[row - 1]` and so on are these rows: neither the header, nor empty lines, nor the second line
/// of a field count.
#[test]
fn rows_of_predictions_are_those_of_their_files() {
    let space = tiny();
    space.write("rows/1.csv", "text,label\n\"面很\n好吃\",乙\n\n球队赢了,甲\n多的,甲\n");
    space.write("rows/2.csv", "text,label\n球队赢了,甲\n汤很鲜,乙\n");
    space.write("recipe.yaml", TINY.replace("test.tsv", "rows/*.csv, limit: 2"));
    let result = space.json(&["run", "recipe.yaml"]);
    let expected = [(1, 1, "面很\n好吃"), (1, 2, "球队赢了"), (2, 1, "球队赢了"), (2, 2, "汤很鲜")];
    assert_eq!(predictions(&space, &result), expected.map(|(file, row, text)| (file, row, text.to_owned())));
}

#[test]
fn all_numbers_that_are_recorded_can_be_aimed_at() {
    let space = tiny();
    let more = "  held: { tokenize: { tokenizer: { stage: tokens }, corpus: [{ path: corpus.txt }] } }
  measured: { eval: { model: base, tokens: held } }
  chat:
    finetune:
      from: base
      data: { train: { path: chat.jsonl }, dev: { path: chat.jsonl } }
      task: { instruction: {} }
      train: { steps: 2, batch: { examples: 2 }, max_length: 48, lr: 1.0e-3 }
  answered: { eval: { model: chat, data: { path: chat.jsonl } } }
  out: { export: { model: base } }
";
    space.write(
        "chat.jsonl",
        "{\"prompt\": \"面\", \"response\": \"美食\"}\n{\"prompt\": \"球\", \"response\": \"体育\"}\n",
    );
    let recipe = TINY.to_owned() + more;
    space.write("recipe.yaml", &recipe);
    let result = space.json(&["run", "recipe.yaml"]);
    // A stage that a recipe doesn't write can't be named in it.
    let stages = result["stages"].as_object().expect("stages").iter().filter(|(stage, _)| !stage.contains('.'));
    for (stage, outcome) in stages {
        for (name, _) in outcome["metrics"].as_object().expect("metrics").iter().filter(|(_, value)| value.is_number())
        {
            let sweep = format!("sweep: {{ grid: {{ seed: [1, 2] }}, maximize: stages.{stage}.metrics.{name} }}\n");
            space.write("sweep.yaml", recipe.clone() + &sweep);
            let output = space.pipe(&["check", "sweep.yaml"]);
            assert_eq!(output.status, 0, "{stage}.{name}: {}", output.stderr);
        }
    }
}
