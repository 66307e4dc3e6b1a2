//! `pipe data`: what a training stage is given, held against what the trainer was given.

use std::collections::{BTreeMap, BTreeSet};

use pipe::stages::Shown;

use crate::common::{Output, Space, finish, tiny};

/// The tiny recipe with what the tiny one lacks: sentence pairs, several batches a step, a linear head, conversations.
const FED: &str = r#"
seed: 3
stages:
  tokens:
    tokenize:
      tokenizer: { wordpiece: { vocab_size: 300 } }
      corpus: [{ path: corpus.txt, document: paragraph }]
  base:
    pretrain:
      tokens: tokens
      model: { glm: { hidden: 16, layers: 1, heads: 2, max_length: 64 } }
      objectives:
        - { masked_lm: { probability: 0.3, whole_word: true }, sentence_order: { loss_weight: 0.5 } }
        - { generative: { blank_infilling: {} } }
        - { generative: { prefix_lm: {} } }
      train: { steps: 12, batch: { examples: 3 }, accumulate: 2, max_length: 48, lr: 1.0e-3 }
  topics:
    finetune:
      from: base
      data: { train: { path: train.tsv } }
      task:
        classification: { template: "{{ text }}，这是[Classification]。", words: { 甲: 体育, 乙: 体台 } }
      train: { epochs: 2, batch: { examples: 2 }, accumulate: 2, loss_normalization: batch, max_length: 48, lr: 1.0e-3 }
  linear:
    finetune:
      from: base
      data: { train: { path: train.tsv } }
      task: { classification: { head: linear, template: "{{ text }}", words: { 甲: 体育, 乙: 美食 } } }
      train: { epochs: 2, batch: { tokens: 40 }, max_length: 48, lr: 1.0e-3 }
  answers:
    finetune:
      from: base
      data: { train: { path: chat.jsonl } }
      task: { instruction: { prompt: q, response: a, history: h } }
      train: { epochs: 2, batch: { examples: 2 }, max_length: 40, lr: 1.0e-3 }
"#;

const CHAT: &str = r#"{"q": "他喜欢吃什么？", "a": "辣的火锅", "h": [["你好", "你好！"]]}
{"q": "谁赢了比赛？", "a": "球队", "h": []}
{"q": "早餐有什么？早餐有什么？早餐有什么？早餐有什么？", "a": "豆浆油条", "h": [["蛋糕呢", "刚刚出炉"], ["汤呢", "很鲜"]]}
"#;

pub(super) fn fed() -> Space {
    let space = tiny();
    space.write("recipe.yaml", FED).write("chat.jsonl", CHAT);
    space
}

/// The examples that a command prints, an object a line.
pub(super) fn examples(space: &Space, arguments: &[&str]) -> Vec<Shown> {
    let output = space.pipe(&[&["data", "recipe.yaml"], arguments, &["--json"]].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("an example")).collect()
}

fn failure(output: Output, message: &str, hint: &str) {
    assert_eq!(output.status, 2, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains(message), "{}", output.stderr);
    assert!(output.stderr.contains(&format!("hint: {hint}")), "{}", output.stderr);
}

/// A micro-batch that the trainer computed, as it logs it.
#[derive(Debug)]
struct Computed(String);

impl Computed {
    /// What the trainer logs while a stage runs.
    fn all(space: &Space, stage: &str) -> Vec<Self> {
        let mut command = space.command(&["run", "recipe.yaml", "--stage", stage]);
        command.env("PIPE_LOG", "pipe::learning::train=trace");
        let output = finish(command);
        assert_eq!(output.status, 0, "{}", output.stderr);
        let lines = output.stderr.lines().filter(|line| line.contains("computing a micro-batch"));
        lines.map(|line| Self(line.to_owned())).collect()
    }

    /// The numbers of a list.
    fn list(&self, name: &str) -> Vec<u32> {
        let (_, rest) = self.0.split_once(&format!(" {name}: [")).unwrap_or_else(|| panic!("{name}: {}", self.0));
        let (list, _) = rest.split_once(']').expect("the list's end");
        list.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    }

    /// What stands behind this.
    fn number(&self, before: &str) -> f64 {
        let (_, rest) = self.0.rsplit_once(before).unwrap_or_else(|| panic!("{before}: {}", self.0));
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        number.parse().expect("a number")
    }
}

/// All examples of a stage are those that the trainer computed with, one by one.
fn compare(space: &Space, stage: &str) -> Totals {
    let computed = Computed::all(space, stage);
    let shown = examples(space, &[stage, "-n", "all"]);
    let batches: Vec<&[Shown]> = shown.chunk_by(|one, next| (one.step, one.batch) == (next.step, next.batch)).collect();
    assert_eq!(batches.len(), computed.len(), "{stage}");
    let mut totals = Totals::default();
    for (batch, computed) in batches.into_iter().zip(&computed) {
        let place = format!("{stage}, step {}, batch {}", batch[0].step, batch[0].batch);
        let together = |of: fn(&Shown) -> &Vec<u32>| batch.iter().flat_map(|one| of(one).clone()).collect::<Vec<_>>();
        assert!(computed.0.contains(&format!("objective=\"{}\"", batch[0].objective)), "{place}: {}", computed.0);
        assert_eq!(together(|one| &one.ids), computed.list("tokens"), "{place}");
        assert_eq!(together(|one| &one.positions), computed.list("positions"), "{place}");
        assert_eq!(together(|one| &one.block_positions), computed.list("block_positions"), "{place}");
        let segments = Some(computed.list("segments")).filter(|segments| !segments.is_empty());
        let segments = segments.unwrap_or_else(|| vec![0; computed.list("tokens").len()]);
        assert_eq!(together(|one| &one.segments), segments, "{place}");

        let (mut starts, mut ends, mut targets, mut choices) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for one in batch {
            starts.extend(vec![start; one.length]);
            ends.extend(one.sees.iter().map(|end| start + end));
            targets.extend(one.targets.iter().flat_map(|target| [start + target.at as u32, target.id]));
            choices.extend(one.choices.iter().flat_map(|choice| {
                let gold = choice.candidates.iter().position(|candidate| *candidate == choice.gold);
                [start + choice.at as u32, gold.expect("one of them") as u32]
            }));
            start += one.length as u32;
        }
        assert_eq!(starts, computed.list("span_starts"), "{place}");
        assert_eq!(ends, computed.list("span_ends"), "{place}");
        assert_eq!(targets, computed.list("targets"), "{place}");
        // Without their nodes.
        let chosen: Vec<u32> = computed.list("choices").chunks(3).flat_map(|choice| [choice[0], choice[2]]).collect();
        assert_eq!(choices, chosen, "{place}");
        let labels = |of: fn(&Shown) -> Option<u32>| batch.iter().filter_map(of).collect::<Vec<_>>();
        assert_eq!(labels(|one| one.pair.as_ref().map(|pair| pair.label)), computed.list("pairs"), "{place}");
        assert_eq!(labels(|one| one.class.as_ref().map(|class| class.label)), computed.list("classes"), "{place}");

        let share = |count: &str| 1.0 / (computed.number(&format!("{count}: ")) * computed.number("batches="));
        let pair_weight = computed.number("pair_weight=") * share("pairs");
        for one in batch {
            let near = |weight: f32, expected: f64| {
                assert!((f64::from(weight) - expected).abs() <= 1e-6 * expected, "{place}: {weight}, not {expected}");
            };
            one.targets.iter().for_each(|target| near(target.weight, share("targets")));
            one.choices.iter().for_each(|choice| near(choice.weight, share("chosen")));
            one.pair.iter().for_each(|pair| near(pair.weight, pair_weight));
            one.class.iter().for_each(|class| near(class.weight, share("classes")));
            totals.add(one);
        }
    }
    totals
}

/// How much there is of what.
#[derive(Debug, Default)]
struct Totals {
    masked: usize,
    targets: usize,
    second: usize,
    choices: usize,
    classes: BTreeSet<u32>,
    pairs: BTreeSet<u32>,
    objectives: BTreeSet<String>,
    steps: BTreeSet<usize>,
}

impl Totals {
    fn add(&mut self, one: &Shown) {
        self.masked += one.tokens.iter().filter(|token| *token == "[MASK]").count();
        self.targets += one.targets.len();
        self.second += one.segments.iter().filter(|&&segment| segment == 1).count();
        self.choices += one.choices.len();
        self.classes.extend(one.class.iter().map(|class| class.label));
        self.pairs.extend(one.pair.iter().map(|pair| pair.label));
        self.objectives.insert(one.objective.clone());
        self.steps.insert(one.step);
    }
}

#[test]
fn what_is_shown_is_what_the_trainer_was_given() {
    let space = fed();
    let base = compare(&space, "base");
    assert_eq!(base.steps, (1..=12).collect());
    assert_eq!(base.objectives.len(), 3, "{base:?}");
    assert!(base.masked > 50 && base.targets > base.masked && base.second > 0 && base.pairs.len() == 2, "{base:?}");
    let topics = compare(&space, "topics");
    // Six rows, twice; the words have their first character in common.
    assert_eq!((topics.choices, topics.steps.len()), (12, 4), "{topics:?}");
    let linear = compare(&space, "linear");
    assert_eq!((linear.classes.len(), linear.targets), (2, 0), "{linear:?}");
    let answers = compare(&space, "answers");
    assert!(answers.targets > 0 && answers.pairs.is_empty(), "{answers:?}");
}

#[test]
fn rows_are_shown_before_the_model_is_there() {
    let space = fed();
    let unrun = |stage: &str| space.pipe(&["data", "recipe.yaml", stage]);
    for stage in ["base", "topics"] {
        let message = format!("what `{stage}` is given can't be shown before `tokens` has run");
        failure(unrun(stage), &message, "pipe run recipe.yaml --stage tokens");
    }
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let before = examples(&space, &["topics", "-n", "all"]);
    let listed = space.pipe(&["ls", "--json"]).stdout;
    assert!(!listed.contains("\"pretrain\""), "nothing is trained: {listed}");
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "base"]).status, 0);
    assert_eq!(examples(&space, &["topics", "-n", "all"]), before);

    let one = &examples(&space, &["topics", "--row", "4"])[..];
    let [one] = one else { panic!("a row has one example: {one:?}") };
    assert!(one.file.as_ref().is_some_and(|file| file.ends_with("train.tsv")), "{one:?}");
    assert_eq!((one.row, one.label.as_deref()), (Some(4), Some("甲")));
    assert_eq!(one.text.as_deref(), Some("他在场上跑得很快，这是[Classification]。"));
    assert_eq!(one.choices[0].gold.token, "育");
    let candidates = one.choices[0].candidates.iter().map(|candidate| candidate.token.as_str());
    assert_eq!(candidates.collect::<BTreeSet<_>>(), BTreeSet::from(["育", "台"]));
    assert!(one.tokens.concat().starts_with("[CLS]他在场上跑得很快，这[UNK][MASK]。[SEP]"), "{one:?}");
    assert!(one.cut.is_empty());
    failure(space.pipe(&["data", "recipe.yaml", "topics", "--row", "99"]), "is made of row 99", "rows are counted");
}

#[test]
fn what_is_cut_off_is_told_with_the_rest() {
    let space = fed();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let short = ["topics", "--row", "2", "--set", "stages.topics.train.max_length=16"];
    let [one] = &examples(&space, &short)[..] else { panic!("one example") };
    let [cut] = &one.cut[..] else { panic!("one cut: {one:?}") };
    assert_eq!(
        (cut.part.as_str(), cut.of, cut.unit.as_str(), cut.place.as_str()),
        ("text", 8, "characters", "the end")
    );
    assert!(cut.kept > 0 && cut.kept < 8 && one.length <= 16, "{one:?}");
    let (whole, kept) = ("球队昨晚赢了比赛", one.text.as_ref().expect("a text").split('，').next().expect("a part"));
    assert_eq!(format!("{kept}{}", cut.rest.as_ref().expect("a rest")), whole);
    assert_eq!(kept.chars().count(), cut.kept);

    // Each answer has an example of its own, with what was said before it.
    let answers = examples(&space, &["answers", "--row", "3", "--set", "stages.answers.train.max_length=32"]);
    let mut texts: Vec<&str> = answers.iter().filter_map(|one| one.text.as_deref()).collect();
    texts.sort_by_key(|text| text.len());
    let first = "user: 蛋糕呢\nassistant: 刚刚出炉";
    let second = format!("{first}\nuser: 汤呢\nassistant: 很鲜");
    let third = format!("{second}\nuser: {}\nassistant: 豆浆油条", "早餐有什么？".repeat(4));
    assert_eq!(texts, [first, &second, &third]);
    let whole = answers.iter().find(|one| one.text.as_deref() == Some(&third)).expect("the last answer");
    let [cut] = &whole.cut[..] else { panic!("a shorter prompt: {whole:?}") };
    assert!(cut.part == "prompt" && cut.kept < cut.of && cut.unit == "tokens", "{cut:?}");
    let printed = space.pipe(&[&["data", "recipe.yaml"], &short[..]].concat()).stdout;
    assert!(printed.contains("of 8 characters kept, cut at the end, without “"), "{printed}");
}

#[test]
fn documents_are_found_in_their_files() {
    let space = fed();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let all = examples(&space, &["base", "-n", "all"]);
    let corpus = space.read("corpus.txt");
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let documents: Vec<String> = corpus.split("\n\n").map(bare).collect();
    for one in &all {
        assert!(one.file.as_ref().is_some_and(|file| file.ends_with("corpus.txt")), "{one:?}");
        let document = &documents[one.document.expect("a document") - 1];
        assert!(document.contains(&bare(one.text.as_ref().expect("a text"))), "{one:?}");
    }
    let of_two = examples(&space, &["base", "-n", "all", "--row", "2"]);
    assert!(!of_two.is_empty() && of_two.iter().all(|one| one.document == Some(2)), "{of_two:?}");
    // Each once for each objective, though there are several passes.
    let made_of: BTreeSet<_> =
        of_two.iter().map(|one| (one.objective.clone(), one.range.map(|range| (range.start, range.end)))).collect();
    assert_eq!(made_of.len(), of_two.len());
    // A corpus that was changed has to be encoded again first.
    space.write("corpus.txt", "别的\n");
    failure(
        space.pipe(&["data", "recipe.yaml", "base"]),
        "before `tokens` has run",
        "pipe run recipe.yaml --stage tokens",
    );
}

#[test]
fn steps_objectives_and_numbers_choose() {
    let space = fed();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let all = examples(&space, &["base", "-n", "all"]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let two = examples(&space, &["base", "-n", "2"]);
    two.iter().for_each(|one| *counts.entry(&one.objective).or_default() += 1);
    assert!(counts.len() == 3 && counts.values().all(|&count| count == 2), "{counts:?}");
    assert!(two.iter().all(|one| all.contains(one)), "the very same");
    let fifth: Vec<&Shown> = all.iter().filter(|one| one.step == 5).collect();
    assert_eq!(examples(&space, &["base", "-n", "all", "--step", "5"]).iter().collect::<Vec<_>>(), fifth);
    failure(
        space.pipe(&["data", "recipe.yaml", "tokens"]),
        "`tokens` is a stage of kind tokenize and trains nothing",
        "there is `base`, `topics`, `linear`, `answers`",
    );
    let beyond = space.pipe(&["data", "recipe.yaml", "base", "--step", "13"]);
    assert!(beyond.stderr.contains("there is no step 13: the stage trains for 12 steps"), "{}", beyond.stderr);
    assert_eq!(space.pipe(&["data", "recipe.yaml", "base", "-n", "0"]).status, 2);
}

#[test]
fn special_tokens_of_a_template_and_its_segments_are_shown() {
    let space = fed();
    space.write("recipe.yaml", FED.split("  linear:").next().expect("the first stages").replace("glm:", "bert:"));
    let template = "stages.topics.task.classification.template={{ text }}{{ sep }}它[Classification]";
    let sets = ["--set", template, "--set", "stages.base.objectives=[{masked_lm: {}}]"];
    let output = space.pipe(&[&["run", "recipe.yaml", "--stage", "tokens"][..], &sets].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
    let one = &examples(&space, &[&["topics", "--row", "2"][..], &sets].concat())[0];
    // BERT fills a mask for each token of the longest word.
    assert!(one.tokens.concat().starts_with("[CLS]球队昨晚赢了比赛[SEP]"), "{one:?}");
    assert!(one.tokens.concat().ends_with("[MASK][MASK][SEP]"), "{one:?}");
    let first = one.tokens.iter().position(|token| token == "[SEP]").expect("one");
    let segments: Vec<u32> = (0..one.length).map(|at| u32::from(at > first)).collect();
    assert_eq!(one.segments, segments, "{one:?}");
    assert!(one.text.as_ref().is_some_and(|text| text.ends_with("它[Classification]")), "{one:?}");
}

#[test]
fn causal_models_see_nothing_behind_a_token() {
    let space = fed();
    space.write("recipe.yaml", FED.split("  topics:").next().expect("the first stages"));
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let model = "stages.base.model={chatglm2: {hidden: 16, layers: 1, heads: 2, max_length: 64}}";
    let objectives = "stages.base.objectives=[{generative: {causal_lm: {}}}]";
    let all = examples(&space, &["base", "-n", "3", "--set", model, "--set", objectives]);
    assert_eq!(all.len(), 3);
    for one in all {
        // Its examples begin with a prefix, which a model that sees both ways would see as a whole.
        assert_eq!(one.tokens[..2], ["[gMASK]", "<sop>"]);
        assert_eq!(one.sees, (1..=one.length as u32).collect::<Vec<_>>());
        assert!(one.targets.iter().all(|target| target.shown_as.is_none()), "the next token is predicted");
    }
}

#[test]
fn plain_output_has_no_colours_and_its_columns_stand_below_each_other() {
    let space = fed();
    assert_eq!(space.pipe(&["run", "recipe.yaml", "--stage", "tokens"]).status, 0);
    let mut command = space.command(&["data", "recipe.yaml", "base", "-n", "1"]);
    command.env_remove("NO_COLOR").env("COLUMNS", "80");
    let output = finish(command);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(!output.stdout.contains('\x1b'), "a pipe takes no colours: {}", output.stdout);
    assert!(output.stdout.contains("masked_lm+sentence_order · step "), "{}", output.stdout);
    assert!(output.stdout.contains("  pair     "), "{}", output.stdout);
    for line in output.stdout.lines().filter(|line| line.starts_with("  token") || line.starts_with("  id")) {
        assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
    }
}
