//! Objects as programs use them: through one process, two, or eight that race.

mod children;
mod fork;
mod model;
mod open;
mod peer;
mod promotion;
mod sharing;
mod watching;
