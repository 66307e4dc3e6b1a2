//! What each kind of stage gives for a fixed tiny input, by the version of its code: when the output changes, the version has
//! to, so that an old artifact is never served for new code.
//!
//! Training's sums are taken in another order on processors with other vectors, so its digests hold for one level only; on
//! others nothing is known. `PIPE_GOLDEN=1 cargo test --release --test engine golden -- --nocapture` prints new ones.

use crate::common;
use common::{Space, TINY, need, needs::Need, tiny};
use serde_json::Value;

/// Stage, version of its kind, digest of its output.
type Golden = (&'static str, u64, &'static str);

/// The same on every machine.
const EVERYWHERE: [Golden; 3] = [
    ("wordpiece", 1, "138f9ad42ffe705b0a737347dc1fb703fa87b58d744534e27ddd2dfad78691da"),
    ("bpe", 1, "7e396281c644fd77c553311668a4389cb1c248e38b3745082f77b19351dbf81e"),
    ("unigram", 1, "a5d85de2545948f2ae073cd2a2118b358144b44f74e0568c2791040fe5aa8f7c"),
];

/// On x86-64 with AVX-512.
const AVX512: [Golden; 5] = [
    ("base", 1, "6eb231e85d63af0dac162a54b9844cd79d1cc5e0146447a9ca8fddab94cc4d82"),
    ("topics", 1, "e1e68e876c9322eb97e716a2268241251f05699bd8fbd814ad14c6eb3c2c5ca1"),
    ("test", 2, "1f36a4d07ab2164af44df03df8e48584ba286d4005d066da4a48a0dca4588208"),
    ("taken", 1, "d0115281e8715fff5779cf308c9c7ea6694a2fa08c1a9a7bf9d82e29a7574710"),
    ("made", 1, "3eefbe35f0f236acd5b28ce1dd2f39324ab3a6f69cdec6df86a75ddd4f208a18"),
];

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
    need!(is_known.then_some(()).ok_or_else(|| Need::Avx512.unmet("no digests are noted for this processor")));
    let space = tiny();
    let base = space.json(&["run", "recipe.yaml", "--stage", "base", "--device", "cpu"]);
    let model = base["stages"]["base"]["path"].as_str().expect("a path");
    let more = format!(
        "{TINY}  taken: {{ import: {{ path: \"{model}\" }} }}\n  made: {{ export: {{ model: topics, dtype: f16 }} }}\n"
    );
    space.write("recipe.yaml", more);
    compare(&space, &space.json(&["run", "recipe.yaml", "--device", "cpu"]), &AVX512);
}
