//! Transactions: they read one moment, and happen whole or not at all, as if each had run alone.

use std::cell::Cell;
use std::time::Duration;

use objsync::{Dict, ErrorKind, KeyRange, ObjectError, Options, key, limits, value};

use crate::peer::{Peer, k, text, until, v};
use crate::roles::{Stage, in_each_role, in_each_role_with};
use crate::told::{number, transfer_many};

type Done = Result<(), ObjectError>;

/// Runs a function that does something else in its first run, and tells how often it ran.
fn runs(stage: &Stage, run: impl Fn(&objsync::Transaction) -> Done, meanwhile: impl Fn()) -> u32 {
    let count = Cell::new(0);
    stage
        .dict
        .transact(|t| {
            count.set(count.get() + 1);
            run(t)?;
            if count.get() == 1 {
                meanwhile();
            }
            Ok::<_, ObjectError>(())
        })
        .unwrap();
    count.get()
}

fn range(start: &str, end: &str) -> KeyRange {
    key::between(Some(&start.into()), Some(&end.into())).unwrap()
}

fn names(entries: objsync::TransactionScan) -> Vec<String> {
    entries
        .map(|entry| key::decode(&entry.unwrap().0).unwrap().to_string())
        .collect()
}

#[test]
fn transaction_sees_its_own_changes_and_others_see_them_at_its_end() {
    in_each_role(|stage| {
        for name in ["a", "b", "c"] {
            stage.dict.set(&k(name), v("old")).wait().unwrap();
        }
        let seen = stage.dict.transact(|t| {
            t.set(&k("b2"), v("new"))?;
            t.set(&k("a"), v("new"))?;
            t.delete(&k("c"))?;
            assert_eq!(text(&stage.dict, "a").as_deref(), Some("old"));
            assert_eq!(t.get(&k("a")).wait()?, Some(v("new")));
            assert_eq!(t.get(&k("b")).wait()?, Some(v("old")));
            assert_eq!(t.get(&k("c")).wait()?, None);
            assert_eq!(t.count().wait()?, 3);
            let forth = names(t.scan(KeyRange::default(), false));
            let back = names(t.keys(range("a", "b1"), true));
            Ok::<_, ObjectError>((forth, back))
        });
        let (forth, back) = seen.unwrap();
        assert_eq!(forth, ["\"a\"", "\"b\"", "\"b2\""]);
        assert_eq!(back, ["\"b\"", "\"a\""]);
        assert_eq!(text(&stage.dict, "a").as_deref(), Some("new"));
        assert_eq!(text(&stage.dict, "b2").as_deref(), Some("new"));
        assert_eq!(text(&stage.dict, "c"), None);
    });
}

#[test]
fn error_of_the_function_is_passed_on_and_nothing_is_done() {
    #[derive(Debug, PartialEq)]
    struct Mine(&'static str);
    impl From<ObjectError> for Mine {
        fn from(_: ObjectError) -> Self {
            Self("theirs")
        }
    }
    in_each_role(|stage| {
        let failed: Result<(), Mine> = stage.dict.transact(|t| {
            t.set(&k("a"), v("1"))?;
            Err(Mine("mine"))
        });
        assert_eq!(failed, Err(Mine("mine")));
        assert_eq!(text(&stage.dict, "a"), None);
    });
}

#[test]
fn write_skew_is_not_possible() {
    // Each reads both and writes one: apart both are right, together they are not.
    in_each_role(|stage| {
        let on_call = |t: &objsync::Transaction| -> objsync::Result<i64> {
            Ok(number(t, &k("ann"))? + number(t, &k("bob"))?)
        };
        for name in ["ann", "bob"] {
            let one = value::to_payload(&1).unwrap();
            stage.dict.set(&k(name), one).wait().unwrap();
        }
        let leave = |dict: &Dict, name: &str, meanwhile: &dyn Fn()| -> Done {
            let first = Cell::new(true);
            dict.transact(|t| {
                let left = on_call(t)? > 1;
                if first.replace(false) {
                    meanwhile();
                }
                if left {
                    t.set(&k(name), value::to_payload(&0)?)?;
                }
                Ok(())
            })
        };
        leave(&stage.dict, "ann", &|| {
            let other = stage.other.clone();
            let thread = std::thread::spawn(move || {
                other.transact(|t| t.set(&k("bob"), value::to_payload(&0)?))
            });
            thread.join().unwrap().unwrap();
        })
        .unwrap();
        let left = stage.dict.transact(|t| on_call(t)).unwrap();
        assert_eq!(left, 1, "somebody is on call");
    });
}

#[test]
fn key_that_comes_into_a_range_that_was_read_runs_the_function_again() {
    in_each_role(|stage| {
        let count_jobs = |t: &objsync::Transaction| {
            let jobs = names(t.keys(range("job:", "job;"), false)).len();
            t.set(&k("jobs"), value::to_payload(&jobs)?)
        };
        let set = |name: &'static str| {
            stage.other.set(&k(name), v("x")).wait().unwrap();
        };
        assert_eq!(runs(stage, count_jobs, || set("job:1")), 2);
        let counted = stage.dict.get(&k("jobs")).unwrap().unwrap();
        assert_eq!(value::from_payload::<u64>(&counted).unwrap(), 1);
        let gone = || {
            stage.other.delete(&k("job:1")).wait().unwrap();
        };
        assert_eq!(runs(stage, count_jobs, gone), 2);
        assert_eq!(runs(stage, count_jobs, || set("kob")), 1, "outside");
    });
}

#[test]
fn only_the_part_of_a_range_that_was_read_is_checked() {
    in_each_role(|stage| {
        let pairs = (0..500).map(|number| (k(&format!("{number:03}")), v(&"x".repeat(2000))));
        stage.dict.update(pairs).unwrap();
        let first_of = |t: &objsync::Transaction| {
            let first = t.scan(KeyRange::default(), false).next();
            assert!(first.unwrap().is_ok());
            t.set(&k("z"), v("done"))
        };
        let set = |name: &'static str| {
            stage.other.set(&k(name), v("new")).wait().unwrap();
        };
        assert_eq!(runs(stage, first_of, || set("499")), 1);
        assert_eq!(runs(stage, first_of, || set("000")), 2);
    });
}

#[test]
fn key_that_was_missing_and_comes_runs_the_function_again() {
    in_each_role(|stage| {
        let put_if_missing = |t: &objsync::Transaction| match t.get(&k("a")).wait()? {
            Some(_) => Ok(()),
            None => t.set(&k("a"), v("mine")),
        };
        let others = || {
            stage.other.set(&k("a"), v("theirs")).wait().unwrap();
        };
        assert_eq!(runs(stage, put_if_missing, others), 2);
        assert_eq!(text(&stage.dict, "a").as_deref(), Some("theirs"));
    });
}

#[test]
fn transaction_that_only_reads_is_checked_too() {
    in_each_role(|stage| {
        let read = |t: &objsync::Transaction| t.get(&k("a")).wait().map(drop);
        let change = || {
            stage.other.incr(&k("a"), 1).wait().unwrap();
        };
        assert_eq!(runs(stage, read, change), 2);
        assert_eq!(runs(stage, read, || {}), 1);
    });
}

#[test]
fn conflict_until_the_timeout_is_an_error_that_names_the_key() {
    let options = Options {
        timeout: Duration::from_millis(400),
        ..Options::default()
    };
    in_each_role_with(&options, |stage| {
        let always = stage.dict.transact(|t| {
            let read = number(t, &k("busy"))?;
            stage.other.incr(&k("busy"), 1).wait()?;
            t.set(&k("seen"), value::to_payload(&read)?)
        });
        match always.unwrap_err() {
            error @ ObjectError::Overtaken { .. } => {
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert!(error.to_string().contains("\"busy\""), "{error}");
                let ObjectError::Overtaken { key, attempts, .. } = error else {
                    unreachable!("it was matched");
                };
                assert_eq!(key.as_deref(), Some(&k("busy")[..]));
                assert!(attempts > 1, "{attempts}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(text(&stage.dict, "seen"), None);
    });
}

#[test]
fn each_run_of_the_function_sees_one_moment() {
    in_each_role(|stage| {
        let both = |number: i64| {
            let change = |name| objsync::Change {
                key: k(name).into(),
                value: Some(value::to_payload(&number).unwrap()),
            };
            vec![change("x"), change("y")]
        };
        stage.dict.batch(both(0)).wait().unwrap();
        let other = stage.other.clone();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            let mut number = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                number += 1;
                other.batch(both(number)).wait().unwrap();
            }
        });
        // Not committed: under such a writer that would take luck.
        let attempts = objsync::Attempts::new(&stage.dict);
        for round in 0..100 {
            let t = attempts.begin().wait().unwrap();
            let read = || -> objsync::Result<_> {
                let (x, y) = (number(&t, &k("x"))?, number(&t, &k("y"))?);
                for _ in 0..3 {
                    assert_eq!(number(&t, &k("y"))?, number(&t, &k("x"))?);
                }
                let payload = |entry: objsync::Result<(_, objsync::Bytes)>| {
                    Ok(value::from_payload::<i64>(&entry?.1)?)
                };
                let scan = t.scan(KeyRange::default(), false);
                Ok((
                    x,
                    y,
                    scan.map(payload).collect::<objsync::Result<Vec<_>>>()?,
                ))
            };
            let (x, y, ranged) = read().unwrap();
            assert_eq!((x, &ranged[..]), (y, &[x, y][..]), "round {round}");
        }
        drop(stop);
        writer.join().unwrap();
    });
}

#[test]
fn transfers_of_threads_and_processes_keep_the_sum_over_the_death_of_the_owner() {
    const ACCOUNTS: u64 = 4;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut owner = Peer::open(&path);
    let mut peers: Vec<_> = (0..2).map(|_| Peer::open(&path)).collect();
    let dict = Dict::open(&path, Options::default()).unwrap();
    let start = (0..ACCOUNTS).map(|account| {
        let hundred = value::to_payload(&100).unwrap();
        (k(&format!("account:{account}")), hundred)
    });
    dict.update(start).unwrap();
    for (seed, peer) in peers.iter_mut().enumerate() {
        peer.tell(&format!("transfer-many {ACCOUNTS} 60 {seed}"));
    }
    let threads: Vec<_> = (10..12)
        .map(|seed| {
            let dict = dict.clone();
            std::thread::spawn(move || transfer_many(&dict, ACCOUNTS, 60, seed))
        })
        .collect();
    until("transfers are under way", || {
        owner
            .ask("number moves")
            .parse::<i64>()
            .is_ok_and(|moves| moves > 40)
    });
    owner.kill();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    for peer in &mut peers {
        assert_eq!(peer.answer(), "60");
    }
    let (sum, moves) = dict
        .transact(|t| {
            let accounts = t.scan(range("account:", "account;"), false);
            let amount = |entry: objsync::Result<(_, objsync::Bytes)>| -> objsync::Result<i64> {
                Ok(value::from_payload(&entry?.1)?)
            };
            let amounts: Vec<_> = accounts.map(amount).collect::<objsync::Result<_>>()?;
            assert_eq!(amounts.len() as u64, ACCOUNTS);
            Ok::<_, ObjectError>((amounts.iter().sum::<i64>(), number(t, &k("moves"))?))
        })
        .unwrap();
    assert_eq!(sum, 400);
    assert_eq!(moves, 4 * 60, "each happened once");
}

#[test]
fn transaction_inside_of_another_is_refused() {
    in_each_role(|stage| {
        let inner = stage.dict.transact(|_| {
            let inner = stage.other.transact(|_| Ok::<_, ObjectError>(()));
            Ok::<_, ObjectError>(inner.unwrap_err())
        });
        let error = inner.unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("inside"), "{error}");
    });
}

#[test]
fn transaction_is_of_no_use_after_its_end() {
    in_each_role(|stage| {
        let kept = stage
            .dict
            .transact(|t| Ok::<_, ObjectError>(t.clone()))
            .unwrap();
        let errors = [
            kept.get(&k("a")).wait().unwrap_err(),
            kept.set(&k("a"), v("1")).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("ended"), "{error}");
        }
    });
}

#[test]
fn transaction_over_a_limit_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let reads = dict.transact(|t| {
        for number in 0..=limits::TRANSACTION_READS_MAX {
            t.get(&key::encode(&(number as i64).into())?.into_bytes())
                .wait()?;
        }
        Ok::<_, ObjectError>(())
    });
    let error = reads.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let limit = limits::TRANSACTION_READS_MAX.to_string();
    assert!(error.to_string().contains(&limit), "{error}");
    let large = vec![7_u8; 6 << 20];
    let writes = dict.transact(|t| {
        for name in ["a", "b", "c"] {
            t.set(
                &k(name),
                // In a list: bytes alone go into chunks, and count next to nothing.
                value::to_payload(&[value::Value::Bytes(large.clone().into())])?,
            )?;
        }
        Ok::<_, ObjectError>(())
    });
    let error = writes.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let limit = limits::TRANSACTION_BYTES_MAX.to_string();
    assert!(error.to_string().contains(&limit), "{error}");
    assert_eq!(dict.len().unwrap(), 0);
}

#[test]
fn transaction_is_acknowledged_as_a_write_is() {
    in_each_role(|stage| {
        stage.dict.transact(|t| t.set(&k("a"), v("1"))).unwrap();
        let ack = stage.dict.last_ack().unwrap();
        let at = stage.dict.at(ack.revision).wait().unwrap();
        assert_eq!(at.get(&k("a")).wait().unwrap(), Some(v("1")));
        let before = stage
            .dict
            .at(objsync::Revision(ack.revision.0 - 1))
            .wait()
            .unwrap();
        assert_eq!(before.get(&k("a")).wait().unwrap(), None);
    });
}

#[test]
fn awaitable_transaction_is_refused_inside_of_another_and_can_move_between_threads() {
    fn movable<F: Future + Send>(future: F) -> F {
        future
    }
    in_each_role(|stage| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let dict = stage.dict.clone();
        let counted = movable(async move {
            for _ in 0..3 {
                let add = async |t: objsync::Transaction| -> Done {
                    let now: i64 = match t.get(&k("n")).await? {
                        Some(payload) => value::from_payload(&payload)?,
                        None => 0,
                    };
                    t.set(&k("n"), value::to_payload(&(now + 1))?)
                };
                dict.transact_async(add).await?;
            }
            let nested = async |_| {
                dict.transact_async(async |_| Ok::<_, ObjectError>(()))
                    .await
            };
            let refused: Result<(), ObjectError> = dict.transact_async(nested).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
            dict.transact_async(async |t| t.get(&k("n")).await).await
        });
        let payload = runtime.block_on(counted).unwrap().unwrap();
        assert_eq!(value::from_payload::<i64>(&payload).unwrap(), 3);
    });
}

#[test]
fn transaction_that_is_kept_after_its_end_holds_no_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let _owner = Peer::open(&path);
    let dict = Dict::open(&path, Options::default()).unwrap();
    // More than a replica holds pins for: the oldest would have ended.
    let scan = {
        dict.set(&k("a"), v("1")).wait().unwrap();
        dict.scan(KeyRange::default(), false).unwrap()
    };
    let kept: Vec<_> = (0..limits::PINS_MAX + 10)
        .map(|_| dict.transact(|t| Ok::<_, ObjectError>(t.clone())).unwrap())
        .collect();
    assert_eq!(scan.map(Result::unwrap).count(), 1);
    drop(kept);
}

#[test]
fn transaction_whose_owner_dies_while_it_reads_a_range_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let _heir = Peer::open(&path);
    let options = Options {
        promote: false,
        ..crate::peer::without_replica()
    };
    let dict = Dict::open(&path, options).unwrap();
    // More than is on its way when the owner dies.
    let large = v(&"x".repeat(100_000));
    dict.update((0..200).map(|number| (k(&format!("{number:03}")), large.clone())))
        .unwrap();
    let owner = Cell::new(Some(owner));
    let runs = Cell::new(0);
    let counted = dict.transact(|t| {
        runs.set(runs.get() + 1);
        let mut scan = t.scan(KeyRange::default(), false);
        let first = scan.next().transpose()?;
        if let Some(owner) = owner.take() {
            owner.kill();
        }
        let rest = scan.collect::<objsync::Result<Vec<_>>>()?;
        Ok::<_, ObjectError>(first.iter().count() + rest.len())
    });
    assert_eq!(counted.unwrap(), 200);
    assert_eq!(runs.get(), 2);
}
