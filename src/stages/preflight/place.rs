//! Places of what is found wrong.

use crate::engine::plan::Node;

/// Where a field of a stage's settings stands in the recipe.
pub(super) fn pointer(node: &Node, field: &str) -> String {
    format!("stages.{}.{}.{field}", node.name, node.kind)
}
