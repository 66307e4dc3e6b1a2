//! Text in recipes stays text: scalars where a text is wanted, a sweep's templates, metrics by name, and special tokens that
//! are spelt in templates.

use std::path::Path;

use pipe::{
    recipe::{Checked, Diagnostics, Document, Overrides},
    session::sweep::Space,
    spec::Source,
    stages::catalog,
};
use serde_json::{Value, json};

const RECIPE: &str = "\
vars: { v: 1.10, n: 3, flag: true, nil: ~, date: 2024-01-01, list: [1.10, 1.2], rate: 1e-3 }
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 800 } }
      corpus: [ { path: Cargo.toml, format: csv, text: [VALUE] } ]
  base:
    pretrain:
      tokens: tokens
      model: { bert: { hidden: 32, layers: 1, heads: 2, max_length: 64 } }
      objectives: [ { masked_lm: {} } ]
      train: { steps: 10, lr: \"{{ rate * 2 }}\", max_length: 32 }
  cls:
    finetune:
      from: base
      data: { train: { path: Cargo.toml, format: tsv }, dev: { path: Cargo.toml, format: tsv } }
      task: { classification: { label: label, template: \"{{ text }}[Classification]\", words: { a: one, b: two } } }
      train: { epochs: 1, lr: 1e-3, max_length: 32 }
  test:
    eval: { model: cls, data: { path: Cargo.toml, format: tsv } }
";

fn columns(_: &Source, _: &Path) -> Option<Vec<String>> {
    Some(["text", "label"].map(str::to_owned).into())
}

fn check(text: &str, vars: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<Checked, Diagnostics> {
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let document = Document::parse(Path::new("recipe.yaml"), text, catalog()).expect("YAML");
    document.check(&Overrides { vars: own(vars), sets: own(sets) }, &columns)
}

/// What becomes of a value under the corpus's `text`, whose column it would be.
fn as_text(value: &str, vars: &[(&str, &str)]) -> Value {
    let text = RECIPE.replace("VALUE", value);
    let document = Document::parse(Path::new("recipe.yaml"), &text, catalog()).expect("YAML");
    let vars = vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    // No columns are known, so that any name will do.
    let checked = document.check(&Overrides { vars, ..Overrides::default() }, &|_, _| None);
    let checked = checked.unwrap_or_else(|problems| panic!("{value}: {problems}"));
    checked.recipe.stages["tokens"].settings["corpus"][0]["text"][0].clone()
}

fn good(text: &str) -> Checked {
    check(text, &[], &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn recipe() -> String {
    RECIPE.replace("VALUE", "text")
}

#[test]
fn plain_scalars_are_the_text_that_is_written_where_a_text_is_wanted() {
    for written in [
        "1.10",
        "007",
        "1e3",
        "0x10",
        "0o17",
        "yes",
        "no",
        "on",
        "~",
        "null",
        "true",
        "False",
        "2024-01-01",
        "12:30:00",
        "1_000",
        ".5",
        "-0",
        ".inf",
        ".nan",
        "+1",
        "123456789012345678901234567890",
        "1.0",
        "9e99",
    ] {
        assert_eq!(as_text(written, &[]), json!(written));
        // Given on the command line, alone and within a text; and as a var's default.
        for (expression, expected) in [("{{ v }}", written.to_owned()), ("a{{ v }}/b", format!("a{written}/b"))] {
            assert_eq!(as_text(&format!("\"{expression}\""), &[("v", written)]), json!(expected), "{expression}");
            let default =
                RECIPE.replace("v: 1.10", &format!("v: {written}")).replace("VALUE", &format!("\"{expression}\""));
            let document = Document::parse(Path::new("recipe.yaml"), &default, catalog()).expect("YAML");
            let checked = document.check(&Overrides::default(), &|_, _| None).expect("a good recipe");
            assert_eq!(checked.recipe.stages["tokens"].settings["corpus"][0]["text"][0], json!(expected));
        }
        let set = check(&recipe(), &[], &[("stages.cls.task.words.a", written)]);
        let set = set.unwrap_or_else(|problems| panic!("{written}: {problems}"));
        assert_eq!(set.recipe.stages["cls"].settings["task"]["classification"]["words"]["a"], json!(written));
    }
}

#[test]
fn expressions_have_scalars_as_text_in_texts_and_as_values_in_operators() {
    let cases = [
        ("{{ v ~ '-' ~ n }}", "1.10-3"),
        ("{{ v }}-{{ rate * 2 }}", "1.10-0.002"),
        ("{{ v|replace('.', '_') }}", "1_10"),
        ("{{ v|string|length }}", "4"),
        ("{% for x in list %}{{ x }};{% endfor %}", "1.10;1.2;"),
        ("{{ list|join('+') }}", "1.10+1.2"),
        ("{{ list[0] }}", "1.10"),
        ("{{ 'old' if v < 1.2 else 'new' }}", "old"),
        ("{{ 'same' if v == 1.1 else 'other' }}", "same"),
        ("{{ 'number' if v is number else 'text' }}", "number"),
        ("{{ 'on' if flag else 'off' }}{{ flag }}", "ontrue"),
        ("{{ 'nothing' if nil is none else 'something' }}{{ nil }}", "nothing~"),
        ("{{ nil or 'else' }}", "else"),
        ("{{ date }}", "2024-01-01"),
        ("{{ v|float + n }}", "4.1"),
        ("{{ (v * 10)|int }}", "11"),
        ("{{ rate|tojson }}", "0.001"),
    ];
    for (expression, expected) in cases {
        assert_eq!(as_text(&format!("\"{expression}\""), &[]), json!(expected), "{expression}");
    }
    let lr = &good(&recipe()).recipe.stages["base"].settings["train"]["lr"];
    assert_eq!(*lr, json!(0.002));
}

#[test]
fn a_number_is_read_where_one_is_wanted_and_nowhere_else() {
    let checked = check(&recipe(), &[("rate", "1e-4"), ("n", "007")], &[("stages.base.train.steps", "0x10")]);
    let train = checked.expect("a good recipe").recipe.stages["base"].settings["train"].clone();
    assert_eq!((&train["lr"], &train["steps"]), (&json!(0.0002), &json!(16)));
    // What an expression put together as text may be a number as well.
    let text = recipe().replace("\"{{ rate * 2 }}\"", "\"1e-{{ n }}\"");
    assert_eq!(good(&text).recipe.stages["base"].settings["train"]["lr"], json!(0.001));
    let quoted = check(&recipe().replace("steps: 10", "steps: '10'"), &[], &[]).expect_err("a text");
    assert!(quoted.to_string().contains("take the quotes off: 10"), "{quoted}");
    let empty = check(&recipe().replace("label: label", "label: "), &[], &[]).expect_err("nothing");
    assert!(empty.to_string().contains("`label` is empty; it takes text"), "{empty}");
}

/// The values of the only setting in each cell of a sweep, and what becomes of a field in each.
fn cells(sweep: &str, field: &str) -> Vec<(Value, Value)> {
    let text = format!("{}sweep: {sweep}\n", recipe());
    let document = Document::parse(Path::new("recipe.yaml"), &text, catalog()).expect("YAML");
    let checked = document.check(&Overrides::default(), &columns).unwrap_or_else(|problems| panic!("{problems}"));
    let mut space = Space::new(&checked).expect("conditions").expect("a sweep");
    let cells = space.next(&checked).expect("cells");
    let outcome = |settings: &indexmap::IndexMap<String, pipe::recipe::Setting>| {
        let cell = document.check_cell(&Overrides::default(), settings, &columns);
        let cell = cell.unwrap_or_else(|problems| panic!("{problems}"));
        let stages = serde_json::to_value(&cell.recipe.stages).expect("JSON");
        stages.pointer(&format!("/{}", field.replace('.', "/"))).cloned().unwrap_or_default()
    };
    cells.iter().map(|cell| (cell.values().next().expect("a setting").1.clone(), outcome(&cell.settings))).collect()
}

#[test]
fn templates_are_swept_as_they_are() {
    let template = "cls.finetune.task.classification.template";
    let both = ["{{ text }}[Classification]", "评论：{{ text }}。[Classification]"];
    let quoted = both.map(|text| format!("\"{text}\"")).join(", ");
    let path = "stages.cls.task.classification.template";
    let task = |text: &str| format!("{{ classification: {{ template: \"{text}\", words: {{ a: x, b: y }} }} }}");
    let sweeps = [
        format!("{{ grid: {{ {path}: [{quoted}] }} }}"),
        format!("{{ grid: {{ {path}: {{ choice: [{quoted}] }} }} }}"),
        format!("{{ zip: {{ {path}: [{quoted}] }} }}"),
        format!("{{ list: [ {{ {path}: \"{}\" }}, {{ {path}: \"{}\" }} ] }}", both[0], both[1]),
        format!("{{ grid: {{ stages.cls.task: [{}, {}] }} }}", task(both[0]), task(both[1])),
    ];
    for sweep in &sweeps {
        let found: Vec<Value> = cells(sweep, template).into_iter().map(|(_, template)| template).collect();
        assert_eq!(found, both.map(Value::from), "{sweep}");
    }
    // A var that is called as a column is doesn't take its place.
    let text = format!("{}sweep: {}\n", recipe().replace("vars: { ", "vars: { text: 常量, "), sweeps[0]);
    assert_eq!(good(&text).recipe.sweep.expect("a sweep").grid.len(), 1);
    let drawn = format!("{{ random: {{ cells: 4, values: {{ {path}: [{quoted}] }} }} }}");
    assert!(cells(&drawn, template).iter().all(|(_, template)| both.map(Value::from).contains(template)));
}

#[test]
fn swept_scalars_are_as_they_are_written_and_told_apart() {
    let label = "cls.finetune.task.classification.words.a";
    let texts =
        |sweep: &str, field: &str| -> Vec<Value> { cells(sweep, field).into_iter().map(|(_, text)| text).collect() };
    let path = "stages.cls.task.classification.words.a";
    assert_eq!(
        texts(&format!("{{ grid: {{ {path}: [1.10, 1.1, 007, yes, ~] }} }}"), label),
        ["1.10", "1.1", "007", "yes", "~"]
    );
    let var = recipe().replace("a: one", "a: \"{{ v }}\"");
    let text = format!("{var}sweep: {{ grid: {{ vars.v: [1.10, 1.1, 2] }} }}\n");
    let document = Document::parse(Path::new("recipe.yaml"), &text, catalog()).expect("YAML");
    let checked = document.check(&Overrides::default(), &columns).expect("a good recipe");
    let cells = Space::new(&checked).expect("conditions").expect("a sweep").next(&checked).expect("cells");
    let words: Vec<Value> = cells
        .iter()
        .map(|cell| document.check_cell(&Overrides::default(), &cell.settings, &columns).expect("a good cell"))
        .map(|cell| cell.recipe.stages["cls"].settings["task"]["classification"]["words"]["a"].clone())
        .collect();
    assert_eq!(words, ["1.10", "1.1", "2"]);
    assert_eq!(
        texts("{ grid: { stages.base.train.lr: [1e-3, \"{{ rate }}\", 2e-3] } }", "base.pretrain.train.lr"),
        [json!(0.001), json!(0.002)]
    );
}

fn told(text: &str) -> String {
    check(text, &[], &[]).map_or_else(|problems| problems.to_string(), |_| "fine".to_owned())
}

#[test]
fn a_metric_that_will_never_be_recorded_is_a_mistake() {
    let aim = |path: &str| {
        let sweep = format!("sweep: {{ grid: {{ seed: [1, 2] }}, maximize: {path} }}\n");
        told(&(recipe() + &sweep))
    };
    for fine in [
        "test.metrics.macro_f1",
        "test.metrics.log_loss_without_leaks",
        "cls.metrics.dev_accuracy",
        "cls.metrics.tokens_per_second",
        "base.metrics.loss",
        "tokens.metrics.unknown_share",
    ] {
        assert_eq!(aim(&format!("stages.{fine}")), "fine", "{fine}");
    }
    insta::assert_snapshot!(aim("stages.test.metrics.macrof1"));
    for (wrong, hint) in [
        ("test.metrics.perplexity", "there is `accuracy`, `macro_f1`"),
        ("test.metrics.dev_accuracy", "there is `accuracy`, `macro_f1`"),
        ("cls.metrics.acc", "there is `dev_accuracy`, `dev_macro_f1`, `dev_loss`"),
        ("base.metrics.dev_loss", "there is `epoch_steps`, `loss`, `steps`"),
    ] {
        let found = aim(&format!("stages.{wrong}"));
        assert!(found.contains("no metric `") && found.contains(hint), "{wrong}: {found}");
    }
    // Without dev rows nothing is measured on them.
    let text = recipe().replace(", dev: { path: Cargo.toml, format: tsv }", "");
    let found = told(&(text + "sweep: { grid: { seed: [1, 2] }, maximize: stages.cls.metrics.dev_accuracy }\n"));
    assert!(found.contains("no metric `dev_accuracy` is recorded of `cls`"), "{found}");
    for (field, hint) in [
        ("keep_best: macrof1", "did you mean `macro_f1`?"),
        ("early_stopping: { metric: perplexity }", "the metrics are: `accuracy`, `macro_f1`, `loss`"),
    ] {
        let found = told(&recipe().replace("epochs: 1", &format!("epochs: 1, {field}")));
        assert!(found.contains("is measured on dev rows") && found.contains(hint), "{found}");
    }
}

#[test]
fn special_tokens_that_are_spelt_in_a_template_are_warned_of() {
    let with = |template: &str| recipe().replace("{{ text }}[Classification]", template);
    let warned = |template: &str| good(&with(template)).warnings().map(|warnings| warnings.to_string());
    insta::assert_snapshot!(warned("{{ text }}[SEP]很[MASK]<|user|>[Classification]").expect("warnings"));
    for fine in [
        "{{ text }}[Classification]",
        "{{ text }}{{ sep }}很{{ mask }}{{ token('[UNK]') }}[Classification]",
        "{{ text|replace('[SEP]', '') }}{# [SEP] #}[Classification][1]<b>",
    ] {
        assert_eq!(warned(fine), None, "{fine}");
    }
    let told_of = |template: &str| {
        let text = with(template);
        let document = Document::parse(Path::new("recipe.yaml"), &text, catalog()).expect("YAML");
        let columns = |_: &Source, _: &Path| Some(["text", "label", "sep"].map(str::to_owned).into());
        document.check(&Overrides::default(), &columns).map_or_else(|problems| problems.to_string(), |_| "fine".into())
    };
    let column = told_of("{{ text }}{{ sep }}[Classification]");
    assert!(
        column.contains("`sep` is a special token in a template") && column.contains("write `row.sep`"),
        "{column}"
    );
    assert_eq!(told_of("{{ row.sep }}{{ text }}[Classification]"), "fine");
    let var = told(&with("{{ v }}[Classification]"));
    assert!(var.contains("`v` is a var of the recipe, and a template sees the columns of a row alone"), "{var}");
}

#[test]
fn lora_targets_are_layers_of_the_model() {
    let with = |targets: &str| {
        let adapter = format!("from: base\n      adapter: {{ lora: {{ targets: {targets} }} }}");
        told(&recipe().replace("from: base", &adapter))
    };
    assert_eq!(with("[query, attention.output.dense]"), "fine");
    insta::assert_snapshot!(with("[query, quary_key_value]"));
}
