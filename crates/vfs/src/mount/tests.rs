use super::*;
use crate::names::tests::{Endless, tree, walk};

fn fresh(name: &str) -> Rc<Mount> {
    let sb = Super::new(Rc::new(Endless { cacheable: true }), "endless", UserNs::first());
    Mount::new(sb, name.into(), RELATIME)
}

fn put(table: &MountTable, name: &str, on: &Path) -> Rc<Mount> {
    let m = fresh(name);
    table.attach(&Tree::of(m.clone()), on.clone()).unwrap();
    m
}

fn top(root: &Path, names: &[&[u8]]) -> String {
    walk(root, names).mount.source.clone()
}

#[test]
fn a_copy_goes_below_what_stands_there() {
    let (table, root) = tree();
    let a = put(&table, "a", &walk(&root, &[b"a"]));
    a.set_propagation(Propagation::Shared);
    let bound = Mount::bind(&walk(&root, &[b"a"]), false).unwrap();
    table.attach(&bound, walk(&root, &[b"b"])).unwrap();
    bound.top().set_propagation(Propagation::Slave);
    put(&table, "mine", &walk(&root, &[b"b", b"in"]));
    let theirs = put(&table, "theirs", &walk(&root, &[b"a", b"in"]));
    assert_eq!(top(&root, &[b"b", b"in"]), "mine");
    table.detach(&walk(&root, &[b"b", b"in"]).mount);
    assert_eq!(top(&root, &[b"b", b"in"]), "theirs");
    // What was put over the copy stays when the copy goes.
    put(&table, "mine", &walk(&root, &[b"b", b"in"]));
    table.detach(&theirs);
    assert_eq!(top(&root, &[b"b", b"in"]), "mine");
    table.detach(&walk(&root, &[b"b", b"in"]).mount);
    assert_eq!(top(&root, &[b"b", b"in"]), "a");
}

#[test]
fn a_detached_tree_is_gone_with_its_holder_unless_it_was_moved() {
    let (table, root) = tree();
    let holder = |m: &Rc<Mount>| MountTable::detached(&table.user_ns, None, &Tree::of(m.clone()));
    let (lost, kept) = (fresh("lost"), fresh("kept"));
    let (a, b) = (holder(&lost), holder(&kept));
    assert!(a.is_detached_root(&lost) && a.is_detached_for(&table) && a.id() == 0);
    table.relocate(&kept, walk(&root, &[b"a"])).unwrap();
    assert!(!b.is_detached_root(&fresh("other")) && b.all().is_empty());
    drop((a, b));
    assert!(lost.ns().is_none());
    assert!(table.holds(&kept) && table.all().last().is_some_and(|m| Rc::ptr_eq(m, &kept)));
    assert_eq!(top(&root, &[b"a"]), "kept");
}

#[test]
fn only_who_is_where_a_tree_was_copied_may_use_it() {
    let (table, root) = tree();
    let bound = Mount::bind(&root, true).unwrap();
    let detached = MountTable::detached(&table.user_ns, Some(&table), &bound);
    assert!(detached.is_detached_for(&table) && !detached.is_detached_for(&MountTable::further()));
    // The same holds for a copy of the copy.
    let again = MountTable::detached(&table.user_ns, Some(&detached), &Tree::of(fresh("x")));
    assert!(again.is_detached_for(&table) && !again.is_detached_for(&MountTable::further()));
}

#[test]
fn namespaces_of_other_containers_are_not_told() {
    let (table, _root) = tree();
    let other = MountTable::further();
    let own = table.fork(&table.user_ns, &mut []).unwrap();
    let ids: Vec<u64> = table.family().iter().map(|ns| ns.id()).collect();
    assert_eq!(ids, [table.id(), own.id()]);
    assert_eq!(other.family().len(), 1);
}

#[test]
fn lists_are_in_the_order_in_which_mounts_were_made() {
    let (table, root) = tree();
    let at = |n: &[u8]| walk(&root, &[n]);
    let (a, b) = (put(&table, "a", &at(b"a")), put(&table, "b", &at(b"b")));
    put(&table, "in a", &walk(&root, &[b"a", b"in"]));
    table.relocate(&a, at(b"c")).unwrap();
    let names = |t: &MountTable| t.all().iter().map(|m| m.source.clone()).collect::<Vec<_>>();
    assert_eq!(names(&table), ["", "a", "b", "in a"]);
    // A copy is made from the top down: who was moved comes after those that were there.
    let copy = table.fork(&table.user_ns, &mut []).unwrap();
    assert_eq!(names(&copy), ["", "b", "a", "in a"]);
    assert!(copy.all().is_sorted_by_key(|m| m.unique));
    drop(b);
}

#[test]
fn slaves_of_a_group_that_is_gone_are_its_masters() {
    let (table, root) = tree();
    let a = put(&table, "a", &walk(&root, &[b"a"]));
    a.set_propagation(Propagation::Shared);
    let bind = |from: &[u8], to: &[u8]| {
        let t = Mount::bind(&walk(&root, &[from]), false).unwrap();
        table.attach(&t, walk(&root, &[to])).unwrap();
        t.top().set_propagation(Propagation::Slave);
        t.top()
    };
    let b = bind(b"a", b"b");
    b.set_propagation(Propagation::Shared);
    let c = bind(b"b", b"c");
    assert_eq!((c.master(), b.master()), (b.group(), a.group()));
    table.detach(&b);
    assert_eq!(c.master(), a.group());
    table.detach(&a);
    assert_eq!(c.master(), 0);
}

#[test]
fn a_change_is_told_once_it_is_made() {
    let (table, root) = tree();
    let before = table.changes();
    let m = put(&table, "a", &walk(&root, &[b"a"]));
    assert!(table.changes() > before);
    let before = table.changes();
    m.set_flags(NO_SUID);
    assert!(table.changes() > before);
    let before = table.changes();
    table.detach(&m);
    assert!(table.changes() > before);
}
