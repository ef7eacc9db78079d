//! A transaction is run until nothing that it read has changed meanwhile, or its time is over.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Ack;
use objsync_proto::operation::Outcome;

use super::Transaction;
use crate::core::Core;
use crate::dict::Dict;
use crate::error::{ObjectError, Result};
use crate::large;
use crate::moment::Moment;
use crate::pending::{Pending, Step, unexpected};

/// The longest pause before the second attempt; it doubles with each, up to the longest of all.
const PAUSE_FIRST: Duration = Duration::from_micros(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The attempts at one transaction, for who drives them: see [`Dict::transact`], which does.
///
/// [`Attempts::begin`], run the function, [`Attempts::commit`]; again while that gives `false`.
/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Attempts {
    dict: Dict,
    begun: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// How many were refused.
    refused: u32,
    /// What was changed by others, of the newest refusal.
    key: Option<Bytes>,
}

impl Attempts {
    /// None was made yet. The handle's timeout begins here.
    #[must_use]
    pub fn new(dict: &Dict) -> Self {
        Self {
            dict: dict.clone(),
            begun: Instant::now(),
            state: Arc::default(),
        }
    }

    /// A transaction at a moment that holds everything this handle was acknowledged, and why the
    /// attempt before was refused. Waits for a random while after a refusal.
    ///
    /// # Errors
    /// As [`Dict::get`].
    pub fn begin(&self) -> Pending<Transaction> {
        let refused = self.state().refused;
        let core = match self.dict.core() {
            Ok(core) => core,
            Err(error) => return Pending::ready(Err(error)),
        };
        if refused == 0
            && core.check_open().is_ok()
            && let Some(moment) = Moment::of_owner(core)
        {
            return Pending::ready(Ok(Transaction::new(Arc::clone(core), moment)));
        }
        self.dict
            .call("a transaction to begin", move |core| async move {
                if refused > 0 {
                    core.within(pause(refused), std::future::pending::<()>())
                        .await;
                }
                let moment = Moment::now(Arc::clone(&core)).await?;
                Ok(Transaction::new(core, moment))
            })
    }

    /// Makes its changes, if nothing that it read has changed since; `false`: begin again. It has
    /// ended then. After a change of owner it is begun again too: a copy that took its place could
    /// give other changes the revisions that were read.
    ///
    /// # Errors
    /// [`ObjectError::Overtaken`] when the handle's timeout is over, [`ObjectError::Fenced`] when a
    /// lock it demands is lost, `Invalid` over the limits of a transaction; as [`Dict::set`].
    pub fn commit(&self, transaction: &Transaction) -> Pending<bool> {
        let made = transaction.end();
        if made.overtaken {
            return Pending::ready(self.refuse(None).map(|()| false));
        }
        if made.is_empty() {
            return Pending::ready(Ok(true));
        }
        let is_check = made.changes.is_empty();
        let (values, build) = made.question(transaction.revision());
        let core = Arc::clone(&transaction.shared.core);
        let position = transaction.shared.moment.position();
        let attempts = self.clone();
        let send = move |core: Arc<Core>| {
            let noting = Arc::clone(&core);
            large::write(&core, (Bytes::new(), values), build, move |outcome, ack| {
                attempts
                    .decided(&noting, outcome, &ack, is_check)
                    .map(Step::Done)
            })
        };
        match core.is_of_present(&position) {
            Some(true) => send(core),
            Some(false) => Pending::ready(self.refuse(None).map(|()| false)),
            None => {
                let attempts = self.clone();
                Pending::call("an owner", async move {
                    core.opened().await?;
                    match core.is_of_present(&position) {
                        Some(true) => send(core).await,
                        _ => attempts.refuse(None).map(|()| false),
                    }
                })
            }
        }
    }

    /// Ends a transaction whose function has failed; `true`: only because its moment is no longer
    /// held, so begin again.
    ///
    /// # Errors
    /// [`ObjectError::Overtaken`] when the handle's timeout is over by then.
    pub fn give_up(&self, transaction: &Transaction) -> Result<bool> {
        let overtaken = transaction.end().overtaken;
        if overtaken {
            self.refuse(None)?;
        }
        Ok(overtaken)
    }

    fn decided(&self, core: &Core, outcome: Outcome, ack: &Ack, is_check: bool) -> Result<bool> {
        match outcome {
            Outcome::Done => {
                if is_check {
                    core.note_quiet(ack.revision);
                }
                Ok(true)
            }
            Outcome::Conflict { key, revision } => {
                core.note_seen(revision);
                self.refuse(Some(key)).map(|()| false)
            }
            Outcome::Outdated { oldest } => {
                core.note_seen(oldest);
                self.refuse(None).map(|()| false)
            }
            Outcome::Fenced { name } => Err(ObjectError::Fenced {
                what: core.config.what.clone(),
                name,
            }),
            other => Err(unexpected(&other)),
        }
    }

    fn refuse(&self, key: Option<Bytes>) -> Result<()> {
        let mut state = self.state();
        state.refused += 1;
        state.key = key.or(state.key.take());
        let core = self.dict.core()?;
        let waited = self.begun.elapsed();
        if waited < core.config.options.timeout {
            return Ok(());
        }
        Err(ObjectError::Overtaken {
            what: core.config.what.clone(),
            key: state.key.clone(),
            attempts: state.refused,
            waited,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random pause before the attempt after so many refusals: those who collided come apart.
fn pause(refused: u32) -> Duration {
    let longest = PAUSE_FIRST
        .saturating_mul(1 << refused.min(16))
        .min(PAUSE_MAX);
    // Each state hashes by keys of its own, which the system drew.
    let chance = RandomState::new().hash_one(refused);
    longest.mul_f64((chance >> 11) as f64 / (1_u64 << 53) as f64)
}

thread_local! {
    /// Whether this thread runs the function of a transaction.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as one that runs the function of a transaction, until it is dropped.
struct Running;

impl Running {
    fn enter() -> Result<Self> {
        if RUNNING.replace(true) {
            let text =
                "a transaction cannot begin inside of another one: use the one that was given";
            return Err(ObjectError::new(ErrorKind::Invalid, text));
        }
        Ok(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(false);
    }
}

/// A future of the function of a transaction: its thread is marked while it is polled.
struct Marked<F>(Pin<Box<F>>);

impl<F: Future> Future for Marked<F> {
    type Output = Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Running::enter() {
            Ok(_running) => self.0.as_mut().poll(context).map(Ok),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Dict {
    /// Runs a function on one moment of the dictionary and makes what it changes, all of it or
    /// nothing, if nothing that it read has changed by then, ranges with their missing keys
    /// included. Else the function is run again on a later moment, after a random pause: it should
    /// do nothing besides what it does to its transaction.
    ///
    /// The function has a minute: for longer an owner does not hold the moment that it reads.
    ///
    /// Strictly serializable: it is as if the function had run alone, at some time between call and
    /// return, also when it only reads. Returns what the function returned. When that is an error,
    /// nothing is changed, and the error is returned as it is.
    ///
    /// # Errors
    /// Of the function; [`ObjectError::Overtaken`], which names a key, when others were faster each
    /// time until the handle's timeout; [`ObjectError::Fenced`] when a lock it demands is lost;
    /// `Invalid` inside of another transaction, and over the limits of one; as [`Dict::set`].
    ///
    /// # Examples
    /// ```
    /// use objsync::{Dict, ObjectError, Options, key, value};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let visits = key::encode(&"visits".into())?;
    /// let seen = dict.transact(|t| {
    ///     let seen = match t.get(visits.as_bytes()).wait()? {
    ///         Some(payload) => value::from_payload(&payload)?,
    ///         None => 0_u32,
    ///     };
    ///     t.set(visits.as_bytes(), value::to_payload(&(seen + 1))?)?;
    ///     Ok::<_, ObjectError>(seen)
    /// })?;
    /// assert_eq!(seen, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transact<T, E: From<ObjectError>>(
        &self,
        mut run: impl FnMut(&Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let attempts = Attempts::new(self);
        loop {
            let transaction = {
                // Refused before anything is waited for.
                drop(Running::enter()?);
                attempts.begin().wait()?
            };
            let ran = {
                let _running = Running::enter()?;
                run(&transaction)
            };
            match ran {
                Ok(made) if attempts.commit(&transaction).wait()? => return Ok(made),
                Ok(_) => {}
                Err(error) => {
                    if !attempts.give_up(&transaction)? {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// As [`Dict::transact`], awaitable.
    ///
    /// # Cancel safety
    /// Dropped while the function runs, nothing is changed; dropped later, its changes may still
    /// happen.
    ///
    /// # Errors
    /// As [`Dict::transact`].
    pub async fn transact_async<T, E: From<ObjectError>, F>(
        &self,
        mut run: impl FnMut(Transaction) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let attempts = Attempts::new(self);
        loop {
            drop(Running::enter()?);
            let transaction = attempts.begin().await?;
            match Marked(Box::pin(run(transaction.clone()))).await? {
                Ok(made) if attempts.commit(&transaction).await? => return Ok(made),
                Ok(_) => {}
                Err(error) => {
                    if !attempts.give_up(&transaction)? {
                        return Err(error);
                    }
                }
            }
        }
    }
}
