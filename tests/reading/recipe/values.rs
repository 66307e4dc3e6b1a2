//! What becomes of a recipe's values: expressions, overrides, secrets, and the part of a stage that makes its key.

use std::path::Path;
use std::time::Instant;

use pipe::recipe::paths::resolve_path;
use pipe::recipe::walk::{file_fields, stage_fields};
use pipe::recipe::{Checked, DataFiles, Diagnostics, Document, Overrides};
use pipe::spec::{Batch, Finetune, Pretrain, Product, Source, Task};
use pipe::stages::catalog;
use serde_json::{Value, json};

pub(super) const RECIPE: &str = "\
vars:
  width: 64
  rate: 1e-3
  double: \"{{ width * 2 }}\"
  text: [title, body]
  objectives: [{masked_lm: {}}]
stages:
  tokens:
    tokenize:
      tokenizer: {bpe: {vocab_size: 900}}
      corpus:
        - {path: Cargo.toml, format: txt}
        - {path: \"Cargo.{{ 'lo' ~ 'ck' }}\", format: txt, document: line}
  base:
    pretrain:
      tokens: tokens
      model: {glm: {hidden: \"{{ double }}\", layers: 2, heads: 4}}
      objectives: \"{{ objectives }}\"
      train: {steps: 1e2, lr: \"{{ rate / 2 }}\", batch: {tokens: 512}, warmup_steps: null, log_every: 7}
  topic:
    finetune:
      from: base
      data: {train: {path: Cargo.toml, format: tsv}}
      task:
        classification:
          words: {b: two, a: one, 10: ten}
          template: \"{{ text }} [Classification]\"
      train: {epochs: 1, lr: 5e-4}
sweep:
  grid:
    stages.topic.train.lr: [1e-4, 3e-4]
    stages.base.train.seed: [1, 2]
";

fn unknown(_: &Source, _: &DataFiles) -> Option<Vec<String>> {
    None
}

fn document(text: &str) -> Document {
    Document::parse(Path::new("recipe.yaml"), text, catalog()).expect("YAML")
}

pub(super) fn check(text: &str, vars: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<Checked, Diagnostics> {
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    document(text).check(&Overrides { vars: own(vars), sets: own(sets) }, &unknown)
}

pub(super) fn good(text: &str, vars: &[(&str, &str)], sets: &[(&str, &str)]) -> Checked {
    check(text, vars, sets).unwrap_or_else(|problems| panic!("{problems}"))
}

fn at(checked: &Checked, pointer: &str) -> Value {
    let recipe = serde_json::to_value(&checked.recipe).expect("a recipe is JSON");
    recipe.pointer(&format!("/{}", pointer.replace('.', "/"))).cloned().unwrap_or_default()
}

#[test]
fn a_lone_expression_keeps_its_type_and_others_make_text() {
    let checked = good(RECIPE, &[], &[]);
    assert_eq!(at(&checked, "stages.base.pretrain.model.glm.hidden"), json!(128));
    assert_eq!(at(&checked, "stages.base.pretrain.train.lr"), json!(0.0005));
    assert_eq!(at(&checked, "stages.base.pretrain.objectives.0.masked_lm.mask"), json!(0.8));
    assert_eq!(at(&checked, "stages.tokens.tokenize.corpus.1.path"), json!("Cargo.lock"));
    assert_eq!(at(&checked, "stages.base.pretrain.train.steps"), json!(100));
}

#[test]
fn templates_over_rows_are_left_alone() {
    let checked = good(RECIPE, &[], &[]);
    assert_eq!(
        at(&checked, "stages.topic.finetune.task.classification.template"),
        json!("{{ text }} [Classification]")
    );
}

#[test]
fn var_flags_are_scalars_and_reach_the_vars_that_use_them() {
    let checked = good(RECIPE, &[("width", "32"), ("rate", "0.5")], &[]);
    assert_eq!(at(&checked, "stages.base.pretrain.model.glm.hidden"), json!(64));
    assert_eq!(at(&checked, "stages.base.pretrain.train.lr"), json!(0.25));
}

#[test]
fn set_reaches_through_kinds_lists_expressions_and_keys_that_are_not_there() {
    let checked = good(
        RECIPE,
        &[],
        &[
            ("stages.base.train.lr", "2e-3"),
            ("stages.base.pretrain.train.dropout", "0.3"),
            ("stages.base.model.layers", "3"),
            ("stages.base.objectives.0.masked_lm.mask", "0.7"),
            ("stages.base.train.batch.examples", "16"),
            ("stages.tokens.corpus.0.document", "file"),
            ("stages.topic.train.early_stopping", "null"),
            ("stages.topic.task.words.a", "eins"),
            ("vars.double", "24"),
            ("seed", "9"),
        ],
    );
    let base: Pretrain = checked.recipe.stages["base"].settings_as().expect("a pretrain stage");
    let glm = base.model.expect("a model").settings;
    assert_eq!(
        (base.train.lr, base.train.dropout, &glm["layers"], &glm["hidden"]),
        (2e-3, Some(0.3), &json!(3), &json!(24))
    );
    assert_eq!(base.train.batch, Batch::Examples(16));
    assert_eq!(base.objectives[0].parts[0].settings["mask"], json!(0.7));
    assert_eq!(at(&checked, "stages.tokens.tokenize.corpus.0.document"), json!("file"));
    assert_eq!(at(&checked, "stages.topic.finetune.task.classification.words.a"), json!("eins"));
    assert_eq!(checked.recipe.seed, 9);
}

#[test]
fn stages_and_grid_keep_their_order_and_words_are_sorted() {
    let checked = good(RECIPE, &[], &[]);
    assert_eq!(checked.recipe.stages.keys().collect::<Vec<_>>(), ["tokens", "base", "topic"]);
    let sweep = checked.recipe.sweep.as_ref().expect("a sweep");
    assert_eq!(sweep.grid.keys().collect::<Vec<_>>(), ["stages.topic.train.lr", "stages.base.train.seed"]);
    let topic: Finetune = checked.recipe.stages["topic"].settings_as().expect("a finetune stage");
    let Task::Classification(task) = &topic.task else { panic!("labels") };
    assert_eq!(task.words.keys().collect::<Vec<_>>(), ["10", "a", "b"]);
}

#[test]
fn order_follows_references_and_otherwise_the_recipe() {
    let text = "\
stages:
  late: {pretrain: {tokens: tokens, from: early, objectives: [{masked_lm: {}}], train: {steps: 1, lr: 1}}}
  other: {tokenize: {tokenizer: {file: Cargo.toml}}}
  early: {pretrain: {tokens: tokens, model: {glm: {hidden: 4, layers: 1, heads: 1}}, \
objectives: [{masked_lm: {}}], train: {steps: 1, lr: 1}}}
  tokens: {tokenize: {tokenizer: {bpe: {vocab_size: 300}}, corpus: [{path: Cargo.toml, format: txt}]}}
";
    assert_eq!(good(text, &[], &[]).order, ["other", "tokens", "early", "late"]);
}

#[test]
fn canonical_has_no_names_of_files_and_stages_no_free_fields_and_no_defaults() {
    let checked = good(RECIPE, &[], &[]);
    assert_eq!(
        checked.canonical("tokens"),
        Some(json!({
            "tokenizer": {"bpe": {"vocab_size": 900}},
            "corpus": [{"format": "txt"}, {"format": "txt", "document": "line"}],
        }))
    );
    assert_eq!(
        checked.canonical("base"),
        Some(json!({
            "model": {"glm": {"hidden": 128, "layers": 2, "heads": 4}},
            "objectives": [{"masked_lm": {}}],
            "train": {"steps": 100, "lr": 0.0005, "batch": {"tokens": 512}},
        }))
    );
    assert_eq!(checked.canonical("nothing"), None);
}

#[test]
fn described_has_the_defaults() {
    let described = good(RECIPE, &[], &[]).described("base").expect("a stage");
    assert_eq!(described["train"]["weight_decay"], json!(0.01));
    assert_eq!(described["objectives"][0]["masked_lm"]["probability"], json!(0.15));
    assert_eq!(described["train"].get("log_every"), None);
    assert_eq!(described.get("tokens"), None);
}

#[test]
fn defaults_written_out_change_nothing() {
    let plain = good(RECIPE, &[], &[]);
    let written = good(
        RECIPE,
        &[],
        &[
            ("stages.base.train.dropout", "0.1"),
            ("stages.base.train.schedule", "linear"),
            ("stages.base.train.beta2", "0.999"),
            ("stages.base.train.max_length", "128"),
            ("stages.base.train.log_every", "1"),
            ("stages.base.objectives.0.masked_lm.whole_word", "false"),
        ],
    );
    assert_eq!(plain.canonical("base"), written.canonical("base"));
}

#[test]
fn fields_with_files_and_stages_are_found_with_their_pointers() {
    let checked = good(RECIPE, &[], &[]);
    let files = |name: &str| -> Vec<(String, String)> {
        file_fields(catalog(), &checked.recipe.stages[name])
            .into_iter()
            .map(|field| (field.pointer, field.pattern))
            .collect()
    };
    assert_eq!(
        files("tokens"),
        [("corpus.0.path".into(), "Cargo.toml".into()), ("corpus.1.path".into(), "Cargo.lock".into())]
    );
    assert_eq!(files("topic"), [("data.train.path".into(), "Cargo.toml".into())]);
    let stages = stage_fields(catalog(), &checked.recipe.stages["topic"]);
    assert_eq!(stages.len(), 1);
    assert_eq!((stages[0].pointer.as_str(), stages[0].name.as_str()), ("from", "base"));
    assert_eq!(stages[0].product, Product::Model);
}

#[test]
fn paths_are_files_directories_or_globs_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    fs_err::create_dir_all(root.join("data/deep")).expect("folders");
    for name in ["b.txt", "a.txt", "c.tsv", ".hidden.txt", "deep/d.txt"] {
        fs_err::write(root.join("data").join(name), "").expect("a file");
    }
    let found = |pattern: &str| -> Vec<String> {
        let files = resolve_path(pattern, root).expect("files");
        files.iter().map(|file| file.strip_prefix(root).unwrap_or(file).display().to_string()).collect()
    };
    assert_eq!(found("data/b.txt"), ["data/b.txt"]);
    assert_eq!(found("data/*.txt"), ["data/a.txt", "data/b.txt"]);
    assert_eq!(found("data"), ["data/a.txt", "data/b.txt", "data/c.tsv"]);
    assert_eq!(found("data/**/d.*"), ["data/deep/d.txt"]);
    assert_eq!(found("data/{a,c}.*"), ["data/a.txt", "data/c.tsv"]);
    // Not in the recipe's folder, but in the working directory, that of the tests.
    assert_eq!(found("Cargo.toml"), ["Cargo.toml"]);
    assert!(
        resolve_path("data/*.parquet", root)
            .is_err_and(|error| error.to_string() == "no file matches `data/*.parquet`")
    );
}

#[test]
fn findings_in_the_data_are_told_at_their_place_in_the_recipe() {
    let checked = good(RECIPE, &[], &[]);
    let problem = checked.diagnose(
        "stages.topic.task.classification.words",
        "the label `c` in line 3 of `train.tsv` has no word",
        "add `c: …`".to_owned(),
    );
    insta::assert_snapshot!(problem, @r"
    error: the label `c` in line 3 of `train.tsv` has no word
      --> recipe.yaml:26:11
       |
    26 |           words: {b: two, a: one, 10: ten}
       |           ^^^^^
       |
       = hint: add `c: …`

    1 error in recipe.yaml
    ");
    assert_eq!(checked.place("stages.topic.train.lr"), (28, 30));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() {
    let text = format!("\u{feff}{}", RECIPE.replace('\n', "\r\n"));
    let checked = good(&text, &[], &[]);
    assert_eq!(checked.place("stages.topic.train.lr"), (28, 30));
    let problems = check(&text.replace("vars:", "varz:"), &[], &[]).expect_err("a mistake");
    assert_eq!(problems.place(&problems.list()[0]), Some((1, 1)));
}

#[test]
fn merge_keys_fill_in_what_is_not_given() {
    let text = RECIPE
        .replace("train: {epochs: 1, lr: 5e-4}", "train: {<<: *train, lr: 5e-4}")
        .replace("train: {steps: 1e2, lr", "train: &train {steps: 1e2, lr");
    let checked = good(&text, &[], &[]);
    assert_eq!(at(&checked, "stages.topic.finetune.train.lr"), json!(5e-4));
    assert_eq!(at(&checked, "stages.topic.finetune.train.steps"), json!(100));
}

#[test]
fn colours_are_only_in_what_is_rendered_for_a_terminal() {
    let problems = check("stages: {}", &[], &[]).expect_err("a mistake");
    let plain = problems.to_string();
    assert!(!plain.contains('\u{1b}'));
    let coloured = problems.render(true);
    assert!(coloured.starts_with('\u{1b}'), "{coloured:?}");
    let without: String = coloured
        .split('\u{1b}')
        .map(|part| part.split_once('m').filter(|_| part.starts_with('[')).map_or(part, |at| at.1))
        .collect();
    assert_eq!(without, plain);
}

#[test]
fn a_recipe_of_ten_stages_is_checked_within_five_milliseconds() {
    let mut text = RECIPE.to_owned();
    let sweep = text.split_off(text.find("sweep:").expect("a sweep"));
    let finetune = text[text.find("  topic:").expect("a stage")..].to_owned();
    for number in 0..8 {
        text += &finetune.replace("topic", &format!("topic{number}"));
    }
    text += &sweep;
    let document = document(&text);
    // The schema is made once a process.
    document.check(&Overrides::default(), &unknown).expect("a good recipe");
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            let document = self::document(&text);
            document.check(&Overrides::default(), &unknown).expect("a good recipe");
            start.elapsed()
        })
        .min();
    assert!(best.is_some_and(|best| best.as_micros() < 5_000), "{best:?}");
    let start = Instant::now();
    for cell in 0..100 {
        let sets = vec![("stages.topic.train.lr".into(), format!("{cell}e-5"))];
        document.check(&Overrides { sets, ..Overrides::default() }, &unknown).expect("a good recipe");
    }
    let cells = start.elapsed();
    eprintln!("reading and checking {best:?}, a cell of a sweep {:?}", cells / 100);
    assert!(cells.as_millis() < 500, "{cells:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Whatever is cut out of a recipe or put into it: mistakes are reported, and nothing panics.
    #[test]
    fn no_text_makes_the_checker_panic(
        at in 0..RECIPE.len(),
        cut in 0..40_usize,
        junk in "[ \\t\\n\\-:{}\\[\\]\"'&*!|>%@`#,?a0.词\u{feff}]{0,12}",
    ) {
        let end = (at + cut).min(RECIPE.len());
        let text = format!("{}{junk}{}", &RECIPE[..at], &RECIPE[end..]);
        if let Ok(document) = Document::parse(Path::new("recipe.yaml"), &text, catalog()) {
            match document.check(&Overrides::default(), &unknown) {
                Ok(checked) => assert_eq!(checked.order.len(), checked.recipe.stages.len()),
                Err(problems) => assert!(!problems.to_string().is_empty() && !problems.list().is_empty()),
            }
        }
    }
}

#[test]
fn old_name_of_successive_halving_is_read_with_a_note() {
    let read = |name: &str| {
        let text = format!("{RECIPE}  {name}: {{ rungs: 1 }}\n  maximize: stages.topic.metrics.dev_accuracy\n");
        let dev = ("stages.topic.data.dev", "{path: Cargo.toml, format: tsv}");
        let checked = good(&text, &[], &[dev, ("stages.topic.train.epochs", "9")]);
        let halving = checked.recipe.sweep.as_ref().and_then(|sweep| sweep.halving()).expect("successive halving");
        (halving.rungs, halving.reduction, checked.notes())
    };
    assert_eq!(read("successive_halving"), (1, 3, Vec::new()));
    let (rungs, reduction, notes) = read("asha");
    assert_eq!((rungs, reduction), (1, 3));
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.starts_with("recipe.yaml:33:3: `asha` is called `successive_halving` now"), "{note}");
}
