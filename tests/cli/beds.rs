//! Real engines that `../shared/tools` starts on this machine for the time of a command.

use std::{path::Path, process::Command};

use crate::common::{
    Output, Space, finish,
    needs::{Need, Needed},
    shared,
};

/// The script that starts one.
pub(crate) fn bed(need: Need, script: &str) -> Needed<std::path::PathBuf> {
    let bed = shared().join("tools").join(script);
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !bed.exists() {
        Err(need.unmet(format!("there is no ../shared/tools/{script}")))
    } else if !is_root {
        Err(need.unmet("its nodes are made by root alone"))
    } else {
        Ok(bed)
    }
}

/// Runs lines of a shell beside an engine; `pipe` is the program.
pub(crate) fn beside(bed: &Path, space: &Space, lines: &str) -> Output {
    let known = space.command(&[]);
    let mut command = Command::new(bed);
    let program = env!("CARGO_BIN_EXE_pipe");
    let script = format!("set -eu\npipe() {{ '{program}' \"$@\"; }}\n{lines}");
    command.args(["bash", "-c", &script]).current_dir(space.path());
    for (name, value) in known.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    finish(command)
}

/// The digests of all stages in what `--json` has printed.
pub(crate) fn digests(text: &str) -> Vec<(String, String)> {
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let stages = json["stages"].as_object().expect("stages");
    stages.iter().map(|(name, stage)| (name.clone(), stage["digest"].as_str().unwrap_or("none").to_owned())).collect()
}
