use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use quote::ToTokens;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

use super::{
    graph::Arrow,
    paths::{self, Named},
};
use crate::{Error, lint::source::is_test};

/// The most re-exports that a name is followed through.
const MOST_STEPS: usize = 16;

/// The modules of one crate, without its tests.
#[derive(Debug, Default)]
pub(super) struct Modules {
    files: Vec<File>,
    scopes: Vec<Scope>,
}

#[derive(Debug)]
struct File {
    /// `store::health`; the crate's root is `crate`.
    name: String,
    /// From the repository's root.
    path: String,
    lines: Vec<String>,
    /// The scope of the file as a whole.
    scope: usize,
}

/// A `mod`, in a file of its own or inline.
#[derive(Debug, Default)]
struct Scope {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    /// The names that `use` declarations import, with their paths.
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// The paths in its code.
    named: Vec<Named>,
    /// The lines of its `pub use` declarations.
    reexports: BTreeSet<usize>,
}

/// The target of a path: a module, or an item that a module defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Module(usize),
    ItemOf(usize),
}

impl Modules {
    /// Reads a crate from its `lib.rs` or `main.rs`.
    pub(super) fn of(root: &Path, source: &Path) -> Result<Self, Error> {
        let mut modules = Self::default();
        let folder = source.parent().map(Path::to_owned).unwrap_or_default();
        modules.read(root, source, "crate".to_owned(), None, &folder)?;
        Ok(modules)
    }

    pub(super) fn name(&self, file: usize) -> &str {
        &self.files[file].name
    }

    pub(super) fn path(&self, file: usize) -> &str {
        &self.files[file].path
    }

    /// Returns every use of one file by another.
    pub(super) fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (index, scope) in self.scopes.iter().enumerate() {
            for named in &scope.named {
                let Some(place) = self.resolve(index, &named.segments, MOST_STEPS) else { continue };
                let (Place::Module(target) | Place::ItemOf(target)) = place;
                let hands_on = scope.reexports.contains(&named.line) && self.is_below(target, scope.file);
                let is_ancestors = self.is_below(index, self.scopes[target].file);
                // `use super::a;` alone uses nothing of `a`. Its uses follow as `a::…`.
                let only_names = matches!(place, Place::Module(_)) && !named.is_glob();
                if !hands_on && !is_ancestors && !only_names {
                    arrows.push(Arrow {
                        from: scope.file,
                        to: self.scopes[target].file,
                        line: named.line,
                        example: self.example(scope.file, named),
                    });
                }
            }
        }
        arrows
    }

    fn example(&self, file: usize, named: &Named) -> String {
        let line = self.files[file].lines.get(named.line - 1).map_or("", |line| line.trim());
        let path = named.segments.join("::");
        if line.contains(&path) { line.to_owned() } else { path }
    }

    fn is_below(&self, scope: usize, file: usize) -> bool {
        let mut parent = Some(scope);
        while let Some(scope) = parent {
            if scope == self.files[file].scope {
                return true;
            }
            parent = self.scopes[scope].parent;
        }
        false
    }

    fn resolve(&self, scope: usize, segments: &[String], steps: usize) -> Option<Place> {
        let (first, rest) = segments.split_first()?;
        let steps = steps.checked_sub(1)?;
        let start = match first.as_str() {
            "crate" => Place::Module(0),
            "self" => Place::Module(scope),
            "super" => Place::Module(self.scopes[scope].parent?),
            name => self.look_up(scope, name, steps)?,
        };
        let mut place = start;
        for segment in rest {
            let Place::Module(module) = place else { break };
            place = match segment.as_str() {
                "super" => Place::Module(self.scopes[module].parent?),
                "self" | "*" => place,
                // An unknown name may be an item that a macro defines.
                name => self.look_up(module, name, steps).unwrap_or(Place::ItemOf(module)),
            };
        }
        Some(place)
    }

    fn look_up(&self, scope: usize, name: &str, steps: usize) -> Option<Place> {
        let steps = steps.checked_sub(1)?;
        let module = &self.scopes[scope];
        if let Some(child) = module.children.get(name) {
            return Some(Place::Module(*child));
        }
        if module.items.contains(name) {
            return Some(Place::ItemOf(scope));
        }
        if let Some(path) = module.imports.get(name) {
            return self.resolve(scope, path, steps);
        }
        module.globs.iter().find_map(|glob| match self.resolve(scope, glob, steps)? {
            Place::Module(target) if target != scope => self.look_up(target, name, steps),
            _ => None,
        })
    }

    /// Reads a file and its modules, whose files are in `folder`.
    fn read(
        &mut self,
        root: &Path,
        source: &Path,
        name: String,
        parent: Option<usize>,
        folder: &Path,
    ) -> Result<usize, Error> {
        let text = fs::read_to_string(source).map_err(Error::file(source))?;
        let path = source.strip_prefix(root).unwrap_or(source).to_string_lossy().replace('\\', "/");
        let syntax = syn::parse_file(&text)
            .map_err(|error| Error::NotRust { path: source.to_owned(), source: error })?;
        let (file, scope) = (self.files.len(), self.scopes.len());
        let lines = text.lines().map(str::to_owned).collect();
        self.files.push(File { name, path, lines, scope });
        self.scopes.push(Scope { file, parent, ..Scope::default() });
        self.add_items(root, scope, syntax.items, folder)?;
        Ok(scope)
    }

    fn add_items(&mut self, root: &Path, scope: usize, items: Vec<Item>, folder: &Path) -> Result<(), Error> {
        for item in items {
            if attributes(&item).iter().any(|attribute| is_test(&attribute.meta.to_token_stream())) {
                continue;
            }
            match item {
                Item::Mod(module) => self.add_module(root, scope, module, folder)?,
                Item::Use(import) => self.add_import(scope, &import),
                item => {
                    self.scopes[scope].items.extend(name_of(&item));
                    self.scopes[scope].named.extend(paths::of(item.into_token_stream()));
                }
            }
        }
        Ok(())
    }

    fn add_module(
        &mut self,
        root: &Path,
        parent: usize,
        module: ItemMod,
        folder: &Path,
    ) -> Result<(), Error> {
        let name = module.ident.to_string();
        let file = self.scopes[parent].file;
        let scope = if let Some((_, items)) = module.content {
            let scope = self.scopes.len();
            self.scopes.push(Scope { file, parent: Some(parent), ..Scope::default() });
            self.add_items(root, scope, items, &folder.join(&name))?;
            scope
        } else {
            let source = folder.join(format!("{name}.rs"));
            let source = if source.is_file() { source } else { folder.join(&name).join("mod.rs") };
            let full_name = match self.files[file].name.as_str() {
                "crate" => name.clone(),
                parent => format!("{parent}::{name}"),
            };
            self.read(root, &source, full_name, Some(parent), &folder.join(&name))?
        };
        self.scopes[parent].children.insert(name, scope);
        Ok(())
    }

    fn add_import(&mut self, scope: usize, import: &ItemUse) {
        let scope = &mut self.scopes[scope];
        add_tree(scope, &mut Vec::new(), &import.tree);
        let named = paths::of(import.to_token_stream());
        if !matches!(import.vis, Visibility::Inherited) {
            scope.reexports.extend(named.iter().map(|named| named.line));
        }
        scope.named.extend(named);
    }
}

fn add_tree(scope: &mut Scope, prefix: &mut Vec<String>, tree: &UseTree) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            add_tree(scope, prefix, &path.tree);
            prefix.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| add_tree(scope, prefix, tree)),
        UseTree::Glob(_) => scope.globs.push(prefix.clone()),
        UseTree::Name(name) => add_name(scope, prefix, &name.ident.to_string(), None),
        UseTree::Rename(rename) => {
            add_name(scope, prefix, &rename.ident.to_string(), Some(rename.rename.to_string()));
        }
    }
}

fn add_name(scope: &mut Scope, prefix: &[String], name: &str, rename: Option<String>) {
    let mut path = prefix.to_vec();
    if name != "self" {
        path.push(name.to_owned());
    }
    let Some(local) = rename.or_else(|| path.last().cloned()) else { return };
    // `use tokio;` imports a crate: following its name would not end.
    if path != [local.clone()] {
        scope.imports.insert(local, path);
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
