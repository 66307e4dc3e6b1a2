//! `pipe chat`, and `pipe generate` on checkpoints and several prompts.

use crate::common;
use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    process::{Command, Stdio},
};

use common::{Output, Space, tiny};
use serde_json::Value;

fn ran() -> Space {
    let space = tiny();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "base"]).status, 0);
    space
}

/// Runs a command with text on stdin.
fn said(mut command: Command, input: impl AsRef<[u8]>) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a running command");
    // What refuses to start may have ended before it could be asked.
    match child.stdin.take().expect("stdin").write_all(input.as_ref()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.expect("a question"),
    }
    let output = child.wait_with_output().expect("an ended command");
    Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(output.status, 0, "{}", output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn chat(space: &Space, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let arguments = [&["chat", "recipe.yaml", "base", "--max-tokens", "5", "--temperature", "0"], arguments].concat();
    said(space.command(&arguments), input)
}

#[test]
fn conversation_remembers_until_it_is_cleared() {
    let space = ran();
    let input = "球队\n\n球队\n/clear\n球队\n/exit\n面\n";
    let answers = lines(&chat(&space, &["--json"], input));
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers.iter().all(|answer| answer["question"] == "球队"));
    // The second question comes after the first round; the third stands alone again.
    assert!(answers[1]["prompt_tokens"].as_u64() > answers[0]["prompt_tokens"].as_u64());
    for field in ["answer", "prompt_tokens", "tokens", "end"] {
        assert_eq!(answers[0][field], answers[2][field]);
    }
    // The end of stdin ends it as well, and without --json there's an answer a line.
    let plain = chat(&space, &[], "球队\n球队\n");
    assert_eq!(plain.status, 0, "{}", plain.stderr);
    let expected: String =
        answers[..2].iter().map(|answer| format!("{}\n", answer["answer"].as_str().unwrap())).collect();
    assert_eq!(plain.stdout, expected);
    assert!(plain.stderr.contains("tokens/s"), "{}", plain.stderr);
}

#[test]
fn conversation_that_grows_too_long_loses_its_oldest_turns() {
    let space = ran();
    let output = chat(&space, &["--json"], "球队昨晚赢了比赛\n".repeat(6));
    let answers = lines(&output);
    assert_eq!(answers.len(), 6);
    assert!(answers.iter().all(|answer| answer["prompt_tokens"].as_u64() <= Some(48)), "{answers:?}");
    assert!(output.stderr.contains("oldest part was left out"), "{}", output.stderr);
    assert!(!output.stderr.contains("the question is too long"), "{}", output.stderr);
}

#[test]
fn question_stays_whole_as_long_as_something_can_follow_it() {
    let space = ran();
    let ask = |length: usize, arguments: &[&str]| {
        let arguments = [&["chat", "recipe.yaml", "base", "--format", "plain", "--json"], arguments].concat();
        let output = said(space.command(&arguments), format!("{}\n", "球".repeat(length)));
        (lines(&output).remove(0), output.stderr)
    };
    // The model reads 48 tokens, of which GLM's frame takes three.
    for arguments in [&[][..], &["--max-tokens", "30"]] {
        let (answer, told) = ask(44, arguments);
        assert_eq!(answer["prompt_tokens"], 47, "{told}");
        assert!(!told.contains("left out"), "{told}");
    }
    let (answer, told) = ask(50, &[]);
    assert!(answer["prompt_tokens"].as_u64() < Some(47), "{answer}");
    assert!(told.contains("the question is too long") && told.contains("its end was left out: 11 of its 50"), "{told}");
    assert!(!told.contains("oldest"), "{told}");
    // What is asked for is kept free, up to half.
    assert!(ask(50, &["--max-tokens", "20"]).1.contains("25 of its 50 characters"));
}

#[test]
fn line_that_is_not_utf8_is_told_and_the_conversation_goes_on() {
    let space = ran();
    let output = chat(&space, &["--json"], [b"\xc7\xf2\xb6\xd3\n", "球队\n".as_bytes()].concat());
    assert_eq!(lines(&output).len(), 1);
    assert!(output.stderr.contains("isn't UTF-8"), "{}", output.stderr);
}

#[test]
fn formats_without_a_place_for_the_system_say_so() {
    let space = ran();
    let output = chat(&space, &["--system", "你是厨师"], "你好\n");
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("doesn't support the role <|system|>"), "{}", output.stderr);
    // No other format is named that can't be had either.
    for format in ["chatglm2", "chatglm3", "glm4"] {
        let output = chat(&space, &["--system", "你是厨师", "--format", format], "你好\n");
        assert_eq!(output.status, 2);
        assert!(output.stderr.contains("the tokenizer lacks the tokens of those that do"), "{}", output.stderr);
        assert!(!output.stderr.contains("format: ") && !output.stderr.contains("--format"), "{}", output.stderr);
    }
    let output = chat(&space, &["--format", "chatglm9"], "你好\n");
    assert_eq!(output.status, 2);
    assert!(output.stderr.contains("plain, chatglm, chatglm2, chatglm3, glm4"), "{}", output.stderr);
}

#[test]
fn checkpoint_writes_what_its_stage_writes() {
    let space = ran();
    let options = ["--max-tokens", "8", "--temperature", "0", "--prompt", "球队", "--json"];
    let text = |model: &[&str]| {
        let output = space.pipe(&[&["generate"], model, &options[..]].concat());
        lines(&output).remove(0)["text"].clone()
    };
    let run = space.json(&["run", "recipe.yaml", "--stage", "base"]);
    let path = run["stages"]["base"]["path"].as_str().expect("a path").to_owned();
    assert_eq!(text(&["--checkpoint", &path]), text(&["recipe.yaml", "base"]));
    let output = space.pipe(&[&["generate", "recipe.yaml", "base", "--checkpoint", &path], &options[..]].concat());
    assert_eq!(output.status, 2);
}

#[test]
fn prompts_of_a_file_are_written_one_after_another() {
    let space = ran();
    space.write("prompts.txt", "球队\n面很\n");
    let generate = |arguments: &[&str]| {
        let options = ["--max-tokens", "6", "--seed", "3", "--json"];
        lines(&space.pipe(&[&["generate", "recipe.yaml", "base"], arguments, &options].concat()))
    };
    let both = generate(&["--file", "prompts.txt"]);
    let single = ["球队", "面很"].map(|prompt| generate(&["--prompt", prompt]).remove(0));
    assert_eq!(both.len(), 2);
    for (both, single) in both.iter().zip(&single) {
        assert_eq!((&both["prompt"], &both["text"]), (&single["prompt"], &single["text"]));
    }
}

#[test]
fn blanks_are_filled_in_their_places() {
    let space = ran();
    let options = ["--prompt", "球队[MASK]了比赛，[sMASK]。", "--max-tokens", "4", "--temperature", "0"];
    let arguments = [&["generate", "recipe.yaml", "base"], &options[..]].concat();
    let filled = space.json(&arguments);
    let blanks: Vec<&str> = filled["blanks"].as_array().unwrap().iter().map(|blank| blank.as_str().unwrap()).collect();
    assert_eq!(blanks.len(), 2);
    let expected = format!("球队{}了比赛，{}。", blanks[0], blanks[1]);
    assert_eq!(filled["text"], expected);
    assert_eq!(space.pipe(&arguments).stdout, format!("{expected}\n"));
}

#[test]
fn stop_strings_and_limits_end_the_text() {
    let space = ran();
    let generate = |arguments: &[&str]| {
        let options = ["--prompt", "球", "--temperature", "0", "--min-tokens", "6", "--max-tokens", "6"];
        space.json(&[&["generate", "recipe.yaml", "base"], &options[..], arguments].concat())
    };
    let whole = generate(&[]);
    assert_eq!((&whole["tokens"], &whole["end"]), (&6.into(), &"max_tokens".into()));
    let text = whole["text"].as_str().unwrap();
    let last = text.chars().last().unwrap().to_string();
    let stopped = generate(&["--stop", &last]);
    assert_eq!(stopped["end"], "stop");
    assert_eq!(stopped["text"], text[..text.find(&last).unwrap()]);
    for (flag, value) in [("--temperature", "-1"), ("--top-p", "2"), ("--repetition-penalty", "0")] {
        let output = space.pipe(&["generate", "recipe.yaml", "base", &format!("{flag}={value}")]);
        assert!(output.status == 2 && output.stderr.contains("isn't possible"), "{}", output.stderr);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_at_the_prompt_ends_the_conversation() {
    let space = ran();
    let mut command = space.command(&["chat", "recipe.yaml", "base", "--max-tokens", "2", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a chat");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all("球队\n".as_bytes()).expect("a question");
    let mut answer = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut answer).expect("an answer");
    // It waits for the next question, or is about to.
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    assert_eq!(child.wait().expect("an ended chat").code(), Some(130));
}
