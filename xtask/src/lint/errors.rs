//! Checks that the text of an error does not repeat its source: logs print the whole chain, so the source would appear
//! twice.

use std::path::Path;

use quote::ToTokens;
use syn::{
    Attribute, Field, Fields, Ident, LitStr, Member, parse::ParseStream, spanned::Spanned, visit::Visit,
};

use super::{files, source};
use crate::Error;

/// Returns every `#[error("…")]` that prints the field marked `#[source]` or `#[from]`, or named `source`.
pub(super) fn violations(root: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut failure = None;
    files::each_text(root, &mut |path, text| {
        if !files::is_rust(path) || !text.contains("#[error(") {
            return;
        }
        match of_source(path, text) {
            Ok(of_source) => found.extend(of_source),
            Err(error) => failure = Some(Error::NotRust { path: root.join(path), source: error }),
        }
    })?;
    failure.map_or(Ok(found), Err)
}

fn of_source(path: &str, text: &str) -> syn::Result<Vec<String>> {
    let syntax = syn::parse_file(text)?;
    let mut visitor = Repeated { path, found: Vec::new() };
    visitor.visit_file(&syntax);
    Ok(visitor.found)
}

struct Repeated<'a> {
    path: &'a str,
    found: Vec<String>,
}

impl Repeated<'_> {
    fn check(&mut self, name: &Ident, attributes: &[Attribute], fields: &Fields) {
        let Some(source) = source_of(fields) else { return };
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("error")) {
            // `transparent` has no text of its own.
            let Ok((format, arguments)) = attribute.parse_args_with(format_and_arguments) else { continue };
            if prints(&format, &arguments, &source) {
                self.found.push(format!(
                    "{}:{}: the text of {name} prints its source, which the error's chain prints again: leave it out",
                    self.path,
                    attribute.span().start().line,
                ));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Repeated<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !module.attrs.iter().any(|attribute| source::is_test(&attribute.meta.to_token_stream())) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.check(&item.ident, &item.attrs, &item.fields);
        syn::visit::visit_item_struct(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.check(&variant.ident, &variant.attrs, &variant.fields);
        syn::visit::visit_variant(self, variant);
    }
}

/// Returns the name or index of the source field.
fn source_of(fields: &Fields) -> Option<String> {
    let is_source = |field: &Field| {
        let is_marked =
            |attribute: &Attribute| ["source", "from"].iter().any(|own| attribute.path().is_ident(own));
        field.attrs.iter().any(is_marked) || field.ident.as_ref().is_some_and(|name| name == "source")
    };
    let index = fields.iter().position(is_source)?;
    Some(match fields.members().nth(index)? {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    })
}

fn format_and_arguments(input: ParseStream<'_>) -> syn::Result<(String, String)> {
    let format: LitStr = input.parse()?;
    let arguments: proc_macro2::TokenStream = input.parse()?;
    Ok((format.value(), arguments.to_string()))
}

/// Returns whether a format prints a field, by `{name…}` or by an argument `name` or `.0`.
fn prints(format: &str, arguments: &str, field: &str) -> bool {
    let mut rest = format;
    while let Some((_, placeholder)) = rest.split_once('{') {
        if let Some(escaped) = placeholder.strip_prefix('{') {
            rest = escaped;
            continue;
        }
        let name = placeholder.split(['}', ':']).next().unwrap_or_default();
        if name.trim() == field {
            return true;
        }
        rest = placeholder;
    }
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    arguments.split(|character| !is_word(character)).any(|word| word == field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> usize {
        of_source("a.rs", source).unwrap().len()
    }

    #[test]
    fn a_text_that_prints_its_source_is_found_with_its_line() {
        let source =
            "\n#[derive(Error)]\nenum E {\n    #[error(\"cannot: {0}\")]\n    A(#[from] io::Error),\n}\n";
        let expected =
            "a.rs:4: the text of A prints its source, which the error's chain prints again: leave it out";
        assert_eq!(of_source("a.rs", source).unwrap(), [expected]);
    }

    #[test]
    fn a_source_is_found_by_name_by_index_and_in_arguments() {
        for text in [
            r#"#[error("{source}")] struct E { source: io::Error }"#,
            r#"#[error("{cause:?}")] struct E { #[source] cause: io::Error }"#,
            r#"#[error("{0:#?} of {1}")] struct E(#[source] io::Error, u8);"#,
            r#"#[error("{1}")] struct E(u8, #[from] io::Error);"#,
            r#"#[error("{}", .0.kind())] struct E(#[from] io::Error);"#,
            r#"#[error("{}: {name}", source.kind())] struct E { name: u8, source: io::Error }"#,
            r#"mod m { fn f() { enum E { #[error("{0}")] A(#[source] X) } } }"#,
        ] {
            assert_eq!(found(text), 1, "{text}");
        }
    }

    #[test]
    fn a_text_without_its_source_passes() {
        for text in [
            r#"#[error("no")] struct E { source: io::Error }"#,
            "#[error(transparent)] struct E(#[from] io::Error);",
            r#"#[error("{path}")] struct E { path: String, source: io::Error }"#,
            r#"#[error("{0}")] struct E(String);"#,
            r#"#[error("{{0}} {1}")] struct E(#[source] io::Error, u8);"#,
            r#"#[error("{}", path.display())] struct E { path: PathBuf, source: io::Error }"#,
            r#"#[error("{}", .1)] struct E(#[source] io::Error, u8);"#,
        ] {
            assert_eq!(found(text), 0, "{text}");
        }
    }
}
