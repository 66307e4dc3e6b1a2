//! `pipe schema`.

use anyhow::Result;

use super::{
    args::{Schema, SchemaOf},
    console,
    exit::Exit,
};
use crate::{recipe::schema, session::cluster::profile, stages::catalog};

/// `pipe schema`.
pub(super) fn schema(command: &Schema) -> Result<Exit> {
    console::print(&match command.of {
        SchemaOf::Recipe => schema::text(catalog()),
        SchemaOf::Profiles => profile::schema_text()?,
    })?;
    Ok(Exit::Done)
}
