//! Instruction data: conversations out of rows, the loss on responses, and models that learn to answer.

use crate::common::objectives;
use std::collections::HashMap;

use anyhow::Result;
use objectives::{SPECIALS, spec, targets};
use pipe::{
    data::text::{
        Tokenizer,
        chat::{Chat, Role, Turn},
    },
    learning::objectives::{AnswerForm, Conversation, InstructionEncoder, instruction::InstructionExample},
    spec::{ChatFormat, TooLong, Turns},
};
use serde_json::{Value, json};

/// A byte-level tokenizer without merges: as many tokens as bytes.
fn bytes() -> Tokenizer {
    let spec = spec(json!({ "bpe": { "vocab_size": 265 } }));
    Tokenizer::train(&spec, [Ok("ab".to_owned())].into_iter()).unwrap()
}

/// The same with ChatGLM3's tokens for roles.
fn roles() -> Tokenizer {
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("tokenizer.json");
    bytes().save(&path).unwrap();
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (id, name) in (265..).zip(["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]) {
        json["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    std::fs::write(&path, json.to_string()).unwrap();
    Tokenizer::load(&path).unwrap()
}

fn encoder(tokenizer: &Tokenizer, form: AnswerForm, max_length: usize, too_long: TooLong) -> InstructionEncoder<'_> {
    let chat = Chat::new(ChatFormat::Plain, tokenizer).unwrap();
    InstructionEncoder { chat, form, max_length, turns: Turns::All, too_long, specials: SPECIALS }
}

fn conversation(question: &str, response: &str) -> Conversation {
    Conversation { turns: vec![Turn::user(question)], response: response.to_owned() }
}

fn read(task: Value, columns: &[(&str, &str)]) -> Result<Conversation> {
    let columns: HashMap<&str, &str> = columns.iter().copied().collect();
    Conversation::read(&spec(task), &|name: &str| columns.get(name).map(|&value| value.to_owned()))
}

fn message<T>(result: Result<T>) -> String {
    pipe::support::explained(&result.err().expect("an error"))
}

#[test]
fn the_loss_is_on_the_response_and_its_end() {
    let tokenizer = bytes();
    let lesson = |form| -> InstructionExample {
        encoder(&tokenizer, form, 64, TooLong::Refuse).encode(&conversation("ab", "xyz"), 3).unwrap().unwrap()
    };
    let [prompt, answer] = ["ab", "xyz"].map(|text| tokenizer.encode(text).unwrap());
    let [x, y, z] = answer[..] else { panic!("a token a byte") };
    let (cls, gmask, sop, eop) = (SPECIALS.cls, SPECIALS.gmask, SPECIALS.sop, SPECIALS.eop);

    let gpt2 = lesson(AnswerForm::Causal).example;
    assert_eq!(gpt2.tokens, [&[cls], &prompt[..], &answer].concat());
    assert_eq!(targets(&gpt2), [(2, x), (3, y), (4, z), (5, eop)]);
    assert_eq!((gpt2.span_ends, gpt2.id), (vec![1, 2, 3, 4, 5, 6], 3));

    let chatglm2 = lesson(AnswerForm::Chatglm2).example;
    assert_eq!(chatglm2.tokens, [&[gmask, sop], &prompt[..], &answer].concat());
    assert_eq!(targets(&chatglm2), [(3, x), (4, y), (5, z), (6, SPECIALS.sep)]);

    let glm = lesson(AnswerForm::Infilling).example;
    assert_eq!(glm.tokens, [&[cls], &prompt[..], &[gmask, sop], &answer].concat());
    assert_eq!(targets(&glm), [(4, x), (5, y), (6, z), (7, eop)]);
    assert_eq!((glm.positions, glm.block_positions), (vec![0, 1, 2, 3, 3, 3, 3, 3], vec![0, 0, 0, 0, 1, 2, 3, 4]));

    let chatglm = lesson(AnswerForm::Chatglm).example;
    assert_eq!(chatglm.tokens, [&prompt[..], &[gmask, sop], &answer].concat());
    assert_eq!(targets(&chatglm), [(3, x), (4, y), (5, z), (6, eop)]);
    assert_eq!(chatglm.span_ends, [3, 3, 3, 4, 5, 6, 7]);
}

#[test]
fn a_response_keeps_its_end_whatever_is_cut() {
    let tokenizer = bytes();
    let made = |question: &str, response: &str, too_long| {
        encoder(&tokenizer, AnswerForm::Causal, 11, too_long).encode(&conversation(question, response), 0)
    };
    let lesson = |question, response| made(question, response, TooLong::Cut).unwrap().unwrap();
    let end = |lesson: &InstructionExample| lesson.example.targets.last().unwrap().token;

    // The prompt gives way down to half of the room, and not before.
    let fits = lesson("aaaaa", "bbbbb");
    assert_eq!((fits.shortened, fits.cut, fits.example.tokens.len()), (false, false, 11));
    let shortened = lesson("aaaaaaaa", "bbb");
    assert_eq!((shortened.shortened, shortened.cut, shortened.example.tokens.len()), (true, false, 11));
    let short = lesson("aa", "bbbbbbbb");
    assert_eq!((short.shortened, short.cut, short.example.tokens.len()), (false, false, 11));

    let cut = lesson("aaaaaaaa", "bbbbbbbb");
    assert_eq!((cut.shortened, cut.cut, cut.example.tokens.len()), (true, true, 11));
    assert_eq!(cut.example.targets.len(), 6);
    for lesson in [fits, shortened, short, cut] {
        assert_eq!(end(&lesson), SPECIALS.eop);
    }
    // Whatever part of a row is too long, it's skipped; and the whole row is what counts.
    assert!(made("aaaaaaaa", "bbbbbbbb", TooLong::Skip).unwrap().is_none());
    assert!(made("aaaaaaaa", "bbb", TooLong::Skip).unwrap().is_none());
    assert!(made("aa", "bbbbbbbbb", TooLong::Skip).unwrap().is_none());
    let whole = made("aaaaa", "bbbbb", TooLong::Skip).unwrap().unwrap();
    assert_eq!((whole.shortened, whole.cut, whole.example.tokens.len()), (false, false, 11));
    let told = message(made("aaaaaaaa", "bbbbbbbb", TooLong::Refuse));
    assert!(told.starts_with("the response takes 8 tokens, but beside its prompt there is room for 5 in 11"), "{told}");
}

/// Two answers, the second after what a tool gave.
fn several(has_roles: bool) -> Conversation {
    let mut turns = vec![Turn::user("ab"), Turn::assistant("xyz"), Turn::user("cd")];
    if has_roles {
        let turn = |role, content: &str| Turn { role, content: content.to_owned() };
        turns.insert(0, turn(Role::System, "s"));
        turns.extend([Turn::assistant("f()"), turn(Role::Observation, "1")]);
    }
    Conversation { turns, response: "z".to_owned() }
}

/// What `process_batch` of ChatGLM3's `finetune_demo/finetune_hf.py` (at 732294f) makes of a conversation, and that of GLM-4's
/// `finetune/finetune.py` (at 3f79b54, `combine: False`): `[gMASK] <sop>`, each message as `<|role|>`, a line break and its text, and one token
/// more, which is the end of texts for ChatGLM3 and `<|user|>` for GLM-4. `loss_masks` is true for all tokens of the
/// assistant's messages, and is moved one on: so the role isn't learned, and what comes after the message is. A label is
/// the token that the one before it is to predict.
fn process_batch(tokenizer: &Tokenizer, conversation: &Conversation, end: u32) -> (Vec<u32>, Vec<(u32, u32)>) {
    let response = Turn::assistant(conversation.response.clone());
    let (mut input_ids, mut loss_masks) = (vec![SPECIALS.gmask, SPECIALS.sop], vec![false, false]);
    for message in conversation.turns.iter().chain([&response]) {
        let role = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"][message.role as usize];
        let mut new_input_ids = vec![tokenizer.id(role).unwrap()];
        new_input_ids.extend(tokenizer.encode("\n").unwrap());
        new_input_ids.extend(tokenizer.encode(&message.content).unwrap());
        loss_masks.extend(new_input_ids.iter().map(|_| message.role == Role::Assistant));
        input_ids.extend(new_input_ids);
    }
    input_ids.push(end);
    loss_masks.insert(0, false);
    let labels = (0..).zip(input_ids.iter().zip(loss_masks)).filter(|(_, (_, learned))| *learned);
    let labels = labels.map(|(at, (&token, _))| (at - 1, token)).collect();
    input_ids.pop();
    (input_ids, labels)
}

#[test]
fn every_answer_is_learned_as_chatglm3_and_glm4_are_taught() {
    let tokenizer = roles();
    let user = tokenizer.id("<|user|>").unwrap();
    for (format, end) in [(ChatFormat::Chatglm3, SPECIALS.sep), (ChatFormat::Glm4, user)] {
        let chat = Chat::new(format, &tokenizer).unwrap();
        let encoder = InstructionEncoder { chat, ..encoder(&tokenizer, AnswerForm::Chatglm2, 64, TooLong::Refuse) };
        for conversation in [several(true), conversation("ab", "xyz")] {
            let examples = encoder.examples(&conversation, 3).unwrap();
            let [Some(InstructionExample { example, shortened: false, cut: false, .. })] = &examples[..] else {
                panic!("one example: {examples:?}");
            };
            let (input_ids, labels) = process_batch(&tokenizer, &conversation, end);
            assert_eq!(example.tokens, input_ids);
            assert_eq!(targets(example), labels);
        }
    }
}

#[test]
fn answers_of_rounds_end_as_the_family_ends_texts() {
    // LLaMA-Factory's supervised processor with `efficient_eos`: questions and answers are encoded each by itself; an
    // answer's labels are its tokens, and the end's label stands at the first token of the next question.
    let tokenizer = bytes();
    let encode = |text: &str| tokenizer.encode(text).unwrap();
    let pairs = [("[Round 1]\n\n问：ab\n\n答：", "xyz"), ("\n\n[Round 2]\n\n问：cd\n\n答：", "z")];
    let (mut input_ids, mut labels) = (vec![SPECIALS.gmask, SPECIALS.sop], vec![None, None]);
    for (turn, (source, target)) in pairs.map(|(source, target)| (encode(source), encode(target))).iter().enumerate() {
        labels.push(if turn > 0 { Some(SPECIALS.sep) } else { None });
        labels.extend(vec![None; source.len() - 1]);
        labels.extend(target.iter().map(|&token| Some(token)));
        input_ids.extend([&source[..], target].concat());
    }
    labels.push(Some(SPECIALS.sep));
    let labels: Vec<(u32, u32)> = (0..).zip(labels).filter_map(|(at, label)| Some((at - 1, label?))).collect();

    let chat = || Chat::new(ChatFormat::Chatglm2, &tokenizer).unwrap();
    let encoder =
        |form, turns| InstructionEncoder { chat: chat(), turns, ..encoder(&tokenizer, form, 128, TooLong::Refuse) };
    let all = encoder(AnswerForm::Chatglm2, Turns::All).examples(&several(false), 3).unwrap();
    let [Some(all)] = &all[..] else { panic!("one example: {all:?}") };
    assert_eq!(all.example.tokens, input_ids);
    assert_eq!(targets(&all.example), labels);
    // Bytes are encoded alike wherever texts are cut, so only the targets differ.
    let last = encoder(AnswerForm::Chatglm2, Turns::Last).examples(&several(false), 3).unwrap();
    let [Some(last)] = &last[..] else { panic!("one example: {last:?}") };
    assert_eq!(last.example.tokens, all.example.tokens);
    assert_eq!(targets(&last.example), labels[4..]);
}

#[test]
fn forms_that_see_a_prompt_in_both_directions_have_an_example_an_answer() {
    let tokenizer = bytes();
    for form in [AnswerForm::Chatglm, AnswerForm::Infilling, AnswerForm::Prefix] {
        let encoder = |turns| InstructionEncoder {
            chat: Chat::new(ChatFormat::Chatglm, &tokenizer).unwrap(),
            turns,
            ..encoder(&tokenizer, form, 128, TooLong::Refuse)
        };
        let all = encoder(Turns::All).examples(&several(false), 3).unwrap();
        let [first, second]: [InstructionExample; 2] =
            all.into_iter().flatten().collect::<Vec<_>>().try_into().unwrap();
        let alone = |conversation| encoder(Turns::Last).encode(&conversation, 3).unwrap().unwrap().example;
        assert_eq!(second.example, alone(several(false)));
        let expected = alone(conversation("ab", "xyz"));
        assert_eq!((&first.example.tokens, &first.example.targets), (&expected.tokens, &expected.targets));
        assert_ne!(first.example.id, second.example.id, "their dropout would be the same");
        // Rows of one answer are what they were.
        let single = encoder(Turns::All).examples(&conversation("ab", "xyz"), 3).unwrap();
        assert_eq!(single.into_iter().flatten().map(|made| made.example).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn answers_of_rounds_that_are_left_out_are_not_learned() {
    let tokenizer = roles();
    let encoder = |max_length| InstructionEncoder {
        chat: Chat::new(ChatFormat::Chatglm3, &tokenizer).unwrap(),
        ..encoder(&tokenizer, AnswerForm::Chatglm2, max_length, TooLong::Refuse)
    };
    let made = |max_length| {
        let lesson = encoder(max_length).encode(&several(true), 0).unwrap().unwrap();
        (lesson.shortened, targets(&lesson.example).len())
    };
    // Line break, three tokens and what follows; the same; line break, one token and the end.
    assert_eq!(made(64), (false, 5 + 5 + 3));
    let whole = encoder(64).encode(&several(true), 0).unwrap().unwrap().example.tokens.len();
    assert_eq!(made(whole), (false, 13));
    assert_eq!(made(whole - 1), (true, 5 + 3));
}

/// LLaMA-Factory's converter of Alpaca's rows: `"\n".join([instruction, input])` of those that aren't empty.
#[test]
fn what_an_instruction_is_about_follows_it_on_a_line_of_its_own() {
    let question = |prompt, input| {
        let columns = [("prompt", prompt), ("response", "答"), ("input", input)];
        read(json!({ "input": "input" }), &columns).unwrap().turns[0].content.clone()
    };
    assert_eq!(question("翻译", "你好"), "翻译\n你好");
    assert_eq!(question("翻译", ""), "翻译");
    assert_eq!(question("", "你好"), "你好");
    assert_eq!(message(read(json!({ "input": "about" }), &[("prompt", "一")])), "the data has no column `about`");
    assert_eq!(
        read(json!({}), &[("prompt", "一"), ("response", "二"), ("input", "三")]).unwrap().turns,
        [Turn::user("一")]
    );
}

#[test]
fn a_system_turn_that_is_too_long_is_cut_where_all_is() {
    let tokenizer = roles();
    let encoder = |too_long| {
        let chat = Chat::new(ChatFormat::Chatglm3, &tokenizer).unwrap();
        InstructionEncoder { chat, ..encoder(&tokenizer, AnswerForm::Chatglm2, 32, too_long) }
    };
    let system = Turn { role: pipe::data::text::chat::Role::System, content: "s".repeat(60) };
    let conversation = Conversation { turns: vec![system, Turn::user("q")], response: "r".into() };
    let cut = encoder(TooLong::Cut).encode(&conversation, 0).unwrap().unwrap();
    assert!(cut.shortened && !cut.cut && cut.example.tokens.len() == 32, "{cut:?}");
    assert!(encoder(TooLong::Skip).encode(&conversation, 0).unwrap().is_none());
    assert!(message(encoder(TooLong::Refuse).encode(&conversation, 0)).contains("an empty question takes"));
}

#[test]
fn histories_are_pairs_or_messages() {
    let task = json!({ "history": "history" });
    let with = |history| read(task.clone(), &[("prompt", "三"), ("response", "四"), ("history", history)]);
    let expected = vec![Turn::user("一"), Turn::assistant("二"), Turn::user("三")];
    let pairs = with(r#"[["一", "二"]]"#).unwrap();
    assert_eq!((&pairs.turns, pairs.response.as_str()), (&expected, "四"));
    assert_eq!(pairs.text(), "一\t二\t三");
    let messages = with(r#"[{"role": "user", "content": "一"}, {"role": "assistant", "content": "二"}]"#).unwrap();
    assert_eq!(messages, pairs);
    for empty in ["", "[]"] {
        assert_eq!(with(empty).unwrap().turns, expected[2..]);
    }
    let whole = r#"[{"role": "user", "content": "一"}, {"role": "assistant", "content": "二"},
        {"role": "user", "content": "三"}, {"role": "assistant", "content": "四"}]"#;
    assert_eq!(read(json!({ "messages": "messages" }), &[("messages", whole)]).unwrap(), pairs);
}

#[test]
fn rows_that_hold_no_conversation_are_told() {
    let history = |history| {
        let columns = [("prompt", "三"), ("response", "四"), ("history", history)];
        message(read(json!({ "history": "history" }), &columns))
    };
    for wrong in ["早", "{}", r#"[["一"]]"#, r#"["一", "二"]"#, r#"[["一", 2]]"#] {
        let told = history(wrong);
        assert!(told.starts_with("column `history`: expected a list of [question, answer] pairs"), "{told}");
    }
    let messages = |messages| message(read(json!({ "messages": "m" }), &[("m", messages)]));
    assert!(messages("").starts_with("column `m`: expected a list of"));
    assert!(messages(r#"[{"role": "robot", "content": "一"}]"#).contains("unknown variant `robot`"));
    assert!(messages(r#"[{"role": "user", "content": "一"}]"#).contains("the last message isn't the assistant's"));
    let prompt = |columns: &[(&str, &str)]| message(read(json!({}), columns));
    assert_eq!(prompt(&[("prompt", "一")]), "the data has no column `response`");
    assert_eq!(prompt(&[("prompt", "一"), ("response", " ")]), "the response is empty");
}
