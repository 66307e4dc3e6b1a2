//! The modules of the crate, and what they use.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::paths::{ModulePath, paths};

/// That one file names what another one defines; both are paths below `src/`.
pub(crate) struct Use {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) line: usize,
}

/// All modules of the crate, and what they use.
pub(crate) struct Source {
    /// The file of each module, below `src/`.
    pub(crate) files: BTreeMap<ModulePath, String>,
    pub(crate) uses: Vec<Use>,
}

impl Source {
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for path in rust_files(&root) {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            if name != "main.rs" {
                let module = module_of(&name);
                texts.insert(module.clone(), fs::read_to_string(&path).unwrap());
                files.insert(module, name);
            }
        }
        let paths: BTreeMap<_, _> = texts.iter().map(|(module, text)| (module, paths(text, module))).collect();
        let mut source = Self { files, uses: Vec::new() };
        // What a module passes on under a name: `pub use child::Name`.
        let mut passed: BTreeMap<(ModulePath, String), ModulePath> = BTreeMap::new();
        for (module, paths) in &paths {
            for path in paths.iter().filter(|path| path.is_passed_on) {
                let name = path.alias.clone().or(path.segments.last().cloned()).unwrap_or_default();
                passed.insert(((*module).clone(), name), path.segments.clone());
            }
        }
        for (module, paths) in &paths {
            let from = &source.files[*module];
            for path in paths.iter().filter(|path| !path.is_passed_on || path.segments.first() != module.first()) {
                let to = source.definition(&path.segments, &passed);
                if to != *from {
                    source.uses.push(Use { from: from.clone(), to, line: path.line });
                }
            }
        }
        source
    }

    pub(crate) fn root(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
    }

    /// The file that defines what a path names.
    fn definition(&self, path: &[String], passed: &BTreeMap<(ModulePath, String), ModulePath>) -> String {
        let mut path = path.to_vec();
        for _ in 0..16 {
            let length = (0..=path.len()).rev().find(|&n| self.files.contains_key(&path[..n])).unwrap_or(0);
            let Some(name) = path.get(length) else { return self.files[&path[..length]].clone() };
            let module = path[..length].to_vec();
            let onward = passed.get(&(module.clone(), name.clone())).or_else(|| passed.get(&(module, "*".into())));
            match onward {
                Some(onward) if *onward != path => {
                    let mut next = onward.clone();
                    if next.last().is_some_and(|last| last == "*") {
                        next.pop();
                        next.push(name.clone());
                    }
                    next.extend(path[length + 1..].iter().cloned());
                    path = next;
                }
                _ => return self.files[&path[..length]].clone(),
            }
        }
        self.files[&Vec::new()].clone()
    }
}

/// The module that a file below `src/` holds.
fn module_of(file: &str) -> ModulePath {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
