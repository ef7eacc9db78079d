//! Programs that share a dictionary, each short enough to read at once.
//!
//! | program | what it shows |
//! |---|---|
//! | `counter` | processes that count together; the same as `examples/python/counter.py` |
//! | `watcher` | typed values, and changes as they happen |
