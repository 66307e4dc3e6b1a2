//! Recipes with each family: what it can learn runs through, and what it can't is refused before anything runs.

use crate::common;
use common::{Space, TINY, tiny};

const GLM: &str = "model: { glm: {";
const MIX: &str = "[{ masked_lm: {} }, { generative: { blank_infilling: {} } }]";

/// The tiny recipe with another family, objectives and a linear head.
fn space(family: &str, objectives: &str, head: &str) -> Space {
    let space = tiny();
    let text = TINY.replace(GLM, &format!("model: {{ {family}: {{")).replace(MIX, objectives);
    let text = text.replace("words: { 甲: 体育, 乙: 美食 }", &format!("words: {{ 甲: 体育, 乙: 美食 }}{head}"));
    space.write("recipe.yaml", text);
    space
}

const LINEAR: &str = "\n          head: linear";

#[test]
fn bert_learns_masked_tokens_pairs_and_linear_heads() {
    let space = space("bert", "[{ masked_lm: {}, next_sentence: {} }]", LINEAR);
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=ran test=ran tokens=ran topics=ran");
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=hit tokens=hit topics=hit");
}

#[test]
fn gpt2_learns_causal_lm_and_linear_heads() {
    let space = space("gpt2", "[{ generative: { causal_lm: {} } }]", LINEAR);
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=ran test=ran tokens=ran topics=ran");
}

#[test]
fn transformers_learn_to_continue_classify_and_write() {
    let space = space("transformer", "[{ generative: { prefix_lm: {} } }]", "");
    space.write("recipe.yaml", space.read("recipe.yaml").replace("[Classification]。", "：[Classification]"));
    assert_eq!(space.statuses(&["recipe.yaml"]), "base=ran test=ran tokens=ran topics=ran");
    let written = ["generate", "recipe.yaml", "base", "--prompt", "球队", "--temperature", "0", "--max-tokens", "8"];
    let [first, second] = [(); 2].map(|()| space.pipe(&written));
    assert!(first.status == 0 && first.stdout.starts_with("球队"), "{}", first.stderr);
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn every_family_classifies_by_prompt() {
    let bert = space("bert", "[{ masked_lm: {} }]", "");
    assert_eq!(bert.statuses(&["recipe.yaml"]), "base=ran test=ran tokens=ran topics=ran");

    let gpt2 = space("gpt2", "[{ generative: { causal_lm: {} } }]", "");
    gpt2.write("recipe.yaml", gpt2.read("recipe.yaml").replace("[Classification]。", "：[Classification]"));
    assert_eq!(gpt2.statuses(&["recipe.yaml"]), "base=ran test=ran tokens=ran topics=ran");
    for space in [bert, gpt2] {
        let output = space.pipe(&["predict", "recipe.yaml", "topics", "--text", "球队赢了比赛", "--json"]);
        let line: serde_json::Value = serde_json::from_str(&output.stdout).expect("a line of JSON");
        let sum: f64 = line["probabilities"].as_object().expect("labels").values().filter_map(|p| p.as_f64()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{line}");
    }
}

#[test]
fn every_generation_of_chatglm_learns_and_classifies_by_prompt() {
    let causal = "[{ generative: { causal_lm: {} } }]";
    for (family, objectives) in [("chatglm", MIX), ("chatglm2", causal), ("glm4", causal)] {
        let space = space(family, objectives, "");
        space.write("recipe.yaml", space.read("recipe.yaml").replace("[Classification]。", "：[Classification]"));
        assert_eq!(space.statuses(&["recipe.yaml"]), "base=ran test=ran tokens=ran topics=ran", "{family}");
        assert_eq!(space.statuses(&["recipe.yaml"]), "base=hit test=hit tokens=hit topics=hit", "{family}");
    }
}

#[test]
fn heads_that_do_not_fit_are_refused_with_their_place() {
    let told = |family: &str, sizes: &str| {
        let space = space(family, "[{ generative: { causal_lm: {} } }]", LINEAR);
        let text = space.read("recipe.yaml").replace("hidden: 16, layers: 1, heads: 2", sizes);
        space.write("recipe.yaml", text);
        let output = space.pipe(&["check", "recipe.yaml"]);
        assert_ne!(output.status, 0);
        output.stderr + &output.stdout
    };
    let text = told("chatglm2", "hidden: 24, layers: 1, heads: 6, head_size: 8, groups: 4");
    assert!(text.contains("4 kv heads don't divide 6 query heads"), "{text}");
    assert!(text.contains("`groups: 3` would"), "{text}");
    let text = told("glm4", "hidden: 24, layers: 1, heads: 4");
    assert!(text.contains("rotary embeddings need a head size divisible by 4, got 6"), "{text}");
    let text = told("chatglm2", "hidden: 20, layers: 1, heads: 3, groups: 3");
    assert!(text.contains("3 heads don't divide a hidden size of 20"), "{text}");
}

#[test]
fn objectives_that_a_family_cannot_learn_are_refused_with_their_place() {
    let refused = |family: &str, objectives: &str, head: &str| {
        let output = space(family, objectives, head).pipe(&["check", "recipe.yaml"]);
        assert_ne!(output.status, 0);
        output.stderr + &output.stdout
    };
    let told = refused("bert", MIX, LINEAR);
    assert!(told.contains("a bert model cannot learn `blank_infilling`"), "{told}");
    assert!(told.contains("bert learns `masked_lm`, `next_sentence` and `sentence_order`"), "{told}");
    assert!(told.contains("recipe.yaml:12:"), "{told}");

    let told = refused("gpt2", "[{ masked_lm: {} }, { generative: { prefix_lm: {} } }]", LINEAR);
    assert!(told.contains("a gpt2 model cannot learn `masked_lm`"), "{told}");
    assert!(told.contains("a gpt2 model cannot learn `prefix_lm`"), "{told}");

    let told = refused("transformer", "[{ masked_lm: {} }, { generative: { causal_lm: {} } }]", LINEAR);
    assert!(told.contains("a transformer model cannot learn `masked_lm`"), "{told}");
    assert!(told.contains("a transformer model cannot learn `causal_lm`"), "{told}");
    assert!(told.contains("transformer learns `prefix_lm`"), "{told}");

    let told = refused("gpt2", "[{ generative: { causal_lm: {} } }]", &format!("{LINEAR}\n          pooling: first"));
    assert!(told.contains("the first token of the gpt2 model of `base` sees nothing of the text"), "{told}");

    let told = refused("gpt2", "[{ generative: { causal_lm: {} } }]", "");
    let message = "the gpt2 model of `base` answers before it has read what stands after `[Classification]`";
    assert!(told.contains(message), "{told}");
    assert!(told.contains("put the marker at the end of the template"), "{told}");
}
