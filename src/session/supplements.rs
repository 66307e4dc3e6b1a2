//! Stages that a recipe doesn't write and that its kinds need.

use anyhow::Result;

use crate::{recipe::Checked, stages::kind_named};

/// A recipe with the stages that its own ones need.
///
/// # Errors
/// Settings that don't fit each other.
pub(super) fn supplemented(mut checked: Checked) -> Result<Checked> {
    for name in checked.order.clone() {
        let stages = &checked.recipe.stages;
        let Some(stage) = stages.get(&name) else { continue };
        let found = kind_named(&stage.kind)?.supplements(&stage.settings, &|other| stages.get(other))?;
        found.into_iter().for_each(|supplement| checked.supplement(&name, supplement));
    }
    Ok(checked)
}
