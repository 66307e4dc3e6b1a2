//! What each kind of stage gives for a fixed tiny input, by the version of its code: when the output changes, the version has
//! to, so that an old artifact is never served for new code.
//!
//! Training's sums are taken in another order on processors with other vectors, so its digests hold for one level only; on
//! others that part is skipped. To note new digests, run with `PIPE_GOLDEN=1 -- --nocapture`.

mod common;

use common::{Space, TINY, tiny};
use serde_json::Value;

/// Stage, version of its kind, digest of its output.
type Golden = (&'static str, u64, &'static str);

/// The same on every machine.
const EVERYWHERE: [Golden; 3] = [("wordpiece", 1, ""), ("bpe", 1, ""), ("unigram", 1, "")];

/// On x86-64 with AVX-512.
const AVX512: [Golden; 5] = [("base", 1, ""), ("topics", 1, ""), ("test", 2, ""), ("taken", 1, ""), ("made", 1, "")];

const TOKENIZERS: &str = "
stages:
  wordpiece: { tokenize: { tokenizer: { wordpiece: { vocab_size: 300 } }, corpus: [{ path: corpus.txt }] } }
  bpe: { tokenize: { tokenizer: { bpe: { vocab_size: 320 } }, corpus: [{ path: corpus.txt }] } }
  unigram: { tokenize: { tokenizer: { unigram: { vocab_size: 80 } }, corpus: [{ path: corpus.txt }] } }
";

fn compare(space: &Space, result: &Value, expected: &[Golden]) {
    let is_asked = std::env::var_os("PIPE_GOLDEN").is_some();
    for (stage, version, digest) in expected {
        let key = result["stages"][stage]["key"].as_str().expect("a key");
        let found = result["stages"][stage]["digest"].as_str().expect("a digest");
        let known = &space.json(&["show", key])["manifest"];
        if is_asked {
            println!("    (\"{stage}\", {}, \"{found}\"),", known["version"]);
            continue;
        }
        let kind = &known["kind"];
        assert_eq!(known["version"], *version, "{kind} has a new version: note its digest for `{stage}`, {found}");
        assert_eq!(
            found, *digest,
            "`{stage}` gives another output, and {kind} still has version {version}: raise it in Stage::version"
        );
    }
}

#[test]
fn changed_output_of_tokenizers_has_a_new_version() {
    let space = tiny();
    space.write("recipe.yaml", TOKENIZERS);
    compare(&space, &space.json(&["run", "recipe.yaml"]), &EVERYWHERE);
}

#[test]
fn changed_output_of_models_has_a_new_version() {
    let is_known = {
        #[cfg(target_arch = "x86_64")]
        {
            cfg!(target_os = "linux") && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    };
    if !is_known {
        eprintln!("skipped: no digests are noted for this processor");
        return;
    }
    let space = tiny();
    let base = space.json(&["run", "recipe.yaml", "--stage", "base", "--device", "cpu"]);
    let model = base["stages"]["base"]["path"].as_str().expect("a path");
    let more = format!(
        "{TINY}  taken: {{ import: {{ path: \"{model}\" }} }}\n  made: {{ export: {{ model: topics, dtype: f16 }} }}\n"
    );
    space.write("recipe.yaml", more);
    compare(&space, &space.json(&["run", "recipe.yaml", "--device", "cpu"]), &AVX512);
}
