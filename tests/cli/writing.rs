//! What models write: in the form that they were taught, with what their checkpoints say of it.

use crate::common;
use common::{Output, Space, tiny};
use serde_json::{Value, json};

/// A recipe whose first stage learns one mix and whose second another.
fn two_stages(family: &str, first: &str, second: &str) -> Space {
    let space = tiny();
    let model = format!("model: {{ {family}: {{ hidden: 16, layers: 1, heads: 2, max_length: 64 }} }}");
    let train = "train: { steps: 2, batch: { examples: 2 }, max_length: 48, lr: 1.0e-3 }";
    space.write(
        "recipe.yaml",
        format!(
            "seed: 3
stages:
  tokens: {{ tokenize: {{ tokenizer: {{ wordpiece: {{ vocab_size: 300 }} }}, corpus: [{{ path: corpus.txt }}] }} }}
  first: {{ pretrain: {{ tokens: tokens, {model}, objectives: [{first}], {train} }} }}
  second: {{ pretrain: {{ tokens: tokens, from: first, objectives: [{second}], {train} }} }}
"
        ),
    );
    space
}

fn asked(space: &Space, stage: &str, prompt: &str) -> (Value, Output) {
    let options = ["--prompt", prompt, "--temperature", "0", "--max-tokens", "3", "--json"];
    let output = space.pipe(&[&["generate", "recipe.yaml", stage], &options[..]].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
    (serde_json::from_str(&output.stdout).expect("JSON"), output)
}

#[test]
fn what_was_taught_last_counts_whatever_weights_were_before() {
    const BLANKS: &str = "{ generative: { blank_infilling: {} } }";
    const CAUSAL: &str = "{ generative: { causal_lm: {} } }";
    let prompt = "球队[MASK]了比赛";
    for (first, second) in
        [("{ weight: 3, generative: { causal_lm: {} } }, { masked_lm: {} }", BLANKS), (BLANKS, CAUSAL)]
    {
        let space = two_stages("glm", first, second);
        assert_eq!(space.pipe(&["run", "recipe.yaml"]).status, 0);
        // Blanks are filled, whenever that was taught; a prompt goes on in the form of the last stage, which has a token more
        // (`[gMASK] <sop>`) where blanks are filled.
        assert!(asked(&space, "second", prompt).0["blanks"].is_array());
        let (plain, _) = asked(&space, "second", "球队");
        assert_eq!(plain["prompt_tokens"], if second == BLANKS { 5 } else { 3 }, "{plain}");
    }
    for mix in [format!("{BLANKS}, {CAUSAL}"), format!("{CAUSAL}, {BLANKS}")] {
        let space = two_stages("glm", &mix, CAUSAL);
        assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "first"]).status, 0);
        assert!(asked(&space, "first", prompt).0["blanks"].is_array());
        assert_eq!(asked(&space, "first", "球队").0["prompt_tokens"], 3);
    }
}

#[test]
fn blanks_that_are_not_filled_are_told() {
    let space = two_stages("gpt2", "{ generative: { causal_lm: {} } }", "{ generative: { causal_lm: {} } }");
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "first"]).status, 0);
    let (written, output) = asked(&space, "first", "球队[MASK]了比赛");
    assert!(written.get("blanks").is_none(), "{written}");
    assert!(
        output.stderr.contains("family gpt2 fill no blanks: `[MASK]` in the prompt is read as text"),
        "{}",
        output.stderr
    );
    assert!(!asked(&space, "first", "球队").1.stderr.contains("blanks"));

    let space = two_stages("glm", "{ generative: { causal_lm: {} } }", "{ generative: { causal_lm: {} } }");
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "first"]).status, 0);
    let (_, output) = asked(&space, "first", "球队[sMASK]");
    assert!(output.stderr.contains("never learned to fill blanks: `[sMASK]`"), "{}", output.stderr);
}

#[test]
fn several_texts_of_a_prompt_are_written() {
    let space = two_stages("gpt2", "{ generative: { causal_lm: {} } }", "{ generative: { causal_lm: {} } }");
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "first"]).status, 0);
    let generate = |arguments: &[&str]| {
        let options =
            ["generate", "recipe.yaml", "first", "--prompt", "球队", "--max-tokens", "6", "--min-tokens", "6"];
        space.pipe(&[&options, arguments].concat())
    };
    let texts = |arguments: &[&str]| -> Vec<Value> {
        let output = generate(&[arguments, &["--json"]].concat());
        assert_eq!(output.status, 0, "{}", output.stderr);
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let drawn = texts(&["--num-return-sequences", "3", "--temperature", "2"]);
    assert_eq!(drawn.len(), 3);
    assert!(drawn[0]["text"] != drawn[1]["text"] || drawn[1]["text"] != drawn[2]["text"], "{drawn:?}");
    assert_eq!(drawn[0]["text"], texts(&["--temperature", "2"])[0]["text"]);

    let beams = texts(&["--num-beams", "4", "--num-return-sequences", "2"]);
    let scores: Vec<f64> = beams.iter().map(|text| text["score"].as_f64().expect("a score")).collect();
    assert!(scores.len() == 2 && scores[0] >= scores[1], "{beams:?}");
    let shown = generate(&["--num-beams", "4", "--num-return-sequences", "2"]);
    let expected: String = beams.iter().map(|text| format!("球队{}\n", text["text"].as_str().unwrap())).collect();
    assert_eq!(shown.stdout, expected);
    // The likeliest text as a whole is no less likely than the one of the likeliest tokens.
    let greedy = texts(&["--num-beams", "1", "--temperature", "0"]);
    assert_eq!(greedy.len(), 1);

    for (arguments, told) in [
        (&["--num-return-sequences", "2", "--temperature", "0"][..], "2 texts of a prompt can't be had"),
        (&["--num-beams", "2", "--num-return-sequences", "3"], "3 texts of a prompt can't be had of 2 beams"),
        (&["--temperature", "-1"], "a temperature of -1 isn't possible; it's 0 (the likeliest token) or more"),
        (&["--top-p", "-0.5"], "a top-p of -0.5 isn't possible; it's a probability, 0 to 1"),
        (&["--top-k", "-3"], "a whole number from 0 is expected"),
        (&["--num-beams", "0"], "a whole number from 1 is expected"),
        (&["--repetition-penalty", "-2"], "a repetition penalty of -2 isn't possible; it's above 0"),
    ] {
        let output = generate(arguments);
        assert!(output.status == 2 && output.stderr.contains(told), "{}", output.stderr);
    }
}

/// A GPT-2 checkpoint in `model`, with what it says of how it writes.
fn checkpoint(settings: &Value) -> Space {
    let space = two_stages("gpt2", "{ generative: { causal_lm: {} } }", "{ generative: { causal_lm: {} } }");
    space.make_checkpoint("recipe.yaml", "first");
    // As GPT-2's own, whose tokenizer puts nothing before a text.
    let mut tokenizer: Value = serde_json::from_str(&space.read("model/tokenizer.json")).expect("JSON");
    tokenizer["post_processor"] = Value::Null;
    space.write("model/tokenizer.json", tokenizer.to_string());
    space.write("model/generation_config.json", settings.to_string());
    space.write("rows.jsonl", "{\"prompt\": \"球队\", \"response\": \"赢了\"}\n");
    space
}

#[test]
fn finetuned_models_keep_what_their_checkpoint_says_of_how_it_writes() {
    let settings = json!({ "do_sample": true, "temperature": 0.5, "eos_token_id": [2, 9], "suppress_tokens": [11], "max_new_tokens": 4 });
    let space = checkpoint(&settings);
    let train = "train: { steps: 1, batch: { examples: 1 }, max_length: 48, lr: 1.0e-12 }";
    let task = "instruction: { prompt: prompt, response: response, format: plain }";
    let stage = |name: &str, from: &str| {
        format!(
            "  {name}: {{ finetune: {{ from: {from}, data: {{ train: {{ path: rows.jsonl }} }}, task: {{ {task} }}, {train} }} }}\n"
        )
    };
    let recipe = format!(
        "seed: 1\nstages:\n  taken: {{ import: {{ path: model }} }}\n{}{}{}",
        stage("direct", "{ checkpoint: model }"),
        stage("chat", "taken"),
        stage("more", "chat")
    );
    space.write("chat.yaml", &recipe);
    let keys = |space: &Space| {
        let plan = space.json(&["plan", "chat.yaml"]);
        ["direct", "chat"].map(|stage| plan["stages"][stage]["key"].as_str().map(str::to_owned))
    };
    let with = keys(&space);
    assert_eq!(space.pipe(&["run", "chat.yaml"]).status, 0);
    for stage in ["direct", "chat", "more"] {
        let (out, kept) = (format!("out-{stage}"), format!("out-{stage}/generation_config.json"));
        assert_eq!(space.pipe(&["export", "chat.yaml", stage, &out]).status, 0);
        let kept: Value = serde_json::from_str(&space.read(&kept)).expect("JSON");
        // What it has learned to end with stands beside the ends that it had.
        let ends: Vec<u64> = serde_json::from_value(kept["eos_token_id"].clone()).expect("ends");
        assert!(ends.starts_with(&[2, 9]), "{kept}");
        for name in ["do_sample", "temperature", "suppress_tokens", "max_new_tokens"] {
            assert_eq!(kept[name], settings[name], "{kept}");
        }
        let written = space.json(&["generate", "chat.yaml", stage, "--prompt", "球队"]);
        assert!(written["tokens"].as_u64() <= Some(4), "{written}");
        // The command line's word counts for more.
        let longer =
            space.json(&["generate", "chat.yaml", stage, "--prompt", "球队", "--max-tokens", "9", "--min-tokens", "9"]);
        assert_eq!(longer["tokens"], 9);
    }
    // Only what has such settings got a new version.
    std::fs::remove_file(space.path().join("model/generation_config.json")).expect("a file");
    space.write("chat.yaml", &recipe);
    let plan = space.json(&["plan", "chat.yaml"]);
    assert_ne!(plan["stages"]["direct"]["key"].as_str(), with[0].as_deref());
}

#[test]
fn settings_of_a_checkpoint_are_followed_or_named() {
    let space = checkpoint(
        &json!({ "guidance_scale": 1.5, "num_beams": 3, "num_return_sequences": 2, "max_length": 9, "min_length": 9 }),
    );
    let output = space.pipe(&["generate", "--checkpoint", "model", "--prompt", "球队", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let texts: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(texts.len(), 2);
    for text in &texts {
        assert_eq!((&text["prompt_tokens"], &text["tokens"]), (&json!(2), &json!(7)), "{text}");
    }
    assert!(output.stderr.contains("`guidance_scale`, which isn't followed"), "{}", output.stderr);
    let long = space.pipe(&["generate", "--checkpoint", "model", "--prompt", "球队昨晚赢了比赛，观众为进球欢呼"]);
    assert!(long.status == 2 && long.stderr.contains("`max_length` of 9 tokens"), "{}", long.stderr);

    space.write("model/generation_config.json", r#"{"bad_words_ids": [[99999]]}"#);
    let output = space.pipe(&["generate", "--checkpoint", "model", "--prompt", "球队"]);
    assert!(output.status == 2 && output.stderr.contains("names token 99999"), "{}", output.stderr);
}

#[test]
fn prompts_of_foreign_models_begin_as_their_tokenizer_says() {
    let space = checkpoint(&json!({}));
    let tokens =
        |space: &Space| space.json(&["generate", "--checkpoint", "model", "--prompt", "球队"])["prompt_tokens"].clone();
    assert_eq!(tokens(&space), 2);
    let mut tokenizer: Value = serde_json::from_str(&space.read("model/tokenizer.json")).expect("JSON");
    let special = &tokenizer["added_tokens"].as_array().expect("tokens").iter();
    let begin = special.clone().find(|token| token["content"] == "[CLS]").expect("a token")["id"].clone();
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [begin], "tokens": ["[CLS]"] } },
    });
    space.write("model/tokenizer.json", tokenizer.to_string());
    assert_eq!(tokens(&space), 3);
    // What can't be read as nothing begins with something.
    assert_eq!(space.json(&["generate", "--checkpoint", "model", "--prompt", ""])["prompt_tokens"], 1);
}

#[test]
fn a_head_for_other_labels_is_told() {
    let space = tiny();
    let recipe = space.read("recipe.yaml");
    let linear =
        recipe.replace("words: { 甲: 体育, 乙: 美食 }", "words: { 甲: 体育, 乙: 美食 }\n          head: linear");
    let again = |name: &str, file: &str, labels: &str| {
        format!(
            "  {name}:
    finetune:
      from: topics
      data: {{ train: {{ path: {file} }} }}
      task: {{ classification: {{ head: linear, template: '{{{{ text }}}}', words: {labels} }} }}
      train: {{ steps: 1, batch: {{ examples: 4 }}, max_length: 48, lr: 1.0e-3 }}
"
        )
    };
    let more = again("same", "train.tsv", "{ 甲: 体育, 乙: 美食 }") + &again("other", "mood.tsv", "{ 好: 好, 坏: 坏 }");
    space.write("recipe.yaml", format!("{linear}{more}"));
    space.write("mood.tsv", space.read("train.tsv").replace('甲', "好").replace('乙', "坏"));
    let told = |stage: &str| {
        let output = space.pipe(&["run", "recipe.yaml", "--stage", stage]);
        assert_eq!(output.status, 0, "{}", output.stderr);
        output.stderr
    };
    assert!(!told("same").contains("the linear head"));
    let told = told("other");
    assert!(told.contains("the linear head that the model has, for 乙, 甲; here its 2 classes are 坏, 好"), "{told}");
}
