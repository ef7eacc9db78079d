//! A call on its way: the blocking and the awaitable form of one thing.
//!
//! A write that is waited for by the owner is decided, synced and answered by the waiting thread
//! itself; started or awaited, it goes through the store's own thread, or over the wire. The
//! three doors lead to the same submission.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Ack;
use objsync_proto::operation::{Operation, Outcome};
use objsync_proto::wire::Reply;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::wait::block_on;

/// What an owner answers to one operation.
pub(crate) type Answered = Result<(Outcome, Ack)>;

/// A call that was made and not yet waited for.
///
/// Like every future it is lazy: nothing happens before [`Pending::wait`], `.await` or
/// [`Pending::start`]. `start` hands the call over and returns at once; writes of one handle happen
/// in the order in which they were started.
///
/// # Cancel safety
/// Dropping a started call does not take it back: a write may still happen.
#[must_use = "a call does nothing before it is waited for, awaited or started"]
pub struct Pending<T> {
    state: State<T>,
}

enum State<T> {
    /// Known at once.
    Ready(Result<T>),
    /// One or more writes.
    Write(Box<WriteCall<T>>),
    /// Anything else.
    Call(
        Pin<Box<dyn Future<Output = Result<T>> + Send>>,
        &'static str,
    ),
    /// Taken by who waited.
    Taken,
}

/// What follows from an answer.
pub(crate) enum Step<T> {
    /// That was all.
    Done(T),
    /// One more operation.
    Next(Operation),
}

/// Writes that follow one another, each decided on the answer before.
struct WriteCall<T> {
    core: Arc<Core>,
    now: Now,
    step: Box<dyn FnMut(Answered) -> Result<Step<T>> + Send>,
}

/// Where the present operation of a call is.
enum Now {
    /// Nobody has it yet.
    Waiting(Operation),
    /// Its answer will come here.
    Sent(oneshot::Receiver<Answered>),
    /// Between two operations.
    Between,
}

impl<T> Pending<T> {
    /// A call whose result is known.
    pub(crate) fn ready(result: Result<T>) -> Self {
        Self {
            state: State::Ready(result),
        }
    }

    /// The result, where it is known already.
    pub(crate) fn known(&self) -> Option<&Result<T>> {
        match &self.state {
            State::Ready(result) => Some(result),
            State::Write(_) | State::Call(..) | State::Taken => None,
        }
    }

    /// A call that is no write; `what` it waits for is named when it is interrupted.
    pub(crate) fn call(
        what: &'static str,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Self {
        Self {
            state: State::Call(Box::pin(call), what),
        }
    }

    /// A write, whose answer `step` reads, and may follow by another.
    pub(crate) fn write(
        core: Arc<Core>,
        operation: Operation,
        step: impl FnMut(Outcome, Ack) -> Result<Step<T>> + Send + 'static,
    ) -> Self {
        let now = Now::Waiting(operation);
        let mut step = step;
        let step = Box::new(move |answered: Answered| {
            let (outcome, ack) = answered?;
            step(outcome, ack)
        });
        Self {
            state: State::Write(Box::new(WriteCall { core, now, step })),
        }
    }

    /// The same call with another result.
    pub fn map<U>(self, map: impl FnMut(T) -> U + Send + 'static) -> Pending<U>
    where
        T: Send + 'static,
    {
        let mut map = map;
        let state = match self.state {
            State::Ready(result) => State::Ready(result.map(map)),
            State::Write(call) => {
                let WriteCall {
                    core,
                    now,
                    mut step,
                } = *call;
                let step = Box::new(move |answered| {
                    Ok(match step(answered)? {
                        Step::Done(value) => Step::Done(map(value)),
                        Step::Next(operation) => Step::Next(operation),
                    })
                });
                State::Write(Box::new(WriteCall { core, now, step }))
            }
            State::Call(call, what) => {
                State::Call(Box::pin(async move { call.await.map(map) }), what)
            }
            State::Taken => State::Taken,
        };
        Pending { state }
    }

    /// The same call, of whose failure something else is made.
    pub(crate) fn recover(
        self,
        recover: impl FnMut(ObjectError) -> Result<T> + Send + 'static,
    ) -> Self
    where
        T: Send + 'static,
    {
        let mut recover = recover;
        let state = match self.state {
            State::Ready(result) => State::Ready(result.or_else(recover)),
            State::Write(call) => {
                let WriteCall {
                    core,
                    now,
                    mut step,
                } = *call;
                let step = Box::new(move |answered| {
                    step(answered).or_else(|error| recover(error).map(Step::Done))
                });
                State::Write(Box::new(WriteCall { core, now, step }))
            }
            State::Call(call, what) => {
                State::Call(Box::pin(async move { call.await.or_else(recover) }), what)
            }
            State::Taken => State::Taken,
        };
        Self { state }
    }

    /// The same call with another error.
    pub(crate) fn map_err(
        self,
        map: impl FnMut(ObjectError) -> ObjectError + Send + 'static,
    ) -> Self
    where
        T: Send + 'static,
    {
        let mut map = map;
        self.recover(move |error| Err(map(error)))
    }

    /// Hands a write over now, to be waited for later, or never. A call of another kind still
    /// begins when it is waited for.
    ///
    /// A handle has a bounded window of unanswered writes (see [`crate::Pipeline`]). When it is
    /// full, the call begins when it is waited for.
    pub fn start(mut self) -> Self {
        if let State::Write(call) = &mut self.state {
            call.start();
        }
        self
    }

    /// Whether [`Pending::start`] hands it over.
    pub(crate) fn is_startable(&self) -> bool {
        !matches!(self.state, State::Call(..))
    }

    /// Hands it over for nobody to wait for: it is made although nobody holds it, also when it has to
    /// wait for room in the window.
    pub(crate) fn in_background(self, runtime: &Handle)
    where
        T: Send + 'static,
    {
        let call = self.start();
        if !matches!(call.state, State::Ready(_)) {
            runtime.spawn(call);
        }
    }

    /// Waits in this thread: it spins for some microseconds, then sleeps.
    ///
    /// # Errors
    /// What the call failed with; `Interrupted` when the interrupt check says so.
    pub fn wait(self) -> Result<T> {
        match self.state {
            State::Ready(result) => result,
            State::Write(call) => call.wait(),
            State::Call(call, what) => block_on(what, call)?,
            State::Taken => Err(taken()),
        }
    }

    /// The result, if it is there already. A call whose result was taken must not be used again.
    pub fn try_take(&mut self) -> Option<Result<T>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match self.poll_state(&mut context) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    fn poll_state(&mut self, context: &mut Context<'_>) -> Poll<Result<T>> {
        let polled = match &mut self.state {
            State::Ready(_) => match std::mem::replace(&mut self.state, State::Taken) {
                State::Ready(result) => Poll::Ready(result),
                _ => Poll::Ready(Err(taken())),
            },
            State::Write(call) => call.poll(context),
            State::Call(call, _) => call.as_mut().poll(context),
            State::Taken => Poll::Ready(Err(taken())),
        };
        if polled.is_ready() {
            self.state = State::Taken;
        }
        polled
    }
}

fn taken() -> ObjectError {
    ObjectError::new(
        ErrorKind::Invalid,
        "the result of this call was taken before",
    )
}

impl<T> WriteCall<T> {
    fn start(&mut self) {
        if !matches!(self.now, Now::Waiting(_)) {
            return;
        }
        if let Now::Waiting(operation) = std::mem::replace(&mut self.now, Now::Between) {
            self.now = match self.core.submit(operation) {
                Ok(answer) => Now::Sent(answer),
                Err(operation) => Now::Waiting(operation),
            };
        }
    }

    fn wait(mut self) -> Result<T> {
        loop {
            let answered = match std::mem::replace(&mut self.now, Now::Between) {
                Now::Waiting(operation) => self.core.execute(operation),
                Now::Sent(answer) => {
                    let answered = block_on(&self.core.config.what, answer)?;
                    self.core.received(answered)
                }
                Now::Between => Err(taken()),
            };
            match self.follow(answered) {
                Poll::Ready(result) => return result,
                Poll::Pending => {}
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T>> {
        loop {
            self.start();
            let answered = match &mut self.now {
                Now::Waiting(_) => match self.core.poll_room(context) {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                },
                Now::Sent(answer) => match Pin::new(answer).poll(context) {
                    Poll::Ready(answered) => self.core.received(answered),
                    Poll::Pending => return Poll::Pending,
                },
                Now::Between => Err(taken()),
            };
            match self.follow(answered) {
                Poll::Ready(result) => return Poll::Ready(result),
                Poll::Pending => {}
            }
        }
    }

    /// Ready with the result, or pending when another operation follows.
    fn follow(&mut self, answered: Answered) -> Poll<Result<T>> {
        match (self.step)(answered) {
            Ok(Step::Done(value)) => Poll::Ready(Ok(value)),
            Ok(Step::Next(operation)) => {
                self.now = Now::Waiting(operation);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// The error for an answer that does not belong to its operation.
pub(crate) fn unexpected(outcome: &Outcome) -> ObjectError {
    if let Outcome::NeedChunks { ids } = outcome {
        let text = format!(
            "{} chunks of a large value are not at the owner any more: write the value anew",
            ids.len()
        );
        return ObjectError::new(ErrorKind::Unavailable, text);
    }
    ObjectError::new(
        ErrorKind::Unsupported,
        format!("the owner answered {outcome:?} to another question"),
    )
}

/// The error for a reply that does not belong to its request.
pub(crate) fn unexpected_reply(reply: &Reply) -> ObjectError {
    ObjectError::new(
        ErrorKind::Unsupported,
        format!("the owner replied {reply:?} to another question"),
    )
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_state(context)
    }
}

// The result is only ever moved out whole.
impl<T> Unpin for Pending<T> {}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Ready(_) => "Pending(ready)",
            State::Write(_) => "Pending(write)",
            State::Call(..) => "Pending(call)",
            State::Taken => "Pending(taken)",
        })
    }
}
