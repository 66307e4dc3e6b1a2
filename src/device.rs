//! Which backend tensors live on.
