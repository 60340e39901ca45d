//! The implementation that the derive macro writes.

use proc_macro::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Fields, Index, Type};

use crate::input::{Input, Shape};

pub(crate) fn expand(input: &Input<'_>) -> TokenStream {
    let name = &input.derive.ident;
    let mut generics = input.derive.generics.clone();
    let is_generic = !generics.params.is_empty();
    let bounds = &mut generics.make_where_clause().predicates;
    for param in input.derive.generics.type_params() {
        let param = &param.ident;
        bounds.push(syn::parse_quote!(#param: ::shm_sync::ShmSafe));
    }
    // One bound a field, so that the compiler reports a field that is not
    // ShmSafe once, and at its type.
    for ty in field_types(input) {
        let bound = quote_spanned!(ty.span()=> #ty: ::shm_sync::ShmSafe);
        bounds.push(syn::parse_quote!(#bound));
    }
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();

    let fingerprint = fingerprint(input);
    let sync_objects = sync_objects(input);
    let visit = visit(input);
    let no_locks_in_variants = (!is_generic).then(|| no_locks_in_variants(input));
    let no_drop = format_ident!("AShmSafeTypeCanNotImplementDrop");

    quote! {
        #[automatically_derived]
        // SAFETY: the macro has checked that the layout is fixed by a repr; the
        // bounds say that every field is ShmSafe; fields are hashed and visited
        // in order, with their offsets.
        unsafe impl #impl_generics ::shm_sync::ShmSafe for #name #type_generics #where_clause {
            const FINGERPRINT: ::shm_sync::Fingerprint = #fingerprint;
            const SYNC_OBJECTS: usize = #sync_objects;

            fn visit(
                at: &::shm_sync::__private::Place<'_>,
                report: &mut ::shm_sync::__private::Report<'_>,
            ) {
                #visit
            }
        }

        #no_locks_in_variants

        const _: () = {
            // If the type implemented Drop, these two would overlap.
            trait #no_drop {}
            #[allow(drop_bounds, dead_code)]
            impl<T: ::core::ops::Drop + ?Sized> #no_drop for T {}
            #[automatically_derived]
            impl #impl_generics #no_drop for #name #type_generics #where_clause {}
        };
    }
    .into()
}

/// The types of all fields, of all variants.
fn field_types<'a>(input: &Input<'a>) -> Vec<&'a Type> {
    let fields: Vec<&Fields> = match &input.shape {
        Shape::Struct(fields) => vec![fields],
        Shape::Enum(data, _) => data.variants.iter().map(|v| &v.fields).collect(),
    };
    fields
        .into_iter()
        .flatten()
        .map(|field| &field.ty)
        .collect()
}

/// The name of each field as text, the way to name it in `offset_of!`, and its
/// type.
fn members(fields: &Fields) -> impl Iterator<Item = (String, syn::Member, &Type)> {
    fields.iter().enumerate().map(|(index, field)| {
        let member = match &field.ident {
            Some(ident) => syn::Member::Named(ident.clone()),
            None => syn::Member::Unnamed(Index::from(index)),
        };
        let name = match &field.ident {
            Some(ident) => ident.to_string(),
            None => index.to_string(),
        };
        (name, member, &field.ty)
    })
}

fn fingerprint(input: &Input<'_>) -> impl ToTokens {
    let parts = match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(fields).map(|(name, member, ty)| {
                quote!(.field(
                    #name,
                    ::core::mem::offset_of!(Self, #member),
                    <#ty as ::shm_sync::ShmSafe>::FINGERPRINT,
                ))
            });
            quote!(#(#fields)*)
        }
        Shape::Enum(data, discriminant_type) => {
            // The offset of a variant's field follows from the repr and the
            // types before it, so the field's number stands for it.
            let mut discriminant = quote!(0_i128);
            let mut parts = Vec::new();
            for variant in &data.variants {
                if let Some((_, explicit)) = &variant.discriminant {
                    discriminant = quote!({
                        let discriminant: #discriminant_type = #explicit;
                        discriminant as i128
                    });
                }
                let name = variant.ident.to_string();
                parts.push(quote!(.variant(#name, #discriminant)));
                for (index, (name, _, ty)) in members(&variant.fields).enumerate() {
                    parts.push(quote!(.field(
                        #name,
                        #index,
                        <#ty as ::shm_sync::ShmSafe>::FINGERPRINT,
                    )));
                }
                discriminant = quote!((#discriminant + 1));
            }
            let repr = discriminant_type.to_string();
            quote!(.field(#repr, 0, <#discriminant_type as ::shm_sync::ShmSafe>::FINGERPRINT)
                #(#parts)*)
        }
    };
    let kind = match &input.shape {
        Shape::Struct(_) => "struct",
        Shape::Enum(..) => "enum",
    };
    quote! {
        ::shm_sync::Fingerprint::of(
            #kind,
            ::core::mem::size_of::<Self>(),
            ::core::mem::align_of::<Self>(),
        )
        #parts
    }
}

fn sync_objects(input: &Input<'_>) -> impl ToTokens {
    let types = field_types(input);
    match &input.shape {
        Shape::Struct(_) => {
            quote!(0 #(+ <#types as ::shm_sync::ShmSafe>::SYNC_OBJECTS)*)
        }
        // For generic enums the check waits until the type is known.
        Shape::Enum(..) => quote! {{
            assert!(
                0 #(+ <#types as ::shm_sync::ShmSafe>::SYNC_OBJECTS)* == 0,
                "the variants of a ShmSafe enum can't contain locks or condition variables"
            );
            0
        }},
    }
}

fn visit(input: &Input<'_>) -> impl ToTokens {
    match &input.shape {
        Shape::Struct(fields) => {
            let fields = members(fields).map(|(name, member, ty)| {
                quote! {
                    <#ty as ::shm_sync::ShmSafe>::visit(
                        &at.field(#name, ::core::mem::offset_of!(Self, #member)),
                        report,
                    );
                }
            });
            quote!(let _ = (at, &report); #(#fields)*)
        }
        Shape::Enum(..) => quote!(let _ = (at, report, Self::SYNC_OBJECTS);),
    }
}

/// Which variant of an enum is alive is not known when a segment is placed,
/// and writing another one would overwrite a live lock.
fn no_locks_in_variants(input: &Input<'_>) -> impl ToTokens {
    let checks = field_types(input)
        .into_iter()
        .filter(|_| matches!(input.shape, Shape::Enum(..)))
        .map(|ty| {
            quote_spanned! {ty.span()=>
                const _: () = assert!(
                    <#ty as ::shm_sync::ShmSafe>::SYNC_OBJECTS == 0,
                    "the variants of a ShmSafe enum can't contain locks or condition variables"
                );
            }
        });
    quote!(#(#checks)*)
}
