//! Processes many files in parallel, with results in the order of the files.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::Result;

/// Number of results per worker that may wait for the consumer: enough to keep all workers busy.
const WAITING: usize = 4;

/// Calls `work` for every item on `jobs` threads, each with a state of its own from `start`, and
/// `consume` on this thread with every result, in the order of the items whatever finishes first.
/// The first error of any of them ends the run.
pub fn in_order<I: Sync, S, R: Send>(
    items: &[I],
    jobs: usize,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, &I) -> Result<R> + Sync,
    mut consume: impl FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    let jobs = jobs.clamp(1, items.len().max(1));
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    // States are created one after another, because the first one loads what all share.
    let starting = Mutex::new(());
    let (sender, receiver) = mpsc::sync_channel::<(usize, Result<R>)>(jobs * WAITING);
    let worker = |sender: mpsc::SyncSender<(usize, Result<R>)>| {
        let state = {
            let _guard = starting.lock().unwrap_or_else(|e| e.into_inner());
            start()
        };
        let mut state = match state {
            Ok(state) => state,
            Err(error) => {
                // Sending fails only if another worker has failed first.
                let _ = sender.send((0, Err(error)));
                return;
            }
        };
        while !is_over.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            if sender.send((index, work(&mut state, item))).is_err() {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let sender = sender.clone();
            scope.spawn(|| worker(sender));
        }
        drop(sender);
        let result = deliver(&receiver, &mut consume);
        is_over.store(true, Ordering::Relaxed);
        // A worker that waits for room in the channel gets an error instead, and ends.
        drop(receiver);
        result
    })
}

/// Delivers results in the order of their numbers.
fn deliver<R>(
    receiver: &mpsc::Receiver<(usize, Result<R>)>,
    consume: &mut impl FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut due = 0;
    for (index, result) in receiver {
        early.insert(index, result?);
        while let Some(result) = early.remove(&due) {
            consume(due, result)?;
            due += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        let mut seen = Vec::new();
        in_order(
            &items,
            7,
            || Ok(()),
            |(), &item| {
                std::thread::sleep(std::time::Duration::from_micros(item * 37 % 11 * 100));
                Ok(item)
            },
            |index, item| {
                assert_eq!(index as u64, item);
                seen.push(item);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, items);
    }

    #[test]
    fn an_error_anywhere_ends_everything() {
        let items = [0; 1000];
        let fails_to_start = in_order(
            &items,
            3,
            || bail!("no state"),
            |(), _| Ok(()),
            |_, ()| Ok(()),
        );
        assert_eq!(fails_to_start.unwrap_err().to_string(), "no state");
        let fails_to_work = in_order(
            &items,
            3,
            || Ok(()),
            |(), _| bail!("no work"),
            |_, ()| Ok(()),
        );
        assert_eq!(fails_to_work.unwrap_err().to_string(), "no work");
        let refuses = in_order(&items, 3, || Ok(()), |(), _| Ok(()), |_, ()| bail!("full"));
        assert_eq!(refuses.unwrap_err().to_string(), "full");
    }

    #[test]
    fn nothing_to_do_is_done() {
        in_order(
            &[0; 0],
            4,
            || Ok(()),
            |(), _| Ok(()),
            |_, ()| bail!("what?"),
        )
        .unwrap();
    }
}
