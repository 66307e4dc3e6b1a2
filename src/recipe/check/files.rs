//! Files that a recipe names must be there.

use std::path::Path;

use anyhow::Result;

use crate::hub::{self, Reference, Wanted};
use crate::recipe::paths;
use crate::recipe::walk::{self, FileField, FileKind, HubName};
use crate::recipe::{Catalog, Checks, suggest};
use crate::support::Hinted;

/// Names in a folder that are compared with the one that isn't there.
const MAX_NAMES: usize = 2_000;

/// The pointer of a field beside another.
fn beside(pointer: &str, field: &str) -> String {
    pointer.rsplit_once('.').map_or_else(|| field.to_owned(), |(outer, _)| format!("{outer}.{field}"))
}

impl Checks<'_> {
    pub(super) fn files(&mut self, catalog: &'static Catalog) {
        for draft in self.drafts {
            let mut choices = Vec::new();
            walk::visit(&draft.spec, draft.slot, &mut String::new(), &mut |pointer, value, slot| {
                if let Some(HubName { field, kind: FileKind::Checkpoint, name, .. }) = walk::hub_name(value, slot) {
                    let is_named = value.get(field).is_some_and(|directory| !directory.is_null());
                    choices.push((draft.pointer(pointer), field.to_owned(), is_named, name.is_some()));
                }
            });
            for (pointer, directory, is_named, has_hub) in choices {
                self.one_of(&pointer, &directory, is_named, has_hub);
            }
            for FileField { pointer, pattern, kind } in walk::files_in(&draft.spec, draft.slot) {
                let pointer = draft.pointer(&pointer);
                match (kind, Reference::of_place(&pattern)) {
                    (FileKind::Checkpoint, Some(reference)) => self.model_by_name(catalog, &pointer, reference),
                    (FileKind::Files, _) if Reference::of_data(&pattern).is_some() => {
                        self.data_by_name(&pointer, &pattern)
                    }
                    (FileKind::Files, _) => self.file(&pointer, &pattern),
                    (FileKind::Checkpoint, None) => self.checkpoint(catalog, &pointer, &pattern),
                    (FileKind::Tokenizer, _) => self.tokenizer(&pointer, &pattern),
                }
            }
        }
    }

    fn file(&mut self, pointer: &str, path: &str) {
        if path.is_empty() {
            return self.report(self.value(pointer), "no file is named", None);
        }
        if paths::resolve_path(path, self.dir).is_err() {
            self.missing(pointer, path, "file");
        }
    }

    /// A model's directory.
    fn checkpoint(&mut self, catalog: &'static Catalog, pointer: &str, path: &str) {
        let (at, shown) = (self.value(pointer), self.said(pointer, path));
        match paths::resolve_place(path, self.dir) {
            None if path.is_empty() => self.report(at, "no directory is named", None),
            None => self.missing(pointer, path, "directory"),
            Some(place) => {
                if let Err(Hinted { message, hint }) = catalog.check_checkpoint(&place, &shown) {
                    self.report(at, message, hint);
                }
            }
        }
    }

    /// A model's directory is named, or the model itself: one of the two.
    fn one_of(&mut self, pointer: &str, directory: &str, is_named: bool, has_hub: bool) {
        if is_named && has_hub {
            let message = format!("`{directory}` and `hub` both say where the model is");
            self.report(self.key(&format!("{pointer}.hub")), message, "keep one of the two".to_owned());
        } else if !is_named && !has_hub {
            let hint = format!("name its directory with `{directory}: DIR`, or the model with `hub: ORG/NAME`");
            self.report(self.key(pointer), "nothing says where the model is", hint);
        }
    }

    /// A model on a hub. What describes it is fetched to look at it; its weights come once the recipe has no mistakes.
    fn model_by_name(&mut self, catalog: &'static Catalog, pointer: &str, reference: Result<Reference>) {
        let looked = reference.and_then(|reference| {
            let found = hub::fetch(&reference, Wanted::Description)?;
            Ok(catalog.check_checkpoint(&found.directory, &reference.to_string())?)
        });
        if let Err(error) = looked {
            let Hinted { message, hint } = Hinted::of(&error);
            self.report(self.value(&beside(pointer, "hub")), message, hint);
        }
    }

    /// Files of a data set on a hub. They're fetched: what a recipe says of rows is held against the rows.
    fn data_by_name(&mut self, pointer: &str, pattern: &str) {
        if let Err(error) = paths::fetch_data(pattern) {
            let Hinted { message, hint } = Hinted::of(&error);
            return self.report(self.value(&beside(pointer, "hub")), message, hint);
        }
        if let Err(error) = paths::resolve_path(pattern, self.dir) {
            let Hinted { message, hint } = Hinted::of(&error);
            self.report(self.value(pointer), message, hint);
        }
    }

    /// A tokenizer's file or directory. That a directory has one is seen to when it's needed, as with a model's weights.
    fn tokenizer(&mut self, pointer: &str, path: &str) {
        if path.is_empty() {
            return self.report(self.value(pointer), "no tokenizer is named", None);
        }
        if paths::resolve_place(path, self.dir).is_none() {
            self.missing(pointer, path, "file");
        }
    }

    /// A path as it may be shown.
    fn said(&self, pointer: &str, path: &str) -> String {
        self.tree.find(pointer).map_or_else(|| path.to_owned(), |(_, node)| node.shown())
    }

    fn missing(&mut self, pointer: &str, path: &str, what: &str) {
        let (at, shown) = (self.value(pointer), self.said(pointer, path));
        let secret = self.tree.find(pointer).is_some_and(|(_, node)| node.original.is_some());
        if secret {
            self.report(at, format!("no {what} `{shown}`"), None);
        } else if paths::is_glob(path) {
            let hint = "looked in the recipe's folder and in the working directory".to_owned();
            self.report(at, format!("no {what} matches `{shown}`"), hint);
        } else {
            let hint = self.near(path);
            self.report(at, format!("no {what} `{shown}`"), hint);
        }
    }

    /// The nearest name in the folder where the file should be, or the folder that isn't there.
    fn near(&self, path: &str) -> String {
        let path = Path::new(path);
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut folder_exists = false;
        for base in [self.dir, Path::new("")] {
            let folder = base.join(parent);
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            folder_exists = true;
            let names = entries.flatten().take(MAX_NAMES).map(|entry| entry.file_name().to_string_lossy().into_owned());
            let mut names: Vec<String> = names.collect();
            names.sort();
            if let Some(near) = suggest::nearest(&name, names.iter().map(String::as_str)) {
                return format!("did you mean `{}`?", parent.join(near).display());
            }
        }
        if folder_exists {
            "looked in the recipe's folder and in the working directory".to_owned()
        } else {
            format!(
                "there is no folder `{}`, neither in the recipe's folder nor in the working directory",
                parent.display()
            )
        }
    }
}
