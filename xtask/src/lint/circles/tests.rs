use std::{fs, path::PathBuf};

use super::*;

/// A crate of these files; the folder is removed when the test ends.
struct Sources {
    root: PathBuf,
}

impl Sources {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("postrider-circles-{}-{test}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { root }
    }

    fn circles(&self) -> Vec<String> {
        of_crate("x", &Modules::of(&self.root, &self.root.join("lib.rs")).unwrap())
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

const NONE: &[String] = &[];

#[test]
fn a_circle_is_shown_as_a_path_with_a_line_for_each_arrow() {
    let sources = Sources::new(
        "three",
        &[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B;\npub struct A(B);"),
            ("b.rs", "pub struct B;\nfn f() { crate::c::g(); }"),
            ("c.rs", "use super::{\n    a::A,\n    d,\n};\npub fn g() -> A { d::h() }"),
            ("d.rs", "pub fn h() {}"),
        ],
    );
    let expected = "x: modules in a circle: b -> c -> a -> b\
                    \n    b.rs:2: fn f() { crate::c::g(); }\
                    \n    c.rs:2: super::a::A\
                    \n    a.rs:1: use crate::b::B;";
    let found = sources.circles();
    assert_eq!(found.len(), 1, "{found:?}");
    let rotated = |text: &str| {
        let mut lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(rotated(&found[0]), rotated(expected), "{}", found[0]);
    assert!(found[0].contains(" -> "), "{}", found[0]);
}

#[test]
fn several_circles_of_one_group_are_shown_as_the_shortest() {
    let sources = Sources::new(
        "group",
        &[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::{b::B, c::C}; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use crate::a::A; pub struct C;"),
        ],
    );
    let found = sources.circles();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .starts_with("x: modules in a circle: a -> c -> a\n    one of several among these 3: a, b, c\n")
    );
}

#[test]
fn a_reexport_leads_to_the_file_that_defines() {
    let sources = Sources::new(
        "reexport",
        &[
            ("lib.rs", "mod a; mod b; pub use self::{a::A as Renamed, b::*};"),
            ("a.rs", "use crate::B; pub struct A;"),
            ("b.rs", "fn f(_: crate::Renamed) {} pub struct B;"),
        ],
    );
    let found = sources.circles();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("x: modules in a circle: a -> b -> a\n"), "{}", found[0]);
}

#[test]
fn paths_in_macros_and_bodies_count() {
    let sources = Sources::new(
        "macros",
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub fn f() { println!(\"{}\", crate::b::N); }"),
            ("b.rs", "pub const N: u8 = 1; fn g() { use crate::a::f; f(); }"),
        ],
    );
    assert_eq!(sources.circles().len(), 1);
}

#[test]
fn tests_do_not_count() {
    let sources = Sources::new(
        "tests",
        &[
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "pub struct A; #[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::B;",
            ),
            ("b.rs", "use crate::a::A; pub struct B; impl B { #[cfg(test)] fn g() { crate::a::A; } }"),
        ],
    );
    assert_eq!(sources.circles(), NONE);
}

#[test]
fn a_parent_may_declare_and_reexport_children_that_use_it() {
    let sources = Sources::new(
        "parent",
        &[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; mod c; pub use b::B; pub(crate) use self::c::C; pub struct A;"),
            ("a/b.rs", "use super::A; use super::C; impl A { fn f() {} } pub struct B;"),
            ("a/c.rs", "use crate::a::A; pub struct C(A);"),
        ],
    );
    assert_eq!(sources.circles(), NONE);
}

#[test]
fn a_parent_and_a_child_may_use_each_other() {
    let sources = Sources::new(
        "child",
        &[
            ("lib.rs", "mod a; const MOST: u8 = 2;"),
            ("a.rs", "mod b; const LIMIT: u8 = 1; fn f() { b::g(); }"),
            ("a/b.rs", "pub fn g() -> u8 { super::LIMIT + crate::MOST }"),
        ],
    );
    assert_eq!(sources.circles(), NONE);
}

#[test]
fn a_circle_through_another_folder_is_found() {
    let sources = Sources::new(
        "folders",
        &[
            ("lib.rs", "mod a; mod c;"),
            ("a/mod.rs", "mod b; pub struct A; fn f() { b::g(); }"),
            ("a/b.rs", "pub fn g() { crate::c::h(); }"),
            ("c.rs", "use crate::a::A; pub fn h() -> A { A }"),
        ],
    );
    let found = sources.circles();
    let expected = "x: modules in a circle: a -> a::b -> c -> a\
                    \n    a/mod.rs:1: mod b; pub struct A; fn f() { b::g(); }\
                    \n    a/b.rs:1: pub fn g() { crate::c::h(); }\
                    \n    c.rs:1: use crate::a::A; pub fn h() -> A { A }";
    assert_eq!(found, [expected]);
}
