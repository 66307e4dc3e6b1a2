//! Text appears character by character, and ends where it should.

use pipe::{data::text::Tokenizer, learning::generation::TextStream};
use serde_json::json;

fn tokenizer() -> Tokenizer {
    let spec = serde_json::from_value(json!({ "bpe": { "vocab_size": 300 } })).unwrap();
    Tokenizer::train(&spec, ["今天天气很好", "hello hello stop"].map(|text| Ok(text.to_owned())).into_iter()).unwrap()
}

/// What is shown after each token, and whether a stop string was found; the last piece is the rest.
fn pieces(text: &str, stop: &[&str]) -> (Vec<String>, bool) {
    let tokenizer = tokenizer();
    let stop: Vec<String> = stop.iter().map(|&stop| stop.to_owned()).collect();
    let mut stream = TextStream::new(&tokenizer, &stop);
    let mut pieces = Vec::new();
    for token in tokenizer.encode(text).unwrap() {
        let piece = stream.push(token).unwrap();
        pieces.push(piece.text);
        if piece.stopped {
            return (pieces, true);
        }
    }
    pieces.push(stream.finish().unwrap());
    (pieces, false)
}

#[test]
fn characters_of_several_tokens_are_shown_when_they_are_whole() {
    // None of these is in the training text, so each is a token a byte.
    let (shown, stopped) = pieces("𠮷é🙂", &[]);
    assert_eq!(shown, ["", "", "", "𠮷", "", "é", "", "", "", "🙂", ""]);
    assert!(!stopped);
    let text = "今天 hello，𠮷🙂好\n";
    assert_eq!(pieces(text, &[]).0.concat(), text);
}

#[test]
fn character_that_never_becomes_whole_is_left_out() {
    let tokenizer = tokenizer();
    let tokens = tokenizer.encode("天🙂").unwrap();
    let mut stream = TextStream::new(&tokenizer, &[]);
    let shown: String = tokens[..tokens.len() - 1].iter().map(|&token| stream.push(token).unwrap().text).collect();
    assert_eq!(shown + &stream.finish().unwrap(), "天");
}

#[test]
fn text_ends_before_the_first_stop_string() {
    let (shown, stopped) = pieces("今天天气很好hello stop好", &["stop", "很好"]);
    assert!(stopped);
    assert_eq!(shown.concat(), "今天天气");
    // Within a token, and over several.
    assert_eq!(pieces("hello hello", &["ello"]), (vec!["h".to_owned()], true));
    let (shown, stopped) = pieces("天🙂好", &["🙂好"]);
    assert_eq!((shown.concat(), stopped), ("天".to_owned(), true));
}

#[test]
fn what_may_become_a_stop_string_is_held_back_until_it_does_not() {
    let (shown, stopped) = pieces("天é🙂é天", &["éé", "é🙂天"]);
    assert!(!stopped);
    assert_eq!(shown.concat(), "天é🙂é天");
    // `é` comes with what shows that it's no stop string, and at the end with the rest.
    assert_eq!(pieces("éa", &["éé"]).0, ["", "", "éa", ""]);
    assert_eq!(pieces("é", &["éé"]).0, ["", "", "é"]);
}

/// What follows is shown with the space that stands between, as decoding both has it: also by tokenizers whose decoders leave
/// out a text's first space.
#[test]
fn text_after_another_is_decoded_with_it() {
    let shown = |tokenizer: &Tokenizer, prompt: &str, text: &str| {
        let tokens = |text: &str| tokenizer.encode(text).unwrap();
        let before = tokens(prompt);
        let whole = tokens(&format!("{prompt}{text}"));
        let mut stream = TextStream::after(tokenizer, &[], prompt, &before).unwrap();
        let mut shown: String = whole[before.len()..].iter().map(|&token| stream.push(token).unwrap().text).collect();
        shown.push_str(&stream.finish().unwrap());
        shown
    };
    let texts = ["you may not go there", "they all went home", "今天天气很好"];
    for spec in
        [json!({ "bpe": { "vocab_size": 300 } }), json!({ "wordpiece": { "vocab_size": 300, "min_frequency": 1 } })]
    {
        let spec = serde_json::from_value(spec).unwrap();
        let tokenizer = Tokenizer::train(&spec, texts.map(|text| Ok(text.to_owned())).into_iter()).unwrap();
        assert_eq!(shown(&tokenizer, "you may", " not go"), " not go");
        assert_eq!(shown(&tokenizer, "今天", "天气"), "天气");
        assert_eq!(shown(&tokenizer, "", "they all"), "they all");
        // The space is there already.
        let before = tokenizer.encode("you may ").unwrap();
        let next = tokenizer.encode("you may not").unwrap().split_off(tokenizer.encode("you may").unwrap().len());
        let mut stream = TextStream::after(&tokenizer, &[], "you may ", &before).unwrap();
        let text: String = next.iter().map(|&token| stream.push(token).unwrap().text).collect();
        assert!(text.ends_with("not"), "{text}");
    }
}
