//! What other programs add to the registries works like what is built in, without an edit in `src/`.

mod families;
