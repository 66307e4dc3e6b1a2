//! Temporary: spans of words, for each line of stdin-like file.
use pipe::data::text::{Pieces, Tokenizer};
use serde_json::{Value, json};
use std::io::Write;

#[test]
fn f1_dump() {
    let Ok(folder) = std::env::var("F1") else { return };
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let texts: Vec<String> = read("texts.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let train = |spec: Value| {
        let spec: pipe::spec::Tokenizer = serde_json::from_value(spec).unwrap();
        Tokenizer::train(&spec, texts.iter().map(|text| Ok(text.clone()))).unwrap()
    };
    let tokenizers = [
        ("google", Tokenizer::load(std::path::Path::new(&format!("{folder}/vocab.txt"))).unwrap()),
        ("bpe", train(json!({ "bpe": { "vocab_size": 8000 } }))),
        ("unigram", train(json!({ "unigram": { "vocab_size": 8000 } }))),
        ("bytes", train(json!({ "bpe": { "vocab_size": 265 } }))),
    ];
    for (name, tokenizer) in tokenizers {
        let pieces = Pieces::of(&tokenizer);
        let mut out = std::io::BufWriter::new(std::fs::File::create(format!("{folder}/{name}.jsonl")).unwrap());
        let begun = std::time::Instant::now();
        for text in &texts {
            let encoded = tokenizer.encode_with_offsets(text, false).unwrap();
            let ids: Vec<u32> = encoded.iter().map(|(id, _)| *id).collect();
            let continues = pieces.continuations(&ids);
            let starts: Vec<usize> =
                encoded.iter().zip(&continues).filter(|(_, c)| !**c).map(|((_, range), _)| range.start).collect();
            writeln!(out, "{}", json!(starts)).unwrap();
        }
        eprintln!("{name}: {:?}", begun.elapsed());
    }
}
