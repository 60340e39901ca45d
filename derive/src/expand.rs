//! The code that the derive macro generates.
//!
//! It contains each field's type as the user wrote it, with the user's spans. The
//! compiler therefore reports a field that is not `ShmSafe` at the field.

use proc_macro::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DataEnum, Field, Fields, Generics, Ident, Index, Member, Path, Type, Variant};

use crate::input::{EnumRepr, Input, Shape};

pub(crate) fn expand(input: &Input<'_>) -> TokenStream {
    let krate = &input.krate;
    let name = &input.derive.ident;
    let generics = bounded_generics(input);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let parts = parts(input);
    let sync_objects = sync_objects(input);
    let properties = properties(input);
    let visit = visit(input);
    let assert_fields_exhaustive = assert_fields_exhaustive(input);
    let path = hygienic(name, "path");
    let visitor = hygienic(name, "visitor");
    let no_locks_in_variants = no_locks_in_variants(input);
    let no_drop = no_drop(input, &generics);
    let tear_free = tear_free(input, &generics);

    quote! {
        #[automatically_derived]
        // SAFETY:
        // * The macro has checked that a repr fixes the layout.
        // * The parts are every field with its offset and every variant.
        // * Every field is ShmSafe, because its implementation is used, and there is no
        //   Drop.
        // * Every field is visited at its offset; variants contain no sync objects.
        // * The properties are those of all fields and of the discriminants.
        unsafe impl #impl_generics #krate::ShmSafe for #name #type_generics #where_clause {
            const PARTS: #krate::__private::Parts = #parts;
            const SYNC_OBJECTS: ::core::primitive::usize = #sync_objects;
            const PROPERTIES: #krate::__private::TypeProperties = #properties;

            fn visit(
                #path: &#krate::__private::FieldPath<'_>,
                #visitor: &mut #krate::__private::Visitor<'_>,
            ) {
                #assert_fields_exhaustive
                #visit
            }
        }

        #no_locks_in_variants
        #no_drop
        #tear_free
    }
    .into()
}

/// Returns the type's generics with the bound `ShmSafe` on each type parameter and on
/// each field type that projects from a parameter (`T::Item`). For every other field
/// the compiler can tell without a bound.
fn bounded_generics(input: &Input<'_>) -> Generics {
    let krate = &input.krate;
    let mut generics = input.derive.generics.clone();
    let params: Vec<String> = generics
        .type_params()
        .map(|p| p.ident.to_string())
        .collect();
    let bounds = &mut generics.make_where_clause().predicates;
    for param in input.derive.generics.type_params() {
        let param = &param.ident;
        // The compiler reports an unmet bound at the parameter.
        let krate = krate.to_token_stream().into_iter().map(|mut token| {
            token.set_span(token.span().located_at(param.span()));
            token
        });
        let krate = quote!(#(#krate)*);
        bounds.push(syn::parse_quote_spanned!(param.span()=> #param: #krate::ShmSafe));
    }
    for field in input.fields() {
        let ty = &field.ty;
        if projects_from(ty.to_token_stream().into(), &params) {
            bounds.push(syn::parse_quote!(#ty: #krate::ShmSafe));
        }
    }
    generics
}

/// Returns for each field its name as text, its name for `offset_of!`, and its
/// implementation of `ShmSafe`.
fn members<'a>(
    krate: &'a Path,
    fields: &'a Fields,
) -> impl Iterator<Item = (String, Member, impl ToTokens + 'a)> {
    fields.iter().enumerate().map(|(index, field)| {
        // `r#type` is another spelling of the name `type`.
        let (member, name) = match &field.ident {
            Some(ident) => (Member::Named(ident.clone()), ident.unraw().to_string()),
            None => (Member::Unnamed(Index::from(index)), index.to_string()),
        };
        (name, member, shm_safe(krate, &field.ty))
    })
}

/// Returns the implementation of `ShmSafe` for a type.
fn shm_safe<'a>(krate: &'a Path, ty: &'a Type) -> impl ToTokens + use<'a> {
    quote!(<#ty as #krate::ShmSafe>)
}

/// Returns the expression for `PARTS`. It contains no calls, because thousands of calls
/// would be slow to compile: the library hashes the parts in a loop.
fn parts(input: &Input<'_>) -> impl ToTokens {
    let krate = &input.krate;
    let (check, kind, fields, variants) = match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(krate, fields).map(|(name, member, shm_safe)| {
                quote!((#name, ::core::mem::offset_of!(Self, #member), #shm_safe::DESCRIPTION))
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
                (#layout, 0, <#discriminant_type as #krate::ShmSafe>::DESCRIPTION)
            };
            let variants = variants(krate, data, repr);
            // The compiler checks the variants only if the constant is named.
            let check = quote!(let _ = <Self as #krate::ShmSafe>::SYNC_OBJECTS;);
            (Some(check), "enum", field, quote!(#variants))
        }
    };
    quote! {{
        #check
        #krate::__private::Parts {
            kind: #kind,
            size: ::core::mem::size_of::<Self>(),
            align: ::core::mem::align_of::<Self>(),
            fields: &[#fields],
            variants: &[#variants],
        }
    }}
}

/// Returns the variants of an enum. The offset of a variant's field is not among the
/// parts, because it follows from the repr and the types of the fields before it.
fn variants(krate: &Path, data: &DataEnum, repr: &EnumRepr) -> impl ToTokens {
    let variants = data.variants.iter().map(|variant| {
        let name = variant.ident.unraw().to_string();
        let discriminant = discriminant(data, repr, variant);
        let fields = members(krate, &variant.fields)
            .map(|(name, _, shm_safe)| quote!((#name, #shm_safe::DESCRIPTION)));
        quote!((#name, #discriminant, &[#(#fields),*]))
    });
    quote!(#(#variants),*)
}

/// Returns the discriminant of a variant as an `Option`. `None` means one more than
/// that of the variant before it.
///
/// If no variant has fields, the code reads the discriminant from the variant itself,
/// because an attribute macro that is expanded later may change it.
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

/// Returns the primitive type of this name, even if the user's code defines another
/// type of this name.
fn primitive(name: &Ident) -> impl ToTokens + use<> {
    quote!(::core::primitive::#name)
}

/// Returns the expression for `PROPERTIES`.
fn properties(input: &Input<'_>) -> impl ToTokens {
    let krate = &input.krate;
    let properties_of = |fields| {
        let fields = members(krate, fields).map(|(_, _, shm_safe)| quote!(#shm_safe::PROPERTIES));
        quote!(&[#(#fields),*])
    };
    match &input.shape {
        Shape::Struct(fields) => {
            let fields = properties_of(fields);
            quote!(#krate::__private::TypeProperties::of_fields(#fields))
        }
        Shape::Enum(data, repr) => {
            let discriminant_type = primitive(&repr.discriminant);
            let variants = data.variants.iter().map(|variant| {
                let discriminant = discriminant(data, repr, variant);
                let fields = properties_of(&variant.fields);
                quote!((#discriminant, #fields))
            });
            quote! {
                #krate::__private::TypeProperties::of_variants(
                    ::core::mem::size_of::<#discriminant_type>(),
                    ::core::mem::align_of::<#discriminant_type>(),
                    &[#(#variants),*],
                )
            }
        }
    }
}

fn sync_objects(input: &Input<'_>) -> impl ToTokens {
    let krate = &input.krate;
    match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(krate, fields).map(|(_, _, shm_safe)| shm_safe);
            quote!(#krate::__private::sum(&[#(#fields::SYNC_OBJECTS),*]))
        }
        Shape::Enum(..) => {
            let checks = input
                .fields()
                .filter(|field| depends_on_generics(&field.ty, input))
                .map(|field| no_locks_in(krate, &field.ty));
            quote!({ #(#checks;)* 0 })
        }
    }
}

fn visit(input: &Input<'_>) -> impl ToTokens {
    let krate = &input.krate;
    let path = hygienic(&input.derive.ident, "path");
    let visitor = hygienic(&input.derive.ident, "visitor");
    match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(krate, fields).map(|(name, member, shm_safe)| {
                quote! {
                    #shm_safe::visit(
                        &#path.field(#name, ::core::mem::offset_of!(Self, #member)),
                        #visitor,
                    );
                }
            });
            quote!(let _ = (#path, &#visitor); #(#fields)*)
        }
        // The compiler checks the variants only if the constant is named.
        Shape::Enum(..) => quote! {
            let _ = (#path, #visitor, <Self as #krate::ShmSafe>::SYNC_OBJECTS);
        },
    }
}

/// Returns the name of a variable that the user's code cannot name.
fn hygienic(place: &impl Spanned, variable: &str) -> Ident {
    let span = place.span().resolved_at(Span::mixed_site().into());
    // A constant of this name would be a pattern even with hygiene, hence the prefix.
    Ident::new(&format!("__shm_sync_{variable}"), span)
}

/// Returns code that compiles only if the type has exactly the fields, with exactly the
/// types, that the macro has seen. An attribute macro that is expanded later may add
/// fields or change their types.
///
/// `let _: &u64 = field;` would accept every type that dereferences to `u64`. Therefore
/// the first statement wraps the field in `TypeOf` with its actual type, and the second
/// compares it with a `TypeOf` of the expected type, to which it does not coerce.
fn assert_fields_exhaustive(input: &Input<'_>) -> impl ToTokens {
    let krate = &input.krate;
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
        let patterns = members(krate, fields)
            .zip(&bindings)
            .map(|((_, member, _), binding)| quote!(#member: #binding));
        let types = fields.iter().map(|field| &field.ty);
        quote!(#path { #(#patterns,)* } => { #(
            let #bindings = #krate::__private::TypeOf {
                value: #bindings,
                exactly: ::core::marker::PhantomData,
            };
            let _: #krate::__private::TypeOf<'_, #types> = #bindings;
        )* })
    });
    quote!(let _ = |#this: &Self| match #this { #(#arms)* };)
}

/// Returns assertions that the variants of an enum contain no locks. Initialisation
/// does not know which variant a value has, and writing another variant would overwrite
/// an initialised lock.
///
/// If a field's type depends on a parameter, `SYNC_OBJECTS` contains the assertion
/// instead, and the compiler checks it for each instance.
fn no_locks_in_variants(input: &Input<'_>) -> impl ToTokens {
    let krate = &input.krate;
    let checks = input
        .fields()
        .filter(|_| matches!(input.shape, Shape::Enum(..)))
        .filter(|field| !depends_on_generics(&field.ty, input))
        .map(|field| no_locks_in(krate, &field.ty));
    quote!(#(const _: () = #checks;)*)
}

fn no_locks_in(krate: &Path, ty: &Type) -> impl ToTokens {
    let shm_safe = shm_safe(krate, ty);
    assertion(
        ty,
        quote!(#shm_safe::SYNC_OBJECTS == 0),
        "the variants of a ShmSafe enum can't contain locks or condition variables: \
         put them beside it, in the struct that contains the enum",
    )
}

/// Returns the implementation of `TearFree`, for a struct if each field is `TearFree`,
/// and for an enum without fields whose discriminant lies in one word.
fn tear_free(input: &Input<'_>, generics: &Generics) -> impl ToTokens {
    let krate = &input.krate;
    let name = &input.derive.ident;
    match &input.shape {
        Shape::Struct(_) => {}
        Shape::Enum(_, repr) => {
            let is_wide = repr.discriminant == "u128" || repr.discriminant == "i128";
            if is_wide || input.fields().next().is_some() {
                return quote!();
            }
        }
    }
    let mut generics = generics.clone();
    let bounds = &mut generics.make_where_clause().predicates;
    for Field { ty, .. } in input.fields() {
        // Without the lifetime, the compiler would refuse a bound that is never met.
        bounds.push(syn::parse_quote! {
            for<'__shm_sync> #ty: #krate::__private::TearFreeField<'__shm_sync>
        });
    }
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        // SAFETY: a mixture of structs consists of mixtures of the fields, each of
        // which is `TearFree`. The discriminant of an enum without fields lies in one
        // word.
        unsafe impl #impl_generics #krate::TearFree for #name #type_generics #where_clause {}
    }
}

/// Returns code that does not compile if the type itself implements `Drop`. (A field
/// type with `Drop` is not `ShmSafe`.)
fn no_drop(input: &Input<'_>, generics: &Generics) -> impl ToTokens {
    let name = &input.derive.ident;
    let types: Vec<&Type> = input.fields().map(|field| &field.ty).collect();
    let is_known = generics.params.is_empty();
    if is_known && !types.iter().any(|ty| depends_on_generics(ty, input)) {
        let drops = quote!(::core::mem::needs_drop);
        let check = assertion(
            name,
            quote!(!#drops::<#name>() || #drops::<(#(#types,)*)>()),
            "a type that implements Drop can't be ShmSafe: \
             one process would destroy what the others go on using",
        );
        return quote!(const _: () = #check;);
    }
    // `needs_drop::<Name<T>>()` is not known for every T. Instead, these two
    // implementations overlap if `Name<T>` implements Drop.
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

/// Returns `assert!(condition, message)`, which the compiler reports at `place`.
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

/// Returns whether a field's type mentions a parameter or `Self`, so that it has no
/// meaning outside the type.
fn depends_on_generics(ty: &Type, input: &Input<'_>) -> bool {
    let generics = &input.derive.generics;
    let types = generics.type_params().map(|param| &param.ident);
    let consts = generics.const_params().map(|param| &param.ident);
    let mut names: Vec<String> = types.chain(consts).map(ToString::to_string).collect();
    names.push("Self".to_owned());
    mentions(ty.to_token_stream().into(), &names)
}

/// Returns whether any of the names occurs.
fn mentions(tokens: TokenStream, names: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => names.contains(&ident.to_string()),
        TokenTree::Group(group) => mentions(group.stream(), names),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Returns whether a type projects from one of the names: `T::Item`, or
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
