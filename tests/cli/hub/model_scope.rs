//! Models of ModelScope, by its own protocol.

use super::*;

const RECIPE: &str = "stages:\n  in:\n    import: { hub: modelscope:org/tiny }\n";

impl World {
    fn run_on_model_scope(&self, token: &str) -> Output {
        let mut command = self.command(&["run", "recipe.yaml", "--json"]);
        command.env("MODELSCOPE_DOMAIN", &self.url).env("MODELSCOPE_CACHE", self.space.path().join("scope"));
        command.env("MODELSCOPE_API_TOKEN", token).env("HF_ENDPOINT", "http://127.0.0.1:9");
        finish(command)
    }
}

#[test]
fn a_model_of_model_scope_is_that_of_its_files() {
    let world = world();
    world.space.write("recipe.yaml", RECIPE);
    assert_eq!(status(&world.run_on_model_scope("known")), "ran");
    let requests = world.hub.take_requests();
    assert!(requests.contains(&"GET /api/v1/models/org/tiny/repo/files".to_owned()), "{requests:?}");
    assert_eq!(requests.iter().filter(|request| request.contains("/cdn/")).count(), 1, "{requests:?}");
    assert_eq!(status(&world.run_on_model_scope("known")), "hit");
    assert_eq!(world.hub.take_requests(), Vec::<String>::new());
    world.space.write("recipe.yaml", "stages:\n  in:\n    import: { path: model }\n");
    assert_eq!(status(&world.run(&[])), "hit");
}

#[test]
fn a_fetch_from_model_scope_that_breaks_off_goes_on() {
    let world = world();
    world.space.write("recipe.yaml", RECIPE);
    world.hub.is_breaking.store(true, SeqCst);
    assert_eq!(status(&world.run_on_model_scope("known")), "ran");
    let requests = world.hub.take_requests();
    assert!(
        requests.iter().any(|request| request.contains("/cdn/") && request.ends_with(" from 10000")),
        "{requests:?}"
    );
}

#[test]
fn what_model_scope_refuses_is_said_in_plain_words() {
    let world = world();
    world.space.write("recipe.yaml", RECIPE);
    let output = world.run_on_model_scope("unknown");
    assert_eq!(output.status, 2, "{}", output.stderr);
    for expected in
        ["127.0.0.1 has no model `org/tiny`, or not for everybody", "the token that is set", "recipe.yaml:3:"]
    {
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
    let output = world.run_on_model_scope("");
    assert!(output.stderr.contains("set MODELSCOPE_API_TOKEN"), "{}", output.stderr);
    // Bytes that aren't what was listed are never used.
    world.hub.is_damaged.store(true, SeqCst);
    let output = world.run_on_model_scope("known");
    assert!(output.stderr.contains("model.safetensors didn't arrive as it should be"), "{}", output.stderr);
}
