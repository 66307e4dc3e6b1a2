//! Tokenizers that are trained here: the same at every run, special tokens first, faithful to the text.

use crate::common;
use std::path::Path;

use pipe::data::text::{ABSENT, Special, Specials, Tokenizer, sentences};
use pipe::spec::{self, Bpe, Unigram, WordPiece};

const TEXT: &str = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少！床前明月光，疑是地上霜。举头望明月，低头思故乡。白日依山尽，\
    黄河入海流。欲穷千里目，更上一层楼。The quick brown fox jumps over the lazy dog. 2023年10月，体育新闻：北京队赢了！";

fn bpe(vocab_size: usize) -> spec::Tokenizer {
    spec::Tokenizer::Bpe(Bpe { vocab_size, min_frequency: 2 })
}

fn wordpiece(vocab_size: usize) -> spec::Tokenizer {
    spec::Tokenizer::Wordpiece(WordPiece { vocab_size, min_frequency: 2, lowercase: true })
}

fn unigram(vocab_size: usize) -> spec::Tokenizer {
    spec::Tokenizer::Unigram(Unigram { vocab_size, max_piece_length: 4, lowercase: true })
}

fn kinds() -> [spec::Tokenizer; 3] {
    [bpe(420), wordpiece(160), unigram(1100)]
}

/// The sentences many times over, each time one of them is missing.
fn texts() -> Vec<String> {
    let sentences: Vec<String> = sentences(TEXT).map(String::from).collect();
    let turn = |turn| sentences.iter().cycle().skip(turn).take(sentences.len() - 1).cloned();
    (0..20).flat_map(turn).collect()
}

fn train(spec: &spec::Tokenizer) -> Tokenizer {
    Tokenizer::train(spec, texts().into_iter().map(Ok)).unwrap()
}

fn json(tokenizer: &Tokenizer) -> String {
    let directory = tempfile::tempdir().unwrap();
    tokenizer.save(&directory.path().join("tokenizer.json")).unwrap();
    std::fs::read_to_string(directory.path().join("tokenizer.json")).unwrap()
}

fn load(json: &str) -> anyhow::Result<Tokenizer> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tokenizer.json"), json).unwrap();
    Tokenizer::load(directory.path())
}

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
}

fn first_nine(vocab_size: usize) -> Specials {
    Specials { pad: 0, unk: 1, cls: 2, sep: 3, mask: 4, gmask: 5, smask: 6, sop: 7, eop: 8, vocab_size }
}

#[test]
fn special_tokens_have_the_first_ids_and_the_order_of_texts_does_not_matter() {
    for spec in kinds() {
        let tokenizer = train(&spec);
        assert_eq!(tokenizer.special, first_nine(tokenizer.vocab_size()));
        let backward = Tokenizer::train(&spec, texts().into_iter().rev().map(Ok)).unwrap();
        assert_eq!(json(&tokenizer), json(&backward), "{spec:?}");
    }
}

/// Run by the next test in other processes.
#[test]
#[ignore = "a part of `other_processes_and_threads_train_the_same_tokenizers`"]
fn writes_tokenizers() {
    let directory = std::env::var_os("PIPE_TEST_OUT").unwrap();
    for (index, spec) in kinds().iter().enumerate() {
        train(spec).save(&Path::new(&directory).join(index.to_string())).unwrap();
    }
}

#[test]
fn other_processes_and_threads_train_the_same_tokenizers() {
    for threads in ["1", "3"] {
        let directory = tempfile::tempdir().unwrap();
        common::run_alone(
            "data::tokenizer_training::writes_tokenizers",
            &[("RAYON_NUM_THREADS", threads.as_ref()), ("PIPE_TEST_OUT", directory.path().as_os_str())],
        );
        for (index, spec) in kinds().iter().enumerate() {
            let other = std::fs::read_to_string(directory.path().join(index.to_string())).unwrap();
            assert_eq!(other, json(&train(spec)), "{spec:?} with {threads} threads");
        }
    }
}

#[test]
fn saved_tokenizers_encode_as_before_and_save_the_same_bytes() {
    for spec in kinds() {
        let tokenizer = train(&spec);
        let loaded = load(&json(&tokenizer)).unwrap();
        assert_eq!(loaded.special, tokenizer.special);
        assert_eq!(loaded.vocab_size(), tokenizer.vocab_size());
        assert_eq!(loaded.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
        assert_eq!(json(&loaded), json(&tokenizer));
    }
}

#[test]
fn vocabulary_has_its_size_or_what_the_text_can_fill() {
    assert_eq!(train(&bpe(330)).vocab_size(), 330);
    assert_eq!(train(&wordpiece(100)).vocab_size(), 100);
    assert_eq!(train(&unigram(120)).vocab_size(), 120);
    for spec in [bpe(100_000), wordpiece(100_000), unigram(100_000)] {
        let size = train(&spec).vocab_size();
        assert!((110..900).contains(&size), "{spec:?}: {size}");
    }
}

#[test]
fn decoding_gives_the_text_back() {
    let text = "春眠不觉晓，处处闻啼鸟。北京队赢了！";
    for spec in kinds() {
        let tokenizer = train(&spec);
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), true).unwrap(), text, "{spec:?}");
    }
    let exact = "The  fox\n\tΩ 龘 🦊?";
    let tokenizer = train(&bpe(420));
    assert_eq!(tokenizer.decode(&tokenizer.encode(exact).unwrap(), false).unwrap(), exact);
    let tokenizer = train(&unigram(1100));
    assert_eq!(tokenizer.decode(&tokenizer.encode(exact).unwrap(), false).unwrap(), "the fox ω 龘 🦊?");
    let tokenizer = train(&wordpiece(160));
    assert_eq!(tokenizer.decode(&tokenizer.encode("The fox，Dog 龘").unwrap(), true).unwrap(), "the fox，dog");
}

#[test]
fn decoding_shows_special_tokens_unless_told_to_skip_them() {
    let tokenizer = train(&unigram(1100));
    let ids = [&[2], tokenizer.encode("明月").unwrap().as_slice(), &[3]].concat();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "明月");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "[CLS]明月[SEP]");
    assert_eq!(
        tokenizer.decode(&[9999], true).unwrap_err().to_string(),
        "token id 9999 is outside the vocabulary of 412"
    );
}

#[test]
fn unigram_pieces_span_characters_but_not_marks_digits_or_words() {
    let tokenizer = train(&unigram(150));
    let longest = (9..150).map(|id| tokenizer.token(id).unwrap().chars().count()).max();
    assert_eq!(longest, Some(4));
    assert_eq!(pieces(&tokenizer, "体育新闻"), ["体育新闻"]);
    assert_eq!(pieces(&tokenizer, "2023年10月，体育新闻"), ["2023", "年", "10", "月", ",", "体育新闻"]);
    for id in 9..150 {
        let piece = tokenizer.token(id).unwrap();
        let mixed = piece.chars().any(|c| c.is_ascii_digit() || "，。：！,:!.".contains(c))
            && piece.chars().any(char::is_alphabetic);
        assert!(!mixed, "{piece}");
    }
}

#[test]
fn unigram_words_encode_the_same_alone_and_in_running_text() {
    let tokenizer = train(&unigram(1100));
    let alone = tokenizer.encode("体育新闻").unwrap();
    let running = tokenizer.encode("这是：体育新闻！ 体育新闻").unwrap();
    assert_eq!(running.windows(alone.len()).filter(|window| *window == alone).count(), 2);
}

#[test]
fn unseen_characters_are_bytes_where_the_vocabulary_has_room_and_unknown_where_not() {
    assert_eq!(pieces(&train(&unigram(1100)), "龘"), ["<0xE9>", "<0xBE>", "<0x98>"]);
    assert_eq!(pieces(&train(&unigram(200)), "明龘龘月"), ["明", "[UNK]", "月"]);
    assert_eq!(pieces(&train(&wordpiece(160)), "明龘月"), ["明", "[UNK]", "月"]);
}

#[test]
fn special_tokens_written_in_a_text_are_text() {
    let text = "[MASK]<sop>[CLS] [gMASK]<eop>[PAD]";
    for spec in kinds() {
        let ids = train(&spec).encode(text).unwrap();
        assert!(!ids.is_empty() && ids.iter().all(|&id| id == 1 || id > 8), "{spec:?}: {ids:?}");
    }
}

/// A unigram model without a pre-tokenizer, whose own pieces include its special tokens.
fn sentencepiece(added: &str) -> String {
    format!(
        r#"{{"version":"1.0","truncation":{{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0}},
        "padding":null,"added_tokens":[{added}],"normalizer":null,"pre_tokenizer":null,"post_processor":null,
        "decoder":{{"type":"Fuse"}},"model":{{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":
        [["<unk>",0.0],["</s>",0.0],["a",-2.0],["s",-2.0],["<",-3.0],["/",-3.0],[">",-3.0],["sop",-1.0],["<sop>",-1.0]]}}}}"#
    )
}

#[test]
fn special_tokens_are_not_found_by_a_model_that_has_them_as_pieces() {
    let tokenizer = load(&sentencepiece("")).unwrap();
    assert_eq!(pieces(&tokenizer, "a</s>a"), ["a", "<", "/", "s", ">", "a"]);
}

#[test]
fn loaded_tokenizers_keep_the_special_tokens_they_have_and_get_no_others() {
    let tokenizer = load(&sentencepiece("")).unwrap();
    let absent = Specials {
        pad: ABSENT,
        unk: 0,
        cls: 1,
        sep: 1,
        mask: ABSENT,
        gmask: ABSENT,
        smask: ABSENT,
        sop: 8,
        eop: 1,
        vocab_size: 9,
    };
    assert_eq!(tokenizer.special, absent);
    assert_eq!(tokenizer.vocab_size(), 9);
    let error = tokenizer.special.require("blank_infilling", &[Special::Smask, Special::Sop]).unwrap_err().to_string();
    assert!(error.starts_with("blank_infilling needs [sMASK], which this tokenizer lacks"), "{error}");
    let again = load(&json(&tokenizer)).unwrap();
    assert_eq!(again.special, absent);
}

#[test]
fn loaded_tokenizers_do_not_cut_texts() {
    assert_eq!(load(&sentencepiece("")).unwrap().encode("aaaa").unwrap(), [2, 2, 2, 2]);
}

#[test]
fn files_that_are_no_tokenizer_are_told() {
    let error = format!("{:#}", load("{}").err().unwrap());
    assert!(error.contains("tokenizer.json: can't be read as a tokenizer: "), "{error}");
}

#[test]
fn training_without_text_is_a_mistake() {
    for spec in kinds() {
        let error = Tokenizer::train(&spec, std::iter::empty()).err().unwrap();
        assert_eq!(error.to_string(), "there is no text to train a tokenizer on");
    }
}
