use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{ImplItem, Type, visit::Visit};

use crate::{Error, lint::files};

/// The names that the repository's sources define and use.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Every file, and every folder with a `/` at its end.
    pub(super) paths: BTreeSet<String>,
    /// The fields, variants, methods and constants of each type or trait of the workspace.
    members: BTreeMap<String, BTreeSet<String>>,
    /// The items of each module, by the module's last name.
    modules: BTreeMap<String, BTreeSet<String>>,
    functions: BTreeSet<String>,
    /// The functions of each file, with the tests that macros define.
    functions_in: BTreeMap<String, BTreeSet<String>>,
    /// Every identifier in code, with those of other libraries.
    identifiers: BTreeSet<String>,
    /// The words in literals and in files other than Rust: columns, fields, settings, commands.
    words: BTreeSet<String>,
}

impl Index {
    pub(super) fn of(root: &Path) -> Result<Self, Error> {
        let mut index = Self::default();
        for path in files::paths(root)? {
            for (end, _) in path.match_indices('/') {
                index.paths.insert(path[..=end].to_owned());
            }
            index.paths.insert(path);
        }
        let mut failure = None;
        files::each_text(root, &mut |path, text| {
            if files::is_markdown(path) {
                return;
            }
            if !files::is_rust(path) {
                index.words.extend(words(text));
            } else if let Err(source) = index.add_source(path, text) {
                failure = Some(Error::NotRust { path: root.join(path), source });
            }
        })?;
        failure.map_or(Ok(index), Err)
    }

    fn add_source(&mut self, path: &str, text: &str) -> syn::Result<()> {
        let tokens: TokenStream = text.parse()?;
        // The tests of the lint name items that do not exist.
        let literals = !path.starts_with("xtask/src/lint/");
        self.add_tokens(tokens, literals);
        let mut visitor = Definitions { index: self, path, module: module_of(path) };
        visitor.visit_file(&syn::parse_file(text)?);
        Ok(())
    }

    fn add_tokens(&mut self, tokens: TokenStream, literals: bool) {
        let mut before = None;
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    self.identifiers.insert(ident.to_string());
                }
                TokenTree::Literal(literal) if literals => self.words.extend(words(&literal.to_string())),
                TokenTree::Group(group) => {
                    let is_comment = matches!(&before, Some(TokenTree::Punct(punct)) if punct.as_char() == '#')
                        && group.delimiter() == Delimiter::Bracket
                        && group.stream().to_string().starts_with("doc");
                    if !is_comment {
                        self.add_tokens(group.stream(), literals);
                    }
                }
                _ => {}
            }
            // `#!` of an inner comment is a `#` as well.
            if !matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '!') {
                before = Some(token);
            }
        }
    }

    /// Returns whether a name occurs in code or in a file that is not documentation.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.identifiers.contains(name) || self.words.contains(name)
    }

    /// Returns whether a name occurs in code.
    pub(super) fn names(&self, name: &str) -> bool {
        self.identifiers.contains(name)
    }

    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Returns whether `owner` has `member`; `None` if `owner` is neither a type nor a module of the workspace.
    pub(super) fn has_member(&self, owner: &str, member: &str) -> Option<bool> {
        let holders = [self.members.get(owner), self.modules.get(owner)];
        holders
            .iter()
            .any(Option::is_some)
            .then(|| holders.iter().flatten().any(|members| members.contains(member)))
    }

    /// Returns whether a file, or a file below a folder, has a function of this name.
    pub(super) fn has_function_in(&self, place: &str, name: &str) -> bool {
        let is_in = |path: &str| path == place || path.starts_with(place) && place.ends_with('/');
        self.functions_in.iter().any(|(path, functions)| is_in(path) && functions.contains(name))
    }
}

/// Returns `a` for `src/a.rs` and `src/a/mod.rs`, and the package's folder for `src/lib.rs`.
fn module_of(path: &str) -> String {
    let mut parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    while matches!(parts.last(), Some(&("mod" | "lib" | "main" | "src"))) {
        parts.pop();
    }
    parts.last().copied().unwrap_or_default().to_owned()
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let plain = text.split(move |character| !is_part(character));
    let hyphenated = text.split(move |character| !is_part(character) && character != '-');
    plain.chain(hyphenated).filter(|word| !word.is_empty()).map(str::to_owned)
}

struct Definitions<'a> {
    index: &'a mut Index,
    path: &'a str,
    module: String,
}

impl Definitions<'_> {
    fn add_item(&mut self, name: &str) {
        self.index.modules.entry(self.module.clone()).or_default().insert(name.to_owned());
    }

    fn add_type(&mut self, name: &str, members: impl IntoIterator<Item = String>) {
        self.add_item(name);
        self.index.members.entry(name.to_owned()).or_default().extend(members);
    }

    fn add_function(&mut self, name: &str) {
        self.index.functions.insert(name.to_owned());
        self.index.functions_in.entry(self.path.to_owned()).or_default().insert(name.to_owned());
    }
}

impl<'ast> Visit<'ast> for Definitions<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let fields = item.fields.iter().filter_map(|field| field.ident.as_ref()).map(ToString::to_string);
        self.add_type(&item.ident.to_string(), fields);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add_type(&item.ident.to_string(), item.variants.iter().map(|variant| variant.ident.to_string()));
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add_item(&item.ident.to_string());
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add_item(&item.ident.to_string());
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.add_item(&item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let functions: Vec<String> = item
            .items
            .iter()
            .filter_map(|item| match item {
                syn::TraitItem::Fn(function) => Some(function.sig.ident.to_string()),
                syn::TraitItem::Const(constant) => Some(constant.ident.to_string()),
                syn::TraitItem::Type(kind) => Some(kind.ident.to_string()),
                _ => None,
            })
            .collect();
        for name in &functions {
            self.add_function(name);
        }
        self.add_type(&item.ident.to_string(), functions);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let Type::Path(own) = &*item.self_ty else { return };
        let Some(name) = own.path.segments.last().map(|segment| segment.ident.to_string()) else { return };
        for member in &item.items {
            let (member, is_function) = match member {
                ImplItem::Fn(function) => (function.sig.ident.to_string(), true),
                ImplItem::Const(constant) => (constant.ident.to_string(), false),
                _ => continue,
            };
            if is_function {
                self.add_function(&member);
            }
            self.index.members.entry(name.clone()).or_default().insert(member);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let name = item.sig.ident.to_string();
        self.add_function(&name);
        self.add_item(&name);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // A module also has the items that it re-exports.
        let mut names = Vec::new();
        ends(&item.tree, &mut names);
        for name in &names {
            self.add_item(name);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        self.add_item(&name);
        let outer = std::mem::replace(&mut self.module, name);
        syn::visit::visit_item_mod(self, item);
        self.module = outer;
    }

    /// A macro may define any name in its input, such as ids, or tests for both databases.
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let mut names = Vec::new();
        identifiers(item.mac.tokens.clone(), &mut names);
        names.extend(item.ident.as_ref().map(ToString::to_string));
        for name in names {
            self.add_function(&name);
            self.add_item(&name);
        }
    }
}

fn ends(tree: &syn::UseTree, found: &mut Vec<String>) {
    match tree {
        syn::UseTree::Path(path) => ends(&path.tree, found),
        syn::UseTree::Name(name) => found.push(name.ident.to_string()),
        syn::UseTree::Rename(rename) => found.push(rename.rename.to_string()),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| ends(tree, found)),
        syn::UseTree::Glob(_) => {}
    }
}

fn identifiers(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => found.push(ident.to_string()),
            TokenTree::Group(group) => identifiers(group.stream(), found),
            _ => {}
        }
    }
}

#[cfg(test)]
impl Index {
    /// An index of these files alone.
    pub(super) fn of_files(files: &[(&str, &str)]) -> Self {
        let mut index = Self::default();
        for (path, text) in files {
            for (end, _) in path.match_indices('/') {
                index.paths.insert(path[..=end].to_owned());
            }
            index.paths.insert((*path).to_owned());
            if files::is_rust(path) {
                index.add_source(path, text).unwrap();
            } else if !files::is_markdown(path) {
                index.words.extend(words(text));
            }
        }
        index
    }
}
