//! Who applies effects: each kind of thing that a store keeps registers as a surface.
//!
//! The store orders, syncs and routes; what an effect means is its surface's business.

use std::sync::Arc;

use objsync_proto::effect::Effect;
use objsync_proto::ids::{ChunkId, Revision, SurfaceId};

use crate::dict::{self, DICT_BOUNDS, Logged};
use crate::error::StoreError;
use crate::frame::Malformed;

/// A kind of thing kept in a store.
pub trait Surface: Send + Sync + 'static {
    /// Its number in the log; never reused.
    fn id(&self) -> SurfaceId;

    /// What it allows.
    fn bounds(&self) -> SurfaceBounds;

    /// The number of its section in a snapshot.
    fn snapshot_section(&self) -> u16;

    /// Applies an effect of a transaction that stands in the log. An entry that is already at that
    /// revision or later is left alone.
    fn apply(&self, revision: Revision, effect: &Effect) -> Result<(), StoreError>;

    /// Everything up to a revision was applied and is committed.
    fn publish(&self, committed: Revision);

    /// Up to where it needs no replay.
    fn mark(&self) -> Revision;

    /// Calls `visit` with each chunk that its present state needs.
    fn walk_roots(&self, visit: &mut dyn FnMut(ChunkId)) -> Result<(), StoreError>;
}

/// Bounds of a surface's effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurfaceBounds {
    /// Longest body of an effect.
    pub effect_bytes_max: usize,
    /// Most chunks that an effect names.
    pub chunk_count_max: usize,
}

/// The surfaces of a store, by number.
#[derive(Default)]
pub struct Surfaces(Vec<Arc<dyn Surface>>);

impl Surfaces {
    /// Adds one.
    ///
    /// # Panics
    /// If there is one with that number.
    pub fn register(&mut self, surface: Arc<dyn Surface>) {
        assert!(self.get(surface.id()).is_none(), "a surface has one number");
        self.0.push(surface);
    }

    /// The surface with this number.
    #[must_use]
    pub fn get(&self, id: SurfaceId) -> Option<&Arc<dyn Surface>> {
        self.0.iter().find(|surface| surface.id() == id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Surface>> {
        self.0.iter()
    }
}

/// What can be said of a surface's effects without its state.
struct Known {
    id: SurfaceId,
    bounds: SurfaceBounds,
    /// A key of its section and what became of it; none if a snapshot keeps nothing of the effect.
    record: fn(&Effect) -> Result<Option<Logged>, Malformed>,
}

/// The surfaces that this program knows.
const KNOWN: [Known; 1] = [Known {
    id: SurfaceId::DICT,
    bounds: DICT_BOUNDS,
    record: dict::record,
}];

fn known(id: SurfaceId) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.id == id)
}

/// What footers and snapshots keep of an effect: a key of its surface's section and what became of
/// it.
pub fn record_of(effect: &Effect) -> Result<Option<Logged>, Malformed> {
    match known(effect.surface) {
        Some(known) => (known.record)(effect),
        None => Err(Malformed("an effect of an unknown surface")),
    }
}

/// That an effect which was read from the log has a surface here, and keeps its bounds.
///
/// # Errors
/// A reason for the store not to be opened here.
pub fn check_effect(effect: &Effect) -> Result<(), Unroutable> {
    let known = known(effect.surface).ok_or(Unroutable::UnknownSurface(effect.surface))?;
    let bounds = known.bounds;
    if effect.body.len() > bounds.effect_bytes_max || effect.chunks.len() > bounds.chunk_count_max {
        return Err(Unroutable::OverBounds(effect.surface));
    }
    Ok(())
}

/// Why an effect has no one to apply it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    /// A later program wrote it.
    UnknownSurface(SurfaceId),
    /// It is larger than its surface allows.
    OverBounds(SurfaceId),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use objsync_proto::ids::NamespaceId;

    use super::*;

    fn effect(surface: u16, body_bytes: usize) -> Effect {
        Effect {
            surface: SurfaceId(surface),
            namespace: NamespaceId(1),
            chunks: Vec::new(),
            body: Bytes::from(vec![0; body_bytes]),
        }
    }

    #[test]
    fn effect_of_an_unknown_surface_or_over_its_bounds_is_refused() {
        assert_eq!(check_effect(&effect(1, 100)), Ok(()));
        assert_eq!(
            check_effect(&effect(2, 100)),
            Err(Unroutable::UnknownSurface(SurfaceId(2)))
        );
        let over = DICT_BOUNDS.effect_bytes_max + 1;
        assert_eq!(
            check_effect(&effect(1, over)),
            Err(Unroutable::OverBounds(SurfaceId(1)))
        );
    }
}
