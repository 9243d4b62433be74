//! Is the CPU that spinning takes really to spare? Others than our guests may want it: then a thread that spins is
//! taken off its CPU for whole time slices, and with it every call it should serve.

/// How long the kernel thread is watched before it is judged. Nanoseconds, as all here.
const WINDOW: u64 = 2_000_000;
/// How long nothing spins after a crowd was met: at first, and at most.
const PAUSE: (u64, u64) = (50_000_000, 1_000_000_000);

/// Compares the time a spinning thread had with the time that passed.
#[derive(Debug)]
pub struct Crowd {
    begun: Option<(u64, u64)>,
    until: u64,
    pause: u64,
}

impl Crowd {
    pub const fn new() -> Crowd {
        Crowd { begun: None, until: 0, pause: PAUSE.0 }
    }

    /// Spinning is worth a try: no crowd was met lately.
    pub fn over(&self, now: impl FnOnce() -> u64) -> bool {
        self.until == 0 || now() >= self.until
    }

    /// The thread sleeps: what passes now says nothing.
    pub fn sleeps(&mut self) {
        self.begun = None;
    }

    /// `now`: monotonic; `cpu`: what the thread itself has used. True: more than a quarter of the time went to others.
    pub fn met(&mut self, now: u64, cpu: impl FnOnce() -> u64) -> bool {
        let Some((then, had)) = self.begun else {
            self.begun = Some((now, cpu()));
            return false;
        };
        let passed = now - then;
        if passed < WINDOW {
            return false;
        }
        let cpu = cpu();
        if (cpu - had) * 4 >= passed * 3 {
            self.begun = Some((now, cpu));
            self.pause = PAUSE.0;
            return false;
        }
        self.begun = None;
        self.until = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gets_its_time_may_spin_on() {
        let mut c = Crowd::new();
        for ms in 0..100 {
            assert!(!c.met(ms * 1_000_000, || ms * 990_000));
        }
        assert!(c.over(|| 0));
    }

    #[test]
    fn one_that_shares_its_cpu_pauses_longer_each_time() {
        let mut c = Crowd::new();
        let (mut now, mut cpu, mut pauses) = (0, 0, Vec::new());
        for _ in 0..8 {
            assert!(!c.met(now, || cpu));
            now += 4_000_000;
            cpu += 2_000_000;
            assert!(c.met(now, || cpu));
            assert!(!c.over(|| now));
            pauses.push((c.until - now) / 1_000_000);
            now = c.until;
            assert!(c.over(|| now));
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn sleep_is_not_a_crowd() {
        let mut c = Crowd::new();
        assert!(!c.met(0, || 0));
        c.sleeps();
        assert!(!c.met(1_000_000_000, || 10));
    }
}
