//! Broken recipes: each gives all its mistakes at once, with line, column, caret and hint.

use pipe::recipe::{DataFiles, Overrides, load};
use pipe::spec::Source;
use pipe::stages::catalog;

/// A recipe without mistakes; tests replace parts of it.
const GOOD: &str = "\
# 一个小小的流水线
seed: 7
vars:
  data: data
  size: 64
stages:
  tokens:
    tokenize:
      tokenizer: {wordpiece: {vocab_size: 800}}
      corpus:
        - path: \"{{ data }}/corpus.txt\"
  base:
    pretrain:
      tokens: tokens
      model:
        glm: {hidden: \"{{ size }}\", layers: 2, heads: 4, max_length: 128}
      objectives:
        - masked_lm: {}
          sentence_order: {}
      train:
        steps: 100
        lr: 1e-3
  topic:
    finetune:
      from: base
      data:
        train: {path: \"{{ data }}/train.tsv\"}
        dev: {path: \"{{ data }}/dev.tsv\"}
      task:
        classification:
          words: {体育: 体育, 科技: 科技}
          template: \"{{ text }} 这是[Classification]新闻。\"
      train:
        epochs: 3
        lr: 5e-4
        keep_best: accuracy
  test:
    eval:
      model: topic
      data: {path: \"{{ data }}/test.tsv\"}
";

fn columns(_: &Source, data: &DataFiles) -> Option<Vec<String>> {
    let text = fs_err::read_to_string(data.files.first()?).ok()?;
    let header = text.lines().next()?;
    Some(header.split('\t').map(str::to_owned).collect())
}

/// What is said about a recipe, with the name of the folder that it's in taken out.
fn said(text: &str, sets: &[(&str, &str)], vars: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    fs_err::create_dir(root.join("data")).expect("a folder for data");
    for (name, body) in [
        ("corpus.txt", "今天天气很好。\n"),
        ("train.tsv", "text\tlabel\n好球\t体育\n"),
        ("dev.tsv", "text\tlabel\n新手机\t科技\n"),
        ("test.tsv", "text\tlabel\n决赛\t体育\n"),
        ("pairs.tsv", "text_a\ttext_b\tlabel\n甲\t乙\t0\n"),
    ] {
        fs_err::write(root.join("data").join(name), body).expect("a data file");
    }
    let path = root.join("recipe.yaml");
    fs_err::write(&path, text).expect("a recipe");
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let overrides = Overrides { vars: own(vars), sets: own(sets) };
    fs_err::write(root.join("data.bin"), "").expect("a file without a format");
    match load(&path, catalog(), &overrides, &columns) {
        Ok(checked) => format!("fine; the order is {}", checked.order.join(", ")),
        Err(problems) => problems.to_string().replace(&format!("{}/", root.display()), ""),
    }
}

/// The good recipe with some parts exchanged.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "`{from}` must stand once in the recipe");
        text.replace(from, to)
    })
}

fn broken(changes: &[(&str, &str)]) -> String {
    said(&with(changes), &[], &[])
}

#[test]
fn the_recipe_that_the_others_are_made_from_is_fine() {
    assert_eq!(said(GOOD, &[], &[]), "fine; the order is tokens, base, topic, test");
}

macro_rules! snapshots {
    ($($name:ident => $said:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!($said);
        })*
    };
}

snapshots! {
    misspelt_key => broken(&[("layers: 2", "layer: 2")]);
    misspelt_key_at_the_top => broken(&[("seed: 7", "sed: 7")]);
    key_that_nothing_is_like => broken(&[("lr: 1e-3", "lr: 1e-3\n        exponential_average: true")]);
    key_of_an_inner_field => broken(&[("      objectives:", "      lr: 1e-3\n      objectives:")]);
    objective_without_its_section => broken(&[("masked_lm: {}\n          sentence_order: {}", "causal_lm: {}")]);
    objective_that_there_is_not => broken(&[
        ("masked_lm: {}\n          sentence_order: {}", "generative: {causal: {}}"),
    ]);
    wrong_types => broken(&[
        ("steps: 100", "steps: many"),
        ("lr: 1e-3", "lr: '1e-3'"),
        ("epochs: 3", "epochs: [3]"),
        ("layers: 2", "layers: 2.5"),
    ]);
    negative_sizes => broken(&[("layers: 2", "layers: -2"), ("heads: 4", "heads: 0"), ("800", "8")]);
    missing_keys => broken(&[("        lr: 5e-4\n", ""), ("      tokens: tokens\n", "")]);
    unknown_kind_of_stage => broken(&[("    finetune:", "    fine_tune:")]);
    two_kinds_at_once => broken(&[("{wordpiece: {vocab_size: 800}}", "{wordpiece: {vocab_size: 800}, bpe: {vocab_size: 900}}")]);
    objective_left_empty => broken(&[("- masked_lm: {}", "- masked_lm:")]);
    variant_as_a_word => broken(&[("- masked_lm: {}\n          sentence_order: {}", "- generative: causal_lm")]);
    path_for_a_source => broken(&[("{path: \"{{ data }}/dev.tsv\"}", "data/dev.tsv")]);
    missing_file => broken(&[("{{ data }}/train.tsv", "{{ data }}/trian.tsv")]);
    missing_folder => broken(&[("  data: data", "  data: ../nowhere")]);
    glob_that_matches_nothing => broken(&[("{{ data }}/corpus.txt", "{{ data }}/*.jsonl")]);
    stage_cycle => broken(&[
        ("      tokens: tokens\n      model:\n        glm: {hidden: \"{{ size }}\", layers: 2, heads: 4, max_length: 128}\n", "      tokens: tokens\n      from: topic\n"),
    ]);
    stage_that_refers_to_itself => broken(&[("      from: base", "      from: topic")]);
    unknown_stage => broken(&[("      from: base", "      from: bsae"), ("      model: topic", "      model: classifier")]);
    wrong_kind_of_stage => broken(&[("      from: base", "      from: tokens")]);
    template_with_a_missing_column => broken(&[("{{ text }} 这是", "标题：{{ txt }}，{{ summary }} 这是")]);
    label_column_missing => broken(&[("        classification:", "        classification:\n          label: lable")]);
    columns_missing_in_dev_and_test => broken(&[("{{ data }}/dev.tsv", "{{ data }}/pairs.tsv"), ("{{ data }}/test.tsv", "{{ data }}/pairs.tsv")]);
    template_in_several_lines => broken(&[("template: \"{{ text }} 这是[Classification]新闻。\"", "template: |\n            标题：{{ text }}\n            摘要：{{ abstract }}，{{ abstract }}\n            这是[Classification]新闻。")]);
    template_that_does_not_parse => broken(&[("{{ text }} 这是", "{% if text %}{{ text }} 这是")]);
    template_with_an_unknown_filter => broken(&[("{{ text }} 这是", "{{ text | shorten(20) }} 这是")]);
    template_without_a_marker => broken(&[("[Classification]", "")]);
    empty_and_equal_words => broken(&[("{体育: 体育, 科技: 科技}", "{体育: 体育, 科技: 体育, 财经: ''}")]);
    weights_of_labels => broken(&[("          template:", "          class_weights: {体育: 0, 科枝: 2}\n          template:")]);
    weights_by_another_word => broken(&[("          template:", "          class_weights: balancd\n          template:")]);
    duplicate_keys => broken(&[("        lr: 1e-3", "        lr: 1e-3\n        steps: 200\n        lr: 2e-3")]);
    tab_indentation => broken(&[("        steps: 100\n        lr: 1e-3", "\tsteps: 100\n\tlr: 1e-3")]);
    quote_that_is_not_closed => broken(&[("[Classification]新闻。\"", "[Classification]新闻。")]);
    indentation_that_fits_nothing => broken(&[("        steps: 100", "       steps: 100\n      x")]);
    expression_without_quotes => broken(&[("\"{{ size }}\"", "{{ size }}")]);
    several_errors_at_once => broken(&[
        ("layers: 2", "layer: 2"),
        ("steps: 100", "steps: 0"),
        ("      from: base", "      from: bas"),
        ("{{ data }}/dev.tsv", "{{ data }}/dve.tsv"),
        ("{{ text }} 这是", "{{ txt }} 这是"),
        ("keep_best: accuracy", "keep_best: accurary"),
    ]);
    wide_characters_before_the_caret => broken(&[("{体育: 体育, 科技: 科技}", "{体育: 体育, 科技: [科, 技], 天气预报: 体育}")]);
    unknown_var => broken(&[("  data: data\n  size: 64", "  data: data\n  wide: \"{{ size }}\"\n  size: \"{{ sise }}\"")]);
    expression_that_fails => broken(&[("\"{{ size }}\"", "\"{{ size // 0 }}\""), ("{{ data }}/train", "{{ data | nofilter }}/train")]);
    expression_that_does_not_parse => broken(&[("\"{{ size }}\"", "\"{{ size + }}\"")]);
    expression_without_end => broken(&[("  size: 64", "  size: \"{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}\"")]);
    missing_environment_variable => broken(&[("  data: data", "  data: '{{ env(\"PIPE_TEST_NOT_SET\") }}'")]);
    rules_between_fields => broken(&[
        ("heads: 4", "heads: 5"),
        ("        steps: 100", "        steps: 100\n        epochs: 2\n        max_length: 256\n        warmup_steps: 200\n        warmup_ratio: 0.1\n        keep_best: loss"),
        ("      from: base", "      from: base\n      tokens: tokens"),
        ("      data: {path: \"{{ data }}/test.tsv\"}", "      tokens: tokens"),
    ]);
    objectives_that_exclude_each_other => broken(&[
        ("        - masked_lm: {}\n          sentence_order: {}", "        - masked_lm: {mask: 0.8, random: 0.3}\n          sentence_order: {}\n          next_sentence: {}\n          generative: {prefix_lm: {min_prefix: 0.8, max_prefix: 0.2}}\n        - weight: 2\n        - generative: {blank_infilling: {span: 0, sentence: 0, document: 0}}"),
    ]);
    model_and_from => broken(&[("      from: base\n", "      from: base\n      model: {glm: {hidden: 8, layers: 1, heads: 1}}\n"), ("      tokens: tokens\n      model:\n        glm: {hidden: \"{{ size }}\", layers: 2, heads: 4, max_length: 128}\n", "      tokens: tokens\n")]);
    precision_that_there_is_not => broken(&[("        lr: 1e-3", "        lr: 1e-3\n        precision: bf8\n        micro_batch: atuo")]);
    batch_that_is_to_find_its_size => broken(&[("        lr: 1e-3", "        lr: 1e-3\n        batch: auto")]);
    unknown_device => broken(&[("seed: 7", "seed: 7\ndevice: cude")]);
    unknown_devices => broken(&[("seed: 7", "seed: 7\ndevices: cuda:0,1")]);
    devices_that_do_not_go_together => broken(&[("seed: 7", "seed: 7\ndevice: auto\ndevices: cuda:0-2,vulkan")]);
    sweep_that_leads_nowhere => said(&format!("{GOOD}sweep:\n  grid:\n    stages.topic.train.lrr: [1e-4]\n    stages.topic.train.lr: [1e-4, fast]\n    stages.topik.train.lr: []\n  maximize: stages.tset.metrics.accuracy\n  minimize: loss\n"), &[], &[]);
    sweep_with_wrong_sections => said(&format!("{GOOD}sweep:\n  zip:\n    stages.topic.train.lr: [1e-4, 1e-3]\n    stages.topic.train.dropout: [0.1]\n  grid:\n    stages.topic.finetune.train.lr: [1e-4]\n  tpe: {{cells: 5, values: {{stages.base.train.lr: {{log: [1e-4, 1e-3]}}}}}}\n  repeat: {{seeds: [1, 1], over: [stages.topic.train.steps]}}\n"), &[], &[]);
    sweep_with_wrong_ranges => said(&format!("{GOOD}sweep:\n  grid:\n    stages.base.train.steps: {{uniform: [1, 5], points: 2}}\n    stages.base.train.lr: {{log: [0, 1]}}\n    stages.topic.train.lr: {{log: [1e-3, 1e-4], points: 3}}\n    stages.topic.train.dropout: {{uniform: [0.1, 2.0], points: 2}}\n    stages.topic.train.weight_decay: {{}}\n    stages.base.train.dropout: {{int: [1], choice: [0.1]}}\n    stages.base.train.weight_decay: 0.1\n  random: {{cells: 0, values: {{seed: {{int: [1, 9], points: 3}}}}}}\n"), &[], &[]);
    sweep_with_wrong_conditions => said(&format!("{GOOD}sweep:\n  grid:\n    stages.topic.train.lr: {{choice: [1e-4], when: stages.topic.train.dropout > 0}}\n    stages.topic.train.dropout: {{choice: [0.1], when: stages.topic.train.lrr <}}\n  when: stages.topic.train.lrr < 1\n"), &[], &[]);
    sweep_without_settings => said(&format!("{GOOD}sweep:\n  maximize: stages.test.metrics.accuracy\n"), &[], &[]);
    set_with_wrong_paths => said(GOOD, &[
        ("stages.base.train.lrr", "1"),
        ("stages.bsae.train.lr", "1"),
        ("stages.base.finetune.train.lr", "1"),
        ("stages.tokens.corpus.3.path", "x.txt"),
        ("stages.base.train.lr.x", "1"),
        ("stagse.base", "1"),
    ], &[]);
    set_with_wrong_values => said(GOOD, &[("stages.base.train.lr", "fast"), ("stages.base.train.steps", "[1"), ("seed", "-1")], &[]);
    var_flag_that_is_unknown => said(GOOD, &[], &[("dta", "x"), ("size", "wide")]);
    empty_file => said("# nothing here\n", &[], &[]);
    not_a_mapping => said("- stages\n- tokens\n", &[], &[]);
    two_documents => said(&format!("{GOOD}---\nseed: 1\n"), &[], &[]);
    no_stages => said("seed: 1\nstages: {}\n", &[], &[]);
    names_that_cannot_be_used => broken(&[("  data: data", "  data: data\n  my-var: 1"), ("  test:", "  test.1:")]);
    mistake_behind_an_alias => broken(&[("        train: {path: \"{{ data }}/train.tsv\"}", "        train: &rows {path: \"{{ data }}/train.csv\", limits: 3}"), ("        dev: {path: \"{{ data }}/dev.tsv\"}", "        dev: *rows")]);
    long_line => broken(&[("layers: 2", &format!("layers: 2, feed_forward: {}, max: 3{}", " ".repeat(90), " ".repeat(90)))]);
    unknown_encodings => broken(&[("corpus.txt\"", "corpus.txt\"\n          encoding: gb18031"), ("dev.tsv\"}", "dev.tsv\", encoding: utf-9}")]);
    data_without_a_known_format => broken(&[("train: {path: \"{{ data }}/train.tsv\"}", "train: {path: data.bin}"), ("corpus.txt", "train.tsv")]);
    unknown_alias_and_tag => broken(&[("seed: 7", "seed: *number"), ("layers: 2", "layers: !int 2")]);
    yaml_bomb => said(&bomb(), &[], &[]);
    nested_too_deep => said(&format!("vars: {}{}\n", "[".repeat(500), "]".repeat(500)), &[], &[]);
}

/// Nine lists, each of nine aliases of the one before.
fn bomb() -> String {
    let mut text = "vars:\n  a: &a [哈, 哈, 哈, 哈, 哈, 哈, 哈, 哈, 哈]\n".to_owned();
    for (name, next) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let aliases = vec![format!("*{name}"); 9].join(", ");
        text += &format!("  {next}: &{next} [{aliases}]\n");
    }
    text + "stages: {}\n"
}
