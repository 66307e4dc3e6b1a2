//! An objective of our own: guess the last tokens of a text.

use anyhow::Result;
use burn::tensor::Device;
use pipe::{
    data::text::Special,
    engine::executor::Reporter,
    learning::{
        objectives::{
            AnswerForm, Corpus, Definition, Mix, OBJECTIVES, Specials,
            definition::{
                Draw, ExampleSource, Examples, HeldOutMetric, ObjectiveRole, ObjectiveSettings, SettingsType,
            },
            form::plain,
            parts,
            windows::{Window, cut},
        },
        train::{Silent, TrainSettings, Trainer},
    },
    network::{
        batch::{Example, Feed, Layout, Remark, Target},
        model::{AttentionPattern, FAMILIES, Network},
    },
    recipe::{Checked, DataFiles, Document, Overrides, schema},
    session::{Options, Recipe, Session, Wanted},
    spec::{self, Problem, Section},
    stages::{Choice, catalog},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::{
    Space, TINY,
    objectives::{SPECIALS, corpus, documents, spec},
    tiny,
};

/// The objective.
static LAST_TOKENS: Definition = Definition {
    name: "last_tokens",
    section: Section::Entry,
    about: "Guess the last tokens of a text",
    role: ObjectiveRole::Masks,
    attention: AttentionPattern::Bidirectional,
    assumed: false,
    teaches: None,
    measure: Some(HeldOutMetric::MaskedAccuracy),
    head: None,
    version: 3,
    settings: SettingsType::of::<LastTokens>(),
};

/// How many tokens.
#[derive(Clone, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct LastTokens {
    /// Tokens to guess
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    count: usize,
    /// The longest text
    #[serde(default)]
    longest: Option<usize>,
}

fn one() -> usize {
    1
}

impl ObjectiveSettings for LastTokens {
    fn check(&self) -> Vec<Problem> {
        let problem = Problem::of_value("longest", "no text is left").hint("raise it above `count`");
        self.longest.filter(|&longest| longest <= self.count).map(|_| problem).into_iter().collect()
    }

    fn needs(&self, _: AnswerForm) -> Vec<Special> {
        vec![Special::Cls, Special::Sep, Special::Mask]
    }

    fn predicted(&self) -> f64 {
        0.5
    }

    fn examples(&self, corpus: &Corpus, max_length: usize) -> Result<Box<dyn Examples>> {
        let room = corpus.room(max_length);
        Ok(Box::new(Texts { count: self.count, longest: self.longest.map_or(room, |longest| longest.min(room)) }))
    }
}

struct Texts {
    count: usize,
    longest: usize,
}

impl Examples for Texts {
    fn windows(&self, corpus: &Corpus) -> Result<Vec<Window>> {
        cut(corpus.text.as_ref(), self.longest)
    }

    fn example(&self, source: &ExampleSource<'_>, _: Draw) -> Result<Example> {
        Ok(plain(source.id, source.text(), source.specials()))
    }

    fn mask(&self, example: &mut Example, specials: &Specials, _: Draw) {
        let end = example.tokens.len() - 1;
        for at in end.saturating_sub(self.count).max(1)..end {
            let token = std::mem::replace(&mut example.tokens[at], specials.mask);
            example.targets.push(Target { at: at as u32, token });
        }
    }

    fn remarks(&self, source: &ExampleSource<'_>, _: Draw, _: &Example) -> Vec<Remark> {
        vec![Remark { name: "from", text: format!("{} of {} tokens", self.count, source.text().len()) }]
    }
}

fn register() {
    OBJECTIVES.register(&LAST_TOKENS);
}

/// The tiny recipe with this mix, checked.
fn checked(mix: &str) -> Result<(Space, Checked), String> {
    register();
    let space = tiny();
    let text = TINY.replace("objectives: [{ masked_lm: {} }, { generative: { blank_infilling: {} } }]", mix);
    assert_ne!(text, TINY, "the tiny recipe has another mix");
    space.write("recipe.yaml", text);
    let document = Document::read(&space.path().join("recipe.yaml"), catalog()).map_err(|error| error.to_string())?;
    let columns = |_: &spec::Source, _: &DataFiles| Some(vec!["label".to_owned(), "text".to_owned()]);
    let checked = document.check(&Overrides::default(), &columns).map_err(|error| error.to_string())?;
    Ok((space, checked))
}

#[test]
fn recipes_may_name_it_and_its_settings_enter_the_key() {
    let of = |mix: &str| {
        let (_space, checked) = checked(mix).unwrap();
        checked.canonical("base").expect("a stage")["objectives"].clone()
    };
    assert_eq!(of("objectives: [{ last_tokens: {} }]"), json!([{ "last_tokens": {} }]));
    assert_eq!(of("objectives: [{ last_tokens: { count: 1 } }]"), json!([{ "last_tokens": {} }]), "the default");
    assert_eq!(of("objectives: [{ last_tokens: { count: 2 } }]"), json!([{ "last_tokens": { "count": 2 } }]));
    assert_eq!(
        of("objectives: [{ last_tokens: {}, sentence_order: {}, weight: 2 }]"),
        json!([{ "weight": 2.0, "last_tokens": {}, "sentence_order": {} }])
    );
    // Those of others are as ever.
    assert_eq!(of("objectives: [{ masked_lm: {}}]"), json!([{ "masked_lm": {} }]));
}

#[test]
fn mistakes_in_it_are_found_where_they_are() {
    let wrong = |mix: &str| checked(mix).err().expect("a mistake");
    let unknown = wrong("objectives: [{ last_tokens: { cuont: 2 } }]");
    assert!(unknown.contains("`last_tokens` has no key `cuont`"), "{unknown}");
    assert!(unknown.contains("did you mean `count`?"), "{unknown}");
    let small = wrong("objectives: [{ last_tokens: { count: 0 } }]");
    assert!(small.contains("`count` must be at least 1, and is 0"), "{small}");
    let rule = wrong("objectives: [{ last_tokens: { count: 3, longest: 2 } }]");
    assert!(rule.contains("no text is left") && rule.contains("raise it above `count`"), "{rule}");
    let both = wrong("objectives: [{ last_tokens: {}, masked_lm: {} }]");
    assert!(both.contains("`masked_lm` and `last_tokens` cannot mask the same texts"), "{both}");
    let alone = wrong("objectives: [{ last_tokens: {}, generative: { causal_lm: {} } }]");
    assert!(alone.contains("`generative` cannot stand beside `last_tokens`"), "{alone}");
    let none = wrong("objectives: [{}]");
    assert!(none.contains("`sentence_order`, `generative` or `last_tokens`"), "{none}");
}

#[test]
fn the_schema_documents_it() {
    register();
    let schema = schema::published(catalog());
    let field = &schema["$defs"]["Objective"]["properties"]["last_tokens"];
    assert_eq!(field["description"], "Guess the last tokens of a text");
    assert_eq!(field["anyOf"][0]["$ref"], "#/$defs/LastTokens");
    assert_eq!(schema["$defs"]["LastTokens"]["properties"]["count"]["default"], 1);
}

#[test]
fn models_learn_it_and_are_measured_by_it() {
    register();
    let entries: Vec<spec::Objective> = spec(json!([{ "last_tokens": { "count": 2 } }]));
    assert_eq!(parts::predicted(&entries[0]).unwrap(), 0.5);
    assert_eq!(parts::revisions(&entries).unwrap(), 2);
    assert_eq!(parts::measured(&entries).unwrap(), [(HeldOutMetric::MaskedAccuracy, entries[0].clone())]);
    assert!(parts::taught(&entries, 0).is_none());
    let learnable = |family: &str| {
        let family = FAMILIES.named(family).expect("a family");
        parts::learnable(&entries, family, "it").into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert_eq!(learnable("gpt2"), ["objectives.0.last_tokens"]);
    assert!(learnable("bert").is_empty() && learnable("glm").is_empty());

    let documents = documents(&[&[5, 7, 4], &[6], &[8, 3]]);
    let train = |steps| -> spec::Train {
        spec(json!({ "steps": steps, "lr": 5e-3, "dropout": 0.0, "max_length": 24, "batch": { "examples": 4 } }))
    };
    let mix = |steps| Mix::new(&entries, &corpus(&documents), &train(steps), 1, Layout::Ragged).unwrap();
    let step = mix(1).step(0).unwrap();
    assert_eq!(step.objective, "last_tokens");
    let masked = step.batches[0].tokens.iter().filter(|&&token| token == SPECIALS.mask).count();
    assert_eq!((masked, step.batches[0].targets.len()), (2 * step.batches[0].examples.len(), masked));

    let loss = |steps| {
        let model = spec(json!({ "bert": { "hidden": 32, "layers": 1, "heads": 2, "max_length": 32 } }));
        let mut network = Network::new(&model, SPECIALS.vocab_size, 7, &Device::flex()).unwrap();
        network.add_language_head(7).unwrap();
        let mut trainer = Trainer::new(network, TrainSettings::new(&train(steps), steps, None).unwrap());
        trainer.run(&mix(steps), None, None, &mut Silent).unwrap().loss
    };
    let (before, after) = (loss(1), loss(60));
    assert!(after < 0.5 * before, "{before} to {after}");
}

#[test]
fn its_examples_are_shown_as_they_are_and_with_what_it_says_of_them() {
    let (space, _) = checked("objectives: [{ last_tokens: { count: 2 } }]").unwrap();
    let recipe = Recipe::read(&space.path().join("recipe.yaml"), Overrides::default()).unwrap();
    let session = Session::open(Options { store: space.path().join("store"), ..Options::default() }).unwrap();
    let wanted = Wanted { stages: vec!["tokens".to_owned()], ..Wanted::default() };
    let prepared = session.plan(&recipe, &wanted, recipe.devices(Some("cpu"), None).unwrap()).unwrap();
    let none: Vec<&dyn Reporter> = Vec::new();
    session.run(prepared, &none).unwrap();
    let feed = session.training_feed(&recipe, "base", &|_, _| ()).unwrap();
    let mut shown = Vec::new();
    feed.each(&Choice { most: Some(3), ..Choice::default() }, &mut |one| {
        shown.push(one);
        Ok(())
    })
    .unwrap();
    assert_eq!(shown.len(), 3);
    for one in shown {
        assert_eq!(one.objective, "last_tokens");
        let places: Vec<usize> = one.targets.iter().map(|target| target.at).collect();
        assert_eq!(places, [one.length - 3, one.length - 2], "{one:?}");
        assert!(one.targets.iter().all(|target| target.shown_as.as_deref() == Some("mask")), "{one:?}");
        let text: String = one.targets.iter().map(|target| target.token.as_str()).collect();
        assert!(one.text.as_ref().is_some_and(|whole| whole.replace(' ', "").ends_with(&text)), "{one:?}");
        assert_eq!(one.remarks["from"], format!("2 of {} tokens", one.length - 2));
    }
}
