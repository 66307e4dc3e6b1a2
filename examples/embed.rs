//! Plans and runs a recipe from a Rust program: `cargo run --release --example embed -- RECIPE STORE`.

use std::path::Path;

use anyhow::{Context, Result};
use pipe::{
    engine::executor::{Event, Reporter},
    recipe::Overrides,
    session::{Options, Recipe, Session, Wanted},
};

/// Prints what was computed.
struct Printer;

impl Reporter for Printer {
    fn event(&self, stage: &str, event: Event<'_>) {
        if let Event::Finished { artifact } = event {
            println!("{stage}: computed in {:.1} s", artifact.provenance.seconds);
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (recipe, store) = arguments.next().zip(arguments.next()).context("usage: embed RECIPE STORE")?;
    let session = Session::open(Options { store: store.into(), ..Options::default() })?;
    let recipe = Recipe::read(Path::new(&recipe), Overrides::default())?;

    let prepared = session.plan(&recipe, &Wanted::default(), recipe.devices(Some("cpu"), None)?)?;
    for (stage, planned) in prepared.plan.stages() {
        println!("{stage}: {}", planned.status.word());
    }
    for (stage, outcome) in session.run(prepared, &Printer)? {
        let artifact = outcome.artifact.with_context(|| format!("{stage}: {}", outcome.error.unwrap_or_default()))?;
        println!("{stage}: {}", serde_json::Value::from(artifact.metrics));
    }
    Ok(())
}
