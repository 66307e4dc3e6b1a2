//! Values from the environment: used, but never shown, and hashed with their expressions alone.

use pipe::recipe::walk::file_fields;
use pipe::stages::catalog;
use serde_json::json;

use super::values::{RECIPE, check, good};

/// `cargo test` sets this one to a path that's long enough to be recognised.
const SECRET: &str = "CARGO_MANIFEST_DIR";

fn secret() -> String {
    std::env::var(SECRET).expect("cargo sets it")
}

#[test]
fn a_value_from_the_environment_is_used_but_never_shown_or_hashed_in_the_clear() {
    let text = RECIPE.replace("width: 64", "width: 64\n  home: '{{ env(\"CARGO_MANIFEST_DIR\") }}'");
    let text = text.replace("path: Cargo.toml, format: txt", "path: '{{ home }}/Cargo.toml', format: txt");
    let text = text.replace("b: two", "b: 'word {{ env(\"CARGO_MANIFEST_DIR\") }}'");
    let checked = good(&text, &[], &[]);
    let files = file_fields(catalog(), &checked.recipe.stages["tokens"]);
    assert_eq!(files[0].pattern, format!("{}/Cargo.toml", secret()));

    let described = checked.described("topic").expect("a stage");
    let word = described["task"]["classification"]["words"]["b"].as_str().expect("a word");
    let hash = word.strip_prefix("env:word {{ env(\"CARGO_MANIFEST_DIR\") }}#").expect("the expression");
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(checked.canonical("topic").expect("a stage")["task"]["classification"]["words"]["b"], json!(word));
    assert_eq!(
        checked.secrets().keys().collect::<Vec<_>>(),
        ["stages.tokens.tokenize.corpus.0.path", "stages.topic.finetune.task.classification.words.b", "vars.home"]
    );

    let shown = [
        serde_json::to_string(&checked.recipe.vars).expect("vars are JSON"),
        format!("{checked:?}"),
        checked.scrub(&format!("cannot read {}/Cargo.toml", secret())),
        checked.shown("stages.tokens.corpus.0.path"),
        checked.diagnose("stages.topic", format!("found {}", secret()), None).to_string(),
        described.to_string(),
    ];
    for text in shown {
        assert!(!text.contains(&secret()), "{text}");
    }
}

#[test]
fn mistakes_around_a_secret_do_not_show_it() {
    let env = "env(\"CARGO_MANIFEST_DIR\")";
    let cases = [
        ("steps: 1e2", format!("steps: '{{{{ {env} }}}}'")),
        ("steps: 1e2", format!("steps: '{{{{ {env} | int }}}}'")),
        ("from: base", format!("from: '{{{{ {env} }}}}'")),
        ("path: Cargo.toml, format: txt", format!("path: '{{{{ {env} }}}}/nowhere.txt', format: txt")),
        ("log_every: 7", format!("keep_best: '{{{{ {env} }}}}'")),
        ("batch: {tokens: 512}", format!("batch: '{{{{ {{{env}: 1}} }}}}'")),
        ("vars:", format!("device: '{{{{ {env} }}}}'\nvars:")),
        ("vars:", format!("devices: '{{{{ {env} }}}}'\nvars:")),
        ("b: two, a: one", format!("b: '{{{{ {env} }}}}', a: '{{{{ {env} }}}}'")),
        ("\"{{ text }} [Classification]\"", "x".into()),
        ("grid:", format!("maximize: 'stages.{{{{ {env} }}}}.metrics.loss'\n  grid:")),
    ];
    for (from, to) in cases {
        let text = RECIPE.replacen(from, &to, 1);
        assert_ne!(text, RECIPE, "{from}");
        let problems = check(&text, &[], &[]).expect_err("a mistake");
        let said = format!("{problems} {problems:?} {}", problems.render(true));
        assert!(!said.contains(&secret()), "{said}");
    }
}
