//! An attribute macro that changes an item after the derive macro above it has read it.

use proc_macro::{Group, TokenStream, TokenTree};

/// Replaces each occurrence of an identifier: `#[replace(u64 => Wrapper)]`.
///
/// The tokens after the arrow take the place of the identifier before it.
///
/// # Panics
///
/// If the arguments do not begin with an identifier.
#[proc_macro_attribute]
pub fn replace(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut arguments = arguments.into_iter();
    let Some(TokenTree::Ident(from)) = arguments.next() else {
        panic!("write #[replace(identifier => tokens)]");
    };
    // The arrow is two tokens.
    let to: TokenStream = arguments.skip(2).collect();
    replaced(item, &from.to_string(), &to)
}

fn replaced(tokens: TokenStream, from: &str, to: &TokenStream) -> TokenStream {
    let replace_one = |token| match token {
        TokenTree::Ident(ident) if ident.to_string() == from => to.clone(),
        TokenTree::Group(group) => {
            let inside = replaced(group.stream(), from, to);
            let mut changed = Group::new(group.delimiter(), inside);
            changed.set_span(group.span());
            TokenTree::Group(changed).into()
        }
        other => other.into(),
    };
    tokens
        .into_iter()
        .map(replace_one)
        .collect::<Vec<TokenStream>>()
        .into_iter()
        .collect()
}
