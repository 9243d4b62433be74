use super::*;
use crate::testing::{Executor, Handle};
use guest::Memory;
use guest::fake::FakeMemory;

const A: Key = Key::Private { space: 1, addr: 0x1000 };
const B: Key = Key::Private { space: 1, addr: 0x2000 };

fn sleeper(ex: &mut Executor, key: Key, bitset: u32) -> Handle<Result<()>> {
    let h = ex.spawn(move || async move { wait(key, bitset, 7, None, &|| Ok(7)).await });
    assert!(!h.done());
    h
}

#[test]
fn the_value_is_compared_before_sleeping() {
    let mut ex = Executor::new();
    let h = ex.spawn(|| async { wait(A, ANY, 7, None, &|| Ok(8)).await });
    assert_eq!(h.take(), Err(Errno::EAGAIN));
    let h = ex.spawn(|| async { wait(A, 0, 7, None, &|| Ok(7)).await });
    assert_eq!(h.take(), Err(Errno::EINVAL));
    let h = ex.spawn(|| async { wait(A, ANY, 7, None, &|| Err(Errno::EFAULT)).await });
    assert_eq!(h.take(), Err(Errno::EFAULT));
}

#[test]
fn wakes_in_order_and_only_as_many_as_asked() {
    let mut ex = Executor::new();
    let h: Vec<_> = (0..4).map(|_| sleeper(&mut ex, A, ANY)).collect();
    assert_eq!(wake(B, 9, ANY), Ok(0));
    assert_eq!(wake(A, 2, ANY), Ok(2));
    ex.idle();
    assert_eq!(h.iter().map(Handle::done).collect::<Vec<_>>(), [true, true, false, false]);
    assert_eq!(wake(A, u32::MAX, ANY), Ok(2));
    ex.idle();
    assert!(h.iter().all(|h| h.take() == Ok(())));
    assert_eq!(wake(A, 1, ANY), Ok(0));
}

#[test]
fn bitsets_choose() {
    let mut ex = Executor::new();
    let (r, w) = (sleeper(&mut ex, A, 1), sleeper(&mut ex, A, 2));
    assert_eq!(wake(A, 9, 4), Ok(0));
    assert_eq!(wake(A, 9, 2), Ok(1));
    ex.idle();
    assert_eq!((r.done(), w.done()), (false, true));
    assert_eq!(wake(A, 9, 0), Err(Errno::EINVAL));
    assert_eq!(wake(A, 9, 3), Ok(1));
    ex.idle();
    assert_eq!(r.take(), Ok(()));
}

#[test]
fn requeue_wakes_some_and_moves_some() {
    let mut ex = Executor::new();
    let h: Vec<_> = (0..4).map(|_| sleeper(&mut ex, A, ANY)).collect();
    assert_eq!(requeue(A, B, 1, 2, Some((7, &|| Ok(6)))), Err(Errno::EAGAIN));
    assert_eq!(requeue(A, B, 1, 2, Some((7, &|| Ok(7)))), Ok(3));
    ex.idle();
    assert_eq!(h.iter().map(Handle::done).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(wake(B, 9, ANY), Ok(2));
    assert_eq!(wake(A, 9, ANY), Ok(1));
    ex.idle();
    assert!(h.iter().all(Handle::done));
}

#[test]
fn a_requeued_call_can_time_out_be_interrupted_and_be_killed() {
    let mut ex = Executor::new();
    let soon = host::time::monotonic_ns() + 3_000_000;
    let timed = ex.spawn(move || async move { wait(A, ANY, 7, Some(soon), &|| Ok(7)).await });
    let signalled = sleeper(&mut ex, A, ANY);
    let killed = sleeper(&mut ex, A, ANY);
    assert_eq!(requeue(A, B, 0, 9, None), Ok(3));
    assert_eq!(ex.finish(&timed), Err(Errno::ETIMEDOUT));
    assert!(host::time::monotonic_ns() >= soon);
    ex.interrupt(&signalled);
    assert_eq!(signalled.take(), Err(Errno::ERESTARTSYS));
    ex.kill(&killed);
    assert_eq!(wake(B, 9, ANY), Ok(0));
    TABLE.with_borrow(|t| assert!(t.waiting.is_empty()));
}

#[test]
fn a_signal_with_a_deadline_asks_for_the_rest_of_it() {
    let mut ex = Executor::new();
    let end = host::time::monotonic_ns() + 1_000_000_000;
    let h = ex.spawn(move || async move { wait(A, ANY, 7, Some(end), &|| Ok(7)).await });
    ex.interrupt(&h);
    assert_eq!(h.take(), Err(Errno::ERESTART_RESTARTBLOCK));
}

#[test]
fn wait_any_tells_which() {
    let mut ex = Executor::new();
    let call = || async {
        let ok = || Ok(7);
        let words = [A, B].map(|key| Word { key, expected: 7, load: &ok });
        wait_any(&words, None).await
    };
    let h = ex.spawn(call);
    assert_eq!(wake(B, 1, ANY), Ok(1));
    assert_eq!(wake(A, 1, ANY), Ok(1), "still listed until it runs");
    ex.idle();
    assert_eq!(h.take(), Ok(1));
    let h = ex.spawn(|| async { wait_any(&[], None).await });
    assert_eq!(h.take(), Err(Errno::EINVAL));
}

#[test]
fn wake_op_decodes_applies_and_tests() {
    let code = |op: u32, cmp: u32, arg: u32, cmp_arg: u32| {
        WakeOp::decode(op << 28 | cmp << 24 | (arg & 0xfff) << 12 | cmp_arg & 0xfff)
    };
    assert_eq!(code(0, 0, 5, 0).unwrap().apply(9), 5);
    assert_eq!(code(1, 0, -1i32 as u32, 0).unwrap().apply(9), 8);
    assert_eq!(code(2 | 8, 0, 4, 0).unwrap().apply(1), 17);
    assert_eq!(code(3, 0, 1, 0).unwrap().apply(3), 2);
    assert_eq!(code(4, 0, 1, 0).unwrap().apply(3), 2);
    assert_eq!(code(5, 0, 0, 0), Err(Errno::ENOSYS));
    assert_eq!(code(0, 2, 0, -3i32 as u32).unwrap().test(-4i32 as u32), Ok(true));
    assert_eq!(code(0, 4, 0, 1).unwrap().test(1), Ok(false));
    assert_eq!(code(0, 6, 0, 0).unwrap().test(0), Err(Errno::ENOSYS));

    let mut ex = Executor::new();
    let (a, b) = (sleeper(&mut ex, A, ANY), sleeper(&mut ex, B, ANY));
    let cell = Cell::new(1u32);
    // Set to 0; wake the second if it was greater than 1.
    let op = code(0, 4, 0, 1).unwrap();
    assert_eq!(wake_op(A, 1, B, 1, op, |f| Ok(cell.replace(f(cell.get())))), Ok(1));
    cell.set(2);
    assert_eq!(wake_op(A, 1, B, 1, op, |f| Ok(cell.replace(f(cell.get())))), Ok(1));
    assert_eq!(cell.get(), 0);
    ex.idle();
    assert!(a.done() && b.done());
}

fn put(m: &FakeMemory, at: u64, v: u64) {
    m.write(at, &v.to_ne_bytes()).unwrap();
}

fn lock(m: &FakeMemory, at: u64) -> u32 {
    let mut b = [0; 4];
    m.read(at, &mut b).unwrap();
    u32::from_ne_bytes(b)
}

#[test]
fn the_robust_list_of_a_dead_thread() {
    let m = FakeMemory::new(0x1000, 4096);
    // Head at 0x1000, locks 0x10 behind their entries: held with waiters, held, another's, and a pending one let go.
    let held = |at: u64, next: u64, v: u32| {
        put(&m, at, next);
        m.write(at + 0x10, &v.to_ne_bytes()).unwrap();
    };
    put(&m, 0x1000, 0x1100);
    put(&m, 0x1008, 0x10);
    put(&m, 0x1010, 0x1400);
    held(0x1100, 0x1200, 42 | FUTEX_WAITERS);
    held(0x1200, 0x1300, 42);
    held(0x1300, 0x1000, 43);
    held(0x1400, 0, 0);
    let mut woken = Vec::new();
    exit_robust_list(&m, 0x1000, 42, &mut |a| woken.push(a));
    assert_eq!(woken, [0x1110, 0x1410]);
    assert_eq!(lock(&m, 0x1110), FUTEX_WAITERS | FUTEX_OWNER_DIED);
    assert_eq!(lock(&m, 0x1210), FUTEX_OWNER_DIED);
    assert_eq!(lock(&m, 0x1310), 43);
}

#[test]
fn a_hostile_robust_list_ends() {
    let m = FakeMemory::new(0x1000, 4096);
    put(&m, 0x1000, 0x1100);
    put(&m, 0x1100, 0x1100);
    let mut n = 0;
    exit_robust_list(&m, 0x1000, 0, &mut |_| n += 1);
    assert_eq!(n, 0, "a cycle is walked a bounded number of times");
    put(&m, 0x1000, u64::MAX - 1);
    exit_robust_list(&m, 0x1000, 42, &mut |_| unreachable!());
    exit_robust_list(&m, u64::MAX - 4, 42, &mut |_| unreachable!());
    put(&m, 0x1000, 0x1102);
    put(&m, 0x1008, 1);
    exit_robust_list(&m, 0x1000, 42, &mut |_| unreachable!());
}
