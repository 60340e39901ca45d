//! The command `export-c`.

use std::ffi::OsStr;

use shm_sync::inspect::{self, Link, Object};
use shm_sync::{Backing, Error};

use crate::arguments::ExportC;
use crate::c_header::{self, NoHeader, Source};
use crate::labels;
use crate::output::{Failure, Outcome, no_such_object, print};
use crate::text::escape;

/// Prints a C header for the value of a segment.
pub(crate) fn export_c(export: &ExportC) -> Result<Outcome, Failure> {
    let address = &export.subject.address;
    let shown = escape(&address.to_string());
    let failed = |error: Error| match error {
        Error::NotFound { .. } => no_such_object(address),
        other => Failure::of(address, &other),
    };
    let object = inspect::object(address).map_err(failed)?;
    let Some(segment) = object.content.segment() else {
        let reason = labels::reason(&object).unwrap_or_default();
        return Err(Failure::Failed(format!("{shown}: {reason}")));
    };
    let types = inspect::types(address).map_err(failed)?;
    let Some(types) = types else {
        let text = format!("{shown} does not describe its types, because they are too many");
        return Err(Failure::Failed(text));
    };
    if types.root().fingerprint != segment.layout.fingerprint {
        let text = format!("{shown} was replaced by another segment meanwhile");
        return Err(Failure::Failed(text));
    }
    let prefix = match &export.prefix {
        Some(prefix) => prefix.clone(),
        None => c_header::prefix_of(&object.name),
    };
    let header = c_header::header(&Source {
        layout: &segment.layout,
        types: &types,
        address: lasting_address(&object),
        prefix: &prefix,
    });
    let header = header.map_err(|reason| {
        Failure::Failed(match reason {
            NoHeader::NoBytes => format!("the value of {shown} has no bytes"),
            NoHeader::TooLong => format!("the header for {shown} would be too long"),
        })
    })?;
    print(&header)?;
    Ok(Outcome::Done)
}

/// Returns the address by which other programs find the object, unless it has no name.
fn lasting_address(object: &Object) -> Option<&OsStr> {
    match (object.link, object.backing) {
        // The name has the key, and the address the id.
        (Link::Named, Backing::SystemV) => Some(OsStr::new(&object.name)),
        (Link::Named, _) => Some(object.address.as_ref()?.as_os_str()),
        _ => None,
    }
}
