//! What the other process of a test does about transactions, leases and locks.

use std::any::Any;
use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use objsync::{Dict, Lease, Lock, ObjectError, value};

use crate::children;
use crate::held_up::HeldUp;
use crate::peer::{k, v};

/// What a process was told to hold on to.
static HELD: Mutex<Vec<Box<dyn Any + Send>>> = Mutex::new(Vec::new());

/// A call that was held up.
static HELD_UP: Mutex<Option<HeldUp>> = Mutex::new(None);

fn hold(thing: impl Any + Send) {
    HELD.lock().unwrap().push(Box::new(thing));
}

fn with_held<T: Any, R>(use_it: impl FnOnce(&T) -> R) -> Option<R> {
    let held = HELD.lock().unwrap();
    held.iter()
        .rev()
        .find_map(|thing| thing.downcast_ref::<T>())
        .map(use_it)
}

fn millis(text: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::from_millis(text.parse()?))
}

/// Does one thing; the answer to it.
pub(crate) fn use_it(dict: &Dict, words: &[&str]) -> Result<String, Box<dyn Error>> {
    let said = |result: Result<(), ObjectError>| match result {
        Ok(()) => String::from("ok"),
        Err(error) => told(&error),
    };
    Ok(match *words {
        ["transfer-many", accounts, count, seed] => {
            let (accounts, count) = (accounts.parse()?, count.parse()?);
            transfer_many(dict, accounts, count, seed.parse()?)?;
            count.to_string()
        }
        ["count-under-lock", name, count] => {
            count_under_lock(dict, name, count.parse()?)?;
            "ok".into()
        }
        ["lease", key, ttl] => {
            let lease = dict.lease(millis(ttl)?).wait()?;
            dict.set_leased(&k(key), v("leased"), None, Some(&lease))
                .wait()?;
            hold(lease);
            "ok".into()
        }
        ["lease-again", key] => with_held(|lease: &Lease| {
            let put = dict.set_leased(&k(key), v("again"), None, Some(lease));
            said(put.wait().map(drop))
        })
        .unwrap_or_else(|| "no lease".into()),
        ["present", key] => {
            hold(dict.presence(&k(key), v("here")).wait()?);
            "ok".into()
        }
        ["lock", name, ttl] => {
            let lock = dict.lock(&k(name), millis(ttl)?)?;
            let fence = lock.enter(None).wait()?;
            hold(lock);
            fence.to_string()
        }
        ["lock-held-up", name, ttl] => {
            *HELD_UP.lock().unwrap() = Some(HeldUp::begin(dict, name, millis(ttl)?)?);
            "ok".into()
        }
        ["lock-go-on"] => match HELD_UP.lock().unwrap().take() {
            Some(held_up) => held_up.go_on()?.to_string(),
            None => "no lock".into(),
        },
        ["set-if-locked", key, value] => with_held(|lock: &Lock| {
            said(dict.transact(|t| {
                t.require(lock)?;
                t.set(&k(key), v(value))
            }))
        })
        .unwrap_or_else(|| "no lock".into()),
        // The child tries to give back what its parent holds.
        ["fork-unlock"] => match children::fork() {
            0 => {
                let left = with_held(|lock: &Lock| lock.release().wait().is_ok());
                children::exit_now(if left == Some(true) { 0 } else { 1 });
            }
            child => children::wait_for(child).to_string(),
        },
        ["unlock"] => {
            with_held(|lock: &Lock| said(lock.release().wait())).unwrap_or_else(|| "no lock".into())
        }
        _ => return Err(format!("{words:?} is nothing to do").into()),
    })
}

fn told(error: &ObjectError) -> String {
    match error {
        ObjectError::Fenced { .. } => "fenced".into(),
        ObjectError::LeaseEnded { .. } => "lease ended".into(),
        other => format!("{:?} {other}", other.kind()),
    }
}

/// Numbers that look random, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The number under a key as a transaction sees it.
pub(crate) fn number(t: &objsync::Transaction, key: &[u8]) -> objsync::Result<i64> {
    match t.get(key).wait()? {
        Some(payload) => Ok(value::from_payload(&payload)?),
        None => Ok(0),
    }
}

/// Moves money between random accounts; counts each move in the same transaction.
pub(crate) fn transfer_many(
    dict: &Dict,
    accounts: u64,
    count: u64,
    seed: u64,
) -> objsync::Result<()> {
    let mut dice = Dice::new(seed);
    for _ in 0..count {
        let (from, to) = (dice.below(accounts), dice.below(accounts));
        let amount = i64::try_from(1 + dice.below(10)).unwrap();
        let (from, to) = (k(&format!("account:{from}")), k(&format!("account:{to}")));
        dict.transact(|t| {
            let left = number(t, &from)? - amount;
            t.set(&from, value::to_payload(&left)?)?;
            let more = number(t, &to)? + amount;
            t.set(&to, value::to_payload(&more)?)?;
            let moves = number(t, &k("moves"))? + 1;
            t.set(&k("moves"), value::to_payload(&moves)?)
        })?;
    }
    Ok(())
}

/// Adds one by reading and writing, which loses some unless nobody else is at it.
pub(crate) fn count_under_lock(dict: &Dict, name: &str, count: u64) -> objsync::Result<()> {
    let lock = dict.lock(&k(name), Duration::from_secs(20))?;
    for _ in 0..count {
        lock.enter(None).wait()?;
        let now = match dict.get(&k("counter"))? {
            Some(payload) => value::from_payload::<i64>(&payload)?,
            None => 0,
        };
        dict.set(&k("counter"), value::to_payload(&(now + 1))?)
            .wait()?;
        lock.release().wait()?;
    }
    Ok(())
}
