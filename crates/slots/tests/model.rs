//! Every interleaving of the switch between hot and cold, and every order the memory model allows:
//! `RUSTFLAGS="--cfg loom" cargo test -p slots --test model`. Without the flag there is nothing here.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::Ordering::SeqCst;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::thread;
use slots::handshake::{
    answer, answered, begin_wait, cool, cover, look, may_return, publish, returns_to, take_futexes,
};

struct Shared {
    request: AtomicU32,
    hot: AtomicU32,
    answer: AtomicU32,
    /// Doorbells rung: the host's listener, which loses none.
    bells: AtomicU32,
    /// How often each request was served.
    served: [AtomicU32; 2],
}

fn shared(hot: u32) -> Arc<Shared> {
    Arc::new(Shared {
        request: AtomicU32::new(0),
        hot: AtomicU32::new(hot),
        answer: AtomicU32::new(0),
        bells: AtomicU32::new(0),
        served: [AtomicU32::new(0), AtomicU32::new(0)],
    })
}

fn serve(s: &Shared, seq: u32) {
    s.served[seq as usize - 1].fetch_add(1, SeqCst);
    answer(&s.answer, seq);
}

/// A sentry that goes cold while a request comes in: either it sees the request, or the stub rings.
#[test]
fn going_cold_loses_nothing() {
    loom::model(|| {
        let s = shared(1);
        let stub = {
            let s = s.clone();
            thread::spawn(move || {
                if !publish(&s.request, &s.hot, 1) {
                    s.bells.fetch_add(1, SeqCst);
                }
            })
        };
        // The sentry looks once, and then goes cold.
        let mut done = 0;
        if let Some(seq) = look(&s.request, done) {
            done = seq;
            serve(&s, seq);
        }
        if !cool(&s.request, &s.hot, done)
            && let Some(seq) = look(&s.request, done)
        {
            done = seq;
            serve(&s, seq);
        }
        stub.join().unwrap();
        // Asleep now: only a bell wakes it.
        if done == 0 {
            assert_eq!(s.bells.load(SeqCst), 1, "the request was lost");
            serve(&s, look(&s.request, done).expect("the bell is for this request"));
        }
        assert!(answered(&s.answer, 1));
        assert_eq!(s.served[0].load(SeqCst), 1, "answered once");
    });
}

/// Two requests one after the other across the switch: a bell for one that was answered meanwhile is not another request.
#[test]
fn a_late_bell_is_not_served_twice() {
    loom::model(|| {
        let s = shared(1);
        let stub = {
            let s = s.clone();
            thread::spawn(move || {
                for seq in 1..=2 {
                    if !publish(&s.request, &s.hot, seq) {
                        s.bells.fetch_add(1, SeqCst);
                    }
                    while !answered(&s.answer, seq) {
                        thread::yield_now();
                    }
                }
            })
        };
        let mut done = 0;
        let mut cold = false;
        while done < 2 {
            match look(&s.request, done) {
                Some(seq) => {
                    assert_eq!(seq, done + 1);
                    done = seq;
                    serve(&s, seq);
                }
                None if !cold => cold = cool(&s.request, &s.hot, done),
                None => thread::yield_now(),
            }
        }
        stub.join().unwrap();
        assert_eq!(s.served.each_ref().map(|n| n.load(SeqCst)), [1, 1]);
    });
}

/// A thread that begins to wait for a futex while the sentry takes them: either it does not wait at the host, or the sentry
/// knows that it may, and fetches it.
#[test]
fn nobody_waits_at_the_host_unseen() {
    loom::model(|| {
        let words = Arc::new((AtomicU32::new(0), AtomicU32::new(1)));
        let stub = {
            let words = words.clone();
            thread::spawn(move || begin_wait(&words.0, &words.1))
        };
        take_futexes(&words.1);
        let known = words.0.load(SeqCst) != 0;
        assert!(known || !stub.join().unwrap(), "it waits where nobody looks for it");
    });
}

/// A thread whose call is the host's begins it while what it returns to is being covered: either it does not, or the sentry knows
/// that it may.
#[test]
fn nobody_returns_unseen_to_what_is_covered() {
    const IP: u64 = 0x7f00_0000_1234;
    loom::model(|| {
        let words = Arc::new((AtomicU32::new(0), AtomicU64::new(0)));
        let stub = {
            let words = words.clone();
            thread::spawn(move || may_return(&words.0, &words.1, IP))
        };
        cover(&words.1, IP);
        let known = returns_to(&words.0, IP);
        assert!(known || !stub.join().unwrap(), "it returns where nobody expects it");
    });
}
