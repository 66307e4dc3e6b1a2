//! The model that a stage begins with, where it's a new one.

use super::open::open_place;

open_place! {
    /// A model to build from nothing, by family.
    Model {
        /// The family's name.
        family
    }
}
