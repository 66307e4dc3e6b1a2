//! Random edits of a recipe, its data and its store. After each, `plan` and `why` say what `run` then does, and whatever a run
//! ends with is byte for byte what an empty store gives.
//!
//! `PIPE_EDITS` is the number of edits; the seed is printed, and `PIPE_EDITS_SEED` repeats it.

use crate::common;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{Random, Space, tiny};
use pipe::{
    engine::{
        executor::{Ending, Reporter},
        store::Store,
    },
    recipe::Overrides,
    session::{Options, Recipe, Session, Wanted},
};
use serde_json::Value;

const STAGES: [&str; 4] = ["tokens", "base", "topics", "test"];

/// What edits change of the recipe.
#[derive(Clone, Hash, PartialEq)]
struct Settings {
    vocabulary: usize,
    steps: usize,
    rate: usize,
    seed: usize,
    examples: usize,
    /// What changes no result.
    comment: usize,
    log_every: usize,
    test: &'static str,
}

impl Settings {
    fn text(&self) -> String {
        let Self { vocabulary, steps, rate, seed, examples, comment, log_every, test } = self;
        format!(
            r#"# {comment}
seed: {seed}
stages:
  tokens:
    tokenize: {{ tokenizer: {{ wordpiece: {{ vocab_size: {vocabulary} }} }}, corpus: [{{ path: corpus.txt }}] }}
  base:
    pretrain:
      tokens: tokens
      model: {{ glm: {{ hidden: 8, layers: 1, heads: 1, max_length: 48 }} }}
      objectives: [{{ masked_lm: {{}} }}]
      train: {{ steps: {steps}, batch: {{ examples: 2 }}, max_length: 48, lr: {rate}e-4, log_every: {log_every}, schedule: constant }}
  topics:
    finetune:
      from: base
      data: {{ train: {{ path: train.tsv }} }}
      task: {{ classification: {{ head: linear, template: "{{{{ text }}}}", words: {{ 甲: 体育, 乙: 美食 }} }} }}
      train: {{ epochs: 1, batch: {{ examples: {examples} }}, max_length: 48, lr: 1.0e-3 }}
  test:
    eval: {{ model: topics, data: {{ path: {test} }} }}
"#
        )
    }
}

struct World {
    space: Space,
    random: Random,
    settings: Settings,
    /// What an empty store gave, by recipe and data.
    known: BTreeMap<String, BTreeMap<String, String>>,
}

/// Nobody is told of anything.
fn silent() -> Vec<&'static dyn Reporter> {
    Vec::new()
}

/// The word of each stage's plan, and how its run ended, with its key and digest.
type Done = Vec<(String, &'static str, Ending, String, String)>;

impl World {
    fn new(seed: u64) -> Self {
        let settings = Settings {
            vocabulary: 120,
            steps: 2,
            rate: 10,
            seed: 1,
            examples: 3,
            comment: 0,
            log_every: 10,
            test: "test.tsv",
        };
        let world = Self { space: tiny(), random: Random(seed), settings, known: BTreeMap::new() };
        world.space.write("other.tsv", world.space.read("dev.tsv"));
        world
    }

    fn run(&self, store: &str) -> Done {
        let session = Session::open(Options { store: self.space.path().join(store), ..Options::default() }).unwrap();
        let recipe = Recipe::read(&self.space.path().join("recipe.yaml"), Overrides::default()).unwrap();
        let devices = recipe.devices(None, None).unwrap();
        let prepared = session.plan(&recipe, &Wanted::default(), devices).unwrap();
        let words: Vec<_> = prepared.plan.stages().map(|(id, stage)| (id.to_owned(), stage.status.word())).collect();
        let outcomes = session.run(prepared, &silent()).unwrap();
        session.save();
        let of = |(id, word): (String, &'static str)| {
            let outcome = &outcomes[&id];
            let artifact = outcome.artifact.as_ref().unwrap_or_else(|| panic!("{id}: {:?}", outcome.error));
            (id, word, outcome.ending, artifact.key.clone(), artifact.digest.clone())
        };
        words.into_iter().map(of).collect()
    }

    /// What an empty store gives for the recipe and the data as they are.
    fn truth(&mut self) -> BTreeMap<String, String> {
        let files = ["recipe.yaml", "corpus.txt", "train.tsv", "test.tsv", "other.tsv"];
        let what: Vec<_> = files.iter().map(|file| self.space.read(file)).collect();
        let what = what.join("\0");
        if !self.known.contains_key(&what) {
            let _ = std::fs::remove_dir_all(self.space.path().join("empty"));
            let digests = self.run("empty").into_iter().map(|(id, _, _, _, digest)| (id, digest)).collect();
            self.known.insert(what.clone(), digests);
        }
        self.known[&what].clone()
    }

    fn artifact(&mut self) -> PathBuf {
        let store = Store::open(&self.space.path().join("store")).unwrap();
        let keys = store.keys().unwrap();
        let key = self.random.pick(&keys).clone();
        self.space.path().join("store/artifacts").join(key)
    }

    /// A file of an artifact.
    fn stored_file(&mut self) -> PathBuf {
        let dir = self.artifact();
        let files: Vec<_> = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().flatten().collect();
        let files: Vec<_> = files.into_iter().filter(|entry| entry.file_type().is_file()).collect();
        files
            .get(self.random.below(files.len().max(1)))
            .map_or_else(|| self.space.path().join("store/format"), |file| file.path().to_owned())
    }

    fn write_line(&mut self, file: &str) {
        let mut text = self.space.read(file);
        let rows = ["甲\t球队赢了\n", "乙\t面很好吃\n", "甲\t跑得快\n"];
        match self.random.below(3) {
            0 => text.push_str(rows[self.random.below(rows.len())]),
            1 if text.lines().count() > 4 => {
                text = text.trim_end().rsplit_once('\n').map_or_else(String::new, |(text, _)| format!("{text}\n"))
            }
            _ => text = text.replacen('球', "篮", 1),
        }
        self.space.write(file, text);
    }

    /// Changes something, and says what.
    fn edit(&mut self) -> String {
        let choice = self.random.below(20);
        match choice {
            0 => self.settings.vocabulary = 100 + self.random.below(3) * 10,
            1 => self.settings.steps = 1 + self.random.below(4),
            2 => self.settings.rate = 1 + self.random.below(3),
            3 => self.settings.seed = self.random.below(3),
            4 => self.settings.examples = 2 + self.random.below(3),
            5 => self.settings.comment += 1,
            6 => self.settings.log_every = 1 + self.random.below(9),
            7 => self.settings.test = if self.settings.test == "test.tsv" { "other.tsv" } else { "test.tsv" },
            8 => self.write_line("train.tsv"),
            9 => self.write_line("test.tsv"),
            10 => {
                let corpus = self.space.read("corpus.txt");
                self.space.write("corpus.txt", corpus.replacen('。', "！", 1));
            }
            11 => {
                // What stood there before.
                let fresh = tiny();
                let file = *self.random.pick(&["corpus.txt", "train.tsv", "test.tsv"]);
                self.space.write(file, fresh.read(file));
            }
            12 => drop(std::fs::remove_file(self.stored_file())),
            13 => {
                let file = self.stored_file();
                let bytes = std::fs::read(&file).unwrap();
                std::fs::write(&file, &bytes[..self.random.below(bytes.len() + 1)]).unwrap();
            }
            14 => {
                let file = self.stored_file();
                let mut bytes = std::fs::read(&file).unwrap();
                let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
                if let Some(at) = bytes.len().checked_sub(1).map(|last| self.random.below(last + 1)) {
                    bytes[at] ^= 1;
                }
                std::fs::write(&file, bytes).unwrap();
                std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
            }
            15 => {
                // Files of two artifacts in each other's place.
                let (one, other) = (self.stored_file(), self.stored_file());
                let aside = self.space.path().join("aside");
                for (from, to) in [(&one, &aside), (&other, &one), (&aside, &other)] {
                    let _ = std::fs::rename(from, to);
                }
            }
            16 => {
                // An artifact in the place of another.
                let (one, other) = (self.artifact(), self.artifact());
                if one != other {
                    std::fs::remove_dir_all(&other).unwrap();
                    std::fs::rename(one, other).unwrap();
                }
            }
            17 => {
                let file = if self.random.one_in(2) { self.stored_file() } else { self.space.path().join("train.tsv") };
                let times = [UNIX_EPOCH, SystemTime::now() + Duration::from_secs(86_400)];
                let time = *self.random.pick(&times);
                std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
            }
            18 => std::fs::remove_dir_all(self.artifact()).unwrap(),
            _ => {
                let file = *self.random.pick(&["digests.json", "sound.json", "format"]);
                let path = self.space.path().join("store").join(file);
                if path.exists() {
                    std::fs::write(path, "").unwrap();
                }
            }
        }
        self.space.write("recipe.yaml", self.settings.text());
        format!("edit {choice}")
    }

    /// What `why` says of a stage.
    fn why(&self, stage: &str) -> String {
        let found: Value = self.space.json(&["why", "recipe.yaml", stage, "--store", "store"]);
        found["status"].as_str().expect("a status").to_owned()
    }
}

#[test]
fn whatever_is_edited_results_are_those_of_an_empty_store_and_told_before() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seed = number("PIPE_EDITS_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.subsec_nanos().into()));
    let edits = number("PIPE_EDITS").unwrap_or(60);
    println!("PIPE_EDITS_SEED={seed} PIPE_EDITS={edits}");
    let mut world = World::new(seed);
    world.space.write("recipe.yaml", world.settings.text());
    world.run("store");
    let (mut hits, mut stages) = (0, 0);
    for round in 0..edits {
        let mut what = format!("PIPE_EDITS_SEED={seed}, round {round}: {}", world.edit());
        while world.random.one_in(4) {
            what = format!("{what}, {}", world.edit());
        }
        let asked = *world.random.pick(&STAGES);
        let why = world.why(asked);
        let done = world.run("store");
        let truth = world.truth();
        let mut kept = Vec::new();
        for (id, word, ending, key, digest) in done {
            let agrees = match word {
                "hit" => ending == Ending::Hit,
                "miss" => ending == Ending::Ran,
                _ => matches!(ending, Ending::Hit | Ending::Ran),
            };
            assert!(agrees, "{what}: `{id}` was planned as a {word} and ended as {}", ending.name());
            assert_eq!(digest, truth[&id], "{what}: `{id}`, {}", ending.name());
            if id == asked {
                assert_eq!(why == "hit", word == "hit", "{what}: why says that `{id}` is a {why}, and plan {word}");
            }
            hits += usize::from(ending == Ending::Hit);
            stages += 1;
            kept.push(key);
        }
        // Their bytes, too.
        let store = Store::open(&world.space.path().join("store")).unwrap();
        assert_eq!(store.verify(&kept, &|_, _| {}).unwrap().damage, [], "{what}");
    }
    println!("{stages} stages, {hits} of them hits");
}
