//! Files that a recipe names must be there.

use std::path::Path;

use super::Check;
use crate::recipe::node::Node;
use crate::recipe::shape::Role;
use crate::recipe::suggest;
use crate::recipe::walk;

/// Names in a folder that are compared with the one that isn't there.
const MAX_NAMES: usize = 2_000;

impl Check<'_> {
    pub(super) fn files(&mut self) {
        for draft in self.drafts {
            let mut paths = Vec::new();
            walk::visit(&draft.spec, draft.slot, &mut String::new(), &mut |pointer, value, slot| {
                if let (Role::Path, Some(path)) = (&slot.role, value.as_str()) {
                    paths.push((draft.pointer(pointer), path.to_owned()));
                }
            });
            for (pointer, path) in paths {
                self.file(&pointer, &path);
            }
        }
    }

    fn file(&mut self, pointer: &str, path: &str) {
        let at = self.value(pointer);
        let node = self.tree.find(pointer).map(|(_, node)| node);
        let secret = node.is_some_and(|node| node.original.is_some());
        let shown = node.map_or_else(|| path.to_owned(), Node::shown);
        if path.is_empty() {
            return self.report(at, "no file is named", None);
        }
        match walk::resolve_path(path, self.dir) {
            Ok(files) if pointer.ends_with(".tokenizer.file") && (files.len() > 1 || walk::is_glob(path)) => {
                self.report(at, format!("`{shown}` stands for {} files; a tokenizer is one", files.len()), None);
            }
            Ok(_) => {}
            Err(_) if secret => self.report(at, format!("no file `{shown}`"), None),
            Err(_) if walk::is_glob(path) => {
                let hint = "looked in the recipe's folder and in the working directory".to_owned();
                self.report(at, format!("no file matches `{shown}`"), hint);
            }
            Err(_) => {
                let hint = self.near(path);
                self.report(at, format!("no file `{shown}`"), hint);
            }
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
