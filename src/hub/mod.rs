//! Models and data sets by name: `THUDM/chatglm-6b` of Hugging Face, of a mirror that speaks its protocol, or of ModelScope
//! becomes a directory with its files.
//!
//! The directory is a snapshot in Hugging Face's own cache, so that what Python has fetched isn't fetched again, nor the
//! other way around (what is ModelScope's has a cache of its own). A name and a revision are looked up once: from then on they
//! mean the commit that they meant, and where its files are all here nothing is asked of anyone. A recipe's results don't change
//! because somebody pushed.

mod arriving;
mod cache;
mod environment;
mod fetch;
mod listing;
mod problems;
mod reference;
mod reports;
mod site;

use std::path::Path;

use anyhow::{Result, bail};

use self::{cache::Repository, reports::report, site::Site};
pub use self::{
    reference::{Kind, Reference, Snapshot, Wanted, data_place, model_place},
    reports::report_with,
};
use crate::support::Hinted;

/// The directory of a model or a data set in the cache, if it's there; nothing is asked of anyone.
pub fn cached(reference: &Reference) -> Option<Snapshot> {
    Repository::of(reference).ok()?.cached(&reference.revision)
}

/// The files that a model or a data set in the cache has on its hub, if that is known.
pub fn names(reference: &Reference) -> Vec<String> {
    let listing = Repository::of(reference).ok().and_then(|repository| {
        let Snapshot { commit, .. } = repository.cached(&reference.revision)?;
        repository.listing(&commit)
    });
    listing.iter().flat_map(|listing| listing.wanted(Wanted::Files(&|_| true))).map(|file| file.path.clone()).collect()
}

/// Sees to it that the wanted files are in the cache.
///
/// # Errors
/// A model, a data set or a revision that isn't there or isn't given to this user, a hub that can't be reached, files that
/// don't arrive as they should be, and the file system's.
pub fn fetch(reference: &Reference, wanted: Wanted) -> Result<Snapshot> {
    let (repository, site) = (Repository::of(reference)?, Site::from_environment(reference.host)?);
    let known = repository.cached(&reference.revision);
    let listed = known.as_ref().and_then(|known| repository.listing(&known.commit));
    if let (Some(known), Some(listing)) = (&known, &listed)
        && listing.wanted(wanted).all(|file| repository.has(&known.commit, file))
    {
        return Ok(known.clone());
    }
    if site.is_offline {
        return match known {
            // Python doesn't leave a list of what there would be.
            Some(known) if listed.is_none() => Ok(known),
            Some(_) => bail!(offline(reference, &repository.root, "isn't whole")),
            None => bail!(offline(reference, &repository.root, "isn't there")),
        };
    }
    let listing = match (&known, listed) {
        (Some(_), Some(listing)) => listing,
        (known, _) => match (site.list(reference, known.as_ref().map(|known| known.commit.as_str())), known) {
            (Ok(listing), _) => listing,
            (Err(error), Some(known)) if problems::is_outage(&error) => {
                report(&format!("note: {error:#}; {reference} is taken as it is in the cache"));
                return Ok(known.clone());
            }
            (Err(error), _) => return Err(error),
        },
    };
    repository.remember(&reference.revision, &listing)?;
    let missing: Vec<_> = listing.wanted(wanted).filter(|file| !repository.has(&listing.commit, file)).collect();
    fetch::fetch(&site, &repository, reference, &listing, &missing)?;
    Ok(Snapshot { directory: repository.snapshot(&listing.commit), commit: listing.commit })
}

fn offline(reference: &Reference, cache: &Path, what: &str) -> Hinted {
    let message = format!("{reference} {what} in {}, and HF_HUB_OFFLINE forbids to fetch it", cache.display());
    Hinted::with(message, "fetch it where there is a connection, or unset HF_HUB_OFFLINE")
}
