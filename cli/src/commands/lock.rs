//! `objsync lock NAME -- COMMAND`: run a command while holding a lock that no other process holds.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use clap::Args;
use objsync::{Dict, ErrorKind, Lock as Held, ObjectError};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::oneshot;

use crate::args::{self, Connection};
use crate::exit::{Answer, Failure};
use crate::input::KeyForm;
use crate::output::Output;
use crate::signals::{Signals, runtime};
use crate::target::IfMissing;

/// How often it is looked whether the lock is still held.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What a shell adds to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

/// Arguments of `lock`.
#[derive(Debug, Args)]
pub(crate) struct Lock {
    /// The name of the lock, as text; it is no key of the dictionary
    #[arg(value_name = "NAME")]
    name: String,

    /// How long the lock outlives this program, if that is killed or cut off
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = args::span)]
    ttl: Duration,

    /// How long to wait while somebody else holds it, `0` for not at all; without it, for ever
    #[arg(long, value_name = "TIME", value_parser = args::span_or_none)]
    wait: Option<Duration>,

    /// The command and its arguments, after `--`; it finds the fence in OBJSYNC_FENCE
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,

    #[command(flatten)]
    form: KeyForm,
}

impl Lock {
    /// Runs the command and ends as it did; no, without running it, if the lock is not to be had.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let name = self.form.read(&self.name)?;
        let dict = connection.open_with(IfMissing::Create, |_| {})?;
        let lock = dict.lock(&name, self.ttl)?;
        if !lock.acquire(self.wait).wait()? {
            output.note(&format!("{} is held by somebody else", self.name));
            return Ok(Answer::No);
        }
        let ran = self.run_held(&lock);
        let released = lock.release().wait();
        // What became of the command says more than what became of the lock.
        let status = ran?;
        released.map_err(|error| explained(error, &dict))?;
        dict.close()?;
        let signalled = || status.signal().map(|signal| SIGNALLED + signal);
        let code = status.code().or_else(signalled).unwrap_or(1);
        Ok(Answer::Code(u8::try_from(code).unwrap_or(u8::MAX)))
    }

    /// Runs the command until it ends; it is asked to end when the lock is lost, or this program is
    /// told to.
    fn run_held(&self, lock: &Held) -> Result<ExitStatus, Failure> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Failure::Usage(String::from("there is no command to run")));
        };
        let failed = |op| {
            let path = PathBuf::from(program);
            move |source| Failure::Io { op, path, source }
        };
        let runtime = runtime()?;
        let _entered = runtime.enter();
        // Before the command runs, so that it is never left alone.
        let mut signals = Signals::new()?;
        let fence = lock.fence().map_or(0, |fence| fence.0);
        let mut child = Command::new(program)
            .args(arguments)
            .env("OBJSYNC_FENCE", fence.to_string())
            .spawn()
            .map_err(failed("run"))?;
        let pid = pid_of(&child);
        let mut end = ended(pid);
        runtime.block_on(async {
            let mut is_told = false;
            loop {
                tokio::select! {
                    _ = &mut end => return,
                    () = signals.next() => terminate(pid),
                    () = tokio::time::sleep(LOOK_INTERVAL), if !is_told => {
                        is_told = !lock.is_held();
                        if is_told {
                            terminate(pid);
                        }
                    }
                }
            }
        });
        child.wait().map_err(failed("wait for"))
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Answers when the command has ended. It is not reaped yet, so its number stays its own.
fn ended(pid: Option<Pid>) -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let Some(pid) = pid else { return };
        while matches!(waitid(WaitId::Pid(pid), only_look), Err(Errno::INTR)) {}
        drop(tell);
    });
    told
}

/// Asks the command to end. One that has ended by now does not hear it.
fn terminate(pid: Option<Pid>) {
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}

fn explained(error: ObjectError, dict: &Dict) -> Failure {
    drop(dict.close());
    if error.kind() != ErrorKind::Conflict {
        return error.into();
    }
    Failure::with_hint(
        error,
        "the command was asked to end, but may have run beside another holder: see --ttl",
    )
}
