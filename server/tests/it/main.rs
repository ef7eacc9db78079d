//! A served store and peers that talk to it over loopback, frame by frame.

mod doors;
mod hostile;
mod lifecycle;
mod peer;
mod requests;
mod subscriptions;
mod writes;
