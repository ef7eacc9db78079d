//! Calls on their way: to the store of this process at once, else through a queue to the I/O thread.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::task::{Context, Poll};

use objsync_proto::operation::Operation;
use objsync_proto::wire::{Reply, Request};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::command::{Asker, Command, Queue};
use super::{Core, Phase};
use crate::error::Result;
use crate::offline::Offline;
use crate::owner::OwnerSide;
use crate::pending::Answered;
use crate::wait::block_on;

impl Core {
    /// Decides a write and waits for the answer in this thread.
    pub(crate) fn execute(&self, operation: Operation) -> Answered {
        self.check_open()?;
        if let Some(owner) = self.owner() {
            let answered = owner.execute(operation);
            return self.noted(answered);
        }
        let mut operation = operation;
        let answer = loop {
            match self.submit(operation) {
                Ok(answer) => break answer,
                Err(refused) => operation = refused,
            }
            block_on(
                &self.config.what,
                std::future::poll_fn(|context| self.poll_room(context)),
            )?;
        };
        let answered = block_on(&self.config.what, answer)?;
        self.received(answered)
    }

    /// Hands a write over. Gives it back when too many are unanswered.
    #[expect(
        clippy::result_large_err,
        reason = "it goes back to who asked, and is moved once"
    )]
    pub(crate) fn submit(
        &self,
        operation: Operation,
    ) -> Result<oneshot::Receiver<Answered>, Operation> {
        let (answer, answered) = oneshot::channel();
        if self.check_open().is_err() {
            let _ = answer.send(Err(self.closed_error()));
            return Ok(answered);
        }
        if let Some(owner) = self.owner() {
            owner.submit(operation, None, answer);
            return Ok(answered);
        }
        if !self.window.has_room() {
            return Err(operation);
        }
        if let Some(offline) = self.queue_for(&operation) {
            // Until its thread has it: what is on disk has a limit of its own.
            self.window.add(operation.bytes() as u64);
            return Ok(offline.write(operation));
        }
        let deadline = Instant::now() + self.config.options.timeout;
        self.push(Command::Write {
            operation,
            answer: Asker::Caller(answer),
            deadline,
        });
        Ok(answered)
    }

    /// The queue on disk, if this handle has one and it takes such an operation.
    fn queue_for(&self, operation: &Operation) -> Option<&Offline> {
        let offline = self.offline.as_deref()?;
        Offline::takes(operation).then_some(offline)
    }

    /// Asks something, and what is needed to open the values of the reply. Begins when polled.
    pub(crate) async fn request(&self, request: Request) -> Result<Reply> {
        let reply = self.ask(request).await?;
        if self.owner().is_none() {
            self.learn_reply(&reply).await?;
        }
        Ok(reply)
    }

    /// Asks something.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply> {
        let deadline = Instant::now() + self.config.options.timeout;
        self.ask_until(request, deadline).await
    }

    /// As [`Core::ask`], for what may take longer than the handle's timeout.
    pub(crate) async fn ask_until(&self, request: Request, deadline: Instant) -> Result<Reply> {
        self.check_open()?;
        let (reply, replied) = oneshot::channel();
        match self.owner() {
            Some(owner) => owner.request(request, reply),
            None => self.push(Command::Request {
                request,
                reply,
                deadline,
            }),
        }
        replied.await.unwrap_or_else(|_| Err(self.closed_error()))
    }

    /// Has the owner say on each stream how far it is. Nobody waits for the reply.
    pub(crate) fn ask_for_barrier(&self) {
        let (reply, _) = oneshot::channel();
        self.push(Command::Request {
            request: Request::Barrier,
            reply,
            deadline: Instant::now() + self.config.options.timeout,
        });
    }

    /// Queues a command for the I/O thread, or gives it to the store when this process has just
    /// become the owner.
    pub(crate) fn push(&self, command: Command) {
        let mut queue = self.queue();
        if let Some(owner) = self.owner() {
            drop(queue);
            return owner.take(command);
        }
        if queue.ended {
            drop(queue);
            return command.fail(&self.end_error());
        }
        if let Command::Write {
            operation,
            answer: Asker::Caller(_),
            ..
        } = &command
        {
            self.window.add(operation.bytes() as u64);
        }
        queue.commands.push_back(command);
        drop(queue);
        self.queued.notify_one();
    }

    /// The next command, in order; waits for one. Cancel safe.
    pub(crate) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Everything queued by now.
    pub(crate) fn take_queued(&self) -> VecDeque<Command> {
        std::mem::take(&mut self.queue().commands)
    }

    /// Drops the writes of a queue on disk that was left for another one.
    pub(crate) fn drop_queued_writes(&self) {
        let is_of_queue = |command: &Command| {
            matches!(
                command,
                Command::Withdrawn(_)
                    | Command::Write {
                        answer: Asker::Queue(_),
                        ..
                    }
            )
        };
        self.queue()
            .commands
            .retain(|command| !is_of_queue(command));
    }

    /// Fails what waits in the queue past its deadline.
    pub(crate) fn expire_queued(&self, now: Instant) {
        let mut expired = Vec::new();
        {
            let mut queue = self.queue();
            let commands = std::mem::take(&mut queue.commands);
            for command in commands {
                match command.deadline() {
                    Some(deadline) if deadline <= now => expired.push(command),
                    _ => queue.commands.push_back(command),
                }
            }
        }
        for command in expired {
            if let Command::Write { operation, .. } = &command {
                self.answered(operation.bytes() as u64);
            }
            command.fail(&self.unreachable(self.config.options.timeout));
        }
    }

    /// Makes this process the owner: first gives it the writes that a former owner left
    /// unanswered, then what was queued, in order, and only then opens it to new calls.
    pub(crate) fn become_owner(&self, side: OwnerSide, first: impl FnOnce(&OwnerSide)) {
        let mut queue = self.queue();
        first(&side);
        for command in std::mem::take(&mut queue.commands) {
            side.take(command);
        }
        let taken = self.owner.set(side);
        debug_assert!(taken.is_ok(), "a core becomes the owner once");
        self.role_count.fetch_add(1, Ordering::AcqRel);
        drop(queue);
        self.window.clear();
        self.enter(Phase::Owner);
    }

    /// The result of waiting for an answer. What a peer was answered is noted as it arrives, before
    /// an owner on another history can be found: who waits may look at it much later.
    pub(crate) fn received(
        &self,
        answered: Result<Answered, oneshot::error::RecvError>,
    ) -> Answered {
        let answered = answered.unwrap_or_else(|_| Err(self.closed_error()));
        match self.owner() {
            Some(_) => self.noted(answered),
            None => answered,
        }
    }

    fn noted(&self, answered: Answered) -> Answered {
        if let Ok((outcome, ack)) = &answered {
            self.note_ack(outcome, ack);
        }
        answered
    }

    /// A write of so many bytes has its answer.
    pub(crate) fn answered(&self, bytes: u64) {
        self.window.remove(bytes);
    }

    /// Unanswered writes.
    pub(crate) fn unanswered(&self) -> u32 {
        self.window.count()
    }

    /// Ready when a write can be submitted.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.window.poll_room(context)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
