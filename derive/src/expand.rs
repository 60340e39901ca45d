//! The implementation that the derive macro writes.
//!
//! It names each field's type as the user wrote it, with the user's spans, so
//! that the compiler reports a field that is not `ShmSafe` where it stands.

use proc_macro::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DataEnum, Fields, Generics, Ident, Index, Member, Type, Variant};

use crate::input::{EnumRepr, Input, Shape};

pub(crate) fn expand(input: &Input<'_>) -> TokenStream {
    let name = &input.derive.ident;
    let generics = bounded_generics(input);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let fingerprint = fingerprint(input);
    let sync_objects = sync_objects(input);
    let properties = properties(input);
    let visit = visit(input);
    let assert_fields_exhaustive = assert_fields_exhaustive(input);
    let path = hygienic(name, "path");
    let visitor = hygienic(name, "visitor");
    let no_locks_in_variants = no_locks_in_variants(input);
    let no_drop = no_drop(input, &generics);

    quote! {
        #[automatically_derived]
        // SAFETY: the macro has checked that the layout is fixed by a repr;
        // every field's implementation is used, so it is ShmSafe; fields are
        // hashed and visited in order, with their offsets; what holds of the type
        // is what holds of all fields, and of its discriminants.
        unsafe impl #impl_generics ::shm_sync::ShmSafe for #name #type_generics #where_clause {
            const FINGERPRINT: ::shm_sync::Fingerprint = #fingerprint;
            const SYNC_OBJECTS: ::core::primitive::usize = #sync_objects;
            const PROPERTIES: ::shm_sync::__private::TypeProperties = #properties;

            fn visit(
                #path: &::shm_sync::__private::FieldPath<'_>,
                #visitor: &mut ::shm_sync::__private::Visitor<'_>,
            ) {
                #assert_fields_exhaustive
                #visit
            }
        }

        #no_locks_in_variants
        #no_drop
    }
    .into()
}

/// The type's generics, with `ShmSafe` asked of each type parameter and of each
/// field that is what a parameter names (`T::Item`). Of every other field it
/// can be told here and now.
fn bounded_generics(input: &Input<'_>) -> Generics {
    let mut generics = input.derive.generics.clone();
    let params: Vec<String> = generics
        .type_params()
        .map(|p| p.ident.to_string())
        .collect();
    let bounds = &mut generics.make_where_clause().predicates;
    for param in input.derive.generics.type_params() {
        let param = &param.ident;
        bounds.push(syn::parse_quote_spanned!(param.span()=> #param: ::shm_sync::ShmSafe));
    }
    for field in input.fields() {
        let ty = &field.ty;
        if projects_from(ty.to_token_stream().into(), &params) {
            bounds.push(syn::parse_quote!(#ty: ::shm_sync::ShmSafe));
        }
    }
    generics
}

/// The name of each field as text, the way to name it in `offset_of!`, and its
/// implementation of `ShmSafe`.
fn members(fields: &Fields) -> impl Iterator<Item = (String, Member, impl ToTokens)> {
    fields.iter().enumerate().map(|(index, field)| {
        // `r#type` is the name `type`, written differently.
        let (member, name) = match &field.ident {
            Some(ident) => (Member::Named(ident.clone()), ident.unraw().to_string()),
            None => (Member::Unnamed(Index::from(index)), index.to_string()),
        };
        (name, member, shm_safe(&field.ty))
    })
}

/// The implementation of `ShmSafe` for a type.
fn shm_safe(ty: &Type) -> impl ToTokens {
    quote!(<#ty as ::shm_sync::ShmSafe>)
}

/// The parts are one constant value, which the library hashes in a loop: thousands of
/// them are compiled in no time.
fn fingerprint(input: &Input<'_>) -> impl ToTokens {
    let (check, kind, fields, variants) = match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(fields).map(|(name, member, shm_safe)| {
                quote!((#name, ::core::mem::offset_of!(Self, #member), #shm_safe::FINGERPRINT))
            });
            (None, "struct", quote!(#(#fields),*), quote!())
        }
        Shape::Enum(data, repr) => {
            let layout = if repr.is_c {
                format!("C, {}", repr.discriminant)
            } else {
                repr.discriminant.to_string()
            };
            let discriminant_type = primitive(&repr.discriminant);
            let field = quote! {
                (#layout, 0, <#discriminant_type as ::shm_sync::ShmSafe>::FINGERPRINT)
            };
            let variants = variants(data, repr);
            // Naming the constant is what makes the compiler check the variants.
            let check = quote!(let _ = <Self as ::shm_sync::ShmSafe>::SYNC_OBJECTS;);
            (Some(check), "enum", field, quote!(#variants))
        }
    };
    quote! {{
        #check
        ::shm_sync::Fingerprint::of_parts(
            #kind,
            ::core::mem::size_of::<Self>(),
            ::core::mem::align_of::<Self>(),
            &[#fields],
            &[#variants],
        )
    }}
}

/// An enum's part of the fingerprint. The offset of a variant's field follows
/// from the repr and the types before it, so the field's number stands for it.
fn variants(data: &DataEnum, repr: &EnumRepr) -> impl ToTokens {
    let variants = data.variants.iter().map(|variant| {
        let name = variant.ident.unraw().to_string();
        let discriminant = discriminant(data, repr, variant);
        let fields = members(&variant.fields)
            .enumerate()
            .map(|(index, (name, _, shm_safe))| quote!((#name, #index, #shm_safe::FINGERPRINT)));
        quote!((#name, #discriminant, &[#(#fields),*]))
    });
    quote!(#(#variants),*)
}

/// Returns the discriminant of a variant as an `Option`. `None` is one more than that
/// of the variant before it.
///
/// If no variant has fields, the compiler is asked for the discriminant, because an
/// attribute macro that is expanded later may have chosen it.
fn discriminant(data: &DataEnum, repr: &EnumRepr, variant: &Variant) -> impl ToTokens {
    let has_only_names = data
        .variants
        .iter()
        .all(|variant| matches!(variant.fields, Fields::Unit));
    let name = &variant.ident;
    let of_type = primitive(&repr.discriminant);
    let value = match &variant.discriminant {
        _ if has_only_names => quote!(Self::#name as ::core::primitive::i128),
        Some((_, explicit)) => {
            let number = hygienic(name, "number");
            quote!({
                let #number: #of_type = #explicit;
                #number as ::core::primitive::i128
            })
        }
        None => return quote!(::core::option::Option::None),
    };
    quote!(::core::option::Option::Some(#value))
}

/// Returns the primitive type of that name, even where the user's code gives the name
/// to another type.
fn primitive(name: &Ident) -> impl ToTokens + use<> {
    quote!(::core::primitive::#name)
}

/// What holds of the values: of a struct, what holds of all its fields; of an
/// enum, see `TypeProperties::variant`.
fn properties(input: &Input<'_>) -> impl ToTokens {
    let properties_of = |fields| {
        let fields = members(fields).map(|(_, _, shm_safe)| quote!(#shm_safe::PROPERTIES));
        quote!(&[#(#fields),*])
    };
    match &input.shape {
        Shape::Struct(fields) => {
            let fields = properties_of(fields);
            quote!(::shm_sync::__private::TypeProperties::of_fields(#fields))
        }
        Shape::Enum(data, repr) => {
            let discriminant_type = primitive(&repr.discriminant);
            let variants = data.variants.iter().map(|variant| {
                let discriminant = discriminant(data, repr, variant);
                let fields = properties_of(&variant.fields);
                quote!((#discriminant, #fields))
            });
            quote! {
                ::shm_sync::__private::TypeProperties::of_variants(
                    ::core::mem::size_of::<#discriminant_type>(),
                    ::core::mem::align_of::<#discriminant_type>(),
                    &[#(#variants),*],
                )
            }
        }
    }
}

fn sync_objects(input: &Input<'_>) -> impl ToTokens {
    match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(fields).map(|(_, _, shm_safe)| shm_safe);
            quote!(::shm_sync::__private::sum(&[#(#fields::SYNC_OBJECTS),*]))
        }
        Shape::Enum(..) => {
            let checks = input
                .fields()
                .filter(|field| depends_on_the_whole(&field.ty, input))
                .map(|field| no_locks_in(&field.ty));
            quote!({ #(#checks;)* 0 })
        }
    }
}

fn visit(input: &Input<'_>) -> impl ToTokens {
    let path = hygienic(&input.derive.ident, "path");
    let visitor = hygienic(&input.derive.ident, "visitor");
    match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(fields).map(|(name, member, shm_safe)| {
                quote! {
                    #shm_safe::visit(
                        &#path.field(#name, ::core::mem::offset_of!(Self, #member)),
                        #visitor,
                    );
                }
            });
            quote!(let _ = (#path, &#visitor); #(#fields)*)
        }
        // Naming the constant is what makes the compiler check it.
        Shape::Enum(..) => quote! {
            let _ = (#path, #visitor, <Self as ::shm_sync::ShmSafe>::SYNC_OBJECTS);
        },
    }
}

/// A variable of ours, which nothing that the user's code names can be.
fn hygienic(place: &impl Spanned, variable: &str) -> Ident {
    let span = place.span().resolved_at(Span::mixed_site().into());
    // A constant of the user would be taken for a pattern, hygienic or not.
    Ident::new(&format!("__shm_sync_{variable}"), span)
}

/// Code that compiles only if the type has the fields that the macro has seen,
/// of the types that it has seen: an attribute macro that is expanded later
/// could have added some, or changed their types.
///
/// `let _: &u64 = field;` would accept whatever dereferences to the type. So the first
/// statement takes the type as it is, and the second compares two types of which
/// neither becomes the other.
fn assert_fields_exhaustive(input: &Input<'_>) -> impl ToTokens {
    let this = hygienic(&input.derive.ident, "this");
    let variants: Vec<_> = match &input.shape {
        Shape::Struct(fields) => vec![(quote!(Self), *fields)],
        Shape::Enum(data, _) => {
            let variants = data.variants.iter().map(|variant| {
                let name = &variant.ident;
                (quote!(Self::#name), &variant.fields)
            });
            variants.collect()
        }
    };
    let arms = variants.into_iter().map(|(path, fields)| {
        let bindings: Vec<Ident> = fields
            .iter()
            .enumerate()
            .map(|(index, field)| hygienic(&field.ty, &format!("field_{index}")))
            .collect();
        let patterns = members(fields)
            .zip(&bindings)
            .map(|((_, member, _), binding)| quote!(#member: #binding));
        let types = fields.iter().map(|field| &field.ty);
        quote!(#path { #(#patterns,)* } => { #(
            let #bindings = ::shm_sync::__private::TypeOf {
                value: #bindings,
                exactly: ::core::marker::PhantomData,
            };
            let _: ::shm_sync::__private::TypeOf<'_, #types> = #bindings;
        )* })
    });
    quote!(let _ = |#this: &Self| match #this { #(#arms)* };)
}

/// Which variant of an enum is alive is not known when a segment is placed,
/// and writing another one would overwrite a live lock.
///
/// Checked at once wherever the field's type is known; where it depends on a
/// parameter, `SYNC_OBJECTS` checks it as soon as it is known.
fn no_locks_in_variants(input: &Input<'_>) -> impl ToTokens {
    let checks = input
        .fields()
        .filter(|_| matches!(input.shape, Shape::Enum(..)))
        .filter(|field| !depends_on_the_whole(&field.ty, input))
        .map(|field| no_locks_in(&field.ty));
    quote!(#(const _: () = #checks;)*)
}

fn no_locks_in(ty: &Type) -> impl ToTokens {
    let shm_safe = shm_safe(ty);
    assertion(
        ty,
        quote!(#shm_safe::SYNC_OBJECTS == 0),
        "the variants of a ShmSafe enum can't contain locks or condition variables: \
         put them beside it, in the struct that contains the enum",
    )
}

/// Refuses a type that itself implements `Drop`. (A field that does is not
/// `ShmSafe`.)
fn no_drop(input: &Input<'_>, generics: &Generics) -> impl ToTokens {
    let name = &input.derive.ident;
    let types: Vec<&Type> = input.fields().map(|field| &field.ty).collect();
    let is_known = generics.params.is_empty();
    if is_known && !types.iter().any(|ty| depends_on_the_whole(ty, input)) {
        let drops = quote!(::core::mem::needs_drop);
        let check = assertion(
            name,
            quote!(!#drops::<#name>() || #drops::<(#(#types,)*)>()),
            "a type that implements Drop can't be ShmSafe: \
             one process would destroy what the others go on using",
        );
        return quote!(const _: () = #check;);
    }
    // Whether `Name<T>` needs drop is not known for every T. But if it
    // implemented Drop, these two would overlap.
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let no_drop = format_ident!("AShmSafeTypeCanNotImplementDrop");
    let overlapping = quote_spanned! {name.span()=>
        impl #impl_generics #no_drop for #name #type_generics #where_clause {}
    };
    quote! {
        const _: () = {
            trait #no_drop {}
            impl<T: ::core::ops::Drop + ?::core::marker::Sized> #no_drop for T {}
            #overlapping
        };
    }
}

/// `assert!(condition, message)`, reported at `place`.
fn assertion(place: impl ToTokens, condition: impl ToTokens, message: &str) -> impl ToTokens {
    // The compiler joins the spans of a macro's name and arguments.
    let tokens = place.to_token_stream();
    let start = tokens.span();
    let end = tokens
        .into_iter()
        .last()
        .map_or(start, |token| token.span());
    let arguments = quote_spanned!(end=> (#condition, #message));
    quote_spanned!(start=> ::core::assert! #arguments)
}

/// Whether a field's type has a meaning only inside the whole type: whether it
/// mentions a parameter, or `Self`.
fn depends_on_the_whole(ty: &Type, input: &Input<'_>) -> bool {
    let generics = &input.derive.generics;
    let types = generics.type_params().map(|param| &param.ident);
    let consts = generics.const_params().map(|param| &param.ident);
    let mut names: Vec<String> = types.chain(consts).map(ToString::to_string).collect();
    names.push("Self".to_owned());
    mentions(ty.to_token_stream().into(), &names)
}

/// Whether any of the names occurs.
fn mentions(tokens: TokenStream, names: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => names.contains(&ident.to_string()),
        TokenTree::Group(group) => mentions(group.stream(), names),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Whether something inside one of the names is named: `T::Item`, or
/// `<T as Trait>::Item`.
fn projects_from(tokens: TokenStream, names: &[String]) -> bool {
    let mut after_name = false;
    tokens.into_iter().any(|token| {
        let was_after_name = std::mem::take(&mut after_name);
        match token {
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                after_name = names.contains(&ident);
                was_after_name && ident == "as"
            }
            TokenTree::Group(group) => projects_from(group.stream(), names),
            TokenTree::Punct(punct) => was_after_name && punct.as_char() == ':',
            TokenTree::Literal(_) => false,
        }
    })
}
