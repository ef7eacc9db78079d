//! Who leads, and what waits to be decided, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use objsync_proto::error::{ErrorKind, Failure};

use super::job::{Job, Reply, ReplyTo, Request, Slot};
use crate::error::StoreError;

/// Bytes that may be queued for the store's own thread; more is refused at once.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// The queue before the writer.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// Told when the store's own thread is to lead.
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    bytes: usize,
    is_led: bool,
    is_stopped: bool,
    /// The store's own thread waits.
    is_thread_idle: bool,
    /// A job that ends what has had its time is queued.
    is_expiry_queued: bool,
}

/// What a thread that came with a request is to do.
#[expect(clippy::large_enum_variant, reason = "made and matched in one place")]
pub(crate) enum Lead {
    /// Lead, with this request alone.
    Alone(Request),
    /// Wait there.
    Wait(Arc<Slot>),
}

impl Queue {
    /// Takes the lead if nobody has it; queues the request otherwise.
    pub(crate) fn enter(&self, request: Request) -> Lead {
        let mut inner = self.inner();
        if !inner.is_led && inner.jobs.is_empty() {
            inner.is_led = true;
            return Lead::Alone(request);
        }
        let slot = Arc::new(Slot::default());
        let reply = ReplyTo::Slot(slot.clone()).into();
        inner.push(Job { request, reply });
        Lead::Wait(slot)
    }

    /// Takes the lead if nobody has it and nothing is queued.
    pub(crate) fn enter_if_free(&self) -> bool {
        let mut inner = self.inner();
        let is_free = !inner.is_led && inner.jobs.is_empty();
        inner.is_led |= is_free;
        is_free
    }

    /// Takes the lead if nobody has it and something is queued.
    pub(crate) fn enter_if_queued(&self) -> bool {
        let mut inner = self.inner();
        let is_wanted = !inner.is_led && !inner.jobs.is_empty();
        inner.is_led |= is_wanted;
        is_wanted
    }

    /// Queues a job for the store's own thread, or answers it at once.
    pub(crate) fn push(&self, job: Job) {
        if let Err((job, error)) = self.try_push(job) {
            job.reply.give(Err(error), &mut None);
        }
    }

    #[expect(clippy::result_large_err, reason = "the job is answered by the caller")]
    fn try_push(&self, job: Job) -> Result<(), (Job, StoreError)> {
        let mut inner = self.inner();
        if inner.is_stopped {
            return Err((job, StoreError::Closed));
        }
        if inner.bytes >= QUEUE_BYTES_MAX {
            let message = format!(
                "{} bytes are waiting to be written; the limit is {QUEUE_BYTES_MAX} bytes",
                inner.bytes
            );
            let failure = Failure::new(ErrorKind::Unavailable, message);
            return Err((job, StoreError::Refused(failure)));
        }
        inner.push(job);
        if inner.is_thread_idle && !inner.is_led {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Everything that is queued. For who leads.
    pub(crate) fn take(&self) -> VecDeque<Job> {
        let mut inner = self.inner();
        inner.bytes = 0;
        inner.is_expiry_queued = false;
        std::mem::take(&mut inner.jobs)
    }

    /// Puts back, in front, what did not fit.
    pub(crate) fn give_back(&self, jobs: VecDeque<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut inner = self.inner();
        for job in jobs.into_iter().rev() {
            inner.bytes += job.bytes();
            inner.jobs.push_front(job);
        }
    }

    /// Gives up the lead, to the first who waits.
    pub(crate) fn leave(&self) {
        let mut inner = self.inner();
        let Some(first) = inner.jobs.front() else {
            inner.is_led = false;
            return;
        };
        if let Some(slot) = first.reply.slot() {
            return slot.lead();
        }
        inner.is_led = false;
        if inner.is_thread_idle {
            self.changed.notify_one();
        }
    }

    /// Waits until there is something to lead for the store's own thread; false at the end. What
    /// has had its time is something: `wait_ms` tells after how long, or that nothing ends.
    pub(crate) fn wait_for_lead(&self, wait_ms: &dyn Fn() -> Option<u64>) -> bool {
        let mut inner = self.inner();
        loop {
            let wait_ms = match inner.is_expiry_queued || inner.is_stopped {
                true => None,
                false => wait_ms(),
            };
            if wait_ms == Some(0) {
                inner.is_expiry_queued = true;
                let request = Request::Expire;
                let reply = Reply::nobody();
                inner.push(Job { request, reply });
            }
            if !inner.is_led && !inner.jobs.is_empty() {
                inner.is_led = true;
                return true;
            }
            if inner.is_stopped {
                return false;
            }
            inner.is_thread_idle = true;
            inner = match wait_ms.filter(|wait_ms| *wait_ms > 0) {
                Some(wait_ms) => {
                    let pause = Duration::from_millis(wait_ms);
                    let waited = self.changed.wait_timeout(inner, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
            };
            inner.is_thread_idle = false;
        }
    }

    /// Has the store's own thread look again when something ends.
    pub(crate) fn look(&self) {
        if self.inner().is_thread_idle {
            self.changed.notify_one();
        }
    }

    /// Ends the store's own thread, once nothing is queued.
    pub(crate) fn stop(&self) {
        self.inner().is_stopped = true;
        self.changed.notify_all();
    }

    /// How much is queued.
    #[cfg(test)]
    pub(crate) fn job_count(&self) -> usize {
        self.inner().jobs.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, job: Job) {
        self.bytes += job.bytes();
        self.jobs.push_back(job);
    }
}

#[cfg(test)]
mod tests {
    use objsync_proto::ids::PeerKey;

    use super::super::job::Given;
    use super::*;

    fn request() -> Request {
        Request::OpenSession(PeerKey([0; 32]))
    }

    #[test]
    fn first_comer_leads_alone_and_the_next_one_leads_after_it() {
        let queue = Queue::default();
        assert!(matches!(queue.enter(request()), Lead::Alone(_)));
        assert!(!queue.enter_if_free());
        let Lead::Wait(slot) = queue.enter(request()) else {
            panic!("somebody leads");
        };
        queue.leave();
        assert!(slot.wait().is_none(), "it is to lead");
        let mut jobs = queue.take();
        assert_eq!(jobs.len(), 1);
        let job = jobs.pop_front().unwrap();
        job.reply.give(Ok(Given::Nothing), &mut None);
        assert!(matches!(slot.wait(), Some(Ok(Given::Nothing))));
        queue.leave();
        assert!(queue.enter_if_free());
    }

    #[test]
    fn what_is_given_back_comes_before_what_came_later() {
        let queue = Queue::default();
        assert!(queue.enter_if_free());
        let numbered = |number: u8| Job {
            request: Request::OpenSession(PeerKey([number; 32])),
            reply: ReplyTo::Inline.into(),
        };
        queue.push(numbered(1));
        queue.push(numbered(2));
        let taken = queue.take();
        queue.push(numbered(3));
        queue.give_back(taken);
        let order = queue.take().into_iter().map(|job| match job.request {
            Request::OpenSession(peer) => peer.0[0],
            _ => 0,
        });
        assert_eq!(order.collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn reply_that_is_lost_answers_that_the_outcome_is_unknown() {
        let slot = Arc::new(Slot::default());
        drop(Job {
            request: request(),
            reply: ReplyTo::Slot(slot.clone()).into(),
        });
        let answer = slot.wait().unwrap().unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::OutcomeUnknown);
    }

    #[test]
    fn queue_over_its_bound_refuses_at_once() {
        let queue = Queue::default();
        queue.inner().bytes = QUEUE_BYTES_MAX;
        let slot = Arc::new(Slot::default());
        queue.push(Job {
            request: request(),
            reply: ReplyTo::Slot(slot.clone()).into(),
        });
        let answer = slot.wait().unwrap().unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::Unavailable);
    }
}
