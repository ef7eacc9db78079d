//! Edits of a part of a value: from the words of `objsync._nested` to a patch.

use objsync::{Bytes, Edit, Patch, PatchStep, patch};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Object, Types};
use crate::codec::{decode, encode};
use crate::errors;
use crate::patches::hashable;

pub(super) fn steps_of(path: &Bound<'_, PyTuple>) -> PyResult<Vec<PatchStep>> {
    path.iter().map(|step| step_of(&step)).collect()
}

fn step_of(step: &Object<'_>) -> PyResult<PatchStep> {
    if step
        .get_type()
        .is(Types::get(step.py())?.index.bind(step.py()))
    {
        return Ok(PatchStep::Index {
            index: step.extract()?,
        });
    }
    let key = encode(step)?.into();
    Ok(PatchStep::Field { key })
}

pub(super) fn edit_of(
    py: Python<'_>,
    what: &str,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Edit> {
    let payload = |value: Object<'_>| encode(&value).map(Bytes::from);
    let at = |place: usize| arguments.get_item(place);
    let one = |place: usize| at(place).and_then(payload);
    let from = |place: usize| -> PyResult<Vec<Bytes>> {
        arguments.iter().skip(place).map(payload).collect()
    };
    let members = || {
        arguments.iter().try_for_each(|item| hashable(&item))?;
        from(0)
    };
    Ok(match what {
        "append" => Edit::Append { items: from(0)? },
        "add" => Edit::Add { items: members()? },
        "discard" => Edit::Discard { items: members()? },
        "set" => {
            hashable(&at(0)?)?;
            Edit::SetField {
                field: one(0)?,
                value: one(1)?,
            }
        }
        "delete" => Edit::DeleteField { field: one(0)? },
        "remove" => Edit::Remove { item: one(0)? },
        "incr" => Edit::AddNumber {
            by: at(0)?.extract()?,
        },
        "merge" => Edit::Merge {
            fields: fields(&at(0)?)?,
        },
        "clear" => Edit::Clear,
        "splice" => Edit::Splice {
            start: at(0)?.extract()?,
            delete_count: at(1)?.extract()?,
            items: from(2)?,
        },
        "replace" => Edit::Replace { value: one(0)? },
        _ => {
            let text = format!("there is no change of a part named {what:?}");
            return Err(errors::invalid(py, text));
        }
    })
}

fn fields(pairs: &Object<'_>) -> PyResult<Vec<(Bytes, Bytes)>> {
    let pair = |(field, value): (Object<'_>, Object<'_>)| {
        hashable(&field)?;
        Ok((encode(&field)?.into(), encode(&value)?.into()))
    };
    pairs.cast::<PyDict>()?.iter().map(pair).collect()
}

/// What a patch makes of a value that lies elsewhere: the number of the edit, and the value after it.
#[pyfunction]
pub(crate) fn patched<'py>(
    value: &Object<'py>,
    path: &Bound<'py, PyTuple>,
    what: &str,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<(i64, Object<'py>)> {
    let py = value.py();
    let edit = edit_of(py, what, arguments)?;
    let patch = Patch {
        path: steps_of(path)?,
        revision: None,
        create: matches!(edit, Edit::AddNumber { .. }),
        edit,
    };
    let payload = encode(value)?;
    let applied = patch::apply(Some(&payload), &patch).map_err(|error| {
        let failure = error.failure(&[]);
        errors::of_kind(py, failure.kind, failure.message)
    })?;
    match applied.payload {
        Some(payload) => Ok((applied.number, decode(py, &payload.into())?.object)),
        None => Ok((applied.number, value.clone())),
    }
}
