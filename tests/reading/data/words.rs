//! Words: of texts, held against jieba's own, and of tokens, whatever tokenizer they come from.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use pipe::{
    data::{
        Corpus, CorpusWords, ShardWriter,
        text::{Pieces, Tokenizer, word_starts},
    },
    spec,
};
use serde_json::{Value, json};

/// Texts as Python's jieba 0.42.1 cuts them, `"|".join(jieba.lcut(text))`.
const JIEBA: [&str; 15] = [
    "我们|中出|了|一个|叛徒",
    "他|来到|了|网易|杭研|大厦",
    "小明|硕士|毕业|于|中国科学院|计算所|，|后|在|日本京都大学|深造",
    "南京市|长江大桥",
    "今天天气|很|好|，|我们|去|公园|吧|。",
    "iPhone| |15|的|售价|是|5999|元|，|比|去年|涨|了|3.5%|！",
    "T恤|和|卡拉|OK|，|B超|与|C++|。",
    "王小二|把|永和|服装|饰品|有限公司|的|帐|结清|了",
    "结婚|的|和|尚未|结婚|的",
    "于|吉大師|的|「|道|法|自然|」|何解|？",
    "春眠|不觉|晓|\n|处处|闻啼鸟",
    "工信处|女干事|每月|经过|下属|科室|都|要|亲口|交代|24|口|交换机|等|技术性|器件|的|安装|工作",
    "㐱|與|𠮷|字|很少|見",
    "用|python|-|3.11|写|hello|_|world",
    "😀|哈哈哈|…|太|好笑|了",
];

fn words(text: &str) -> Vec<&str> {
    let mut starts = word_starts(text);
    starts.push(text.len());
    starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

#[test]
fn chinese_is_cut_as_jieba_cuts_it() {
    for cut in JIEBA {
        assert_eq!(words(&cut.replace('|', "")).join("|"), cut);
    }
}

fn trained(spec: Value, texts: &[&str]) -> Tokenizer {
    let spec: spec::Tokenizer = serde_json::from_value(spec).unwrap();
    Tokenizer::train(&spec, texts.iter().map(|text| Ok((*text).to_owned()))).unwrap()
}

/// The words of a text's tokens, decoded; and how many tokens the longest has.
fn grouped(tokenizer: &Tokenizer, text: &str) -> (Vec<String>, usize) {
    let ids = tokenizer.encode(text).unwrap();
    let continues = Pieces::of(tokenizer).continuations(&ids);
    assert_eq!(continues.len(), ids.len());
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (id, continues) in ids.into_iter().zip(continues) {
        match groups.last_mut() {
            Some(group) if continues => group.push(id),
            _ => groups.push(vec![id]),
        }
    }
    let longest = groups.iter().map(Vec::len).max().unwrap_or(0);
    let decoded = groups.iter().map(|group| tokenizer.decode(group, false).unwrap().trim().to_owned());
    (decoded.collect(), longest)
}

const ENGLISH: [&str; 3] = ["internationalization of translations", "nations of the international station", "a ration"];

#[test]
fn words_of_bytes_are_characters_and_words() {
    // A token a byte: three for each Chinese character.
    let tokenizer = trained(json!({ "bpe": { "vocab_size": 265 } }), &["ab"]);
    let (words, longest) = grouped(&tokenizer, "今天天气很好, don't say cafés");
    assert_eq!(words, ["今天天气", "很", "好", ",", "don", "'", "t", "say", "cafés"]);
    assert_eq!(longest, 12);
}

#[test]
fn words_of_byte_pairs_begin_at_spaces_and_punctuation() {
    let tokenizer = trained(json!({ "bpe": { "vocab_size": 300 } }), &ENGLISH);
    let (words, longest) = grouped(&tokenizer, "the internationalization, of stations");
    assert_eq!(words, ["the", "internationalization", ",", "of", "stations"]);
    assert!(longest > 1);
}

#[test]
fn words_of_a_unigram_model_are_not_its_pieces() {
    let tokenizer = trained(json!({ "unigram": { "vocab_size": 60 } }), &ENGLISH);
    let (words, longest) = grouped(&tokenizer, "the internationalization of stations");
    assert_eq!(words, ["the", "internationalization", "of", "stations"]);
    assert!(longest > 1);
    let chinese = trained(json!({ "unigram": { "vocab_size": 40 } }), &["今天天气很好", "天气", "很好", "今天"]);
    // 很好 is a piece, and two words for jieba.
    assert!(chinese.id("很好").is_some());
    assert_eq!(grouped(&chinese, "今天天气很好").0, ["今天天气", "很好"]);
}

#[test]
fn words_of_word_pieces_are_heads_with_what_continues_them() {
    let texts = ["今天天气很好", "internationalization of translations", "nations of the international station, a"];
    let tokenizer = trained(json!({ "wordpiece": { "vocab_size": 90, "min_frequency": 1 } }), &texts);
    let (words, longest) = grouped(&tokenizer, "今天天气很好, a nation of the stations");
    assert_eq!(words, ["今天天气", "很", "好", ",", "a", "nation", "of", "the", "stations"]);
    assert!(longest > 3);
}

#[test]
fn a_character_in_bytes_of_its_own_is_one_word() {
    let mut vocabulary = vec![json!(["<unk>", 0.0]), json!(["▁", -1.0]), json!(["好", -2.0])];
    vocabulary.extend((0..=255).map(|byte| json!([format!("<0x{byte:02X}>"), -9.0])));
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false },
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "ByteFallback" },
            { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false },
        ] },
        "model": { "type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": true },
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json.to_string()).unwrap();
    let tokenizer = Tokenizer::load(file.path()).unwrap();
    assert_eq!(grouped(&tokenizer, "天气好好").0, ["天气", "好好"]);
    assert_eq!(tokenizer.encode("天气好好").unwrap().len(), 1 + 6 + 2);
}

/// A corpus of these texts, in a folder.
fn corpus(tokenizer: &Tokenizer, texts: &[&str], folder: &Path) -> Arc<Corpus> {
    let mut shards = ShardWriter::new(folder, tokenizer.vocab_size());
    for (number, text) in (0..).zip(texts) {
        shards.push(&[tokenizer.encode(text).unwrap()], number).unwrap();
    }
    shards.finish().unwrap();
    Arc::new(Corpus::load(folder).unwrap())
}

/// What the file holds once it's there, and isn't `before` any more.
fn written(file: &Path, before: &[u8]) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        match std::fs::read(file) {
            Ok(bytes) if bytes != before => return bytes,
            _ => assert!(begun.elapsed() < Duration::from_secs(60), "nothing was written"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn words_of_a_corpus_are_kept_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(json!({ "bpe": { "vocab_size": 265 } }), &["ab"]);
    let texts = ["今天天气很好", "don't", "我们去公园吧"];
    let (corpus, pieces) = (corpus(&tokenizer, &texts, folder.path()), Arc::new(Pieces::of(&tokenizer)));
    let file = folder.path().join("words");
    let open = || CorpusWords::open(Arc::clone(&corpus), Arc::clone(&pieces), file.clone());
    let all =
        |words: &CorpusWords| -> Vec<Vec<bool>> { (0..3).map(|document| words.continuations(document)).collect() };
    let expected: Vec<_> = texts.map(|text| pieces.continuations(&tokenizer.encode(text).unwrap())).into();

    // Asked for while they're still looked for in the background.
    let words = open();
    assert_eq!(all(&words), expected);
    let whole = written(&file, b"");
    drop(words);
    // Documents of 18, 5 and 18 tokens, a bit a token.
    assert_eq!(whole.len(), "words 1\n".len() + 32 + 3 + 1 + 3);

    // The file is what is read: one that says something else, in its own words, is believed.
    let head = whole.len() - 7;
    let mut other = whole.clone();
    other[head] ^= 2;
    let digest = *blake3::hash(&other[head..]).as_bytes();
    other[head - 32..head].copy_from_slice(&digest);
    std::fs::write(&file, &other).unwrap();
    let read = all(&open());
    assert_ne!(read[0][1], expected[0][1]);
    assert_eq!((&read[0][2..], &read[1..]), (&expected[0][2..], &expected[1..]));

    // One that is damaged, cut off or of another version isn't, and is made again.
    let mut damaged = whole.clone();
    damaged[head] ^= 2;
    for damaged in [damaged, whole[..whole.len() - 1].to_vec(), b"words 0\n".to_vec()] {
        std::fs::write(&file, &damaged).unwrap();
        let words = open();
        assert_eq!(all(&words), expected);
        assert_eq!(written(&file, &damaged), whole);
    }
}

#[test]
fn words_are_found_where_nothing_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(json!({ "bpe": { "vocab_size": 265 } }), &["ab"]);
    let corpus = corpus(&tokenizer, &["天气"], folder.path());
    let words = CorpusWords::open(corpus, Arc::new(Pieces::of(&tokenizer)), folder.path().join("gone").join("words"));
    assert_eq!(words.continuations(0), [false, true, true, true, true, true]);
    assert!(words.continuations(1).is_empty());
}
