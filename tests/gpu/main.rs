//! GPU backends compute what the CPU computes.
//!
//! With the features `vulkan`, `wgpu` and `cuda` this needs such devices; for all but `cuda` a software driver will do. Where
//! there is none, tests are left out and say so, as those do of what a device can't. `PIPE_TEST_DEVICES` names those to test,
//! with commas between them.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "gpu")]
mod backend;
#[cfg(feature = "cuda")]
mod machine_code;

#[cfg(not(feature = "vulkan"))]
#[test]
fn missing_backend_names_the_feature_to_build_with() {
    let output = common::tiny().pipe(&["run", "recipe.yaml", "--device", "vulkan"]);
    assert_eq!(output.status, 2, "{}", output.stderr);
    assert!(output.stderr.contains("cargo build --release --features vulkan"), "{}", output.stderr);
}
