//! Recipes that teach answers: models that learn to give them, rows that are too long or wrong, and what `check` refuses.

use serde_json::{Value, json};

use crate::common::{Space, tiny};

/// The tiny recipe with instructions in place of labels.
fn instructed(model: &str, task: &str) -> Space {
    let space = tiny();
    let recipe = r#"
seed: 3
stages:
  tokens:
    tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] }
  chat:
    finetune:
      tokens: tokens
      model: MODEL
      data: { train: { path: train.jsonl }, dev: { path: dev.jsonl } }
      task: TASK
      train: { epochs: 100, batch: { examples: 4 }, max_length: 64, lr: 5.0e-3, dropout: 0.0, keep_best: loss }
  test:
    eval: { model: chat, data: { path: dev.jsonl } }
"#;
    space.write("recipe.yaml", recipe.replace("MODEL", model).replace("TASK", task));
    let rows = ["球队赢了", "面很好吃", "他跑得很快", "菜很香"].map(|text| {
        let answer = if text.contains(['球', '跑']) { "体育" } else { "美食" };
        json!({ "prompt": text, "response": answer, "history": [["你好", "早上好"]] }).to_string()
    });
    space.write("train.jsonl", rows.join("\n")).write("dev.jsonl", rows[..2].join("\n"));
    space
}

const SMALL: &str = "{ hidden: 16, layers: 1, heads: 2, max_length: 96 }";

#[test]
fn a_model_learns_to_answer_and_is_measured_on_its_responses() {
    // Of each row a response of two characters and its end, and an answer of three before it.
    let cases = [("glm", "all", 14.0), ("gpt2", "all", 14.0), ("gpt2", "last", 6.0)];
    for (family, turns, tokens) in cases {
        let task = format!("{{ instruction: {{ history: history, turns: {turns} }} }}");
        let space = instructed(&format!("{{ {family}: {SMALL} }}"), &task);
        assert_eq!(space.statuses(&["recipe.yaml"]), "chat=ran test=ran tokens=ran", "{family}");
        let result = space.json(&["run", "recipe.yaml"]);
        let metrics = &result["stages"]["test"]["metrics"];
        let figure = |name: &str| metrics[name].as_f64().unwrap_or_else(|| panic!("{name} in {metrics}"));
        assert!(figure("loss") < 0.5 && figure("token_accuracy") > 0.9, "{family}: {metrics}");
        assert!((figure("perplexity") - figure("loss").exp()).abs() < 1e-9);
        // Both questions stand in the training rows.
        assert_eq!((figure("tokens"), figure("documents"), figure("leaked_documents")), (tokens, 2.0, 2.0));
        assert_eq!(space.statuses(&["recipe.yaml"]), "chat=hit test=hit tokens=hit", "{family}");
    }
}

#[test]
fn rows_that_are_too_long_are_counted_in_the_record() {
    let counts = |too_long: &str| {
        let task = format!("{{ instruction: {{ history: history, too_long: {too_long} }} }}");
        let space = instructed(&format!("{{ gpt2: {SMALL} }}"), &task);
        let long = json!({ "prompt": "面".repeat(80), "response": "美食", "history": [] }).to_string();
        space.write("train.jsonl", space.read("train.jsonl") + "\n" + &long);
        space.write("dev.jsonl", space.read("dev.jsonl") + "\n" + &long);
        space.write("recipe.yaml", space.read("recipe.yaml").replace("epochs: 100", "steps: 1"));
        let result = space.json(&["run", "recipe.yaml"]);
        let of = |stage: &str| {
            let metrics = &result["stages"][stage]["metrics"];
            ["shortened_rows", "cut_rows", "skipped_rows"].map(|name| metrics[name].as_u64().expect("a count"))
        };
        (of("chat"), of("test"), result["stages"]["chat"]["metrics"]["rows"].as_u64())
    };
    assert_eq!(counts("skip"), ([0, 0, 1], [0, 0, 1], Some(4)));
    assert_eq!(counts("cut"), ([1, 0, 0], [1, 0, 0], Some(5)));
    assert_eq!(counts("refuse"), ([1, 0, 0], [1, 0, 0], Some(5)));
}

#[test]
fn roles_that_are_out_of_order_are_told_by_check_with_row_and_role() {
    let space =
        instructed(&format!("{{ gpt2: {SMALL} }}"), "{ instruction: { messages: messages, format: chatglm2 } }");
    let row = |roles: &[&str]| {
        let messages: Vec<Value> = roles.iter().map(|role| json!({ "role": role, "content": "早" })).collect();
        json!({ "messages": messages }).to_string()
    };
    let good = row(&["user", "assistant"]);
    space.write("dev.jsonl", &good);
    for (roles, said) in [
        (&["assistant", "assistant"][..], "the conversation's last turn before the answer is the assistant's own"),
        (&["user", "user", "assistant"], "turn 2 is the user's, where the assistant's was due"),
        (
            &["user", "assistant", "assistant", "user", "assistant"],
            "turn 3 is the assistant's, where the user's was due",
        ),
        (&["system", "user", "assistant"], "turn 1: the chat format doesn't support the role <|system|>"),
    ] {
        space.write("train.jsonl", format!("{good}\n{}\n", row(roles)));
        let output = space.pipe(&["check", "recipe.yaml"]);
        assert_ne!(output.status, 0);
        assert!(output.stderr.contains("train.jsonl: row 2") && output.stderr.contains(said), "{}", output.stderr);
    }
}

#[test]
fn bad_rows_are_named_before_anything_runs() {
    let space = instructed(&format!("{{ gpt2: {SMALL} }}"), "{ instruction: { history: history } }");
    let rows = space.read("train.jsonl") + "\n" + r#"{"prompt": "一", "response": "二", "history": "早"}"#;
    space.write("train.jsonl", rows);
    let output = space.pipe(&["run", "recipe.yaml"]);
    assert_ne!(output.status, 0);
    assert!(output.stderr.contains("train.jsonl: row 5"), "{}", output.stderr);
    assert!(output.stderr.contains("expected a list of [question, answer] pairs"), "{}", output.stderr);
    assert!(
        !space.path().join(".pipe/artifacts").exists() || space.json(&["ls"]).as_array().is_some_and(Vec::is_empty)
    );
}

#[test]
fn recipes_that_cannot_teach_answers_are_refused() {
    let refused = |model: &str, task: &str| {
        let output = instructed(model, task).pipe(&["check", "recipe.yaml"]);
        assert_ne!(output.status, 0);
        output.stdout + &output.stderr
    };
    let told = refused(&format!("{{ bert: {SMALL} }}"), "{ instruction: {} }");
    assert!(told.contains("a bert model does not write, so it cannot answer"), "{told}");
    let told = refused(&format!("{{ gpt2: {SMALL} }}"), "{ instruction: { prompt: question } }");
    assert!(told.contains("the training rows have no column `question` for the instruction"), "{told}");
    let told = refused(&format!("{{ gpt2: {SMALL} }}"), "{ instruction: { messages: history, history: history } }");
    assert!(told.contains("`messages` and `history` are both given"), "{told}");
}
