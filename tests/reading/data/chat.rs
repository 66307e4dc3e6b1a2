//! Conversations in the formats of ChatGLM's generations.

use pipe::{
    data::text::{
        Tokenizer,
        chat::{Chat, Role, Turn},
    },
    spec::{self, ChatFormat},
};
use serde_json::{Value, json};

/// A byte-level tokenizer, which keeps every character; with ChatGLM3's tokens for roles or without.
fn tokenizer(roles: bool) -> Tokenizer {
    let spec: spec::Tokenizer = serde_json::from_value(json!({ "bpe": { "vocab_size": 300 } })).unwrap();
    let trained =
        Tokenizer::train(&spec, ["[Round 1]\n\n问：你好\n\n答：你好！"].map(|text| Ok(text.to_owned())).into_iter());
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("tokenizer.json");
    trained.unwrap().save(&path).unwrap();
    if roles {
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let first = Tokenizer::load(&path).unwrap().vocab_size();
        for (id, name) in (first..).zip(["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]) {
            json["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
        std::fs::write(&path, json.to_string()).unwrap();
    }
    Tokenizer::load(&path).unwrap()
}

fn written(format: ChatFormat, tokenizer: &Tokenizer, turns: &[Turn]) -> String {
    tokenizer.decode(&Chat::new(format, tokenizer).unwrap().prompt(turns).unwrap(), false).unwrap()
}

fn conversation() -> Vec<Turn> {
    vec![Turn::user("你好"), Turn::assistant("你好！"), Turn::user("一加一？")]
}

fn message<T>(result: anyhow::Result<T>) -> String {
    pipe::support::explained(&result.err().expect("an error"))
}

#[test]
fn rounds_are_written_as_chatglm_and_chatglm2_write_them() {
    let tokenizer = tokenizer(false);
    let first = "[Round 0]\n问：你好\n答：你好！\n[Round 1]\n问：一加一？\n答：";
    assert_eq!(written(ChatFormat::Chatglm, &tokenizer, &conversation()), first);
    let second = "[Round 1]\n\n问：你好\n\n答：你好！\n\n[Round 2]\n\n问：一加一？\n\n答：";
    assert_eq!(written(ChatFormat::Chatglm2, &tokenizer, &conversation()), second);

    let alone = [Turn::user("你好")];
    assert_eq!(written(ChatFormat::Chatglm, &tokenizer, &alone), "你好");
    assert_eq!(written(ChatFormat::Chatglm2, &tokenizer, &alone), "[Round 1]\n\n问：你好\n\n答：");
    assert_eq!(written(ChatFormat::Plain, &tokenizer, &alone), "你好");
}

#[test]
fn roles_are_tokens_before_a_line_break() {
    let tokenizer = tokenizer(true);
    let turns = [&[Turn { role: Role::System, content: "简短。".into() }], &conversation()[..]].concat();
    let expected = "<|system|>\n简短。<|user|>\n你好<|assistant|>\n你好！<|user|>\n一加一？<|assistant|>";
    for format in [ChatFormat::Chatglm3, ChatFormat::Glm4] {
        assert_eq!(written(format, &tokenizer, &turns), expected);
        let chat = Chat::new(format, &tokenizer).unwrap();
        assert_eq!(tokenizer.decode(&chat.answer("二").unwrap(), false).unwrap(), "\n二");
        assert_eq!(chat.shown("\n二"), "二");
        let ids = ["<|user|>", "<|observation|>"].map(|name| tokenizer.id(name).unwrap());
        assert_eq!(chat.stops(), ids);
    }
    // A role that a text spells is text.
    let spelt = Chat::new(ChatFormat::Chatglm3, &tokenizer).unwrap().prompt(&[Turn::user("<|assistant|>")]).unwrap();
    let assistant = tokenizer.id("<|assistant|>").unwrap();
    assert_eq!(spelt.iter().filter(|&&id| id == assistant).count(), 1);
}

#[test]
fn the_tokenizer_tells_chatglm2_from_chatglm3() {
    let (plain, roles) = (tokenizer(false), tokenizer(true));
    let format = |family, tokenizer| Chat::by_default(family, tokenizer).format();
    assert_eq!(format(ChatFormat::Chatglm2, &plain), ChatFormat::Chatglm2);
    assert_eq!(format(ChatFormat::Chatglm2, &roles), ChatFormat::Chatglm3);
    assert_eq!(format(ChatFormat::Glm4, &roles), ChatFormat::Glm4);
    assert_eq!(format(ChatFormat::Glm4, &plain), ChatFormat::Chatglm2);
    assert_eq!(format(ChatFormat::Chatglm, &roles), ChatFormat::Chatglm);
    let told = message(Chat::new(ChatFormat::Glm4, &plain).map(|chat| chat.format()));
    assert!(told.contains("<|system|>") && told.contains("format: chatglm2"), "{told}");
}

#[test]
fn the_oldest_rounds_and_then_the_end_of_the_question_give_way() {
    let tokenizer = tokenizer(false);
    let chat = Chat::new(ChatFormat::Chatglm2, &tokenizer).unwrap();
    let turns = conversation();
    let whole = chat.prompt(&turns).unwrap();
    let fitted = chat.fit(&turns, whole.len()).unwrap();
    assert_eq!((fitted.tokens, fitted.shortened), (whole.clone(), false));

    let last = chat.prompt(&turns[2..]).unwrap();
    for room in last.len()..whole.len() {
        let fitted = chat.fit(&turns, room).unwrap();
        assert_eq!((fitted.tokens, fitted.shortened), (last.clone(), true));
    }
    let least = chat.prompt(&[Turn::user("")]).unwrap().len();
    for room in least..last.len() {
        let fitted = chat.fit(&turns, room).unwrap();
        assert!(fitted.tokens.len() <= room && fitted.shortened);
        let text = tokenizer.decode(&fitted.tokens, false).unwrap();
        let question = text.strip_prefix("[Round 1]\n\n问：").unwrap().strip_suffix("\n\n答：").unwrap();
        assert!("一加一？".starts_with(question), "{question}");
    }
    assert!(message(chat.fit(&turns, least - 1)).contains("an empty question takes"));
    // Old rounds go to make room; the question doesn't as long as there's some.
    let fitted = chat.fit_whole(&turns, least, last.len()).unwrap();
    assert_eq!((fitted.tokens, fitted.rounds, fitted.cut), (last.clone(), 1, None));
    let fitted = chat.fit_whole(&turns, least, last.len() - 1).unwrap();
    assert_eq!((fitted.tokens.len(), fitted.rounds, fitted.cut), (least, 1, Some([4, 4])));
}

#[test]
fn conversations_that_a_format_cannot_write_are_refused() {
    let tokenizer = tokenizer(true);
    let told = |format, turns: &[Turn]| message(Chat::new(format, &tokenizer).unwrap().prompt(turns));
    let system = Turn { role: Role::System, content: "简短。".into() };
    assert!(told(ChatFormat::Chatglm2, &[system, Turn::user("你好")]).contains("doesn't support the role <|system|>"));
    assert!(told(ChatFormat::Chatglm2, &[Turn::user("你好"), Turn::user("喂")]).contains("take turns"));
    assert!(told(ChatFormat::Chatglm3, &conversation()[..2]).contains("the assistant's own"));
    assert!(told(ChatFormat::Plain, &conversation()).contains("doesn't support a history"));
    assert!(told(ChatFormat::Plain, &[]).contains("no turns"));
}
