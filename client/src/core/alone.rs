//! A handle that nobody drives: tests do the work of its threads step by step.

use std::path::Path;
use std::sync::{Arc, Weak};

use super::Core;
use crate::config::Config;
use crate::offline::Offline;
use crate::options::Options;

/// A handle on a store that is nowhere, with this queue.
pub(crate) fn alone(
    options: Options,
    offline: impl FnOnce(&Weak<Core>) -> Option<Arc<Offline>>,
) -> Arc<Core> {
    let config = Config::directory(Path::new("/nowhere/at/all"), None, options).unwrap();
    Core::new(Arc::new(config), |core, _| offline(core)).unwrap()
}
