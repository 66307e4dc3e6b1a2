//! Fills in the recipe's `{{ … }}` expressions over `vars`. `env("NAME")` is the only way to the environment, and what
//! comes from there is marked, so that it's never shown.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Dynamic};
use parking_lot::Mutex;

use super::diagnostic::Diagnostic;
use super::dynamic::{concrete, dynamic, mark};
use super::node::{Entry, Node, Value};
use super::place::{Span, Text, Texts};
use super::shape::{Role, Slot};
use super::template::{identifier, is_expression, lone, reason};
use super::written;
use super::{coerce, flags, suggest};

/// Steps (and 64ths of a byte made) that one expression may take.
const FUEL: u64 = 50_000;

const SWEEP: &str = "sweep";

/// Fills in all expressions of a recipe's tree, with `--var` flags in place of the vars they name. Gives the values
/// that were read from the environment, each with the call that read it.
pub(super) fn expand(
    tree: &mut Node,
    recipe: &'static Slot,
    texts: &mut Texts,
    vars: &[(String, String)],
    problems: &mut Vec<Diagnostic>,
) -> Vec<(String, String)> {
    let overridden = override_vars(tree, texts, vars, problems);
    let names = tree.get("vars").map(Node::entries).unwrap_or_default();
    let names = names.iter().map(|entry| entry.key.clone()).collect();
    let mut expander = Expander::new(texts, names, problems);
    let Value::Map(entries) = &mut tree.value else { return Vec::new() };
    if let Some(vars) = entries.iter_mut().find(|entry| entry.key == "vars")
        && let Value::Map(vars) = &mut vars.node.value
    {
        for var in vars {
            if !overridden.contains(&var.key) {
                expander.tree(&mut var.node, recipe.child("vars").and_then(|vars| vars.child(&var.key)));
            }
            expander.define(&var.key, &var.node);
        }
    }
    for entry in entries.iter_mut().filter(|entry| entry.key != "vars" && entry.key != SWEEP) {
        expander.tree(&mut entry.node, recipe.child(&entry.key));
    }
    // A sweep's values are those of the fields that its paths lead to, which are known by now.
    if let Some(at) = entries.iter().position(|entry| entry.key == SWEEP) {
        let mut sweep = std::mem::replace(&mut entries[at].node, Node::new(Span::default(), Value::Null));
        expander.sweep(&mut sweep, recipe, tree);
        if let Value::Map(entries) = &mut tree.value {
            entries[at].node = sweep;
        }
    }
    expander.read
}

fn override_vars(
    tree: &mut Node,
    texts: &mut Texts,
    vars: &[(String, String)],
    problems: &mut Vec<Diagnostic>,
) -> BTreeSet<String> {
    let mut overridden = BTreeSet::new();
    for (name, value) in vars {
        let number = texts.push(Text::flag(format!("--var {name}={value}")));
        let (start, equals) = ("--var ".len(), "--var ".len() + name.len());
        let known = match &mut tree.value {
            Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == "vars"),
            _ => None,
        };
        let known = known.map(|entry| &mut entry.node.value);
        let entries = if let Some(Value::Map(entries)) = known { entries.as_mut_slice() } else { &mut [] };
        if let Some(var) = entries.iter_mut().find(|var| var.key == *name) {
            var.node = flags::scalar(value, number, equals + 1, texts);
            overridden.insert(name.clone());
            continue;
        }
        let names = entries.iter().map(|var| var.key.as_str());
        let hint = suggest::did_you_mean(name, names, "the vars are");
        problems.push(
            Diagnostic::new(format!("the recipe has no var `{name}`"))
                .at(Span::new(number, start, equals))
                .hint(hint.or_else(|| Some("it has no `vars` at all".to_owned()))),
        );
    }
    overridden
}

/// What an expression asked of the environment.
#[derive(Debug, Default)]
struct Asked {
    /// Value and call.
    read: Vec<(String, String)>,
    missing: Option<String>,
}

/// An expression's value, and the vars that it uses.
struct Evaluated {
    names: Vec<String>,
    result: Result<Dynamic, Failure>,
}

/// The engine's error; the ranges in it count from `offset` in the text.
struct Failure {
    error: Error,
    offset: usize,
}

struct Expander<'a> {
    texts: &'a Texts,
    problems: &'a mut Vec<Diagnostic>,
    environment: Environment<'static>,
    asked: Arc<Mutex<Asked>>,
    read: Vec<(String, String)>,
    /// All vars, also those further down.
    names: Vec<String>,
    vars: BTreeMap<String, Dynamic>,
    /// Those that hold something which would be written otherwise than it was.
    written: BTreeMap<String, Dynamic>,
    secret: BTreeSet<String>,
    /// Vars that could not be worked out; what uses them is passed over.
    unknown: BTreeSet<String>,
}

impl<'a> Expander<'a> {
    fn new(texts: &'a Texts, names: Vec<String>, problems: &'a mut Vec<Diagnostic>) -> Self {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(true);
        let record = Arc::clone(&asked);
        environment.add_function("env", move |name: String| -> Result<String, Error> {
            let mut asked = record.lock();
            match std::env::var(&name) {
                Ok(value) => {
                    asked.read.push((value.clone(), format!("env({name:?})")));
                    Ok(value)
                }
                Err(_) => {
                    asked.missing = Some(name);
                    Err(Error::new(ErrorKind::InvalidOperation, "not set"))
                }
            }
        });
        environment.add_filter(written::TYPED, |value: Dynamic| written::typed(&value));
        let (vars, written, secret, unknown) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { texts, problems, environment, asked, read: Vec::new(), names, vars, written, secret, unknown }
    }

    /// Makes a var known to what follows.
    fn define(&mut self, name: &str, node: &Node) {
        if node.any(&|node| node.value == Value::Unknown) {
            self.unknown.insert(name.to_owned());
        }
        if node.any(&|node| node.original.is_some()) {
            self.secret.insert(name.to_owned());
        }
        self.vars.insert(name.to_owned(), dynamic(node, false));
        let value = dynamic(node, true);
        if written::is_within(&value) {
            self.written.insert(name.to_owned(), value);
        }
    }

    /// Fills in everything below a node but templates over data rows. What the schema doesn't know is left alone: it
    /// will be reported, and might be a template under a misspelt key.
    fn tree(&mut self, node: &mut Node, slot: Option<&Slot>) {
        let Some(slot) = slot else { return };
        match &mut node.value {
            Value::String(text) if is_expression(text) && slot.role != Role::Template => self.whole(node),
            Value::Seq(items) => {
                let slot = slot.child("");
                items.iter_mut().for_each(|item| self.tree(item, slot));
            }
            Value::Map(entries) => {
                for entry in entries {
                    self.tree(&mut entry.node, slot.child(&entry.key));
                }
            }
            _ => {}
        }
    }

    /// Fills in a text that is an expression.
    fn whole(&mut self, node: &mut Node) {
        if let Value::String(text) = &mut node.value
            && is_expression(text)
        {
            let text = std::mem::take(text);
            *node = self.scalar(&text, node.span);
        }
    }

    /// Fills in a sweep: each value as the field that its path leads to would be filled in.
    fn sweep(&mut self, sweep: &mut Node, recipe: &'static Slot, tree: &Node) {
        let slot = recipe.child(SWEEP);
        self.whole(sweep);
        coerce::settings(sweep, &mut |path, value| {
            if let Ok(target) = flags::resolve(tree, recipe, path) {
                self.tree(value, Some(target.slot));
            }
        });
        let Value::Map(entries) = &mut sweep.value else { return };
        for Entry { key, node, .. } in entries {
            let slot = slot.and_then(|slot| slot.child(key));
            match key.as_str() {
                "list" => {
                    self.whole(node);
                    let Value::Seq(cells) = &mut node.value else { continue };
                    cells.iter_mut().for_each(|cell| self.whole(cell));
                }
                "zip" | "grid" => self.ranges(node),
                "random" | "tpe" => {
                    self.whole(node);
                    let Value::Map(entries) = &mut node.value else { continue };
                    for Entry { key, node, .. } in entries {
                        match key.as_str() {
                            "values" => self.ranges(node),
                            _ => self.tree(node, slot.and_then(|slot| slot.child(key))),
                        }
                    }
                }
                _ => self.tree(node, slot),
            }
        }
    }

    /// Fills in the lists and ranges behind a sweep's paths, but for the values in them.
    fn ranges(&mut self, section: &mut Node) {
        self.whole(section);
        let Value::Map(entries) = &mut section.value else { return };
        for entry in entries {
            self.whole(&mut entry.node);
            let Value::Map(range) = &mut entry.node.value else { continue };
            for end in range {
                self.whole(&mut end.node);
                if let Value::Seq(ends) = &mut end.node.value
                    && end.key != "choice"
                {
                    ends.iter_mut().for_each(|end| self.whole(end));
                }
            }
        }
    }

    fn scalar(&mut self, text: &str, span: Span) -> Node {
        *self.asked.lock() = Asked::default();
        let unknown = Node::new(span, Value::Unknown);
        let Evaluated { names, result } = match self.evaluate(text) {
            Ok(found) => found,
            Err(failure) => {
                self.failed(&failure, text, span, false);
                return unknown;
            }
        };
        let undefined = names.iter().filter(|name| !self.vars.contains_key(*name));
        let undefined: Vec<Diagnostic> = undefined.map(|name| self.undefined(name, text, span)).collect();
        if !undefined.is_empty() {
            self.problems.extend(undefined);
            return unknown;
        }
        if names.iter().any(|name| self.unknown.contains(name)) {
            return unknown;
        }
        let result = match self.as_written(text, &names) {
            Some(value) => Ok(value),
            None => result,
        };
        let asked = std::mem::take(&mut *self.asked.lock());
        let secret = !asked.read.is_empty() || names.iter().any(|name| self.secret.contains(name));
        self.read.extend(asked.read);
        if let Some(name) = asked.missing {
            self.missing(&name, text, span);
            return unknown;
        }
        match result {
            Ok(value) if value.is_undefined() => {
                self.problems.push(Diagnostic::new("the expression gives nothing").at(span));
                unknown
            }
            Ok(value) => {
                let mut node = concrete(&value, span);
                if secret {
                    mark(&mut node, &Arc::from(text));
                }
                node
            }
            Err(failure) => {
                self.failed(&failure, text, span, secret);
                unknown
            }
        }
    }

    /// Works out a text: to a value of any type if it is one expression and nothing else, or to a string.
    ///
    /// # Errors
    /// If the text is no template.
    fn evaluate(&self, text: &str) -> Result<Evaluated, Failure> {
        if let Some(inner) = lone(text) {
            let fail = |error| Failure { error, offset: inner.start };
            match self.environment.compile_expression(&text[inner.clone()]) {
                Ok(expression) => {
                    let names = self.vars_among(expression.undeclared_variables(false));
                    return Ok(Evaluated { names, result: expression.eval(&self.vars).map_err(fail) });
                }
                // Two expressions with something between them are not one.
                Err(error) if !text[inner.clone()].contains("}}") => return Err(fail(error)),
                Err(_) => {}
            }
        }
        let fail = |error| Failure { error, offset: 0 };
        let template = self.environment.template_from_str(text).map_err(fail)?;
        let names = self.vars_among(template.undeclared_variables(false));
        // The engine takes a line break at the end off, which a block scalar has for a reason.
        let end = if text.ends_with('\n') { "\n" } else { "" };
        Ok(Evaluated { names, result: template.render(&self.vars).map(|text| Dynamic::from(text + end)).map_err(fail) })
    }

    /// Works out a text with vars that know how they were written; none where the vars that it uses are written as they
    /// would be anyway, or where that can't be done.
    fn as_written(&self, text: &str, names: &[String]) -> Option<Dynamic> {
        if !names.iter().any(|name| self.written.contains_key(name)) {
            return None;
        }
        let text = written::with_typed_operands(text)?;
        let var = |name: &String| Some((name.clone(), self.written.get(name).or_else(|| self.vars.get(name))?.clone()));
        let vars: BTreeMap<String, Dynamic> = names.iter().filter_map(var).collect();
        if let Some(inner) = lone(&text)
            && let Ok(expression) = self.environment.compile_expression(&text[inner])
        {
            return expression.eval(&vars).ok().filter(|value| !value.is_undefined());
        }
        let end = if text.ends_with('\n') { "\n" } else { "" };
        let filled = self.environment.template_from_str(&text).ok()?.render(&vars).ok()?;
        Some(Dynamic::from(filled + end))
    }

    /// Names that are not functions of the engine, sorted.
    fn vars_among(&self, names: HashSet<String>) -> Vec<String> {
        let mut names: Vec<String> = names.into_iter().filter(|name| !self.is_global(name)).collect();
        names.sort();
        names
    }

    fn is_global(&self, name: &str) -> bool {
        self.environment.globals().any(|(global, _)| global == name)
    }

    fn undefined(&self, name: &str, text: &str, span: Span) -> Diagnostic {
        let hint = if self.names.iter().any(|known| known == name) {
            Some("it's set further down; a var may use those above it".to_owned())
        } else {
            let above = self.names.iter().map(String::as_str).filter(|name| self.vars.contains_key(*name));
            suggest::did_you_mean(name, above.collect::<Vec<_>>(), "the vars are")
                .or_else(|| Some("set it under `vars`".to_owned()))
        };
        let place = identifier(text, name).map_or(span, |part| self.texts.within(span, text, part));
        Diagnostic::new(format!("there is no var `{name}`")).at(place).hint(hint)
    }

    fn missing(&mut self, name: &str, text: &str, span: Span) {
        // A name that doesn't stand in the recipe was itself computed, maybe from a secret.
        let (message, place) = match text.find(name) {
            Some(at) if !name.is_empty() => (
                format!("the environment variable `{name}` is not set, or is not UTF-8"),
                self.texts.within(span, text, at..at + name.len()),
            ),
            _ => ("an environment variable is not set".to_owned(), span),
        };
        let hint = (!name.is_empty() && text.contains(name)).then(|| format!("run `export {name}=…` first"));
        self.problems.push(Diagnostic::new(message).at(place).hint(hint));
    }

    /// An expression that is wrong or fails. Where secrets are at play, the engine's words might hold them.
    fn failed(&mut self, failure: &Failure, text: &str, span: Span, secret: bool) {
        let Failure { error, offset } = failure;
        let part = error.range().map(|range| range.start + offset..range.end + offset);
        let place = part.map_or(span, |part| self.texts.within(span, text, part));
        let problem = match error.kind() {
            ErrorKind::OutOfFuel => Diagnostic::new("the expression takes too long")
                .hint(format!("an expression may take {FUEL} steps; compute large things outside of the recipe")),
            _ if secret => Diagnostic::new("the expression fails")
                .hint("the reason is not shown, for it might hold the value of `env()`".to_owned()),
            kind => Diagnostic::new(format!("the expression fails: {}", reason(error)))
                .hint((kind == ErrorKind::SyntaxError).then(|| "an expression is `{{ name }}`".to_owned())),
        };
        self.problems.push(problem.at(place));
    }
}
