//! Checks for circles between the modules of a crate. In a circle, no file can be read first.
//!
//! Modules are files; an inline `mod` belongs to its file. A file uses another one if its code, except for tests, names
//! an item that the other file defines. A re-export counts as the file that defines the item:
//! `use crate::Event` in `a.rs`, where `lib.rs` has `pub use event::Event`, is an arrow from `a.rs` to `event.rs`.
//!
//! Two things are allowed. A parent that declares its children (`mod a;`) or re-exports them (`pub use a::A`) does not
//! use them. And a child may use the items of its parents' files while these use the child, because a folder is read
//! from its parent file down. Circles among siblings are refused, and so are those that leave a folder and come back to
//! it: `a` -> `a::b` -> `c` -> `a`.

mod graph;
mod modules;
mod paths;

use std::path::Path;

use self::{
    graph::{Circle, Graph},
    modules::Modules,
};
use super::workspace::Workspace;
use crate::Error;

/// Returns a circle of each group of modules that use each other.
pub(super) fn violations(root: &Path, workspace: &Workspace) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        for target in &package.targets {
            found.extend(of_crate(&package.name, &Modules::of(root, target)?));
        }
    }
    Ok(found)
}

fn of_crate(name: &str, modules: &Modules) -> Vec<String> {
    let mut graph = Graph::new();
    for arrow in modules.arrows() {
        graph.add(arrow);
    }
    graph.circles().iter().map(|circle| format!("{name}: {}", shown(circle, modules))).collect()
}

fn shown(circle: &Circle, modules: &Modules) -> String {
    let names: Vec<&str> = circle.arrows.iter().map(|arrow| modules.name(arrow.from)).collect();
    let mut lines = vec![format!("modules in a circle: {} -> {}", names.join(" -> "), names[0])];
    if circle.members.len() > circle.arrows.len() {
        let members: Vec<&str> = circle.members.iter().map(|member| modules.name(*member)).collect();
        lines.push(format!("one of several among these {}: {}", members.len(), members.join(", ")));
    }
    lines.extend(
        circle
            .arrows
            .iter()
            .map(|arrow| format!("{}:{}: {}", modules.path(arrow.from), arrow.line, arrow.example)),
    );
    lines.join("\n    ")
}

#[cfg(test)]
mod tests;
