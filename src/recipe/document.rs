//! A recipe's file as it was read: parsed once, checked as often as there are settings to try.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::json;

use super::check;
use super::node::{Node, Value};
use super::place::{Span, Text, Texts};
use super::secret::Secrets;
use super::{
    Catalog, Checked, Checks, Columns, Diagnostic, Diagnostics, Draft, Overrides, Setting, coerce, expand, flags,
    source, suggest, typecheck, walk,
};
use crate::spec::{Recipe, Stage};

/// A recipe's text and tree.
#[derive(Clone, Debug)]
pub struct Document {
    catalog: &'static Catalog,
    path: PathBuf,
    texts: Texts,
    tree: Node,
    /// Duplicate keys and the like, which don't keep the rest from being checked.
    problems: Vec<Diagnostic>,
}

impl Document {
    /// Reads a recipe's file, which may name what the catalog has.
    ///
    /// # Errors
    /// If it cannot be read, is too large or not UTF-8, or is no YAML mapping.
    pub fn read(path: &Path, catalog: &'static Catalog) -> Result<Self, Diagnostics> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Diagnostics::unreadable(&name, format!("there is no recipe `{name}`"), near(path))
            }
            _ => Diagnostics::unreadable(&name, format!("the recipe `{name}` cannot be read: {error}"), None),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let row = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            let message = format!("`{name}` is not UTF-8 in line {row}");
            Diagnostics::unreadable(&name, message, Some("save it as UTF-8".into()))
        })?;
        Self::parse(path, &text, catalog)
    }

    /// Takes a recipe's text; `path` is its name in messages, and the files it names are looked for in its folder.
    ///
    /// # Errors
    /// If the text is too large, or is no YAML mapping.
    pub fn parse(path: &Path, text: &str, catalog: &'static Catalog) -> Result<Self, Diagnostics> {
        let name = path.display().to_string();
        if text.len() > source::MAX_BYTES {
            let message = format!("`{name}` is larger than a recipe can be, {} KiB", source::MAX_BYTES >> 10);
            return Err(Diagnostics::unreadable(&name, message, None));
        }
        let texts = Texts::new(Text::file(name, text));
        let mut problems = Vec::new();
        let tree = source::parse(texts.file(), 0, 0, &mut problems);
        let tree = tree.filter(|tree| match &tree.value {
            Value::Map(_) => true,
            Value::Null | Value::Unknown => false,
            _ => {
                problems.push(
                    Diagnostic::new("a recipe is a mapping, with the key `stages`")
                        .at(Span { end: tree.span.start, ..tree.span })
                        .hint("`pipe init DIR` writes one to begin with".to_owned()),
                );
                false
            }
        });
        match tree {
            Some(tree) => Ok(Self { catalog, path: path.to_owned(), texts, tree, problems }),
            None => {
                if problems.is_empty() {
                    problems.push(
                        Diagnostic::new("the recipe is empty")
                            .hint("`pipe init DIR` writes one to begin with".to_owned()),
                    );
                }
                Err(Diagnostics::new(texts, problems))
            }
        }
    }

    /// Checks the recipe with what the command line changes in it.
    ///
    /// # Errors
    /// All mistakes, each with its place.
    pub fn check(&self, overrides: &Overrides, columns: &Columns<'_>) -> Result<Checked, Diagnostics> {
        self.check_cell(overrides, &IndexMap::new(), columns)
    }

    /// Checks the recipe with the settings of a sweep's cell in it, by dotted path; these come after the command line's
    /// changes.
    ///
    /// # Errors
    /// All mistakes, each with its place.
    pub fn check_cell(
        &self,
        overrides: &Overrides,
        settings: &IndexMap<String, Setting>,
        columns: &Columns<'_>,
    ) -> Result<Checked, Diagnostics> {
        let Filled { tree, texts, read, mut problems } = self.filled(overrides, settings);
        let mut warnings = Vec::new();
        typecheck::check(&tree, self.catalog.recipe(), typecheck::ROOT, &mut problems);
        let drafts = check::drafts(&tree, self.catalog);
        let sweep = tree.get("sweep").and_then(|node| serde_json::from_value(node.to_json()).ok());
        let dir = self.path.parent().unwrap_or(Path::new("")).to_owned();
        let catalog = self.catalog;
        let order = Checks {
            tree: &tree,
            texts: &texts,
            drafts: &drafts,
            dir: &dir,
            columns,
            problems: &mut problems,
            warnings: &mut warnings,
            chains: RefCell::default(),
        }
        .run(catalog, sweep.as_ref());

        let secrets = Secrets::of(&tree, read);
        let recipe = typed(&tree, drafts, &secrets);
        match recipe {
            Some(recipe) if problems.is_empty() => {
                secrets.scrub_all(&mut warnings);
                Ok(Checked { catalog, recipe, path: self.path.clone(), dir, order, secrets, tree, texts, warnings })
            }
            _ => {
                if problems.is_empty() {
                    problems.push(Diagnostic::new("the recipe doesn't fit its schema"));
                }
                secrets.scrub_all(&mut problems);
                Err(Diagnostics::new(texts, problems))
            }
        }
    }
}

/// A recipe's tree with all that changes it in place.
struct Filled {
    tree: Node,
    texts: Texts,
    /// What came from the environment, each with the call that read it.
    read: Vec<(String, String)>,
    problems: Vec<Diagnostic>,
}

impl Document {
    /// The files and directories that the recipe's stages name, as they're written, whether or not they are there and the
    /// recipe is right.
    pub fn files(&self, overrides: &Overrides) -> BTreeSet<String> {
        let tree = self.filled(overrides, &IndexMap::new()).tree;
        let mut files = BTreeSet::new();
        for draft in check::drafts(&tree, self.catalog) {
            walk::visit(&draft.spec, draft.slot, &mut String::new(), &mut |_, value, slot| {
                files.extend(slot.role.file_kind().and_then(|_| value.as_str()).map(str::to_owned));
            });
        }
        files
    }

    fn filled(&self, overrides: &Overrides, settings: &IndexMap<String, Setting>) -> Filled {
        let mut problems = self.problems.clone();
        let mut texts = self.texts.clone();
        let mut tree = self.tree.clone();
        let slot = self.catalog.recipe();
        let later = flags::apply(&mut tree, slot, &mut texts, &overrides.sets, &mut problems);
        let is_var = |(path, _): &(&String, &Setting)| path.starts_with("vars.");
        flags::set(&mut tree, slot, settings.iter().filter(is_var));
        let read = expand::expand(&mut tree, slot, &mut texts, &overrides.vars, &mut problems);
        // What is still an expression failed, and was reported.
        flags::apply(&mut tree, slot, &mut texts, later, &mut problems);
        flags::set(&mut tree, slot, settings.iter().filter(|setting| !is_var(setting)));
        coerce::recipe(&mut tree, slot);
        Filled { tree, texts, read, problems }
    }
}

/// The recipe's types out of the tree, in the tree's order; none if a part doesn't fit.
fn typed(tree: &Node, drafts: Vec<Draft>, secrets: &Secrets) -> Option<Recipe> {
    let mut json = tree.to_json();
    json["stages"] = json!({});
    if let Some(vars) = json.get_mut("vars") {
        secrets.redact(vars, &mut "vars".to_owned());
    }
    let mut recipe: Recipe = serde_json::from_value(json).ok()?;
    let stages = drafts.into_iter().map(|draft| Some((draft.name, draft.stage?)));
    recipe.stages = stages.collect::<Option<IndexMap<String, Stage>>>()?;
    if let (Some(sweep), Some(node)) = (&mut recipe.sweep, tree.get("sweep")) {
        reorder(&mut sweep.zip, node.get("zip"));
        reorder(&mut sweep.grid, node.get("grid"));
        let values = |key: &str| node.get(key).and_then(|section| section.get("values"));
        if let Some(random) = &mut sweep.random {
            reorder(&mut random.values, values("random"));
        }
        if let Some(tpe) = &mut sweep.tpe {
            reorder(&mut tpe.values, values("tpe"));
        }
        if let Some(Value::Seq(items)) = node.get("list").map(|list| &list.value) {
            sweep.list.iter_mut().zip(items).for_each(|(cell, node)| reorder(cell, Some(node)));
        }
    }
    Some(recipe)
}

/// The recipe's order, which JSON doesn't keep.
fn reorder<V>(map: &mut IndexMap<String, V>, node: Option<&Node>) {
    let entries = node.map(Node::entries).unwrap_or_default();
    map.sort_by_cached_key(|key, _| entries.iter().position(|entry| entry.key == *key));
}

/// The name of a recipe near to one that isn't there.
fn near(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".yaml") || name.ends_with(".yml")).collect();
    names.sort();
    let name = path.file_name()?.to_string_lossy();
    let near = suggest::nearest(&name, names.iter().map(String::as_str))?;
    Some(format!("did you mean `{}`?", path.with_file_name(near).display()))
}
