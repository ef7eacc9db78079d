//! A handle that finds nobody, as its I/O thread stands still: tests do its work step by step.

use std::path::Path;
use std::sync::Arc;

use objsync_server::Udp;
use tokio::runtime::{Builder, Runtime};

use super::Core;
use crate::config::Config;
use crate::options::Options;
use crate::surroundings::Surroundings;

/// See the module.
pub(crate) struct Alone {
    pub(crate) core: Arc<Core>,
    _runtime: Runtime,
}

impl Alone {
    pub(crate) fn new(options: Options) -> Self {
        // Nobody drives it.
        let runtime = Builder::new_current_thread().build().unwrap();
        let options = Options {
            surroundings: Some(Surroundings {
                runtime: runtime.handle().clone(),
                network: Arc::new(Udp),
            }),
            promote: false,
            ..options
        };
        let config = Config::directory(Path::new("/nowhere/at/all"), None, options).unwrap();
        Self {
            core: Core::start(Arc::new(config)).unwrap(),
            _runtime: runtime,
        }
    }
}
