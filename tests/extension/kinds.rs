//! A kind of stage that another program brings: it counts the lines of files, more than once if asked to.

use std::sync::Once;

use anyhow::Result;
use pipe::{
    engine::{
        executor::{Computed, Ending, Event, Job, Reporter},
        store::Metrics,
    },
    recipe::{Checks, Document, Draft, Overrides, schema},
    session::{Options, Recipe, Session, Wanted},
    spec::Product,
    stages::{Devices, Field, KINDS, Of, StageKind, catalog},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::Space;

/// Counts lines.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct Count {
    /// The files
    #[schemars(extend("x-role" = "path"))]
    path: String,
    /// How often each line counts
    #[serde(default = "once")]
    times: u64,
    /// Another count to add
    #[serde(default)]
    #[schemars(extend("x-role" = "stage:report"))]
    add: Option<String>,
}

fn once() -> u64 {
    1
}

const PATH: Field = Field("path");
const ADD: Field = Field("add");

impl StageKind for Count {
    const NAME: &'static str = "count";
    const ABOUT: &'static str = "Count lines";
    const PRODUCTS: &'static [Product] = &[Product::Report];
    const FIELDS: &'static [Field] = &[PATH, ADD];

    fn check(&self, stage: &Draft, checks: &mut Checks<'_>) {
        if self.times == 0 {
            checks.report(checks.value(&stage.pointer("times")), "nothing is counted", "take it out".to_owned());
        }
    }

    fn run(&self, job: &Job<'_>, _devices: &Devices) -> Result<Computed> {
        let mut lines = ADD.artifact(job).and_then(|artifact| artifact.metrics["lines"].as_u64()).unwrap_or_default();
        for file in PATH.files(job) {
            lines += self.times * std::fs::read_to_string(file)?.lines().count() as u64;
        }
        std::fs::write(job.out.join("report.json"), json!({ "lines": lines }).to_string())?;
        Ok(Metrics::from_iter([("lines".to_owned(), json!(lines))]).into())
    }
}

/// Hears nothing.
struct Quiet;

impl Reporter for Quiet {
    fn event(&self, _stage: &str, _event: Event<'_>) {}
}

fn register() {
    static ONCE: Once = Once::new();
    static COUNT: Of<Count> = Of::new();
    ONCE.call_once(|| KINDS.register(&COUNT));
}

const RECIPE: &str = "\
stages:
  first: { count: { path: a.txt } }
  both: { count: { path: b.txt, times: 2, add: first } }
";

fn space() -> Space {
    register();
    let space = Space::new();
    space.write("a.txt", "一\n二\n");
    space.write("b.txt", "三\n");
    space.write("recipe.yaml", RECIPE);
    space
}

#[test]
fn recipes_may_name_it_and_are_checked_by_it() {
    let space = space();
    let text = schema::text(catalog());
    assert!(text.contains("\"count\"") && text.contains("How often each line counts"), "the schema has it");
    let check = |text: &str| {
        let document = Document::parse(&space.path().join("recipe.yaml"), text, catalog()).expect("YAML");
        document.check(&Overrides::default(), &|_, _| None).map_err(|problems| problems.render(false))
    };
    let checked = check(RECIPE).expect("no mistakes");
    assert_eq!(checked.order, ["first", "both"]);
    assert_eq!(checked.canonical("both"), Some(json!({ "times": 2 })));
    assert_eq!(checked.canonical("first"), Some(json!({})), "without defaults");
    let mistakes = [
        ("times: 2", "times: 0", "nothing is counted"),
        ("times: 2", "time: 2", "did you mean `times`?"),
        ("path: b.txt", "path: c.txt", "no file `c.txt`"),
        ("add: first", "add: both", "the stages go in a circle: both -> both"),
        ("add: first", "add: frist", "did you mean `first`?"),
    ];
    for (from, to, said) in mistakes {
        let found = check(&RECIPE.replace(from, to)).expect_err(to);
        assert!(found.contains(said), "{to}: {found}");
    }
}

#[test]
fn it_runs_once_and_is_a_hit_then() {
    let space = space();
    let run = |wanted: &Wanted| {
        let session = Session::open(Options { store: space.path().join("store"), ..Options::default() }).unwrap();
        let recipe = Recipe::read(&space.path().join("recipe.yaml"), Overrides::default()).unwrap();
        let devices = recipe.devices(Some("cpu"), None).unwrap();
        let prepared = session.plan(&recipe, wanted, devices).unwrap();
        session.run(prepared, &Quiet).unwrap()
    };
    let outcomes = run(&Wanted::default());
    let lines = |name: &str| outcomes[name].artifact.as_ref().expect("an artifact").metrics["lines"].clone();
    assert_eq!((lines("first"), lines("both")), (json!(2), json!(4)));
    assert!(outcomes.values().all(|outcome| outcome.ending == Ending::Ran));
    assert!(run(&Wanted::default()).values().all(|outcome| outcome.ending == Ending::Hit));
    space.write("a.txt", "二\n一\n");
    let outcomes = run(&Wanted::default());
    let ending = |name: &str| outcomes[name].ending;
    assert_eq!((ending("first"), ending("both")), (Ending::Ran, Ending::Hit), "the same number, so the same output");
}
