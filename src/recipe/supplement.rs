//! Stages that a recipe needn't write: a kind says that its stages need them, and they're added to the checked recipe.

use super::Checked;
use crate::spec::Stage;

/// A stage that another one needs and no recipe has to write.
#[derive(Clone, Debug)]
pub struct Supplement {
    /// The field of the settings of the stage that needs it in which its name stands.
    pub field: &'static str,
    /// Its name: that of the stage which it's derived from, a dot, and what it is. Names in recipes have no dots.
    pub name: String,
    /// The stage, all of its settings filled in.
    pub stage: Stage,
    /// Where in the recipe settings come from: the field of its own, and the pointer. What's secret there stays so.
    pub origins: Vec<(&'static str, String)>,
}

impl Checked {
    /// Adds a stage that another one needs, and names it there. One that several need is added once.
    pub fn supplement(&mut self, needed_by: &str, supplement: Supplement) {
        let Supplement { field, name, stage, origins } = supplement;
        if let Some(settings) = self.recipe.stages.get_mut(needed_by).and_then(|stage| stage.settings.as_object_mut()) {
            settings.insert(field.to_owned(), name.as_str().into());
        }
        if self.recipe.stages.contains_key(&name) {
            return;
        }
        for (own, origin) in origins {
            self.secrets.hold_for(&origin, &format!("stages.{name}.{}.{own}", stage.kind));
        }
        let place = self.order.iter().position(|other| other == needed_by).unwrap_or(self.order.len());
        self.order.insert(place, name.clone());
        self.recipe.stages.insert(name, stage);
    }
}
