//! Stages refer to stages: the names must be there, of the right kind, and never lead back.

use crate::recipe::node::Node;
use crate::recipe::paths;
use crate::recipe::shape::Role;
use crate::recipe::walk;
use crate::recipe::{Catalog, Checks, Draft, suggest};
use crate::spec::Product;

/// A reference: the pointer of the field, and the index of the stage it names.
type Edge = (String, usize);

impl Checks<'_> {
    /// Checks all references, and orders the stages by them; those in cycles are left out.
    pub(super) fn graph(&mut self, catalog: &'static Catalog) -> Vec<String> {
        let edges: Vec<Vec<Edge>> = self.drafts.iter().map(|draft| self.references(catalog, draft)).collect();
        self.cycles(&edges);
        let mut order: Vec<usize> = Vec::with_capacity(edges.len());
        let mut done = vec![false; edges.len()];
        // The first stage in the recipe's order whose references are all done comes next.
        while let Some(next) =
            (0..edges.len()).find(|stage| !done[*stage] && edges[*stage].iter().all(|(_, target)| done[*target]))
        {
            done[next] = true;
            order.push(next);
        }
        order.into_iter().map(|stage| self.drafts[stage].name.clone()).collect()
    }

    fn references(&mut self, catalog: &'static Catalog, draft: &Draft) -> Vec<Edge> {
        let mut fields = Vec::new();
        walk::visit(&draft.spec, draft.slot, &mut String::new(), &mut |pointer, value, slot| {
            if let (Role::Stage(product), Some(name)) = (&slot.role, value.as_str()) {
                fields.push((draft.pointer(pointer), name.to_owned(), *product));
            }
        });
        let mut edges = Vec::new();
        for (pointer, name, product) in fields {
            let shown = self.shown(&pointer);
            if let Some(index) = self.drafts.iter().position(|draft| draft.name == name) {
                let makes = |draft: &Draft| draft.kind.products().contains(&product);
                if makes(&self.drafts[index]) {
                    edges.push((pointer, index));
                    continue;
                }
                let others = self.drafts.iter().filter(|other| makes(other) && other.name != draft.name);
                let names = suggest::list(others.map(|other| other.name.as_str()));
                let hint = if names.is_empty() {
                    let kinds = kinds_making(catalog, product).join(", ");
                    format!("the recipe has no other stage that makes {} (kinds that do: {kinds})", some(product))
                } else {
                    format!("the stages that make {} are {names}", some(product))
                };
                let kind = self.drafts[index].kind.name();
                let message = format!("`{shown}` is {} {kind} stage, which makes no {product}", article(kind));
                self.report(self.value(&pointer), message, hint);
            } else if self.tree.get("stages").is_none_or(|stages| stages.get(&name).is_none()) {
                let stages = self.tree.get("stages").map(Node::entries).unwrap_or_default();
                let names = stages.iter().map(|entry| entry.key.as_str()).filter(|name| *name != draft.name);
                let directory = paths::resolve_place(&name, self.dir).is_some() && pointer.ends_with(".from");
                let hint = match directory {
                    true => Some(format!("a directory goes under `checkpoint`: {{ checkpoint: {shown} }}")),
                    false => suggest::did_you_mean(&name, names, "the stages are"),
                };
                self.report(self.value(&pointer), format!("there is no stage `{shown}`"), hint);
            }
        }
        edges
    }

    /// Reports each cycle once, at the reference that closes it.
    fn cycles(&mut self, edges: &[Vec<Edge>]) {
        let mut done = vec![false; edges.len()];
        for start in 0..edges.len() {
            let mut path = Vec::new();
            self.follow(start, edges, &mut path, &mut done);
        }
    }

    fn follow(&mut self, stage: usize, edges: &[Vec<Edge>], path: &mut Vec<usize>, done: &mut [bool]) {
        if done[stage] {
            return;
        }
        path.push(stage);
        for (pointer, target) in &edges[stage] {
            match path.iter().position(|on_path| on_path == target) {
                Some(first) => {
                    let names = path[first..].iter().chain([target]).map(|stage| self.drafts[*stage].name.as_str());
                    let circle = names.collect::<Vec<_>>().join(" -> ");
                    let message = format!("the stages go in a circle: {circle}");
                    self.report(self.value(pointer), message, "a stage can build on earlier results only".to_owned());
                }
                None => self.follow(*target, edges, path, done),
            }
        }
        path.pop();
        done[stage] = true;
    }
}

/// The kinds of stages that make a product.
fn kinds_making(catalog: &'static Catalog, product: Product) -> Vec<&'static str> {
    catalog.kinds().iter().filter(|kind| kind.products().contains(&product)).map(|kind| kind.name()).collect()
}

/// A product with its article.
fn some(product: Product) -> String {
    match product {
        Product::Tokens => product.to_string(),
        one => format!("a {one}"),
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
