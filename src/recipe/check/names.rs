//! Names of stages, vars and devices.

use crate::recipe::node::Node;
use crate::recipe::{Checks, suggest};
use crate::spec::{DeviceChoice, DeviceChoices};
use crate::support::Hinted;

impl Checks<'_> {
    pub(super) fn names(&mut self) {
        let tree = self.tree;
        for entry in tree.get("stages").map(Node::entries).unwrap_or_default() {
            let fit = |character: char| character.is_alphanumeric() || character == '_' || character == '-';
            if entry.key.is_empty() || !entry.key.chars().all(fit) {
                self.report(
                    entry.key_span,
                    format!("`{}` cannot be the name of a stage", entry.key),
                    "a name has letters, digits, `_` and `-`".to_owned(),
                );
            }
        }
        for entry in tree.get("vars").map(Node::entries).unwrap_or_default() {
            let fit = |character: char| character.is_alphanumeric() || character == '_';
            if !entry.key.chars().all(fit) || entry.key.starts_with(|first: char| first.is_numeric()) {
                let name: String = entry.key.chars().map(|letter| if fit(letter) { letter } else { '_' }).collect();
                self.report(
                    entry.key_span,
                    format!("`{}` cannot be used in an expression", entry.key),
                    format!("a var's name has letters, digits and `_`, such as `{name}`"),
                );
            } else if entry.key == "env" {
                self.report(entry.key_span, "`env` is the function that reads the environment", None);
            }
        }
        self.device();
        self.devices();
    }

    fn device(&mut self) {
        let Some(node) = self.tree.get("device") else { return };
        let Some(name) = node.as_str() else { return };
        if name.parse::<DeviceChoice>().is_err() {
            let hint = suggest::did_you_mean(name, DeviceChoice::NAMES, "the devices are");
            let hint = if name.starts_with("cuda") { Some("the second GPU is `cuda:1`".to_owned()) } else { hint };
            self.report(node.span, format!("there is no device `{}`", node.shown()), hint);
        }
    }

    fn devices(&mut self) {
        let Some(node) = self.tree.get("devices") else { return };
        if self.tree.get("device").is_some() {
            let hint = "`devices` says all: one device is a list too".to_owned();
            self.report(node.span, "`device` and `devices` can't both be there", hint);
        }
        let Some(list) = node.as_str() else { return };
        let Err(error) = list.parse::<DeviceChoices>() else { return };
        // What came out of an expression may be a secret.
        if node.shown() != list {
            self.report(node.span, format!("there are no devices `{}`", node.shown()), None);
            return;
        }
        let Hinted { message, hint } = Hinted::of(&error);
        self.report(node.span, message, hint);
    }
}
