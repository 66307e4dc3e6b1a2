//! Tokenizers out of the files that checkpoints bring: SentencePiece models and tiktoken's ranks, made here piece by
//! piece, and the special tokens beside them.

use std::{fs, path::Path};

use data_encoding::BASE64;
use pipe::data::text::{ABSENT, Special, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const BYTE: u64 = 6;

/// Writes protocol buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

/// A model of `<unk>`, `<s>`, `</s>`, then these pieces, then all bytes if asked for.
struct SentencePiece {
    pieces: Vec<(String, f32, u64)>,
    algorithm: u64,
    extra_spaces: bool,
    charsmap: Vec<u8>,
}

const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

impl SentencePiece {
    fn new(algorithm: u64, pieces: &[(&str, f32)]) -> Self {
        let control = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
        let control = control.into_iter().map(|(text, kind)| (text.to_owned(), 0.0, kind));
        let normal = pieces.iter().map(|(text, score)| ((*text).to_owned(), *score, NORMAL));
        Self { pieces: control.chain(normal).collect(), algorithm, extra_spaces: true, charsmap: Vec::new() }
    }

    fn with(mut self, texts: impl IntoIterator<Item = String>, kind: u64) -> Self {
        self.pieces.extend(texts.into_iter().map(|text| (text, 0.0, kind)));
        self
    }

    fn with_bytes(self) -> Self {
        self.with((0..=255).map(|byte| format!("<0x{byte:02X}>")), BYTE)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut model = Message::default();
        for (text, score, kind) in &self.pieces {
            let piece = Message::default().bytes(1, text.as_bytes()).float(2, *score).integer(3, *kind);
            model = model.bytes(1, &piece.0);
        }
        let trainer = Message::default().integer(3, self.algorithm).integer(35, 1);
        let normalizer = Message::default().bytes(2, &self.charsmap).integer(4, u64::from(self.extra_spaces));
        model.bytes(2, &trainer.0).bytes(3, &normalizer.0).0
    }
}

/// A checkpoint's directory.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), contents).unwrap();
        self
    }

    fn with_json(self, name: &str, value: &Value) -> Self {
        self.with(name, value.to_string())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn load(&self) -> Tokenizer {
        Tokenizer::load(self.path()).unwrap()
    }

    fn error(&self) -> String {
        pipe::support::explained(&Tokenizer::load(self.path()).err().unwrap())
    }
}

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let pieces: Vec<String> =
        tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect();
    // What is saved is the same tokenizer.
    let out = tempfile::tempdir().unwrap();
    tokenizer.save(&out.path().join("tokenizer.json")).unwrap();
    let again = Tokenizer::load(out.path()).unwrap();
    assert_eq!(again.special, tokenizer.special);
    assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
    pieces
}

const LETTERS: [(&str, f32); 8] =
    [("▁", -4.0), ("a", -4.1), ("b", -4.2), ("c", -4.3), ("ab", -2.0), ("▁ab", -2.5), ("abc", -6.5), ("天", -3.0)];

#[test]
fn unigram_takes_the_pieces_of_the_highest_score() {
    let directory = Directory::new().with("spiece.model", SentencePiece::new(UNIGRAM, &LETTERS).with_bytes().bytes());
    let tokenizer = directory.load();
    // ▁ab c: -6.8; ▁ abc: -10.5.
    assert_eq!(pieces(&tokenizer, "abc"), ["▁ab", "c"]);
    assert_eq!(pieces(&tokenizer, "  天   ab "), ["▁", "天", "▁ab"]);
    assert_eq!(pieces(&tokenizer, "气"), ["▁", "<0xE6>", "<0xB0>", "<0x94>"]);
    assert_eq!(tokenizer.vocab_size(), 3 + LETTERS.len() + 256);
    let text = "天 ab气";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), true).unwrap(), text);
    assert_eq!((tokenizer.special.unk, tokenizer.special.cls, tokenizer.special.sep), (0, 1, 2));
    assert_eq!(tokenizer.special.mask, ABSENT);
}

#[test]
fn bpe_joins_the_neighbours_of_the_best_piece_first() {
    let letters = [("ab", -1.0), ("bc", -0.5), ("abc", -2.0), ("▁", -9.0), ("a", -9.0), ("b", -9.0), ("c", -9.0)];
    let model = SentencePiece::new(BPE, &letters).with_bytes();
    let tokenizer = Directory::new().with("tokenizer.model", model.bytes()).load();
    assert_eq!(pieces(&tokenizer, "abcab"), ["▁", "abc", "ab"]);
    assert_eq!(pieces(&tokenizer, "bbc 天"), ["▁", "b", "bc", "▁", "<0xE5>", "<0xA4>", "<0xA9>"]);
    assert_eq!(tokenizer.decode(&tokenizer.encode("bbc 天").unwrap(), true).unwrap(), "bbc 天");
}

/// Python: `sentencepiece.SentencePieceProcessor(model_proto=…).encode(text, out_type=str)` of the same models.
#[test]
fn whole_documents_are_tokenized_as_sentencepiece_does() {
    let letters: Vec<(&str, f32)> = LETTERS.into_iter().chain([("。", -3.5)]).collect();
    let removed: [(&str, &[&str]); 4] = [
        ("ab。ab\n  ab. c。天\n", &["▁ab", "。", "ab", "<0x0A>", "▁ab", "<0x2E>", "▁", "c", "。", "天", "<0x0A>"]),
        ("  ab\n\nc  ", &["▁ab", "<0x0A>", "<0x0A>", "c"]),
        (" ab  c \n ab ", &["▁ab", "▁", "c", "▁", "<0x0A>", "▁ab"]),
        ("\tab。\r\nab", &["▁", "<0x09>", "ab", "。", "<0x0D>", "<0x0A>", "ab"]),
    ];
    let kept: [(&str, &[&str]); 4] = [
        ("ab。ab\n  ab. c。天\n", &["▁ab", "。", "ab", "<0x0A>", "▁", "▁ab", "<0x2E>", "▁", "c", "。", "天", "<0x0A>"]),
        ("  ab\n\nc  ", &["▁", "▁", "▁ab", "<0x0A>", "<0x0A>", "c", "▁", "▁"]),
        (" ab  c \n ab ", &["▁", "▁ab", "▁", "▁", "c", "▁", "<0x0A>", "▁ab", "▁"]),
        ("\tab。\r\nab", &["▁", "<0x09>", "ab", "。", "<0x0D>", "<0x0A>", "ab"]),
    ];
    for algorithm in [UNIGRAM, BPE] {
        for (extra_spaces, cases) in [(true, removed), (false, kept)] {
            let model = SentencePiece { extra_spaces, ..SentencePiece::new(algorithm, &letters).with_bytes() };
            let tokenizer = Directory::new().with("tokenizer.model", model.bytes()).load();
            for (text, expected) in cases {
                assert_eq!(pieces(&tokenizer, text), expected, "{algorithm} {extra_spaces} {text:?}");
            }
        }
    }
    let model = SentencePiece::new(BPE, &letters).with(["<n>".to_owned()], USER_DEFINED).with_bytes();
    let model = SentencePiece { extra_spaces: false, ..model };
    let tokenizer = Directory::new().with("tokenizer.model", model.bytes()).load();
    let cases: [(&str, &[&str]); 4] = [
        ("<n>ab", &["▁", "<n>", "ab"]),
        (" ab<n>ab", &["▁", "▁ab", "<n>", "ab"]),
        (" <n> ab", &["▁", "▁", "<n>", "▁ab"]),
        ("ab<n>", &["▁ab", "<n>"]),
    ];
    for (text, expected) in cases {
        assert_eq!(pieces(&tokenizer, text), expected, "{text:?}");
    }
}

#[test]
fn control_symbols_and_bytes_written_in_a_text_are_text() {
    let letters: Vec<(String, f32)> = "▁<>/s0x41".chars().map(|letter| (letter.to_string(), -3.0)).collect();
    let letters: Vec<(&str, f32)> = letters.iter().map(|(letter, score)| (letter.as_str(), *score)).collect();
    for algorithm in [UNIGRAM, BPE] {
        let model = SentencePiece::new(algorithm, &letters).with_bytes();
        let tokenizer = Directory::new().with("tokenizer.model", model.bytes()).load();
        assert_eq!(pieces(&tokenizer, "</s>").concat(), "▁</s>");
        assert_eq!(tokenizer.encode("</s><0x41>").unwrap().len(), 1 + 4 + 6, "{algorithm}");
    }
}

/// ChatGLM-6B's: line breaks, tabs and runs of spaces have pieces of their own.
fn ice() -> SentencePiece {
    let blanks = (2..=80).map(|run| format!("<|blank_{run}|>"));
    let white = ["<n>", "<|tab|>"].map(String::from).into_iter().chain(blanks);
    let marks = ["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"].map(String::from);
    let model = SentencePiece::new(UNIGRAM, &LETTERS).with(white, USER_DEFINED).with(marks, USER_DEFINED);
    SentencePiece { extra_spaces: false, ..model.with_bytes() }
}

#[test]
fn chatglm_keeps_line_breaks_tabs_and_runs_of_spaces() {
    let settings = json!({"tokenizer_class": "ChatGLMTokenizer", "bos_token": "<sop>", "eos_token": "<eop>"});
    let directory =
        Directory::new().with("ice_text.model", ice().bytes()).with_json("tokenizer_config.json", &settings);
    let tokenizer = directory.load();
    assert_eq!(pieces(&tokenizer, "\na"), ["▁", "<n>", "a"]);
    assert_eq!(pieces(&tokenizer, "a\n\tb   c a"), ["▁", "a", "<n>", "<|tab|>", "b", "<|blank_3|>", "c", "▁", "a"]);
    assert_eq!(pieces(&tokenizer, &" ".repeat(83)), ["▁", "<|blank_80|>", "<|blank_3|>"]);
    let text = "ab\n\n  c\t a";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), true).unwrap(), text);
    let special = tokenizer.special;
    let names = [special.mask, special.gmask, special.smask, special.sop, special.eop];
    let names = names.map(|id| tokenizer.token(id).unwrap());
    assert_eq!(names, ["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"]);
    assert_eq!(special.vocab_size, ice().pieces.len());
    assert!(!tokenizer.encode("[gMASK]").unwrap().contains(&special.gmask));
}

#[test]
fn chatglm2_and_3_have_their_special_tokens_after_the_pieces() {
    let model = SentencePiece::new(BPE, &LETTERS).with_bytes();
    let first = model.pieces.len() as u32;
    let load = |name: &str| {
        Directory::new()
            .with("tokenizer.model", model.bytes())
            .with_json("tokenizer_config.json", &json!({"tokenizer_class": "ChatGLMTokenizer"}))
            .with_json("config.json", &json!({"_name_or_path": name, "eos_token_id": 2, "pad_token_id": 0}))
            .load()
    };
    let second = load("THUDM/chatglm2-6b");
    let special = second.special;
    let marks = [special.mask, special.gmask, special.smask, special.sop, special.eop];
    assert_eq!(marks, [0, 1, 2, 3, 4].map(|at| first + at));
    assert_eq!((special.sep, special.vocab_size), (2, first as usize + 5));
    // What the tokenizer puts before a text.
    let framed: Vec<u32> = second.encode_with_offsets("ab", true).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(framed[..2], [special.gmask, special.sop]);
    // `sop` is a word.
    assert!(!second.encode("sop").unwrap().contains(&special.sop));
    let third = load("THUDM/chatglm3-6b");
    assert_eq!(third.id("<|assistant|>"), Some(first + 7));
    assert_eq!(third.vocab_size(), first as usize + 9);
}

#[test]
fn glm_chinese_ends_texts_as_its_class_does() {
    let model = SentencePiece::new(BPE, &LETTERS);
    let first = model.pieces.len() as u32;
    let directory = Directory::new().with("cog-pretrain.model", model.bytes());
    let bare = directory.with_json("tokenizer_config.json", &json!({"tokenizer_class": "GLMChineseTokenizer"}));
    let tokenizer = bare.load();
    let special = tokenizer.special;
    assert_eq!([special.sep, special.cls, special.mask, special.sop].map(|id| id - first), [0, 2, 3, 6]);
    assert_eq!([special.eop, special.smask, special.gmask].map(|id| id - first), [7, 8, 9]);
    pieces(&tokenizer, "ab");
    // Tokens that are listed go before what the class knows; ids between them stay free.
    let listed = json!({"[CLS]": first + 1, "<|endoftext|>": first, "<|startofpiece|>": first + 20});
    let tokenizer = bare.with_json("added_tokens.json", &listed).load();
    assert_eq!([tokenizer.special.cls, tokenizer.special.sop].map(|id| id - first), [1, 20]);
    assert_eq!(tokenizer.vocab_size() as u32, first + 21);
}

/// Ranks for all bytes, `ab`, `abc`, and a word that no merges lead to.
fn ranks() -> String {
    let bytes = (0..=255).map(|byte| vec![byte]);
    let tokens = bytes.chain([b"ab".to_vec(), b"abc".to_vec(), b" wxyz".to_vec(), "天".into()]);
    tokens.zip(0..).map(|(token, rank): (_, u32)| format!("{} {rank}\n", BASE64.encode(&token))).collect()
}

#[test]
fn tiktoken_ranks_are_ids() {
    let settings = json!({"tokenizer_class": "ChatGLM4Tokenizer"});
    let directory = Directory::new().with("tokenizer.model", ranks()).with_json("tokenizer_config.json", &settings);
    let tokenizer = directory.load();
    assert_eq!(tokenizer.encode("abcab wxyz, 天").unwrap(), [257, 256, 258, 44, 32, 229, 164, 169]);
    assert_eq!(tokenizer.encode("天").unwrap(), [259]);
    assert_eq!(tokenizer.decode(&[257, 256, 258, 259], true).unwrap(), "abcab wxyz天");
    let special = tokenizer.special;
    assert_eq!([special.sep, special.mask, special.gmask, special.sop, special.eop], [260, 261, 262, 264, 265]);
    assert_eq!((tokenizer.id("<|user|>"), tokenizer.vocab_size()), (Some(267), 270));
    pieces(&tokenizer, "abc 123456");
}

#[test]
fn offsets_are_in_characters() {
    let tokenizer = Directory::new().with("tokenizer.model", SentencePiece::new(UNIGRAM, &LETTERS).bytes()).load();
    let places: Vec<_> =
        tokenizer.encode_with_offsets("天 ab天", false).unwrap().into_iter().map(|(_, place)| place).collect();
    assert_eq!(places[1..], [0..1, 1..4, 4..5]);
}

#[test]
fn config_with_other_special_ids_is_told_with_both() {
    let model = ice().bytes();
    let eop = ice().pieces.iter().position(|(text, ..)| text == "<eop>").unwrap();
    let directory = |id: usize| {
        Directory::new()
            .with("ice_text.model", &model)
            .with_json("config.json", &json!({"model_type": "chatglm", "eos_token_id": id, "vocab_size": 130_528}))
    };
    assert_eq!(directory(eop).load().special.eop as usize, eop);
    let error = directory(130_005).error();
    assert!(
        error.contains(&format!("config.json says eos_token_id 130005, but the tokenizer's <eop> is {eop}")),
        "{error}"
    );
}

#[test]
fn a_missing_special_token_is_named_with_what_needs_it() {
    let tokenizer = Directory::new().with("tokenizer.model", SentencePiece::new(UNIGRAM, &LETTERS).bytes()).load();
    let error = tokenizer.special.require("masked_lm", &[Special::Cls, Special::Mask]).unwrap_err().to_string();
    assert!(error.starts_with("masked_lm needs [MASK], which this tokenizer lacks"), "{error}");
}

#[test]
fn damaged_files_are_told() {
    let whole = SentencePiece::new(UNIGRAM, &LETTERS).bytes();
    let cut = Directory::new().with("tokenizer.model", &whole[..whole.len() - 3]).error();
    assert!(cut.contains("tokenizer.model: can't be read as a tokenizer"), "{cut}");
    assert!(cut.contains("the file ends within a field"), "{cut}");
    // A trie of one unit whose children lie outside of it.
    let charsmap = [4u32.to_le_bytes(), (7u32 << 10 | 1 << 9).to_le_bytes()].concat();
    let rules = SentencePiece { charsmap, ..SentencePiece::new(UNIGRAM, &LETTERS) };
    let rules = Directory::new().with("tokenizer.model", rules.bytes()).error();
    assert!(rules.contains("the normalisation rules are damaged"), "{rules}");
    let ranks = Directory::new().with("tokenizer.model", format!("{}?\n", ranks())).error();
    assert!(ranks.contains("line 261"), "{ranks}");
    let none = Directory::new().with("config.json", "{}").error();
    assert!(none.contains("there is no tokenizer") && none.contains("vocab.txt"), "{none}");
    let half = Directory::new().with("vocab.json", "{}").error();
    assert!(half.contains("merges.txt"), "{half}");
}
