//! Pages that bytes lie in on their way from one guest to another, used again and again: pipes and sockets fill and
//! empty thousands a second.
use abi::PAGE_SIZE;
use std::cell::RefCell;

/// One of them. What it holds is whatever it last held.
pub type Page = Box<[u8; PAGE_SIZE as usize]>;

/// How many are kept for the next who needs one, the last used on top.
const SPARE: usize = 1024;

thread_local! {
    static POOL: RefCell<Vec<Page>> = const { RefCell::new(Vec::new()) };
}

/// A page to fill.
pub fn take() -> Page {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new([0; PAGE_SIZE as usize]))
}

/// It is empty again.
pub fn give_back(page: Page) {
    // A pipe or a socket may be dropped while the thread ends, after the list.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < SPARE {
            pool.push(page);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_comes_first() {
        let mut page = take();
        page[7] = 9;
        let at = page.as_ptr();
        give_back(page);
        let again = take();
        assert_eq!(again.as_ptr(), at);
        let many: Vec<_> = (0..SPARE + 9).map(|_| take()).collect();
        many.into_iter().for_each(give_back);
        assert_eq!(POOL.with_borrow(Vec::len), SPARE);
    }
}
